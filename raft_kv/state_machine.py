"""`KeyValueMachine`: the replicated state machine. Log entries in, replies out, the same on every replica.

It uses the table of commands and the keyspace; it has nothing to do with sockets or sessions.

Deadlines: the machine's clock moves only by log entries. The leader stamps cluster time into each, which is independent
of wall clocks, and the clock is the latest stamp seen. A key expires on every replica with the entry that brings the
time to its deadline. A query never expires a key by a clock of its own, or nodes could disagree and a key could come
back. But it carries cluster time as its node knows it. If a key of the query should have expired by then, the answer is
*due*: the session first has the leader's time written into the log, then repeats the query. So reads stay linearizable,
an expired key is not shown because the cluster was idle, and only the leader's clock decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, TypeAlias, final

import msgspec

from raft_core.compiled import give_way
from raft_core.ids import Index
from raft_kv import log_format as entries
from raft_kv.commands import WRITE, look_up
from raft_kv.commands.strings import MAX_REPLY_BYTES
from raft_kv.features import MAX_MEMORY, FeatureGate
from raft_kv.keyspace import STRING, Keyspace, NeedsClock, Version
from raft_kv.log_format import (
    Answered,
    Bounded,
    Calls,
    ChangeUser,
    Clock,
    DeleteUsers,
    OnBehalf,
    Once,
    OpenSession,
    Query,
    Transaction,
    Undecodable,
)
from raft_kv.long_values import LONG_BYTES, Long
from raft_kv.once import AppliedOnce
from raft_kv.plain_sets import PLAIN_SET, PlainSets, plain_columns
from raft_kv.resp import (
    NULL_ARRAY,
    OK,
    CommandError,
    Failure,
    array_header,
    bulk_length,
    encode,
    encode_failure,
    long_parts,
)
from raft_kv.short_reads import answer_short
from raft_kv.snapshot_format import read_snapshot, write_snapshot
from raft_kv.users.rules import RuleError
from raft_kv.users.table import VOUCHED, UserTable
from raft_kv.values import Census
from raft_kv.wall_times import in_cluster_time

__all__ = ["Census", "KeyValueMachine"]

_Guard: TypeAlias = Callable[[Sequence[bytes]], str]
"""Returns the error for a call that its user may not make, "" for one that it may."""
_MILLION: Final = 1_000_000
_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""A query stops after this many bytes of replies, and is repeated for the rest."""
_READ_BYTES: Final = MAX_REPLY_BYTES
"""Bytes of the replies to a transaction of reads."""
_RESULT_BYTES: Final = 4 * 1024 * 1024
"""Bytes of the replies to one entry, sent to a follower in one frame. A constant, because every replica must produce
the same result."""
_OK: Final = encode(OK, 2)
_OK_SIZE: Final = len(_OK)
_PLAIN_SET: Final = PLAIN_SET
_TOO_LONG: Final = encode_failure("ERR carried out, but the replies to one log entry would be too long to be sent")
_WORK: Final = 1024 * 1024 * 1024
"""Bytes copied by the commands of one entry or transaction, before the last command. A few bytes can cause much work:
each APPEND to a long value and each GET of one copies it. Every replica would pause for as long, and again at every
restart. A constant, the same on every replica."""
_OUT_OF_MEMORY: Final = encode_failure("OOM command not allowed when used memory > 'maxmemory'.")
_TOO_MUCH: Final = encode_failure("ERR not carried out: the commands before it took too much work; send fewer at once")


_STRETCH: Final = 512
"""Other threads have a chance to run after so many commands; see `give_way`."""
_LONG_BYTES: Final = 64 * 1024
"""Fewer bytes are decoded and carried out in some milliseconds, however many commands or keys they contain."""


