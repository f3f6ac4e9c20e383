"""Commands on strings. Times come from the keyspace's clock, which is the log's."""

from __future__ import annotations

from typing import Final

import attrs

from raft_kv.commands.deadlines import absolute
from raft_kv.commands.table import (
    INT64_MAX,
    INT64_MIN,
    Call,
    Command,
    TimeOptions,
    Writes,
    integer,
    string_at,
    syntax_error,
    wrong_arity,
)
from raft_kv.keyspace import STRING, Keyspace, Millis, Record, Value
from raft_kv.long_values import append, cut_out, overwrite, whole
from raft_kv.resp import OK, CommandError, Reply

__all__ = ["COMMANDS", "MAX_REPLY_BYTES", "MAX_STRING_BYTES", "set_comparing"]

MAX_STRING_BYTES: Final = 64 * 1024 * 1024
"""Limit on a string made by APPEND or SETRANGE. A constant, the same on every replica."""
MAX_REPLY_BYTES: Final = MAX_STRING_BYTES + 1024 * 1024
"""Limit on the replies to MGET or to a transaction of reads: little more than the longest string. They are copied in
one step, and a few keys named a million times would exceed any memory."""
_MAX_LOGGED_REPLY_BYTES: Final = 256 * 1024 * 1024
"""The same for an MGET in the log, as in every release: its reply counts as work, and every replica and every replay
must count the same. Replies too long to be sent are not copied there."""
_MOST_DIGITS: Final = 20
"""Digits of a 64-bit number, and its sign."""
_TOO_LONG: Final = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"


def _value(record: Record | None) -> Value | None:
    return None if record is None else record.value


def _keeping(keyspace: Keyspace, key: bytes, value: Value, old: Record | None) -> None:
    """Store `value` under the key, which keeps its deadline."""
    keyspace.work += len(value)
    keyspace.put(key, STRING, value, 0 if old is None else old.deadline)


# SET and its relatives.


@attrs.frozen
class _SetOptions:
    absent: bool = False
    present: bool = False
    get: bool = False
    keep: bool = False
    deadline: Millis = 0
    equal: bytes | None = None
    unequal: bytes | None = None

    def permit(self, old: Record | None) -> bool:
        """Return whether the conditions are true of the key's present value."""
        if self.equal is not None:
            return old is not None and old.value == self.equal
        if self.unequal is not None:
            return old is None or old.value != self.unequal
        return not (self.absent and old is not None) and not (self.present and old is None)


_UNITS: Final = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}


def _set_options(keyspace: Keyspace, call: Call, *, comparing: bool) -> _SetOptions:
    absent = present = get = keep = False
    deadline: Millis = 0
    compared: dict[bytes, bytes] = {}
    words = iter(call[3:])
    for word in words:
        option = word.upper()
        if option == b"NX" and not present and not compared:
            absent = True
        elif option == b"XX" and not absent and not compared:
            present = True
        elif comparing and option in {b"IFEQ", b"IFNE"} and not (absent or present or compared):
            value = next(words, None)
            if value is None:
                raise syntax_error()
            compared[option] = value
        elif option == b"GET":
            get = True
        elif option == b"KEEPTTL" and not deadline:
            keep = True
        elif option in _UNITS and not deadline and not keep:
            amount = next(words, None)
            if amount is None:
                raise syntax_error()
            unit, relative = _UNITS[option]
            deadline = absolute(keyspace, integer(amount), unit, "set", relative=relative)
        else:
            raise syntax_error()
    return _SetOptions(absent, present, get, keep, deadline, compared.get(b"IFEQ"), compared.get(b"IFNE"))


def _set(keyspace: Keyspace, call: Call) -> Reply:
    if len(call) == 3:
        keyspace.put(call[1], STRING, call[2])
        return OK
    return _set_if(keyspace, call[1], call[2], _set_options(keyspace, call, comparing=False))


def set_comparing(keyspace: Keyspace, call: Call) -> Reply:
    """SET with IFEQ and IFNE among its options."""
    return _set_if(keyspace, call[1], call[2], _set_options(keyspace, call, comparing=True))


def _set_if(keyspace: Keyspace, key: bytes, value: bytes, options: _SetOptions) -> Reply:
    compares = options.equal is not None or options.unequal is not None
    old = string_at(keyspace, key) if options.get or compares else keyspace.find(key)
    answer: Reply = _value(old) if options.get else OK
    if not options.permit(old):
        return answer if options.get else None
    deadline = old.deadline if options.keep and old is not None else options.deadline
    keyspace.put(key, STRING, value, deadline)
    return answer


def _setnx(keyspace: Keyspace, call: Call) -> Reply:
    if keyspace.find(call[1]) is not None:
        return 0
    keyspace.put(call[1], STRING, call[2])
    return 1


def _setex(keyspace: Keyspace, call: Call) -> Reply:
    deadline = absolute(keyspace, integer(call[2]), 1000, "setex", relative=True)
    keyspace.put(call[1], STRING, call[3], deadline)
    return OK


def _psetex(keyspace: Keyspace, call: Call) -> Reply:
    deadline = absolute(keyspace, integer(call[2]), 1, "psetex", relative=True)
    keyspace.put(call[1], STRING, call[3], deadline)
    return OK


def _getset(keyspace: Keyspace, call: Call) -> Reply:
    old = _value(string_at(keyspace, call[1]))
    keyspace.put(call[1], STRING, call[2])
    return old


def _getdel(keyspace: Keyspace, call: Call) -> Reply:
    old = _value(string_at(keyspace, call[1]))
    keyspace.remove(call[1])
    return old


def _mset(keyspace: Keyspace, call: Call) -> Reply:
    if len(call) % 2 == 0:
        raise wrong_arity("mset")
    for place in range(1, len(call), 2):
        keyspace.put(call[place], STRING, call[place + 1])
    return OK


