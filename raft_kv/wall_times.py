"""Wall times in commands, turned into cluster time before they enter the log.

`in_cluster_time`, used by the leader once per entry: EXPIREAT, PEXPIREAT, and SET with EXAT or PXAT give a deadline by
a wall clock, and keys expire by cluster time. No replica looks at a wall clock, so all agree, whatever release they
run; a later step of a wall clock changes nothing.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from raft_kv import log_format as entries
from raft_kv.commands import TABLE
from raft_kv.commands.table import INT64_MAX, TimeAt, TimeOptions, integer
from raft_kv.keyspace import Millis
from raft_kv.log_format import Calls, OnBehalf, Once, Transaction, Undecodable
from raft_kv.resp import CommandError

__all__ = ["TOLERATED", "in_cluster_time"]

TOLERATED: Final[Millis] = 1000
"""Up to this difference, wall time and cluster time count as the same, which is the normal case: then EXPIRETIME
returns exactly the argument of EXPIREAT."""
_NAMING: Final = {
    name: command.writes.wall_times
    for name, command in TABLE.items()
    if command.writes is not None and command.writes.wall_times is not None
}
_OPTIONS: Final = {b"EXAT": 1000, b"PXAT": 1}
_WITH_ARGUMENT: Final = frozenset({b"EX", b"PX", b"IFEQ", b"IFNE"})
_NAMES_WALL_TIME: Final = re.compile(
    b"(?i)" + b"|".join([*(name for name, where in _NAMING.items() if type(where) is TimeAt), *_OPTIONS])
)
"""Entries without any of these words are not decoded."""


def in_cluster_time(entry: bytes, ahead: Millis) -> bytes:
    """Return the entry with `ahead` subtracted from each wall time; wall time is ahead of cluster time by so much.

    Invalid commands stay unchanged, and get their errors when they are applied.
    """
    if abs(ahead) <= TOLERATED or _NAMES_WALL_TIME.search(entry) is None:
        return entry
    try:
        _, command = entries.decode_entry(entry)
    except Undecodable:
        return entry
    inside = command.command if type(command) is OnBehalf else command
    if not isinstance(inside, Calls | Transaction | Once):
        return entry
    calls = [_moved(call, ahead) for call in inside.calls]
    moved = entries.encode_entry(msgspec.structs.replace(inside, calls=calls))
    return entries.on_behalf(moved, command.user) if type(command) is OnBehalf else moved


def _moved(call: list[bytes], ahead: Millis) -> list[bytes]:
    name = call[0].lower() if call else b""
    try:
        where = _NAMING.get(name)
        if type(where) is TimeAt and len(call) > where.place:
            time = _number(call[where.place], where.unit, ahead)
            return [where.becomes, *call[1 : where.place], time, *call[where.place + 1 :]]
        if type(where) is TimeOptions:
            return _moved_options(call, where.first, ahead)
    except CommandError:
        pass
    return call


def _moved_options(call: list[bytes], place: int, ahead: Millis) -> list[bytes]:
    moved = list(call)
    while place < len(call):
        option = call[place].upper()
        if option in _OPTIONS and place + 1 < len(call):
            if integer(call[place + 1]) > 0:
                wanted = int(_number(call[place + 1], _OPTIONS[option], ahead))
                moved[place : place + 2] = [b"PXAT", b"%d" % max(1, wanted)]
            place += 1
        elif option in _WITH_ARGUMENT:
            place += 1
        place += 1
    return moved


def _number(text: bytes, unit: int, ahead: Millis) -> bytes:
    """Return the time in milliseconds of cluster time. Raise `CommandError` if it is out of range."""
    named = integer(text) * unit
    if not -INT64_MAX <= named <= INT64_MAX or not -INT64_MAX <= named - ahead <= INT64_MAX:
        raise CommandError("ERR out of range")
    return b"%d" % (named - ahead)