_KEYS_WORD: Final = msgspec.msgpack.encode(b"keys")
_SCAN_WORD: Final = msgspec.msgpack.encode(b"scan")
_MGET_WORD: Final = msgspec.msgpack.encode(b"mget")
_TOGETHER: Final = b"\xc3\xc4"
"""In a query that is a transaction: true, and the beginning of the user's name, of at most `_USER_BYTES` with these."""
_USER_BYTES: Final = 4 + 255
_SCANS: Final = 4
"""A transaction with more SCANs, each over a thousand keys, takes long."""
_COPIED_BYTES: Final = 2 * 1024 * 1024
"""Copying this many bytes takes a millisecond or two."""
_COPYING: Final = (b"append", b"setrange", b"getrange")
"""Commands that copy the old value, unless that is a `Long`."""
_COPYING_BYTES: Final = 13
"""The least bytes of such a command in an entry."""
_SHORT_QUERIES: Final = frozenset({entries.SHORT_READS, entries.VERSIONS})
_PLACES: Final = 8192
"""A SCAN skips this many removed keys in a few milliseconds."""


@final
class KeyValueMachine:
    """A `StateMachine` over the table of commands."""

    def __init__(
        self, keyspace: Keyspace | None = None, *, max_memory: int = 0, gate: FeatureGate | None = None
    ) -> None:
        self.keyspace = Keyspace() if keyspace is None else keyspace
        self.once = AppliedOnce()
        self.users = UserTable()
        self.max_memory = max_memory
        """Bytes that the state may take, judged where this node leads; 0: no limit."""
        self.gate = FeatureGate() if gate is None else gate
        """What the cluster uses: without `kv-max-memory` there is no limit yet."""

    def init(self) -> Index:
        """Return 0: this machine is in memory only, rebuilt from snapshot and log."""
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        """Return the entry with cluster time in it."""
        return entries.stamp(command, now // _MILLION)

    def prepare_with_wall(self, command: bytes, now: int, wall: int) -> bytes:
        """Return the entry stamped with cluster time, and cluster times in place of its commands' wall times."""
        command = in_cluster_time(command, (wall - now) // _MILLION)
        if self.max_memory and MAX_MEMORY in self.gate.used:  # judged here, so that all replicas refuse the same
            command = entries.bounded(command, max(0, self.max_memory - self.keyspace.held_bytes))
        return self.prepare(command, now)

    def latest_time(self) -> int:
        """Return the log's time in nanoseconds; 0 before the first entry."""
        return self.keyspace.time * _MILLION

    def apply(self, index: Index, command: bytes) -> bytes:
        """Return the RESP bytes of the entry's replies. The reply to an invalid entry is an error."""
        try:
            time, decoded = entries.decode_entry(command)
        except Undecodable as failure:
            return encode_failure(f"ERR this log entry could not be read: {failure}")
        keyspace = self.keyspace
        keyspace.advance(time, index)
        if self.once.sessions:
            self.once.advance(keyspace.time)
        guard: _Guard | None = None
        user = b""
        if type(decoded) is not Calls or self.users.grants:
            if type(decoded) is Bounded:
                keyspace.allowance, decoded = decoded.allowance, decoded.command
            if type(decoded) is OnBehalf:
                user, decoded = decoded.user, decoded.command
            guard = self._guard(user)
        if type(decoded) is Calls:
            if guard is None and keyspace.allowance is None and 1 < len(decoded.calls) <= _STRETCH:
                columns = plain_columns(decoded.calls)
                if columns is not None and keyspace.put_all(columns[0], columns[1]):
                    return _OK * len(decoded.calls)
            replies = _calls(keyspace, decoded.calls, decoded.protocol, _RESULT_BYTES, guard)
            return replies[0] if len(replies) == 1 else b"".join(replies)
        if type(decoded) is Transaction:
            return _transaction(keyspace, decoded.watched, decoded.calls, decoded.protocol, _RESULT_BYTES, guard)
        if type(decoded) is Once:
            return self._apply_once(decoded, user, guard)
        if type(decoded) is ChangeUser or type(decoded) is DeleteUsers:
            return self._change_users(decoded, guard)
        if type(decoded) is OpenSession:
            self.once.open(index, keyspace.time, user)
            return encode(index, 2)
        assert type(decoded) is Clock
        return b""

    def apply_unanswered(self, commands: Sequence[tuple[Index, bytes]]) -> int:
        """Apply the first of these entries, whose replies are not wanted, as `apply` would; return how many.

        0 if the first one is more than plain `SET`s. Takes a few milliseconds at most.
        """
        limit = self.keyspace.takes_run()
        if not limit or self.users.grants or self.once.sessions:
            return 0
        run = PlainSets(commands, self.keyspace.time, limit)
        if run.entries:
            last = commands[run.entries - 1][0]
            self.keyspace.put_run(run.time, last, run.keys, run.values, run.indexes)
        return run.entries

    def _guard(self, user: bytes) -> _Guard | None:
        """Return the check of each call of an entry or a query; None without users, or if a node vouches."""
        return partial(self.users.refusal, user or None) if self.users.grants and user[:1] != VOUCHED else None

    def _change_users(self, command: ChangeUser | DeleteUsers, guard: _Guard | None) -> bytes:
        """Return the reply to ACL SETUSER or ACL DELUSER."""
        deletes = type(command) is DeleteUsers
        if guard is not None and (refusal := guard([b"acl", b"deluser" if deletes else b"setuser"])):
            return encode_failure(refusal)
        try:
            if type(command) is DeleteUsers:
                count = self.users.delete(command.names)
                self.once.end_all_of(frozenset(command.names))
                return encode(count, 2)
            assert type(command) is ChangeUser
            self.users.change(command.name, command.rules, self.keyspace.index)
        except RuleError as failure:
            return encode_failure(f"ERR {failure}")
        return encode(OK, 2)

    def _apply_once(self, command: Once, user: bytes, guard: _Guard | None) -> bytes:
        """Return the reply of the command's first sending, which is now or was earlier."""
        keyspace, session, sequence = self.keyspace, command.session, command.sequence
        known = self.once.recall(session, sequence, keyspace.time, user)
        if known is not None:
            return known
        if command.together:
            reply = _transaction(keyspace, command.watched, command.calls, command.protocol, _RESULT_BYTES, guard)
        else:
            reply = b"".join(_calls(keyspace, command.calls[:1], command.protocol, _RESULT_BYTES, guard))
        self.once.keep(session, sequence, reply)
        return reply

    def query(self, request: bytes) -> bytes:
        """Return the answer to a query in the format of `log_format`."""
        if request[:1] == entries.SHORT_READS:
            return self._short_reads(request)
        try:
            now, query = entries.decode_query(request)
        except Undecodable as failure:
            return entries.encode_answer(Answered(False, 1, encode_failure(f"ERR not a query: {failure}")))
        self.keyspace.query_time, self.keyspace.in_query = now, True
        try:
            if type(query) is Query:
                return _answer(self.keyspace, query, self._guard(query.user))
            return entries.encode_versions(_versions(self.keyspace, query.keys))
        finally:
            self.keyspace.query_time, self.keyspace.in_query = 0, False

    def _short_reads(self, request: bytes) -> bytes:
        """Return the answer to short reads of many clients; if there are users, each has to ask by itself."""
        try:
            now, asked = entries.decode_short_reads(request)
        except Undecodable:
            return entries.encode_short_replies([])
        if self.users.grants:
            return entries.encode_short_replies([None] * len(asked.calls))
        keyspace = self.keyspace
        keyspace.query_time, keyspace.in_query = now, True
        try:
            return entries.encode_short_replies(answer_short(keyspace, asked.calls, asked.protocol))
        finally:
            keyspace.query_time, keyspace.in_query = 0, False

    def snapshot(self) -> Iterator[bytes]:
        """Return an iterator over this moment's state. It is driven from any thread, while applying goes on."""
        return write_snapshot(self.keyspace, self.once.sessions, self.users.users)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state by the snapshot's. Raise `SnapshotUnreadable`; then nothing has changed."""
        sessions, space, users = read_snapshot(chunks)
        table = UserTable(users)  # before any change: it may find a rule of a later release
        old, self.keyspace = self.keyspace, space
        self.once, self.users = AppliedOnce(sessions), table
        old.let_go()

    def census(self) -> Census:
        """Return the number of keys; allowed in any thread."""
        return Census(self.keyspace.size, self.keyspace.expiring)

    def is_long(self, request: bytes) -> bool:
        """Return whether this entry or query takes more than some milliseconds, and so belongs in a thread."""
        if len(request) > _LONG_BYTES:
            return True
        if request[:1] != entries.QUERY:
            return request[:1] not in _SHORT_QUERIES and self._copies_much(request)
        words = request.lower()
        scans = words.count(_SCAN_WORD)
        return (
            _KEYS_WORD in words
            or scans > _SCANS
            or (scans > 0 and self._many_gone())
            or (self._may_reply_long(request, words) and self._long_reply(request))
        )

    def _may_reply_long(self, query: bytes, words: bytes) -> bool:
        """Return whether the query may name values so long together that it is worth a look at their lengths.

        A batch of GETs stops by itself, but MGET and a transaction do not. A key takes two bytes at least.
        """
        longest = self.keyspace.longest
        if longest > _LONG_BYTES:
            return True
        unbounded = _MGET_WORD in words or query.find(_TOGETHER, -_USER_BYTES) >= 0
        return unbounded and len(query) // 2 * longest > _COPIED_BYTES

    def _copies_much(self, entry: bytes) -> bool:
        """Return whether the commands of this entry may copy so many bytes that a thread should do it."""
        most = min(self.keyspace.longest, LONG_BYTES)
        if len(entry) // _COPYING_BYTES * most <= _COPIED_BYTES:
            return False
        words = entry.lower()
        return sum(map(words.count, _COPYING)) * most > _COPIED_BYTES

    def _long_reply(self, request: bytes) -> bool:
        """Return whether this query names values so long that a thread should copy them."""
        try:
            _, query = entries.decode_query(request)
        except Undecodable:
            return False
        size = 0
        for call in query.calls if type(query) is Query else ():
            records = map(self.keyspace.alive, call[1:])
            size += sum([len(record.value) for record in records if record is not None])
        return size > _COPIED_BYTES

    def _many_gone(self) -> bool:
        """Return whether a SCAN may have to skip many thousands of removed keys."""
        return self.keyspace.held - self.keyspace.size > _PLACES


# Commands.


def _call(keyspace: Keyspace, call: list[bytes], protocol: int) -> bytes | Long:
    """Return the encoded reply to one command, or a long value as the whole reply, not yet encoded."""
    try:
        reply = look_up(call).run(keyspace, call)
        return reply if isinstance(reply, Long) else encode(reply, protocol)
    except CommandError as failure:
        return encode_failure(str(failure))


def _within(keyspace: Keyspace, call: list[bytes], protocol: int, room: int) -> bytes:
    """Return the reply to one command of an entry; an error, before any copying, if it is too long.

    The work counts as if it had been copied, as in every release: all replicas must stop at the same command.
    """
    try:
        reply = look_up(call).run(keyspace, call)
    except CommandError as failure:
        reply = Failure(str(failure))
    if reply is OK:
        keyspace.work += _OK_SIZE
        return _OK
    values = reply if type(reply) is list else [reply]
    if sum([len(value) for value in values if isinstance(value, bytes | Long)]) > room:
        null = len(encode(None, protocol))
        lengths = [bulk_length(len(value)) if isinstance(value, bytes | Long) else null for value in values]
        keyspace.work += sum(lengths) + (len(array_header(len(lengths))) if type(reply) is list else 0)
        return _TOO_LONG
    encoded = encode(reply, protocol)
    keyspace.work += len(encoded)
    return encoded


def _calls(
    keyspace: Keyspace, calls: list[list[bytes]], protocol: int, room: int, guard: _Guard | None = None
) -> list[bytes]:
    """Return the reply to each command; an error in place of a reply without room, or where `guard` refuses."""
    replies: list[bytes] = []
    keyspace.work = 0
    allowance = keyspace.allowance
    for start in range(0, len(calls), _STRETCH):
        give_way()
        for call in calls[start : start + _STRETCH]:
            if guard is not None and (refusal := guard(call)):
                replies.append(encode_failure(refusal))
                continue
            if allowance is not None and keyspace.growth >= allowance and _grows(call):
                replies.append(_OUT_OF_MEMORY)
                continue
            if keyspace.work > _WORK:
                reply = _TOO_MUCH
            elif len(call) == 3 and call[0] in _PLAIN_SET:  # most of all writes, so without the way through the table
                keyspace.put(call[1], STRING, call[2])
                keyspace.work += _OK_SIZE
                reply = _OK
            else:
                reply = _within(keyspace, call, protocol, room)
            size = len(reply)
            if size > room:
                reply, size = _TOO_LONG, len(_TOO_LONG)
            room -= size
            replies.append(reply)
    return replies


def _grows(call: list[bytes]) -> bool:
    """Return whether the command may make the state grow: Redis refuses these when memory is short."""
    try:
        writes = look_up(call).writes
    except CommandError:
        return False
    return writes is not None and writes.grows


def _transaction(
    keyspace: Keyspace,
    watched: list[tuple[bytes, Version]],
    calls: list[list[bytes]],
    protocol: int,
    room: int,
    guard: _Guard | None = None,
) -> bytes:
    """Return the replies of a transaction, or the null reply if a watched key has changed."""
    if any(keyspace.version(key) != version for key, version in watched):
        return encode(NULL_ARRAY, protocol)
    return array_header(len(calls)) + b"".join(_calls(keyspace, calls, protocol, room, guard))


def _answer(keyspace: Keyspace, query: Query, guard: _Guard | None) -> bytes:
    """Return the encoded replies to as many of the query's commands as possible; copy a long value once."""
    calls = [call if _only_reads(call) else [] for call in query.calls]
    if query.together:
        try:
            for key, _ in query.watched:
                keyspace.find(key)  # one that is due has changed, and the log does not know it yet
            replies_together = _transaction(keyspace, query.watched, calls, query.protocol, _READ_BYTES, guard)
            return entries.encode_answer(Answered(False, len(calls), replies_together))
        except NeedsClock:
            return entries.encode_answer(Answered(True, 0, b""))
    parts: list[bytes] = []
    count = size = 0
    due = False
    for call in calls:
        try:
            refusal = guard(call) if guard is not None else ""
            reply = encode_failure(refusal) if refusal else _call(keyspace, call, query.protocol)
        except NeedsClock:
            due = True
            break
        if isinstance(reply, Long):
            parts += long_parts(reply)
        else:
            parts.append(reply)
        count += 1
        size += len(reply)
        if size > _ANSWER_BYTES:
            break
    return entries.encode_answer(Answered(due, count, b""), parts)


def _versions(keyspace: Keyspace, keys: list[bytes]) -> list[Version]:
    """Return the version of each key; an empty list if one of them is due.

    If a due key were watched, its expiry, which is still to come, would count as a change.
    """
    try:
        for key in keys:
            keyspace.find(key)
    except NeedsClock:
        return []
    return [keyspace.version(key) for key in keys]


def _only_reads(call: list[bytes]) -> bool:
    """Return whether the command changes nothing, as required of a query."""
    try:
        return WRITE not in look_up(call).flags
    except CommandError:
        return True
