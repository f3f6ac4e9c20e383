"""Commands on single keys of any type, and on all keys."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

from raft_kv.commands.table import Call, Command, Writes, integer, syntax_error
from raft_kv.glob import matcher
from raft_kv.keyspace import Keyspace, Record, kind_name
from raft_kv.resp import OK, CommandError, Reply, Simple, encode

__all__ = ["COMMANDS"]

_MAX_SCAN: Final = 1024
"""Most keys visited by one SCAN. COUNT is a hint, so fewer may be returned."""
_MAX_COUNTED: Final = 1_000_000
"""The same in earlier releases, where SCAN could enter the log. There it still counts as this much work: every replica,
and every replay, must stop at the same command."""
_VISIT: Final = 256
"""How many bytes could be copied while a key is looked at."""


def _del(keyspace: Keyspace, call: Call) -> Reply:
    return sum(keyspace.remove(key) for key in call[1:])


def _exists(keyspace: Keyspace, call: Call) -> Reply:
    return sum(keyspace.find(key) is not None for key in call[1:])


def _type(keyspace: Keyspace, call: Call) -> Reply:
    record = keyspace.find(call[1])
    return Simple("none" if record is None else kind_name(record.kind))


def _move(keyspace: Keyspace, source: bytes, target: bytes, record: Record) -> None:
    keyspace.remove(source)
    keyspace.put(target, record.kind, record.value, record.deadline)


def _rename(keyspace: Keyspace, call: Call) -> Reply:
    record = keyspace.find(call[1])
    if record is None:
        raise CommandError("ERR no such key")
    _move(keyspace, call[1], call[2], record)
    return OK


def _renamenx(keyspace: Keyspace, call: Call) -> Reply:
    record = keyspace.find(call[1])
    if record is None:
        raise CommandError("ERR no such key")
    if keyspace.find(call[2]) is not None:
        return 0
    _move(keyspace, call[1], call[2], record)
    return 1


def _dbsize(keyspace: Keyspace, _call: Call) -> Reply:
    return len(keyspace.everything())


def _flush(keyspace: Keyspace, call: Call) -> Reply:
    if len(call) > 2 or (len(call) == 2 and call[1].upper() not in {b"SYNC", b"ASYNC"}):
        raise syntax_error()
    keyspace.clear()
    return OK


def _keys(keyspace: Keyspace, call: Call) -> Reply:
    keyspace.work += _VISIT * keyspace.size
    if call[1] == b"*":
        return list(keyspace.everything())
    matches = matcher(call[1])
    return [key for key in keyspace.everything() if matches(key)]


def _scan(keyspace: Keyspace, call: Call) -> Reply:
    """Return a page of keys in the order of creation.

    The cursor is the last number seen, so no remaining key is missed.
    """
    cursor = integer(call[1], "ERR invalid cursor")
    if cursor < 0:
        raise CommandError("ERR invalid cursor")
    wanted, count, kind = _scan_options(call)

    def page(count: int) -> Reply:
        seen = list(islice(keyspace.created_after(cursor), count + 1))
        keyspace.work += _VISIT * len(seen)
        found = [
            key
            for key, record in seen[:count]
            if (wanted is None or wanted(key)) and (kind is None or kind_name(record.kind).encode() == kind)
        ]
        following = seen[count - 1][1].born if len(seen) > count else 0
        return [b"%d" % following, found]

    if count <= _MAX_SCAN or keyspace.in_query:
        return page(min(count, _MAX_SCAN))
    wide = encode(page(count), 2)  # an entry of an earlier release
    work = keyspace.work + len(wide)
    reply = page(_MAX_SCAN)
    keyspace.work = work - len(encode(reply, 2))  # the caller adds the reply's
    return reply


def _scan_options(call: Call) -> tuple[Callable[[bytes], object] | None, int, bytes | None]:
    if len(call) % 2:
        raise syntax_error()
    wanted: Callable[[bytes], object] | None = None
    count = 10
    kind: bytes | None = None
    for place in range(2, len(call), 2):
        option, argument = call[place].upper(), call[place + 1]
        if option == b"MATCH":
            wanted = matcher(argument)
        elif option == b"COUNT":
            count = min(integer(argument), _MAX_COUNTED)
            if count < 1:
                raise syntax_error()
        elif option == b"TYPE":
            kind = argument.lower()
        else:
            raise syntax_error()
    return wanted, count, kind


_KEY: Final = (1, 1, 1)
_KEYS: Final = (1, -1, 1)

COMMANDS: Final[tuple[Command, ...]] = (
    Command.row("del", -2, "write", _del, _KEYS, Writes(shows=False, grows=False, one_line=2)),
    Command.row("unlink", -2, "write fast", _del, _KEYS, Writes(shows=False, grows=False, one_line=2)),
    Command.row("exists", -2, "readonly fast", _exists, _KEYS),
    Command.row("touch", -2, "readonly fast", _exists, _KEYS),
    Command.row("type", 2, "readonly fast", _type, _KEY),
    Command.row("rename", 3, "write", _rename, (1, 2, 1), Writes(shows=True, grows=True)),
    Command.row("renamenx", 3, "write fast", _renamenx, (1, 2, 1), Writes(shows=True, grows=True)),
    Command.row("dbsize", 1, "readonly fast", _dbsize),
    Command.row("flushall", -1, "write", _flush, writes=Writes(shows=False, grows=False)),
    Command.row("flushdb", -1, "write", _flush, writes=Writes(shows=False, grows=False)),
    Command.row("keys", 2, "readonly", _keys, sweeps=True),
    Command.row("scan", -2, "readonly", _scan, sweeps=True),
)