def _msetnx(keyspace: Keyspace, call: Call) -> Reply:
    if len(call) % 2 == 0:
        raise wrong_arity("msetnx")
    if any(keyspace.find(key) is not None for key in call[1::2]):
        return 0
    for place in range(1, len(call), 2):
        keyspace.put(call[place], STRING, call[place + 1])
    return 1


def _append(keyspace: Keyspace, call: Call) -> Reply:
    old = string_at(keyspace, call[1])
    value = call[2] if old is None else append(old.value, call[2])
    if len(value) > MAX_STRING_BYTES:
        raise CommandError(_TOO_LONG)
    _keeping(keyspace, call[1], value, old)
    return len(value)


def _setrange(keyspace: Keyspace, call: Call) -> Reply:
    offset = integer(call[2])
    if offset < 0:
        raise CommandError("ERR offset is out of range")
    old = string_at(keyspace, call[1])
    value: Value = b"" if old is None else old.value
    if not call[3]:
        return len(value)
    if offset + len(call[3]) > MAX_STRING_BYTES:
        raise CommandError(_TOO_LONG)
    value = overwrite(value, offset, call[3])
    _keeping(keyspace, call[1], value, old)
    return len(value)


# Reading.


def _get(keyspace: Keyspace, call: Call) -> Reply:
    return _value(string_at(keyspace, call[1]))


def _mget(keyspace: Keyspace, call: Call) -> Reply:
    records = [keyspace.find(key) for key in call[1:]]
    values = [record.value if record is not None and record.kind == STRING else None for record in records]
    if sum([len(value) for value in values if value is not None]) > (
        MAX_REPLY_BYTES if keyspace.in_query else _MAX_LOGGED_REPLY_BYTES
    ):
        raise CommandError("ERR the reply would be too long; ask for fewer keys at once")
    return values


def _strlen(keyspace: Keyspace, call: Call) -> Reply:
    return len(_value(string_at(keyspace, call[1])) or b"")


def _getrange(keyspace: Keyspace, call: Call) -> Reply:
    first, last = integer(call[2]), integer(call[3])
    value = _value(string_at(keyspace, call[1])) or b""
    first = max(0, first + len(value)) if first < 0 else first
    last = last + len(value) if last < 0 else last
    return cut_out(value, first, last + 1) if last >= 0 else b""


# Counting.


def _add(keyspace: Keyspace, key: bytes, amount: int) -> Reply:
    old = string_at(keyspace, key)
    # A longer value is no number: 512 INCRs of one with 64 MiB would copy 32 GiB, on every replica.
    total = amount + (0 if old is None else integer(whole(old.value) if len(old.value) <= _MOST_DIGITS else b""))
    if not INT64_MIN <= total <= INT64_MAX:
        raise CommandError("ERR increment or decrement would overflow")
    _keeping(keyspace, key, b"%d" % total, old)
    return total


def _incr(keyspace: Keyspace, call: Call) -> Reply:
    return _add(keyspace, call[1], 1)


def _decr(keyspace: Keyspace, call: Call) -> Reply:
    return _add(keyspace, call[1], -1)


def _incrby(keyspace: Keyspace, call: Call) -> Reply:
    return _add(keyspace, call[1], integer(call[2]))


def _decrby(keyspace: Keyspace, call: Call) -> Reply:
    amount = integer(call[2])
    if amount == INT64_MIN:
        raise CommandError("ERR decrement would overflow")
    return _add(keyspace, call[1], -amount)


_KEY: Final = (1, 1, 1)
_SHOWING: Final = frozenset({b"GET", b"IFEQ", b"IFNE"})

COMMANDS: Final[tuple[Command, ...]] = (
    Command.row("get", 2, "readonly fast", _get, _KEY),
    Command.row(
        "set", -3, "write", _set, _KEY, Writes(shows=_SHOWING, grows=True, one_line=3, wall_times=TimeOptions(3))
    ),
    Command.row("setnx", 3, "write fast", _setnx, _KEY, Writes(shows=False, grows=True, one_line=3)),
    Command.row("setex", 4, "write", _setex, _KEY, Writes(shows=False, grows=True, one_line=4)),
    Command.row("psetex", 4, "write", _psetex, _KEY, Writes(shows=False, grows=True, one_line=4)),
    Command.row("getset", 3, "write fast", _getset, _KEY, Writes(shows=True, grows=True)),
    Command.row("getdel", 2, "write fast", _getdel, _KEY, Writes(shows=True, grows=False)),
    Command.row("mget", -2, "readonly fast", _mget, (1, -1, 1)),
    Command.row("mset", -3, "write", _mset, (1, -1, 2), Writes(shows=False, grows=True)),
    Command.row("msetnx", -3, "write", _msetnx, (1, -1, 2), Writes(shows=False, grows=True)),
    Command.row("append", 3, "write fast", _append, _KEY, Writes(shows=False, grows=True)),
    Command.row("strlen", 2, "readonly fast", _strlen, _KEY),
    Command.row("setrange", 4, "write", _setrange, _KEY, Writes(shows=False, grows=True)),
    Command.row("getrange", 4, "readonly", _getrange, _KEY),
    Command.row("incr", 2, "write fast", _incr, _KEY, Writes(shows=True, grows=True, one_line=2)),
    Command.row("decr", 2, "write fast", _decr, _KEY, Writes(shows=True, grows=True, one_line=2)),
    Command.row("incrby", 3, "write fast", _incrby, _KEY, Writes(shows=True, grows=True, one_line=3)),
    Command.row("decrby", 3, "write fast", _decrby, _KEY, Writes(shows=True, grows=True, one_line=3)),
)
