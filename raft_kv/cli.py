"""The `raft-kv` command: its subcommands, and the one place that turns errors into a message and an exit status.

Exit status 0: success. 1: it could not start, or failed; the message gives the reason and the remedy. 2: the command
line, an environment variable or the configuration file is wrong. `status` has statuses of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from raft_core.errors import (
    DirectoryInUse,
    DiskError,
    LogDamaged,
    LogLost,
    RaftError,
    SettingsError,
    StorageBroken,
    WrongDirectory,
)
from raft_core.node.reaching import ListenFailed
from raft_kv.backup_commands import BACKUP_COMMANDS
from raft_kv.certs_command import CERTS_COMMAND
from raft_kv.cli_command import CONNECTING_TEXT, KINDS_TEXT, Command, collect
from raft_kv.client_tls import TLS_VARIABLES, use_tls
from raft_kv.config import FASTEST_LOOP, LOOPS, ServeConfig, fastest_loop
from raft_kv.doctor.options import DOCTOR
from raft_kv.fd_limit import most_open_files, within_descriptors
from raft_kv.features_command import FEATURES_COMMAND
from raft_kv.log_output import LOG, flush, log_to_stderr, print_error
from raft_kv.options import Option, Values, add_flags, unused, with_variables
from raft_kv.ping import PING
from raft_kv.serve_options import OPTIONS, given_values, serve_config
from raft_kv.stopping import stop_when_input_ends
from raft_kv.version import version

__all__ = ["COMMANDS", "main"]

_DESCRIPTION: Final = """\
A replicated, durable key-value server that speaks the Redis protocol.

Every option has an environment variable, shown in brackets in the help of each command. A flag overrides the
variable, the variable overrides the configuration file, and the file overrides the default.
"""
_SERVE: Final = """\
Run one node of a replicated key-value server that speaks the Redis protocol.

Every node serves every client: a follower forwards writes to the leader, and reads are
linearizable on every node. A write that was answered is on the disks of a majority.

Each option is shown with its default and its environment variable. A flag overrides the
variable, the variable overrides the file, and the file overrides the default.
"""
_SERVE_EXAMPLES: Final = """\
examples:
  a cluster of one, for a first try:
      raft-kv serve --id 1

  the first of three (start the other two likewise, each with its own id and addresses):
      raft-kv serve --id 1 --listen 10.0.0.1:6379 --peer-listen 10.0.0.1:7379 \\
          --peer 2=10.0.0.2:7379 --peer 3=10.0.0.3:7379 --data /var/lib/raft-kv \\
          --tls-certificate node-1.crt --tls-key node-1.key --tls-authorities ca.crt

  a fourth that joins them (then run on any node, in redis-cli: RAFT ADD 4 10.0.0.4:7379):
      raft-kv serve --id 4 --join --listen 10.0.0.4:6379 --peer-listen 10.0.0.4:7379 \\
          --peer 1=10.0.0.1:7379 --data /var/lib/raft-kv \\
          --tls-certificate node-4.crt --tls-key node-4.key --tls-authorities ca.crt

  the first of three, as a file for --config:
      id = 1
      listen = "10.0.0.1:6379"
      peer-listen = "10.0.0.1:7379"
      data = "sqlite:/var/lib/raft-kv"
      tls-certificate = "/etc/raft-kv/node-1.crt"
      tls-key = "/etc/raft-kv/node-1.key"
      tls-authorities = "/etc/raft-kv/ca.crt"
      [peers]
      2 = "10.0.0.2:7379"
      3 = "10.0.0.3:7379"
      [settings]
      election_ticks = 100

  the first of three, as variables (spaces or commas separate several values):
      RAFT_KV_ID=1 RAFT_KV_LISTEN=10.0.0.1:6379 RAFT_KV_PEER_LISTEN=10.0.0.1:7379 \\
          RAFT_KV_PEER=2=10.0.0.2:7379,3=10.0.0.3:7379 RAFT_KV_DATA=/var/lib/raft-kv RAFT_KV_INSECURE=true raft-kv serve

Without TLS a node listens on 127.0.0.1 only, unless --insecure allows other addresses. raft-kv certs
makes certificates; docs/security.md is the guide. Without users (ACL SETUSER, or --users) every client
that can connect may read and write. SIGTERM and SIGINT transfer the leadership and stop the node
cleanly; so does SIGHUP without TLS, and with TLS it has the certificates read anew.
"""
_STATUS: Final = """\
Show how nodes of a raft-kv cluster stand: one row for each node, then the members, then
everything that waits, in sentences.

