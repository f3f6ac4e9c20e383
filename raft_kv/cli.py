"""The `raft-kv` command: what can be typed, and what a person reads when it cannot be done.

What lives here: argument parsing and the one place where errors become a message and an exit status. 0: ended in
good order. 1: could not start, or failed; the message says what and the remedy. 2: the command makes no sense.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from raft_core.errors import (
    CallerError,
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
from raft_kv.config import LOOPS, REDIS_ROLES, ServeConfig, read_file, serve_config
from raft_kv.fd_limit import most_open_files, within_descriptors
from raft_kv.stopping import stop_when_input_ends
from raft_kv.telling import LOG, flush, log_to_stderr, tell
from raft_kv.version import version

__all__ = ["main"]

_SERVE: Final = """\
Run one node of a replicated key-value server that speaks the Redis protocol.

Every node serves every client: a follower passes writes on to the leader, and reads are
linearizable everywhere. What was answered with OK is on the disks of a majority.
"""
_SERVE_EXAMPLES: Final = """\
examples:
  a cluster of one, to try things:
      raft-kv serve --id 1

  the first of three (start the other two in the same way, each with its own --id and addresses):
      raft-kv serve --id 1 --listen 10.0.0.1:6379 --peer-listen 10.0.0.1:7379 \\
          --peer 2=10.0.0.2:7379 --peer 3=10.0.0.3:7379 --data /var/lib/raft-kv

  a fourth that joins them (then, in redis-cli on any node: RAFT ADD 4 10.0.0.4:7379):
      raft-kv serve --id 4 --join --listen 10.0.0.4:6379 --peer-listen 10.0.0.4:7379 \\
          --peer 1=10.0.0.1:7379 --data /var/lib/raft-kv

the same as a file, for --config (flags win over it; every flag is a name):
      id = 1
      listen = "10.0.0.1:6379"
      peer-listen = "10.0.0.1:7379"
      data = "/var/lib/raft-kv"
      [peers]
      2 = "10.0.0.2:7379"
      3 = "10.0.0.3:7379"
      [settings]
      election_ticks = 100

There are no passwords and no encryption: listen only on networks where everybody may read and write.
SIGTERM, SIGINT and SIGHUP hand the leadership over and end the node in good order.
"""
_DEMO: Final = """\
Watch a cluster survive the death of its leader.

Starts real server processes on this machine, writes to them without pause, kills the leader
with SIGKILL at a third of the time, restarts it at two thirds, and checks at the end, on every
node, that every acknowledged write is there; then stops all, starts all, and checks again.
Exit status 1 if anything was lost.
"""

_SALVAGE: Final = """\
Found a new cluster on a surviving disk, when a majority of the voters' disks is gone for ever.

