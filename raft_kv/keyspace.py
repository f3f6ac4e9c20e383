"""The keys and values of one replica, and its clock.

`Keyspace` is the state that commands read and change. Time comes as an argument with log entries and never runs back,
so every replica drops a key at the same entry. Nothing here depends on the order of an unordered set, on a process's
hash seed or on the machine.

Every step is short, however many keys there are. A key is gone at its deadline; its memory is freed in portions, with
the entries that follow: a fixed number per entry, and two more for each new key, so that dead records never outnumber
the keys that once lived. `clear` starts anew and frees the old keys in portions too. Values are never changed in place;
a change puts a new `Record`. A snapshot copies nothing: while it is being written, a change first keeps the key's
record of before for it.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from operator import is_
from typing import Any, Final, final
from weakref import ReferenceType, ref
from zlib import crc32

from raft_core.compiled import give_way
from raft_kv.creation_order import CreationOrder
from raft_kv.frozen import Frozen, LivingRecords
from raft_kv.shards import SHARDS, Shard, shard_number
from raft_kv.values import Kind, Millis, Record, Value, Version

__all__ = ["STRING", "Frozen", "Keyspace", "Kind", "Millis", "NeedsClock", "Record", "Value", "Version", "kind_name"]

STRING: Final[Kind] = 1
_Record: Final = Record
_crc32: Final = crc32
_setdefault: Final[Callable[[Any, bytes, Record], Any]] = dict.setdefault
_KIND_NAMES: Final[dict[Kind, str]] = {STRING: "string"}
_FEW: Final = 16
"""Fewer keys are put one by one."""
_PORTION: Final = 256
"""Expired keys freed with each entry; some 0.4 ms."""
_PER_KEY: Final = 2
"""The same with each new key."""
_TIDIED: Final = 2
"""Blocks of the order of creation rebuilt with each entry, if half of a block is dead; some 0.3 ms."""
_TIDIED_EVERY: Final = 128
"""One block is rebuilt with every so-many-th new key."""
_HEAP: Final = 8 * SHARDS
"""The heap of the shards' next deadlines is rebuilt above this size."""


_KEY_BYTES: Final = 200
"""Memory of a key besides its name and value."""
_NEVER: Final[Millis] = 1 << 63
"""After any time of an entry."""
_EMPTIED: Final = 1 << 62
"""More than any state: after FLUSHALL, the rest of its entry may grow."""


def footprint(key: bytes, value: Value) -> int:
    """Return the bytes of memory that a key takes, about."""
    return _KEY_BYTES + len(key) + len(value)


def kind_name(kind: Kind) -> str:
    """Return the reply of TYPE for a value of this kind."""
    return _KIND_NAMES[kind]


class NeedsClock(Exception):  # not an error: the clock has to be moved first
    """A query met a key whose deadline has passed by its node's clock, but not yet by the log's."""