Exit status, for scripts: 0 if a node that answered knows a leader, 1 if no node answered,
3 if nodes answered and none knows a leader. With --watch, the status of the last look.
"""
_STATUS_EXAMPLES: Final = """\
examples:
      raft-kv status 10.0.0.1:6379 10.0.0.2:6379 10.0.0.3:6379
      raft-kv status --watch
      raft-kv status --json | jq '.nodes[].status.role'
"""
_DEMO: Final = """\
Watch a cluster survive the death of its leader.

Starts real server processes on this machine, writes to them without pause, kills the leader
with SIGKILL at a third of the time, restarts it at two thirds, and checks at the end, on every
node, that every acknowledged write is there; then stops all, starts all, and checks again.
Exit status 1 if anything was lost.
"""
_DEMO_EXAMPLES: Final = """\
examples:
      raft-kv demo
      raft-kv demo --story membership
      raft-kv demo --nodes 5 --seconds 60 --data sqlite: --loop trio
      raft-kv demo --keep --data /tmp/demo       # then redis-cli -p, with a port that it shows
      raft-kv demo --record demo.svg
"""
_HASH_EXAMPLES: Final = """\
examples:
      raft-kv hash-password                      # asks, and shows nothing while you type
      echo "user alice on $(raft-kv hash-password < password.txt) ~orders:* +@read +@write" >> users.acl
      raft-kv serve --id 1 --users users.acl
"""
_RECOVERY: Final = """\
Create a new cluster from one surviving disk after permanently losing a majority of the voters.

This is the last resort: data that only the lost disks held cannot be recovered. The most up to
date survivor is copied into a new directory, as a cluster of one voter with a new name; nodes of
the old cluster are refused by it. The old directories are not changed. A report of the entries
that are kept, and of those that may be lost, is printed and written to SALVAGE.txt in the new
directory. Without --i-understand-what-may-be-lost the survivors are only compared.
"""
_RECOVERY_EXAMPLES: Final = """\
example (the disks of nodes 1 and 2 of three are lost, the disk of node 3 is left):
      raft-kv recover-from-quorum-loss --cluster raft-kv --survivor /var/lib/raft-kv \\
          --new-cluster raft-kv-2026 --new-data /var/lib/raft-kv-new

Then start it with the command that is printed, and let new nodes join with empty directories
and ids above every id that was ever used (4 and 5 here).
"""
_MIGRATE: Final = """\
Move a stopped node's data to another kind of store.

Everything moves: identity, term and vote, the snapshot, the log. Every record is verified by its
checksum, and compared after it was written. The target becomes valid only once it is complete.
The source keeps its contents and is marked as moved, so that it is never started again by
mistake. After an interruption, start over.
"""
_MIGRATE_EXAMPLES: Final = """\
example:
      raft-kv migrate --from /var/lib/raft-kv --to sqlite:/var/lib/raft-kv-sqlite
      raft-kv serve --id 1 --data sqlite:/var/lib/raft-kv-sqlite ...