This is the last resort: nothing can bring back what only the lost disks held. Of the surviving
directories the most up to date one is copied into a new directory, as a cluster of one voter under
a new name, so that nodes of the old cluster which come back after all are refused by it. The old
directories keep their contents. A statement of what is kept and what may be lost is printed, and
left in the new directory as SALVAGE.txt. Without --i-understand-what-may-be-lost nothing is done.
"""
_SALVAGE_EXAMPLES: Final = """\
example (nodes 1 and 2 of three are burnt, node 3's disk is left):
      raft-kv recover-from-quorum-loss --cluster raft-kv --survivor /var/lib/raft-kv \\
          --new-cluster raft-kv-2026 --new-data /var/lib/raft-kv-new

then start it as shown, and let new nodes join with new ids and empty directories.
"""

_MIGRATE: Final = """\
Move a stopped node's data to another kind of store.

Everything moves: identity, term and vote, the snapshot, the log. Every record is checked against its checksum, and
compared after it was written. The target is there only once it is complete. The source keeps its contents, and is
marked as moved, so that it is never started again by mistake. An interrupted move is simply started over.
"""
_MIGRATE_EXAMPLES: Final = """\
example:
      raft-kv migrate --from /var/lib/raft-kv --to sqlite:/var/lib/raft-kv-sqlite
      raft-kv serve --id 1 --data sqlite:/var/lib/raft-kv-sqlite ...
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except SettingsError as failure:
        return _complain(2, str(failure))
    except DiskError as failure:
        return _complain(1, f"{failure}{_remedy(failure)}")
    except (OSError, RaftError) as failure:
        return _complain(1, f"{failure or type(failure).__name__}")
    finally:
        flush()


def _complain(status: int, text: str) -> int:
    tell(f"raft-kv: {text}")
    return status


def _remedy(failure: DiskError) -> str:
    """What to do next, where the error's own text does not say it."""
    if isinstance(failure, LogDamaged):
        return ""  # its text ends with the remedy
    if isinstance(failure, DirectoryInUse):
        return "\n  Stop the other process, or give this node a data directory of its own."
    if isinstance(failure, WrongDirectory):
        return "\n  Check --id, --cluster and --data; never move a data directory between nodes."
    if isinstance(failure, LogLost):
        return (
            "\n  This node must not vote again with what is left. Remove it from the cluster (RAFT REMOVE), set its "
            "data directory aside, and let it join under a new id."
        )
    if isinstance(failure, StorageBroken):
        return "\n  Nothing acknowledged is lost. Check the disk (space, errors), then start the node again."
    return ""


# Parsing.


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raft-kv", description="A replicated, durable key-value server that speaks the Redis protocol."
    )
    parser.add_argument("--version", action="version", version=f"raft-kv {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter
    serve = commands.add_parser(
        "serve", help="run one node", description=_SERVE, epilog=_SERVE_EXAMPLES, formatter_class=raw
    )
    _add_serve_flags(serve)
    demo = commands.add_parser(
        "demo", help="watch a cluster survive the death of its leader", description=_DEMO, formatter_class=raw
    )
    _add_demo_flags(demo)
    recovery = commands.add_parser(
        "recover-from-quorum-loss",
        help="the last resort after the permanent loss of a majority",
        description=_SALVAGE,
        epilog=_SALVAGE_EXAMPLES,
        formatter_class=raw,
    )
    _add_recovery_flags(recovery)
    migrate = commands.add_parser(
        "migrate",
        help="move a stopped node's data to another kind of store",
        description=_MIGRATE,
        epilog=_MIGRATE_EXAMPLES,
        formatter_class=raw,
    )
    kinds = "DIR, file:DIR, sqlite:DIR, rocksdb:DIR or mdbx:DIR"
    migrate.add_argument("--from", dest="source", metavar="LOCATION", required=True, help=f"where the data is: {kinds}")
    migrate.add_argument(
        "--to", dest="target", metavar="LOCATION", required=True, help="a new or empty directory, likewise"
    )
    return parser


def _add_serve_flags(parser: argparse.ArgumentParser) -> None:
    def flag(name: str, metavar: str, text: str) -> None:
        parser.add_argument(name, metavar=metavar, help=text, default=argparse.SUPPRESS)

    flag("--config", "FILE", "a TOML file with any of these names")
    flag("--id", "N", "this node's number: positive, and never used again once it was removed")
    flag("--cluster", "NAME", "the cluster's name, the same on all nodes (raft-kv)")
    flag("--listen", "HOST:PORT", "where Redis clients connect (127.0.0.1:6379)")
    flag("--peer-listen", "HOST:PORT", "where the other nodes connect (127.0.0.1:7379)")
    flag("--advertise", "HOST:PORT", "where the other nodes can dial this one (where it listens)")
    parser.add_argument("--peer", metavar="ID=HOST:PORT", action="append", help="another node; once for each")
    data = "the data directory, made if it is missing, or sqlite:DIR, rocksdb:DIR or mdbx:DIR (raft-kv-ID)"
    flag("--data", "LOCATION", data)
    join = "wait to be added with RAFT ADD; without it, the nodes named found a cluster, once"
    parser.add_argument("--join", action="store_true", default=argparse.SUPPRESS, help=join)
    flag("--loop", "LOOP", f"the event loop: {', '.join(LOOPS)} (trio)")
    flag("--request-timeout", "SECONDS", "how long a client waits at most for an outcome (5)")
    flag("--max-clients", "N", "client connections at any time (10000)")
    role = "what Redis clients hear as this node's role: master, or raft: master on the leader, slave elsewhere"
    flag("--redis-role", "|".join(REDIS_ROLES), f"{role} (master)")
    setting = "a number of the protocol, such as election_ticks=100, or of its host, such as leader_wait=500000000"
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", help=setting)
    eof = "stop when standard input ends, as on SIGTERM: no node outlives a parent that holds the other end"
    parser.add_argument("--stop-at-eof", action="store_true", default=argparse.SUPPRESS, help=eof)
    verbose = "print every change of role, term and leader"
    parser.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS, help=verbose)


