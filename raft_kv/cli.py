"""The `raft-kv` command: its subcommands, and the one place that turns errors into a message and an exit status.

Exit status 0: success. 1: it could not start, or failed; the message gives the reason and the remedy. 2: the command
line, an environment variable or the configuration file is wrong. `status` has statuses of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

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
from raft_kv.cli_command import CONNECTING_TEXT, Command, collect
from raft_kv.client_tls import TLS_VARIABLES, use_tls
from raft_kv.config import ServeConfig
from raft_kv.demo_command import DEMO_COMMAND
from raft_kv.disk_commands import DISK_COMMANDS
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
_HASH_EXAMPLES: Final = """\
examples:
      raft-kv hash-password                      # asks, and shows nothing while you type
      echo "user root on $(raft-kv hash-password) ~* +@all" > users.acl     # one administrator at least
      echo "user alice on $(raft-kv hash-password < password.txt) ~orders:* +@read +@write" >> users.acl
      raft-kv serve --id 1 --users users.acl
"""
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


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Execute a command line; return the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["salvage"]:
        return _complain(2, "salvage has a new name: raft-kv recover-from-quorum-loss")
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        likely = get_close_matches(words[0], list(COMMANDS), 1)
        hint = f"did you mean {likely[0]}?" if likely else f"there are {', '.join(COMMANDS)}"
        return _complain(2, f"there is no command {words[0]!r}; {hint}")
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
        return _complain(
            1,
            f"this command needs the package {failure.name}: install sansio-raft[kv], from a checkout '.[kv]'",
        )
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
    **DISK_COMMANDS,
    "demo": DEMO_COMMAND,
}
"""All subcommands by name."""