"""
_STORIES: Final = ("failover", "membership")

_DEMO_OPTIONS: Final = with_variables(
    "RAFT_KV_DEMO_",
    Option(name="nodes", metavar="N", help="number of nodes, at least 3", default="3"),
    Option(name="seconds", metavar="S", help="time in which clients write", default="20"),
    Option(name="clients", metavar="N", help="number of clients", default="16"),
    Option(
        name="data",
        metavar="LOCATION",
        help=f"location of the nodes' data: {KINDS_TEXT}; sqlite: alone selects the store, in a temporary directory",
        default="a temporary directory",
        old_name="data-dir",
    ),
    Option(name="keep", help="leave the cluster running at the end", default="false"),
    Option(name="record", help="write a picture of the run there, as SVG", metavar="FILE"),
    Option(name="loop", metavar="LOOP", help=f"the servers' event loop: {', '.join(LOOPS)}", default=FASTEST_LOOP),
    Option(
        name="story",
        metavar="|".join(_STORIES),
        help="failover: kill the leader, restart it. membership: grow from 3 to 5 nodes, replace the leader, shrink",
        default="failover",
    ),
)
_STATUS_OPTIONS: Final = with_variables(
    "RAFT_KV_STATUS_",
    Option(
        name="addresses",
        metavar="HOST:PORT",
        help="addresses of the nodes for clients",
        default="127.0.0.1:6379",
        positional=True,
        repeated=True,
    ),
    Option(name="watch", help="look again and again, until Ctrl-C", default="false"),
    Option(name="interval", metavar="SECONDS", help="time between two looks of --watch", default="2"),
    Option(name="timeout", metavar="SECONDS", help="a node that does not answer in this time is down", default="2"),
    Option(name="json", help="print one JSON object per look", default="false"),
)
_RECOVERY_OPTIONS: Final = (
    *with_variables(
        "RAFT_KV_RECOVER_",
        Option(
            name="survivor",
            metavar="PATH",
            help="data directory of a surviving node, which must not run (repeatable)",
            repeated=True,
            required=True,
        ),
        Option(name="cluster", metavar="NAME", help="name of the old cluster", default="raft-kv"),
        Option(name="new-cluster", metavar="NAME", help="name of the new cluster, never used before", required=True),
        Option(name="new-data", metavar="PATH", help="an empty directory for the new cluster", required=True),
    ),
    Option(name="i-understand-what-may-be-lost", help="create the new cluster"),  # a decision, so it has no variable
)
_MIGRATE_OPTIONS: Final = with_variables(
    "RAFT_KV_MIGRATE_",
    Option(name="from", metavar="LOCATION", help=f"location of the data: {KINDS_TEXT}", required=True),
    Option(name="to", metavar="LOCATION", help="new location, in a directory which is missing or empty", required=True),
)


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Execute a command line; return the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["salvage"]:
        return _complain(2, "salvage has a new name: raft-kv recover-from-quorum-loss")
    flags = vars(_parser().parse_args(words))
    command = COMMANDS[flags.pop("command")]
    try:
        use_tls(environ)
        return command.execute(flags, environ)
    except SettingsError as failure:
        return _complain(2, str(failure))
    except DiskError as failure:
        return _complain(1, f"{failure}{_remedy(failure)}")
    except (OSError, RaftError) as failure:
        return _complain(1, f"{failure or type(failure).__name__}")
    except ModuleNotFoundError as failure:
        return _complain(1, f"this command needs the package {failure.name}: pip install 'sansio-raft[kv]'")
    finally:
        flush()


def _complain(status: int, text: str) -> int:
    print_error(f"raft-kv: {text}")
    return status


def _remedy(failure: DiskError) -> str:
    """Return the remedy if the error's own text does not contain it."""
    if isinstance(failure, LogDamaged):
        return ""  # its text ends with the remedy
    if isinstance(failure, DirectoryInUse):
        return "\n  Stop the other process, or give this node a data directory of its own."
    if isinstance(failure, WrongDirectory):
        return "\n  Check the id, the cluster's name and the data location; never move a directory between nodes."
    if isinstance(failure, LogLost):
        return (
            "\n  This node must not vote again with the rest of its log. Remove it from the cluster (RAFT REMOVE), set "
            "its data directory aside, and let it join under a new id."
        )
    if isinstance(failure, StorageBroken):
        return "\n  Nothing acknowledged is lost. Check the disk (space, errors), then start the node again."
    return ""


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="raft-kv", description=_DESCRIPTION, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"raft-kv {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        add_flags(
            commands.add_parser(
                name,
                help=command.help,
                description=command.description,
                epilog=command.examples,
                formatter_class=raw,
            ),
            command.options,
        )
    return parser


# Commands.