def _add_demo_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=int, default=3, metavar="N", help="how many nodes (3)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="how long clients write (20)")
    parser.add_argument("--clients", type=int, default=16, metavar="N", help="how many clients write (16)")
    data = (
        "where the nodes' data goes (a temporary directory); sqlite:DIR, or sqlite: alone, names the kind of store too"
    )
    parser.add_argument("--data", "--data-dir", metavar="LOCATION", dest="data", default="", help=data)
    parser.add_argument("--keep", action="store_true", help="leave the cluster running at the end")
    parser.add_argument("--loop", choices=LOOPS, default="trio", help="the servers' event loop (trio)")
    stories = "failover: kill the leader, bring it back. membership: grow from 3 to 5, replace the leader, shrink to 3"
    parser.add_argument("--story", choices=("failover", "membership"), default="failover", help=stories)


def _add_recovery_flags(parser: argparse.ArgumentParser) -> None:
    survivor = "a surviving node's data directory, not in use; once for each survivor"
    parser.add_argument("--survivor", metavar="DIR", action="append", required=True, help=survivor)
    parser.add_argument("--cluster", metavar="NAME", default="raft-kv", help="the old cluster's name (raft-kv)")
    parser.add_argument("--new-cluster", metavar="NAME", required=True, help="a name that was never used")
    parser.add_argument("--new-data", metavar="DIR", required=True, help="an empty directory for the new cluster")
    parser.add_argument("--i-understand-what-may-be-lost", action="store_true", help="do it")


def _pairs(texts: Sequence[str] | None, flag: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise SettingsError(f"{flag} takes NAME=VALUE, not {text!r}")
        if flag == "--peer" and name in pairs:
            raise SettingsError(f"the address of peer {name} is given twice: {pairs[name]} and {value}")
        pairs[name] = value
    return pairs


def _values(options: argparse.Namespace) -> dict[str, Any]:
    """What the file and the flags say; `Any` because each is brought into its type by `serve_config`."""
    given = vars(options).copy()
    del given["command"]
    path = given.pop("config", None)
    values = read_file(Path(path)) if path else {}
    peers = _pairs(given.pop("peer", None), "--peer")
    if peers:
        values["peers"] = peers
    for name, value in _pairs(given.pop("set", None), "--set").items():
        _place(values, name.replace("-", "_"), value)
    return values | given


def _place(values: dict[str, Any], name: str, value: str) -> None:
    """Puts one `--set` where it belongs; `serve_config` complains about a name that belongs nowhere."""
    from raft_core.node.limits import NodeLimits

    table = "host" if hasattr(NodeLimits(), name) else "settings"
    values[table] = {**values.get(table, {}), name: value}


# Commands.


def _serve(options: argparse.Namespace) -> int:
    config = serve_config(_values(options))
    try:
        _run(config)
    except ListenFailed as failure:
        flag = "--listen" if failure.address == config.listen else "--peer-listen"
        return _complain(1, f"{flag}: {failure}")
    return 0


def _run(config: ServeConfig) -> None:
    """Serves on the loop that was asked for; only that loop's packages are imported."""
    log_to_stderr()
    if config.stop_at_eof:
        stop_when_input_ends()
    config, told = within_descriptors(config, most_open_files())
    if told:
        LOG.warning("%s", told)
    if config.loop == "trio":
        from raft_kv import serve_trio

        serve_trio.run(config)
        return
    from raft_kv import serve_anyio

    serve_anyio.run(config)


def _demo(options: argparse.Namespace) -> int:
    from raft_kv.demo import DemoOptions, demo_location, run_demo

    if options.nodes < 1 or options.clients < 1 or options.seconds < 1:
        raise CallerError("--nodes, --clients and --seconds are at least 1")
    store, directory = demo_location(options.data)
    return run_demo(
        DemoOptions(
            nodes=options.nodes,
            seconds=options.seconds,
            clients=options.clients,
            directory=directory,
            store=store,
            keep=options.keep,
            loop=options.loop,
            story=options.story,
        )
    )


def _recover(options: argparse.Namespace) -> int:
    from raft_kv.recover import run_recovery

    return run_recovery(
        options.survivor,
        options.cluster,
        Path(options.new_data),
        options.new_cluster,
        agreed=options.i_understand_what_may_be_lost,
    )


def _migrate(options: argparse.Namespace) -> int:
    from raft_kv.migrating import run_migrate

    return run_migrate(options.source, options.target)


_COMMANDS: Final = {"serve": _serve, "demo": _demo, "recover-from-quorum-loss": _recover, "migrate": _migrate}
