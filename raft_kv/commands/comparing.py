"""Commands that act only if a key holds a given value: DELIFEQ, DELEX, SET with IFEQ, and the scripts of locks.

If `raft_kv.scripts` recognises the script of a client's EVAL or EVALSHA, the log gets `raft.script` and the name of an
operation from `OPERATIONS`. `SET` with `IFEQ` or `IFNE` enters the log as `raft.set`: before these options existed,
such a `SET` was answered by a syntax error, and a replay of an old log must answer it alike. Names of operations are
part of the log format; a name never gets a second meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

import attrs

from raft_kv.commands.deadlines import absolute, expire_in
from raft_kv.commands.strings import set_comparing
from raft_kv.commands.table import (
    INTERNAL,
    Call,
    Command,
    TimeOptions,
    Writes,
    integer,
    printable,
    string_at,
    syntax_error,
)
from raft_kv.feature_names import COMPARE, ONCE
from raft_kv.keyspace import STRING, Keyspace, Record
from raft_kv.resp import OK, CommandError, Failure, Reply, Simple

__all__ = ["COMMANDS", "OPERATIONS", "RAFT_ONCE", "RAFT_SCRIPT", "RAFT_SET", "Operation"]

RAFT_ONCE: Final = b"raft.once"
RAFT_SCRIPT: Final = b"raft.script"
RAFT_SET: Final = b"raft.set"

Words: TypeAlias = Sequence[bytes]


def _delifeq(keyspace: Keyspace, call: Call) -> Reply:
    record = string_at(keyspace, call[1])
    return int(record is not None and record.value == call[2] and keyspace.remove(call[1]))


def _delex(keyspace: Keyspace, call: Call) -> Reply:
    if len(call) == 2:
        return int(keyspace.remove(call[1]))
    if len(call) != 4 or call[2].upper() not in {b"IFEQ", b"IFNE"}:
        raise syntax_error()
    record = string_at(keyspace, call[1])
    if record is None or (record.value == call[3]) is not (call[2].upper() == b"IFEQ"):
        return 0
    return int(keyspace.remove(call[1]))


# Operations of scripts. Each does what its script does in Redis, reply included.


def _held(keyspace: Keyspace, keys: Words, arguments: Words) -> Record | None:
    """Return the record of the first key if it holds the first argument."""
    record = string_at(keyspace, keys[0])
    return record if record is not None and record.value == arguments[0] else None


def _delete(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    return int(_held(keyspace, keys, arguments) is not None and keyspace.remove(keys[0]))


def _pexpire(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    record = _held(keyspace, keys, arguments)
    if record is None:
        return 0
    expire_in(keyspace, keys[0], record, integer(arguments[1]), 1, "pexpire")
    return 1


def _expire(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    record = _held(keyspace, keys, arguments)
    if record is None:
        return 0
    expire_in(keyspace, keys[0], record, integer(arguments[1]), 1000, "expire")
    return 1


def _set(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    if _held(keyspace, keys, arguments) is None:
        return 0
    keyspace.put(keys[0], STRING, arguments[1])
    return OK


def _extend(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    """redis-py: add argument 2 to the remaining time to live; replace it if argument 3 is not 0."""
    record = _held(keyspace, keys, arguments)
    if record is None or not record.deadline:
        return 0
    more = integer(arguments[1])
    if arguments[2] == b"0":
        more += max(0, record.deadline - keyspace.now)
    expire_in(keyspace, keys[0], record, more, 1, "pexpire")
    return 1


def _extend_to(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    """celery-redbeat: replace the remaining time to live by argument 2."""
    record = _held(keyspace, keys, arguments)
    if record is None or not record.deadline:
        return 0
    expire_in(keyspace, keys[0], record, integer(arguments[1]), 1, "pexpire")
    return 1


def _pttl(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    """pottery: return the remaining time of a held lock; 0 if none is left, or it has no end."""
    record = _held(keyspace, keys, arguments)
    return 0 if record is None else max(0, record.deadline - keyspace.now)


def _lock_release(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    """python-redis-lock: the second key is a list to wake waiting clients; there are no lists here."""
    if _held(keyspace, keys, arguments) is None:
        return 1
    keyspace.remove(keys[1])
    keyspace.remove(keys[0])
    return 0


def _lock_extend(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    record = _held(keyspace, keys, arguments)
    if record is None:
        return 1
    if not record.deadline:
        return 2
    expire_in(keyspace, keys[0], record, integer(arguments[1]), 1000, "expire")
    return 0


def _lock_reset(keyspace: Keyspace, keys: Words, _arguments: Words) -> Reply:
    keyspace.remove(keys[1])
    return int(keyspace.remove(keys[0]))


_NOT_MINE: Final = Failure("ERROR")


def _take(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    """aioredlock: take a lock that is free or held by this client, for argument 2 milliseconds."""
    record = string_at(keyspace, keys[0])
    if record is not None and record.value != arguments[0]:
        return _NOT_MINE
    deadline = absolute(keyspace, integer(arguments[1]), 1, "set", relative=True)
    keyspace.put(keys[0], STRING, arguments[0], deadline)
    return OK


def _give_back(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    record = string_at(keyspace, keys[0])
    if record is None:
        return Simple("OK")
    return int(keyspace.remove(keys[0])) if record.value == arguments[0] else _NOT_MINE


def _ttl(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    record = _held(keyspace, keys, arguments)
    if record is None:
        return _NOT_MINE
    return (record.deadline - keyspace.now + 500) // 1000 if record.deadline else -1


def _acquire(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    """sherlock: take a free lock for argument 2 seconds."""
    seconds = integer(arguments[1])
    if keyspace.find(keys[0]) is not None:
        return 0
    keyspace.put(keys[0], STRING, arguments[0])
    record = keyspace.find(keys[0])
    assert record is not None
    expire_in(keyspace, keys[0], record, seconds, 1000, "expire")
    return 1


def _set_nx(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    """node-redlock before 5: take a free lock for argument 2 milliseconds."""
    deadline = absolute(keyspace, integer(arguments[1]), 1, "set", relative=True)
    if keyspace.find(keys[0]) is not None:
        return None
    keyspace.put(keys[0], STRING, arguments[0], deadline)
    return OK


def _set_all(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    deadline = absolute(keyspace, integer(arguments[1]), 1, "set", relative=True)
    for key in keys:
        keyspace.put(key, STRING, arguments[0], deadline)
    return len(keys)


def _acquire_all(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    """node-redlock 5: take all keys if all are free."""
    if any(keyspace.find(key) is not None for key in keys):
        return 0
    return _set_all(keyspace, keys, arguments)


def _extend_all(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    """node-redlock 5: renew all keys if all are held."""
    if any(_held(keyspace, [key], arguments) is None for key in keys):
        return 0
    return _set_all(keyspace, keys, arguments)


def _release_all(keyspace: Keyspace, keys: Words, arguments: Words) -> Reply:
    """node-redlock 5: release the held keys; return their number."""
    count = 0
    for key in keys:
        if _held(keyspace, [key], arguments) is not None:
            count += keyspace.remove(key)
    return count


@final
@attrs.frozen
class Operation:
    """The operation of a script, with its least numbers of keys and arguments; further ones are ignored, as in Lua."""

    run: Callable[[Keyspace, Words, Words], Reply]
    keys: int
    arguments: int
    calls: str
    """The commands that the script calls in Redis; a user needs the right to each."""


OPERATIONS: Final[dict[str, Operation]] = {
    "delete": Operation(_delete, 1, 1, "get del"),
    "pexpire": Operation(_pexpire, 1, 2, "get pexpire"),
    "expire": Operation(_expire, 1, 2, "get expire"),
    "set": Operation(_set, 1, 2, "get set"),
    "extend": Operation(_extend, 1, 3, "get pttl pexpire"),
    "extend-to": Operation(_extend_to, 1, 2, "get pttl pexpire"),
    "pttl": Operation(_pttl, 1, 1, "get pttl"),
    "lock-release": Operation(_lock_release, 2, 1, "get del"),
    "lock-extend": Operation(_lock_extend, 1, 2, "get ttl expire"),
    "lock-reset": Operation(_lock_reset, 2, 0, "del"),
    "take": Operation(_take, 1, 2, "get set"),
    "give-back": Operation(_give_back, 1, 1, "get del"),
    "ttl": Operation(_ttl, 1, 1, "get ttl"),
    "acquire": Operation(_acquire, 1, 2, "set expire"),
    "set-nx": Operation(_set_nx, 1, 2, "set"),
    "acquire-all": Operation(_acquire_all, 1, 2, "exists set"),
    "extend-all": Operation(_extend_all, 1, 2, "get set"),
    "release-all": Operation(_release_all, 1, 1, "get del"),
}


def _script(keyspace: Keyspace, call: Call) -> Reply:
    """raft.script operation numkeys key... argument..."""
    operation = OPERATIONS.get(call[1].decode("ascii", "replace"))
    count = integer(call[2])
    if operation is None:
        raise CommandError(f"ERR there is no operation {printable(call[1])}")
    keys, arguments = call[3 : 3 + count], call[3 + count :]
    if count < operation.keys or len(keys) != count:
        raise CommandError("ERR too few keys for this script")
    if len(arguments) < operation.arguments:
        raise CommandError("ERR too few arguments for this script")
    return operation.run(keyspace, keys, arguments)


def _once(_keyspace: Keyspace, _call: Call) -> Reply:
    """RAFT ONCE in a transaction: it names the transaction, and has a reply of its own among the others."""
    return OK


_KEY: Final = (1, 1, 1)

COMMANDS: Final[tuple[Command, ...]] = (
    Command.row("delifeq", 3, "write fast", _delifeq, _KEY, Writes(shows=True, grows=False, feature=COMPARE)),
    Command.row("delex", -2, "write fast", _delex, _KEY, Writes(shows=True, grows=False, feature=COMPARE)),
    Command.row(
        "raft.set",
        -3,
        f"write {INTERNAL}",
        set_comparing,
        _KEY,
        Writes(shows=True, grows=True, feature=COMPARE, wall_times=TimeOptions(3)),
    ),
    Command.row("raft.once", 1, f"write {INTERNAL}", _once, writes=Writes(shows=True, grows=False, feature=ONCE)),
    Command.row(
        "raft.script",
        -3,
        f"write {INTERNAL}",
        _script,
        writes=Writes(shows=True, grows=False, feature=COMPARE),
        counted=True,
    ),
)
