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
from collections.abc import Iterator, Mapping
from typing import Final, final
from weakref import ReferenceType, ref

import attrs

from raft_kv.creation_order import CreationOrder, Moment, places
from raft_kv.shards import SHARDS, Record, Shard, shard_number
from raft_kv.values import Kind, Millis, Value, Version

__all__ = ["STRING", "Frozen", "Keyspace", "Kind", "Millis", "NeedsClock", "Record", "Value", "Version", "kind_name"]

STRING: Final[Kind] = 1
_KIND_NAMES: Final[dict[Kind, str]] = {STRING: "string"}
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
class Frozen:
    """All keys at one moment, to be read once, from any thread, while the keyspace is changed.

    `records` are the keyspace's own; `kept` has, by shard, the records that were changed or removed since. A change
    keeps the old record first, and a reader looks at the present record first. So it never misses a change: if it saw
    the new record of a key, the old one was kept before.
    """

    __slots__ = ("__weakref__", "_created", "_kept", "_moment", "_records", "_time", "count", "done")

    def __init__(
        self, moment: Moment, records: list[dict[bytes, Record]], time: Millis, count: int, created: int
    ) -> None:
        self._moment = moment
        self._records = records
        self._kept: Final[list[dict[bytes, Record]]] = [{} for _ in records]
        self._time = time
        self._created: Final = created
        self.count: Final = count
        self.done = False  # everything was read

    def keep(self, number: int, key: bytes, record: Record) -> None:
        """Keep a record of shard `number` that is about to be changed, unless it is younger than this moment."""
        if record.born <= self._created:
            self._kept[number].setdefault(key, record)

    def __iter__(self) -> Iterator[tuple[bytes, Record]]:
        """Iterate over keys and records, in the order of creation."""
        for key, born in places(self._moment):
            number = shard_number(key)
            present = self._records[number].get(key)
            record = self._kept[number].get(key, present)
            if record is not None and record.born == born and not 0 < record.deadline <= self._time:
                yield key, record
        self.done = True
        while self._records:  # freeing all of them at once would take long
            self._records.pop()
        for number in range(len(self._kept)):  # a change may still be about to keep a record: no place may vanish
            self._kept[number] = {}


@final
class _Records(Mapping[bytes, Record]):
    """A live view of the records, in the order of creation."""

    __slots__ = ("_space",)

    def __init__(self, space: Keyspace) -> None:
        self._space = space

    def __getitem__(self, key: bytes) -> Record:
        record = self._space.alive(key)
        if record is None:
            raise KeyError(key)
        return record

    def __iter__(self) -> Iterator[bytes]:
        return (key for key, _ in self._space.walk(0))

    def __len__(self) -> int:
        return self._space.size


@final
@attrs.define(eq=False)
class Keyspace:
    """All keys alive at `time`."""

    time: Millis = 0
    """The log's clock: the latest time in an applied entry. Records due by it are dead."""
    index: Version = 0
    """The entry being applied, or the last one."""
    keys_created: int = 0
    """Keys ever created; the next number for `Record.born`."""
    size: int = attrs.field(default=0, init=False)
    """Keys alive."""
    expiring: int = attrs.field(default=0, init=False)
    """Keys alive with a deadline."""
    dead: int = attrs.field(default=0, init=False)
    """Records whose deadline has passed, still in memory and otherwise gone."""
    query_time: Millis = 0
    """While answering a query: its node's clock; 0 while applying."""
    in_query: bool = attrs.field(default=False, init=False)
    """True while answering a query, whose reply may differ between replicas."""
    work: int = attrs.field(default=0, init=False)
    """Bytes that the commands of this entry or transaction have copied, at most; the state machine limits it."""
    held_bytes: int = attrs.field(default=0, init=False)
    """Bytes of all records held, expired ones too until they are freed (see `footprint`). Replicas differ in it."""
    growth: int = attrs.field(default=0, init=False)
    """Bytes by which living records have grown in this entry; the same on every replica."""
    allowance: int | None = None
    """Bytes by which living records may grow in this entry; None: any number."""
    longest: int = attrs.field(default=0, init=False)
    """Upper bound on the bytes of a value, not replicated: it tells when lengths have to be checked."""
    left_out: int = attrs.field(default=0, init=False)
    """Keys when containers were last excluded from garbage collection; see `garbage`."""
    _shards: list[Shard] = attrs.field(factory=lambda: [Shard() for _ in range(SHARDS)], init=False)
    _order: CreationOrder = attrs.field(init=False)
    _due: list[tuple[Millis, int]] = attrs.field(factory=list, init=False)
    """A heap of shards by `next_due`, some of them stale."""
    _with_dead: deque[int] = attrs.field(factory=deque, init=False)
    """Shards with dead records, and some without them."""
    _passed: list[tuple[Millis, Version]] = attrs.field(factory=list, init=False)
    """While there are dead records: pairs of time and entry, for each entry whose time let keys expire."""
    _frozen: list[ReferenceType[Frozen]] = attrs.field(factory=list, init=False)
    """Moments that are still being read, and some that are not."""
    _garbage: deque[object] = attrs.field(factory=deque, init=False)
    """Objects left by `clear`, to be freed in portions."""

    def __attrs_post_init__(self) -> None:
        self._order = CreationOrder(self._stands)

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
        if old is not None:
            if self._frozen:
                self._keep(number, key, old)
            if 0 < old.deadline <= self.time:
                self._drop_dead(shard, key, old)
                old = None
        if old is None:
            self.keys_created += 1
            self.size += 1
            born = self.keys_created
        else:
            born = old.born
            if old.deadline:
                self.expiring -= 1
                if old.deadline != deadline:
                    shard.drop_due(old.deadline, key)
        grown = _KEY_BYTES + len(key) + len(value) if old is None else len(value) - len(old.value)
        self.growth += grown
        self.held_bytes += grown
        records[key] = Record(kind, value, self.index, deadline, born)
        if len(value) > self.longest:
            self.longest = len(value)
        if deadline:
            self.expiring += 1
            if (old is None or old.deadline != deadline) and shard.add_due(deadline, key):
                self._push(deadline, number)
        if old is None:
            self._order.add(key, born)
            if self.dead:
                self._free(_PER_KEY)
            if not born % _TIDIED_EVERY:
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
        return _Records(self)

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

    # Housekeeping.

    def _stands(self, key: bytes, born: int) -> bool:
        record = self._shards[shard_number(key)].records.get(key)
        return record is not None and record.born == born

    def _push(self, deadline: Millis, number: int) -> None:
        heapq.heappush(self._due, (deadline, number))
        if len(self._due) > _HEAP:
            self._due = [(shard.next_due, place) for place, shard in enumerate(self._shards) if shard.next_due]
            heapq.heapify(self._due)