@final
class Keyspace:
    """All keys alive at `time`."""

    def __init__(self, time: Millis = 0, index: Version = 0, keys_created: int = 0) -> None:
        self.time = time
        """The log's clock: the latest time in an applied entry. Records due by it are dead."""
        self.index = index
        """The entry being applied, or the last one."""
        self.keys_created = keys_created
        """Keys ever created; the next number for `Record.born`."""
        self.size = 0
        """Keys alive."""
        self.expiring = 0
        """Keys alive with a deadline."""
        self.dead = 0
        """Records whose deadline has passed, still in memory and otherwise gone."""
        self.query_time: Millis = 0
        """While answering a query: its node's clock; 0 while applying."""
        self.in_query = False
        """True while answering a query, whose reply may differ between replicas."""
        self.work = 0
        """Bytes that the commands of this entry or transaction have copied, at most; the state machine limits it."""
        self.held_bytes = 0
        """Bytes of all records held, expired ones too until they are freed (see `footprint`). Replicas differ in it."""
        self.growth = 0
        """Bytes by which living records have grown in this entry; the same on every replica."""
        self.allowance: int | None = None
        """Bytes by which living records may grow in this entry; None: any number."""
        self.longest = 0
        """Upper bound on the bytes of a value, not replicated: it tells when lengths have to be checked."""
        self.left_out = 0
        """Keys when containers were last excluded from garbage collection; see `garbage`."""
        self._shards: list[Shard] = [Shard() for _ in range(SHARDS)]
        self._due: list[tuple[Millis, int]] = []
        """A heap of shards by `next_due`, some of them stale."""
        self._with_dead: Final[deque[int]] = deque()
        """Shards with dead records, and some without them."""
        self._passed: list[tuple[Millis, Version]] = []
        """While there are dead records: pairs of time and entry, for each entry whose time let keys expire."""
        self._frozen: list[ReferenceType[Frozen]] = []
        """Moments that are still being read, and some that are not."""
        self._garbage: Final[deque[object]] = deque()
        """Objects left by `clear`, to be freed in portions."""
        self._order = CreationOrder(self._stands)
        self._all_new = True
        """Whether all keys of the last run were new: then the next one's are tried as such."""

    # Time.

    @property
    def now(self) -> Millis:
        """Return the time for remaining times to live."""
        return max(self.time, self.query_time)

    def advance(self, time: Millis, index: Version) -> None:
        """Begin entry `index` at `time`: every key expires whose deadline has come."""
        self.index = index
        self.growth, self.allowance = 0, None
        if time > self.time:
            self.time = time
            self._pass()
        if self.dead:
            self._free(_PORTION)
        if self._garbage:
            self._garbage.popleft()
        left = _TIDIED
        while left and self._order.tidy():
            left -= 1

    def _pass(self) -> None:
        """Let keys expire whose deadline has come. The cost is bounded by the number of shards."""
        due, died = self._due, 0
        while due and due[0][0] <= self.time:
            at, number = heapq.heappop(due)
            shard = self._shards[number]
            if shard.next_due != at:
                continue
            gone = shard.pass_until(self.time)
            if gone:
                died += gone
                self._with_dead.append(number)
            if shard.next_due:
                heapq.heappush(due, (shard.next_due, number))
        if died:
            self._passed.append((self.time, self.index))
            self.dead += died
            self.size -= died
            self.expiring -= died

    def _died_at(self, deadline: Millis) -> Version:
        """Return the entry whose time let this deadline, of a dead record, pass."""
        return self._passed[bisect_left(self._passed, (deadline,))][1]

    def _free(self, count: int) -> None:
        """Free so many dead records; not visible from outside."""
        while count > 0 and self.dead:
            number = self._with_dead[0]
            shard = self._shards[number]
            some = shard.due[: min(count, shard.dead)]
            if len(some) == shard.dead:
                self._with_dead.popleft()
            if not some:
                continue
            for _, key in some:
                gone = shard.records[key]
                if self._frozen:
                    self._keep(number, key, gone)
                del shard.records[key]
                self.held_bytes -= footprint(key, gone.value)
                self._order.removed(gone.born)
            del shard.due[: len(some)]
            shard.dead -= len(some)
            self._freed(shard, some[-1][0], len(some))
            count -= len(some)

    def _freed(self, shard: Shard, latest: Millis, count: int) -> None:
        shard.tombstone = max(shard.tombstone, self._died_at(latest))
        self.dead -= count
        if not self.dead:
            self._passed.clear()
            self._with_dead.clear()

    # One key.

    def alive(self, key: bytes) -> Record | None:
        """Return the key's record by the log's clock alone."""
        record = self._shards[shard_number(key)].records.get(key)
        return None if record is None or 0 < record.deadline <= self.time else record

    def find(self, key: bytes) -> Record | None:
        """Return the key's record. Raise `NeedsClock` if a query meets a deadline seen to pass only by its node."""
        record = self._shards[shard_number(key)].records.get(key)
        if record is not None and record.deadline:
            if record.deadline <= self.time:
                return None
            if record.deadline <= self.query_time:
                raise NeedsClock
        return record

    def put(self, key: bytes, kind: Kind, value: Value, deadline: Millis = 0) -> None:
        """Store `value`, until `deadline` if one is given; one in the past leaves no key."""
        if 0 < deadline <= self.time:
            self.remove(key)
            return
        number = shard_number(key)
        shard = self._shards[number]
        records = shard.records
        old = records.get(key)
        if old is not None and self._frozen:
            self._keep(number, key, old)
        before = 0 if old is None else old.deadline
        if old is not None and 0 < before <= self.time:
            self._drop_dead(shard, key, old)
            old = None
        size = len(value)
        if size > self.longest:
            self.longest = size
        if old is not None:
            born = old.born
            grown = size - len(old.value)
            if before:
                self.expiring -= 1
                if before != deadline:
                    shard.drop_due(before, key)
        else:
            born = self.keys_created = self.keys_created + 1
            grown = _KEY_BYTES + len(key) + size
            self.size += 1
        self.growth += grown
        self.held_bytes += grown
        records[key] = _Record(kind, value, self.index, deadline, born)
        if deadline:
            self.expiring += 1
            if (old is None or before != deadline) and shard.add_due(deadline, key):
                self._push(deadline, number)
        if old is None:
            self._order.add(key, born)
            if self.dead:
                self._free(_PER_KEY)
            if not born % _TIDIED_EVERY:
                self._order.tidy()

    def takes_run(self) -> Millis:
        """Return the time up to which `put_run` may go, which is the next deadline; 0 if it may not be used now."""
        if self.dead or self._garbage or self._order.untidy:
            return 0
        return self._due[0][0] if self._due else _NEVER

    def put_run(
        self, time: Millis, index: Version, keys: Sequence[bytes], values: Sequence[bytes], indexes: Sequence[Version]
    ) -> None:
        """Do as `advance` and `put` would for each of the keys, in entries up to `index` and `time`.

        Only before the time that `takes_run` returns: then no key expires and nothing is to be freed.
        """
        self.time = time
        self.growth, self.allowance = 0, None
        self._put_all(keys, values, indexes)
        self.index = index

    def put_all(self, keys: Sequence[bytes], values: Sequence[bytes]) -> bool:
        """Do as `put` would for each of the keys in this entry. False: nothing was done, since dead records wait."""
        if self.dead:
            return False
        self._put_all(keys, values, [self.index] * len(keys))
        return True

    def _put_all(self, keys: Sequence[bytes], values: Sequence[bytes], indexes: Sequence[Version]) -> None:
        """Put strings without a deadline, some hundreds at most, while no record is dead."""
        give_way()
        if len(keys) >= _FEW and self._all_new and self._put_new(keys, values, indexes):
            return
        shards = self._shards
        if self._frozen:
            self._frozen = self._still_read()
        moments = [moment for moment in [one() for one in self._frozen] if moment is not None]
        fresh: list[bytes] = []
        born, grown = self.keys_created, 0
        for key, value, version in zip(keys, values, indexes, strict=True):
            number = _crc32(key) % SHARDS
            records = shards[number].records
            old = records.get(key)
            if old is None:
                born += 1
                fresh.append(key)
                grown += _KEY_BYTES + len(key) + len(value)
                records[key] = _Record(STRING, value, version, 0, born)
            elif old.deadline:
                self.index = version
                self.put(key, STRING, value)
            else:
                for moment in moments:
                    moment.keep(number, key, old)
                grown += len(value) - len(old.value)
                records[key] = _Record(STRING, value, version, 0, old.born)
        if fresh:
            self._created(fresh)
        self.growth += grown
        self.held_bytes += grown
        self.longest = max(self.longest, max(map(len, values), default=0))
        self._all_new = len(fresh) == len(keys)

    def _put_new(self, keys: Sequence[bytes], values: Sequence[bytes], indexes: Sequence[Version]) -> bool:
        """Do as `_put_all`, without a step of the interpreter for each key, if all of them are new.

        Return False, and leave all as it was, if a key was there, or is among them twice.
        """
        tables = [self._shards[number % SHARDS].records for number in map(_crc32, keys)]
        numbers = range(self.keys_created + 1, self.keys_created + 1 + len(keys))
        records = list(map(_Record, repeat(STRING), values, indexes, repeat(0), numbers))
        held = list(map(_setdefault, tables, keys, records))
        if not all(map(is_, held, records)):
            for table, key, record, one in zip(tables, keys, records, held, strict=True):
                if record is one:
                    del table[key]
            self._all_new = False
            return False
        self._created(list(keys))
        sizes = list(map(len, values))
        grown = _KEY_BYTES * len(keys) + sum(map(len, keys)) + sum(sizes)
        self.growth += grown
        self.held_bytes += grown
        self.longest = max(self.longest, max(sizes))
        return True

    def _created(self, keys: list[bytes]) -> None:
        """Count these new keys, and put them in order."""
        before = self.keys_created
        self._order.extend(keys, before + 1)
        self.keys_created += len(keys)
        self.size += len(keys)
        for _ in range(self.keys_created // _TIDIED_EVERY - before // _TIDIED_EVERY):
            self._order.tidy()

    def remove(self, key: bytes) -> bool:
        """Remove the key. Return whether it existed."""
        number = shard_number(key)
        shard = self._shards[number]
        record = shard.records.get(key)
        if record is None:
            return False
        if self._frozen:
            self._keep(number, key, record)
        if 0 < record.deadline <= self.time:
            self._drop_dead(shard, key, record)
            return False
        del shard.records[key]
        self.growth -= footprint(key, record.value)
        self.held_bytes -= footprint(key, record.value)
        self.size -= 1
        if record.deadline:
            self.expiring -= 1
            shard.drop_due(record.deadline, key)
        shard.tombstone = self.index
        self._order.removed(record.born)
        return True

    def _drop_dead(self, shard: Shard, key: bytes, record: Record) -> None:
        """Free this dead record."""
        del shard.records[key]
        self.held_bytes -= footprint(key, record.value)
        shard.drop_due(record.deadline, key)
        self._order.removed(record.born)
        self._freed(shard, record.deadline, 1)

    def clear(self) -> None:
        """Remove all keys."""
        lived = self.size > 0
        old = self._shards
        self._shards = [Shard(self.index if lived else self._tombstone(shard)) for shard in old]
        self._garbage.extend(old)
        self._garbage.extend(self._order.blocks())
        self._order = CreationOrder(self._stands)
        self.size = self.expiring = self.dead = self.left_out = self.held_bytes = 0
        self.growth = -_EMPTIED if lived else self.growth
        self._due, self._passed = [], []
        self._with_dead.clear()

    def version(self, key: bytes) -> Version:
        """Return a number which changes whenever the key does. For an absent key: the last removal in its shard."""
        record = self.alive(key)
        return self._tombstone(self._shards[shard_number(key)]) if record is None else record.version

    def _tombstone(self, shard: Shard) -> Version:
        """Return the last entry to remove a key of this shard, by deletion or by its deadline."""
        return max(shard.tombstone, self._died_at(shard.due[shard.dead - 1][0])) if shard.dead else shard.tombstone

    # All keys.

    @property
    def records(self) -> Mapping[bytes, Record]:
        """Return all living records, not to be changed."""
        return LivingRecords(self)

    def everything(self) -> Mapping[bytes, Record]:
        """Return all living records, not to be changed. Raise `NeedsClock` as `find` does."""
        while self.query_time and self._due and self._due[0][0] <= self.query_time:
            at, number = self._due[0]
            shard = self._shards[number]
            first = shard.first_due() if shard.next_due == at else 0
            if 0 < first <= self.query_time:
                raise NeedsClock
            heapq.heappop(self._due)
            if shard.next_due == at:
                shard.next_due = first
                if first:
                    heapq.heappush(self._due, (first, number))
        return self.records

    def created_after(self, born: int) -> Iterator[tuple[bytes, Record]]:
        """Yield the keys created after the `born`-th, in the order of creation, unaffected by deletions."""
        self.everything()
        return self.walk(born)

    def walk(self, born: int) -> Iterator[tuple[bytes, Record]]:
        """As `created_after`, by the log's clock alone."""
        for key, number in self._order.after(born):
            record = self.alive(key)
            if record is not None and record.born == number:
                yield key, record

    @property
    def held(self) -> int:
        """Return the number of places for `walk`, some of them of removed keys."""
        return len(self._order)

    def freeze(self) -> Frozen:
        """Return all keys at this moment. The cost is by shard, not by key."""
        records = [shard.records for shard in self._shards]
        frozen = Frozen(self._order.moment(), records, self.time, self.size, self.keys_created)
        self._frozen = [*self._still_read(), ref(frozen)]
        return frozen

    def _still_read(self) -> list[ReferenceType[Frozen]]:
        moments = ((one, one()) for one in self._frozen)
        return [one for one, moment in moments if moment is not None and not moment.done]

    def _keep(self, number: int, key: bytes, record: Record) -> None:
        """Keep a record that is about to be changed for the moments that are still being read."""
        unread = False
        for one in self._frozen:
            moment = one()
            if moment is None or moment.done:
                unread = True
            else:
                moment.keep(number, key, record)
        if unread:
            self._frozen = self._still_read()

    def tombstones(self) -> list[Version]:
        """Return the last entry to remove a key, for each shard: WATCH needs it for a key that came and went."""
        return [self._tombstone(shard) for shard in self._shards]

    # Filling, after a snapshot.

    def fill(self, key: bytes, record: Record) -> None:
        """Add a record of a snapshot; in the order of creation."""
        number = shard_number(key)
        shard = self._shards[number]
        shard.records[key] = record
        self.longest = max(self.longest, len(record.value))
        self.held_bytes += footprint(key, record.value)
        self._order.add(key, record.born)
        self.size += 1
        if record.deadline:
            self.expiring += 1
            if shard.add_due(record.deadline, key):
                self._push(record.deadline, number)

    def fill_tombstones(self, tombstones: list[Version]) -> None:
        """Restore the tombstones that `tombstones` returned."""
        for shard, tombstone in zip(self._shards, tombstones, strict=False):
            shard.tombstone = tombstone

    def let_go(self) -> None:
        """Free an unused keyspace step by step, so that other threads are not held up."""
        self.clear()
        while self._garbage:
            self._garbage.popleft()
            give_way()

    # Housekeeping.

    def _stands(self, key: bytes, born: int) -> bool:
        record = self._shards[shard_number(key)].records.get(key)
        return record is not None and record.born == born

    def _push(self, deadline: Millis, number: int) -> None:
        heapq.heappush(self._due, (deadline, number))
        if len(self._due) > _HEAP:
            self._due = [(shard.next_due, place) for place, shard in enumerate(self._shards) if shard.next_due]
            heapq.heapify(self._due)
