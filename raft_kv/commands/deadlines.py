"""Commands on the times to live of keys, and `absolute`, which turns any time option into a deadline."""

from __future__ import annotations

from typing import Final

from raft_kv.commands.table import INT64_MAX, Call, Command, Handler, TimeAt, Writes, integer
from raft_kv.keyspace import Keyspace, Millis, Record
from raft_kv.resp import CommandError, Reply

__all__ = ["COMMANDS", "absolute", "expire_in"]


def absolute(keyspace: Keyspace, amount: int, unit: int, name: str, *, relative: bool) -> Millis:
    """Return the deadline `amount` units of `unit` milliseconds from now or since 1970. Raise unless positive."""
    if amount <= 0:
        raise _invalid(name)
    return _deadline(keyspace, amount, unit, name, relative=relative)


def _deadline(keyspace: Keyspace, amount: int, unit: int, name: str, *, relative: bool) -> Millis:
    deadline = amount * unit + (keyspace.now if relative else 0)
    if not -INT64_MAX <= deadline <= INT64_MAX:
        raise _invalid(name)
    return deadline


def _invalid(name: str) -> CommandError:
    return CommandError(f"ERR invalid expire time in '{name}' command")


# Setting.


def expire_in(keyspace: Keyspace, key: bytes, record: Record, amount: int, unit: int, name: str) -> None:
    """Let the key expire after `amount` units of `unit` milliseconds; at once if that is not positive.

    Raise `CommandError` if it is out of range.
    """
    _renew(keyspace, key, record, _deadline(keyspace, amount, unit, name, relative=True))


def _renew(keyspace: Keyspace, key: bytes, record: Record, deadline: Millis) -> None:
    if deadline <= keyspace.time:
        keyspace.remove(key)
    else:
        keyspace.put(key, record.kind, record.value, deadline)


def _conditions(call: Call) -> set[bytes]:
    conditions = {word.upper() for word in call[3:]}
    for word in call[3:]:
        if word.upper() not in {b"NX", b"XX", b"GT", b"LT"}:
            raise CommandError(f"ERR Unsupported option {word[:128].decode('utf-8', 'replace')}")
    if b"NX" in conditions and len(conditions) > 1:
        raise CommandError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= conditions:
        raise CommandError("ERR GT and LT options at the same time are not compatible")
    return conditions


def _allowed(conditions: set[bytes], old: Millis, new: Millis) -> bool:
    """Whether a key with deadline `old` (0: none, which is later than any) may get `new`."""
    if b"NX" in conditions and old:
        return False
    if b"XX" in conditions and not old:
        return False
    if b"GT" in conditions and (not old or new <= old):
        return False
    return not (b"LT" in conditions and old and new >= old)


def _expirer(name: str, unit: int, *, relative: bool) -> Handler:
    def expire(keyspace: Keyspace, call: Call) -> Reply:
        deadline = _deadline(keyspace, integer(call[2]), unit, name, relative=relative)
        conditions = _conditions(call)
        record = keyspace.find(call[1])
        if record is None or not _allowed(conditions, record.deadline, deadline):
            return 0
        _renew(keyspace, call[1], record, deadline)
        return 1

    return expire


def _persist(keyspace: Keyspace, call: Call) -> Reply:
    record = keyspace.find(call[1])
    if record is None or not record.deadline:
        return 0
    keyspace.put(call[1], record.kind, record.value)
    return 1


# Asking.


def _asker(unit: int, *, relative: bool) -> Handler:
    def ask(keyspace: Keyspace, call: Call) -> Reply:
        record = keyspace.find(call[1])
        if record is None:
            return -2
        if not record.deadline:
            return -1
        left = max(0, record.deadline - keyspace.now) if relative else record.deadline
        return (left + 500) // 1000 if unit == 1000 and relative else left // unit

    return ask


_KEY: Final = (1, 1, 1)

COMMANDS: Final[tuple[Command, ...]] = (
    Command.row(
        "expire",
        -3,
        "write fast",
        _expirer("expire", 1000, relative=True),
        _KEY,
        Writes(shows=False, grows=False, one_line=3),
    ),
    Command.row(
        "pexpire",
        -3,
        "write fast",
        _expirer("pexpire", 1, relative=True),
        _KEY,
        Writes(shows=False, grows=False, one_line=3),
    ),
    Command.row(
        "expireat",
        -3,
        "write fast",
        _expirer("expireat", 1000, relative=False),
        _KEY,
        Writes(shows=False, grows=False, wall_times=TimeAt(2, 1000, b"pexpireat")),
    ),
    Command.row(
        "pexpireat",
        -3,
        "write fast",
        _expirer("pexpireat", 1, relative=False),
        _KEY,
        Writes(shows=False, grows=False, wall_times=TimeAt(2, 1, b"pexpireat")),
    ),
    Command.row("persist", 2, "write fast", _persist, _KEY, Writes(shows=False, grows=False, one_line=2)),
    Command.row("ttl", 2, "readonly fast", _asker(1000, relative=True), _KEY),
    Command.row("pttl", 2, "readonly fast", _asker(1, relative=True), _KEY),
    Command.row("expiretime", 2, "readonly fast", _asker(1000, relative=False), _KEY),
    Command.row("pexpiretime", 2, "readonly fast", _asker(1, relative=False), _KEY),
)
