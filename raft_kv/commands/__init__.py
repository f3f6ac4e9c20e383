"""The table of commands: name, arity, flags, positions of keys, and the function that carries it out.

The modules' tables are joined here. A new type of value is a new module with a `COMMANDS` tuple, named in `_MODULES`
below, and a number in `keyspace`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from raft_kv.commands import comparing, connection, deadlines, keys, strings
from raft_kv.commands.table import INTERNAL, READ, SESSION, WRITE, Command, unknown_command, wrong_arity

__all__ = [
    "LISTED",
    "ONE_LINE",
    "READ",
    "SESSION",
    "SHORT_READS",
    "TABLE",
    "WRITE",
    "Command",
    "ShortCall",
    "look_up",
    "plain",
]

_MODULES: Final = (connection.COMMANDS, strings.COMMANDS, keys.COMMANDS, deadlines.COMMANDS, comparing.COMMANDS)

TABLE: Final[dict[bytes, Command]] = {command.name.encode(): command for table in _MODULES for command in table}

LISTED: Final = {name: command for name, command in TABLE.items() if INTERNAL not in command.flags}
"""The commands listed by COMMAND."""

_BY_ANY_CASE: Final[dict[bytes, Command]] = {
    spelling: command for name, command in TABLE.items() for spelling in (name, name.upper())
}


_SHORT: Final = 4
_PLAIN: Final[dict[bytes, Command]] = {
    spelling: command
    for spelling, command in _BY_ANY_CASE.items()
    if command.flags & {READ, WRITE}
    and INTERNAL not in command.flags
    and not command.sweeps
    and (command.writes is None or not command.writes.feature)
}

_SHORT_READ_WORDS: Final = {
    "exists": 2, "expiretime": 2, "get": 2, "pexpiretime": 2, "pttl": 2, "strlen": 2, "ttl": 2, "type": 2,
}  # fmt: skip


@final
class ShortCall:
    """A command that takes little work if it has so many `words`; `name`: in lower case."""

    __slots__ = ("command", "name", "reads", "words")

    def __init__(self, command: Command, words: int) -> None:
        self.command: Final = command
        self.name: Final = command.word
        self.reads: Final = READ in command.flags
        self.words: Final = words


def _short(words_of: dict[str, int]) -> dict[bytes, ShortCall]:
    return {
        spelling: ShortCall(TABLE[name.encode()], words)
        for name, words in words_of.items()
        for spelling in (name.encode(), name.upper().encode())
    }


ONE_LINE: Final = _short(
    {
        command.name: command.writes.one_line
        for command in TABLE.values()
        if command.writes is not None and command.writes.one_line
    }
)
"""Writes that take little work and whose reply is one line, the same in RESP2 and RESP3; see `Writes.one_line`."""
SHORT_READS: Final = _short(_SHORT_READ_WORDS)
"""Reads of one key. Only the reply to GET is as long as the key's value."""


def plain(call: Sequence[bytes]) -> Command | None:
    """Return the command in one look, if `call` is a valid short read or write that enters the log as it is.

    None does not say that it is not.
    """
    command = _PLAIN.get(call[0])
    if command is None or len(call) > _SHORT:  # SET with more than four words may be translated
        return None
    return command if len(call) == command.arity or -len(call) <= command.arity < 0 else None


def look_up(call: Sequence[bytes]) -> Command:
    """Return the command named by `call`, whose number of arguments fits. Raise `CommandError`."""
    name = call[0] if call else b""
    command = _BY_ANY_CASE.get(name) or TABLE.get(name.lower())
    if command is None:
        raise unknown_command(call)
    if len(call) != command.arity and (command.arity >= 0 or len(call) < -command.arity):
        raise wrong_arity(command.name)
    return command