def _serve(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    values = given_values(flags, environ)
    config = serve_config(values)
    _check_users(config, values)
    warnings = [f"unknown environment variable {name} is ignored" for name in unused(_variables(), environ)]
    try:
        _run(config, warnings)
    except ListenFailed as failure:
        name = {config.listen: "listen", config.health_address: "health"}.get(failure.address, "peer_listen")
        return _failed(f"{values.origin((name,)) or '--' + name.replace('_', '-')}: {failure}")
    except DiskError as failure:
        return _failed(f"{values.origin(('data',)) or '--data'}: {failure}{_remedy(failure)}")
    except (OSError, RaftError) as failure:
        return _failed(str(failure) or type(failure).__name__)
    return 0


def _check_users(config: ServeConfig, values: Values) -> None:
    """Raise `SettingsError`, with the origin, if the file of users cannot be used: before anything is written."""
    from raft_kv.users.file import users_of_file

    try:
        users_of_file(config.users)
    except SettingsError as failure:
        raise SettingsError(f"{values.origin(('users',))}: {failure}") from None


def _failed(text: str) -> int:
    """Log why the server has ended; return the exit status."""
    LOG.error("%s", text, extra={"fields": {"event": "failed"}})
    return 1


def _variables() -> list[str]:
    options = (option for command in COMMANDS.values() for option in command.options)
    return [*TLS_VARIABLES, *(option.variable for option in options if option.variable)]


def _run(config: ServeConfig, warnings: Sequence[str] = ()) -> None:
    """Start the log, then serve."""
    log_to_stderr(config.id, config.log_format, "debug" if config.verbose else config.log_level)
    for warning in warnings:
        LOG.warning("%s", warning)
    if config.stop_at_eof:
        stop_when_input_ends()
    config, told = within_descriptors(config, most_open_files())
    if told:
        LOG.warning("%s", told)
    from raft_kv.server import run

    run(config)


def _status(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.status_command import StatusOptions, run_status

    return run_status(collect(_STATUS_OPTIONS, flags, environ, StatusOptions))


@attrs.frozen(kw_only=True)
class _Demo:
    nodes: int = 3
    seconds: float = 20.0
    clients: int = 16
    data: str = ""
    keep: bool = False
    loop: str = attrs.field(factory=fastest_loop)
    story: str = "failover"
    record: str = ""

    def __attrs_post_init__(self) -> None:
        if self.nodes < 1 or self.clients < 1 or not self.seconds >= 1:
            raise SettingsError("nodes, clients and seconds must be at least 1")
        if self.loop not in LOOPS:
            raise SettingsError(f"loop is one of {', '.join(LOOPS)}, not {self.loop!r}")
        if self.story not in _STORIES:
            raise SettingsError(f"story is one of {', '.join(_STORIES)}, not {self.story!r}")


def _demo(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.demo import DemoOptions, demo_location, run_demo

    given = collect(_DEMO_OPTIONS, flags, environ, _Demo)
    store, directory = demo_location(given.data)
    return run_demo(
        DemoOptions(
            nodes=given.nodes,
            seconds=given.seconds,
            clients=given.clients,
            directory=directory,
            store=store,
            keep=given.keep,
            loop=given.loop,
            story=given.story,
            record=Path(given.record) if given.record else None,
        )
    )


@attrs.frozen(kw_only=True)
class _Recovery:
    survivor: list[str]
    cluster: str = "raft-kv"
    new_cluster: str
    new_data: str
    i_understand_what_may_be_lost: bool = False


def _recover(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.recover import run_recovery

    given = collect(_RECOVERY_OPTIONS, flags, environ, _Recovery)
    agreed = given.i_understand_what_may_be_lost
    return run_recovery(given.survivor, given.cluster, Path(given.new_data), given.new_cluster, agreed=agreed)


def _migrate(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.migrate import run_migrate

    values = Values()
    values.take(_MIGRATE_OPTIONS, flags, environ)
    return run_migrate(values.tree["from"], values.tree["to"])


def _hash_password(_flags: Mapping[str, Any], _environ: Mapping[str, str]) -> int:
    from raft_kv.users.command import run_hash_password

    return run_hash_password()


COMMANDS: Final[Mapping[str, Command]] = {
    "serve": Command(
        help="run one node",
        description=_SERVE,
        examples=_SERVE_EXAMPLES,
        options=OPTIONS,
        execute=_serve,
    ),
    "status": Command(
        help="show how nodes stand",
        description=_STATUS + CONNECTING_TEXT,
        examples=_STATUS_EXAMPLES,
        options=_STATUS_OPTIONS,
        execute=_status,
    ),
    "ping": PING,
    "doctor": DOCTOR,
    "features": FEATURES_COMMAND,
    **BACKUP_COMMANDS,
    "certs": CERTS_COMMAND,
    "hash-password": Command(
        help="hash a password for a file of users",
        description="""\
Read a password from standard input, without showing it on a terminal, and print its hash: a rule
for a line of the file of --users, such as

    user alice on #scrypt:14:8:1:… ~orders:* +@read +@write
""",
        examples=_HASH_EXAMPLES,
        options=(),
        execute=_hash_password,
    ),
    "migrate": Command(
        help="move a stopped node's data to another kind of store",
        description=_MIGRATE,
        examples=_MIGRATE_EXAMPLES,
        options=_MIGRATE_OPTIONS,
        execute=_migrate,
    ),
    "recover-from-quorum-loss": Command(
        help="the last resort after the permanent loss of a majority",
        description=_RECOVERY,
        examples=_RECOVERY_EXAMPLES,
        options=_RECOVERY_OPTIONS,
        execute=_recover,
    ),
    "demo": Command(
        help="watch a cluster survive the death of its leader",
        description=_DEMO,
        examples=_DEMO_EXAMPLES,
        options=_DEMO_OPTIONS,
        execute=_demo,
    ),
}
"""All subcommands by name."""
