"""Commands about the connection, the server and the cluster.

The few that need no state have their handlers here. For those that the client session answers, there are only rows,
which check their arity and list them in COMMAND.
"""

from __future__ import annotations

from typing import Final

from raft_kv.commands.table import Call, Command, Writes, integer, wrong_arity
from raft_kv.feature_names import COMPARE
from raft_kv.keyspace import Keyspace
from raft_kv.resp import OK, PONG, CommandError, Reply

__all__ = ["COMMANDS", "check_database"]


def _ping(_keyspace: Keyspace, call: Call) -> Reply:
    if len(call) > 2:
        raise wrong_arity("ping")
    return PONG if len(call) == 1 else call[1]


def _echo(_keyspace: Keyspace, call: Call) -> Reply:
    return call[1]


def _select(_keyspace: Keyspace, call: Call) -> Reply:
    check_database(call[1])
    return OK


def check_database(index: bytes) -> None:
    """Raise `CommandError` unless `index` is that of the only database."""
    if integer(index, "ERR invalid DB index") != 0:
        raise CommandError("ERR DB index is out of range")


def _not_here(_keyspace: Keyspace, call: Call) -> Reply:
    raise CommandError(f"ERR {call[0][:32].decode('ascii', 'replace').upper()} is not allowed inside a transaction")


def _no_lua(_keyspace: Keyspace, _call: Call) -> Reply:
    """Refuse a script. A known one is replaced by a native command in the session, so it never gets here."""
    raise CommandError("ERR this server runs no Lua")


COMMANDS: Final[tuple[Command, ...]] = (
    Command.row("ping", -1, "fast", _ping),
    Command.row("echo", 2, "fast", _echo),
    Command.row("select", 2, "fast", _select),
    Command.row("acl", -2, "session admin", _not_here),
    Command.row("auth", -2, "session fast", _not_here),
    Command.row("hello", -1, "session fast", _not_here),
    Command.row("client", -2, "session", _not_here),
    Command.row("command", -1, "session", _not_here),
    Command.row("config", -2, "session admin", _not_here),
    Command.row("info", -1, "session", _not_here),
    Command.row("role", 1, "session fast", _not_here),
    Command.row("quit", -1, "session fast", _not_here),
    Command.row("reset", 1, "session fast", _not_here),
    Command.row("multi", 1, "session fast", _not_here),
    Command.row("exec", 1, "session", _not_here),
    Command.row("discard", 1, "session fast", _not_here),
    Command.row("watch", -2, "session fast", _not_here, (1, -1, 1)),
    Command.row("unwatch", 1, "session fast", _not_here),
    Command.row("eval", -3, "write", _no_lua, writes=Writes(shows=True, grows=True, feature=COMPARE), counted=True),
    Command.row("evalsha", -3, "write", _no_lua, writes=Writes(shows=True, grows=True, feature=COMPARE), counted=True),
    Command.row("script", -2, "session", _not_here),
    Command.row("raft", -2, "session admin", _not_here),
)
