"""The outbox: the effects of the current step, the writes under way, and the messages held until a write is durable.

Rules:

1. A held message never changes, not even its term. It is sent once the write it depends on is durable.
2. All replies depend on term and vote; an acknowledgement also on the entries it names; a vote request on everything.
3. Writes become durable in order, so a held message needs one number: the last write it depends on.
4. The commit index travels in every write made for another reason and never causes one. It never exceeds the entries
   of this write and those before, so a restarted node knows nearly all of its commits and can contradict others.
5. The durable index is the end of the newest durable log write, capped by every later write that truncates: entries
   about to be overwritten must not count, although they are still on the disk.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.compiled import mypyc_attr
from raft_core.effects import Effect, Persist, Send
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError
from raft_core.ids import NO_INDEX, NO_WRITE, Index, NodeId, Term, WriteId
from raft_core.log import Log
from raft_core.messages import Message
from raft_core.quorum import NO_LIMIT
from raft_core.state_values import LogWrite

__all__ = ["Outbox"]

# Names of this module, which may be compiled: see `raft_core.compiled`.
_HardState: Final = HardState
_Persist: Final = Persist
_Send: Final = Send
_NO_INDEX: Final = NO_INDEX
_NO_LIMIT: Final = NO_LIMIT
_NO_WRITE: Final = NO_WRITE

MOST_HELD: Final = 10_000
"""Most messages held while the disk hangs; beyond it the oldest is dropped, as if the network had lost it."""


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Outbox:
    """Effects in order of their creation, and what the step's one `Persist` will contain (`write`)."""

    __slots__ = (
        "_cap",
        "_commit_written",
        "_discards",
        "_drop_before",
        "_hard_dirty",
        "_hard_write",
        "_settled",
        "_snapshot",
        "_truncate",
        "_under_way",
        "_urgent",
        "changed",
        "durable",
        "durable_index",
        "effects",
        "failed",
        "held",
        "issued",
        "issued_at",
        "max_bytes",
        "size_under_way",
        "written_last",
    )

    def __init__(self, durable_index: Index, max_bytes: int, commit_written: Index = _NO_INDEX) -> None:
        self.effects: list[Effect] = []
        self.max_bytes = max_bytes
        self.issued = _NO_WRITE  # the last `Persist`
        self.durable = _NO_WRITE  # invariant: durable <= issued
        self.durable_index = durable_index  # invariant: never above the log's end
        self.written_last = durable_index  # entries up to here were handed to the disk
        self.held: list[tuple[WriteId, Send]] = []  # invariant: all depend on writes after `durable`
        self.issued_at: list[tuple[WriteId, int]] = []  # the tick at which each write under way was issued
        self.size_under_way = 0
        self.failed = False
        self._under_way: list[LogWrite] = []  # oldest first
        self._settled = durable_index
        self._hard_write = _NO_WRITE  # the last write with term and vote
        self._hard_dirty = False
        self.changed = False  # something waits for the next write: new entries, or one of the following
        self._commit_written = commit_written  # the commit index last handed to the disk
        self._truncate = _NO_INDEX
        self._snapshot: SnapshotMeta | None = None
        self._drop_before = _NO_INDEX
        self._cap: Index = _NO_LIMIT
        self._discards = False
        self._urgent = False  # term, vote, a truncation or a snapshot wait: not even a busy disk delays them

    # Contents of the next write.

    def touch_hard(self) -> None:
        """Include term and vote in the next write: they changed."""
        self._hard_dirty = self._urgent = self.changed = True

    def truncate(self, first: Index) -> None:
        """Truncate the disk's log from `first` on, if any of these entries were handed to the disk."""
        if first <= self.written_last:
            self._urgent = self.changed = True
            self._truncate = first if not self._truncate or first < self._truncate else self._truncate
            self.written_last = Index(first - 1)
            if first <= self.durable_index:
                self.durable_index = self.written_last  # at once: the step that truncates may also commit

    def switch(self, meta: SnapshotMeta, *, discard: bool, cap: Index) -> None:
        """Switch to this snapshot with the next write.

        With `discard` the log ends at it, and until the switch is durable only entries up to `cap` count.
        """
        self._snapshot = meta
        self._urgent = self.changed = True
        if discard:
            self.written_last = meta.index
            self._truncate = _NO_INDEX
            self._cap = cap
            self._discards = True

    def drop_before(self, index: Index) -> None:
        """Let the disk drop all entries before `index`."""
        self._drop_before = index
        self.changed = True

    # Sending.

    def send(self, to: NodeId, message: Message) -> None:
        """Send at once a message which promises nothing about our disk."""
        self.effects.append(_Send(to, message))

    def promise_term(self, to: NodeId, message: Message) -> None:
        """Send once term and vote are durable."""
        self._promise(to, message, self._next() if self._hard_dirty else self._hard_write)

    def promise_entries(self, to: NodeId, message: Message, upto: Index) -> None:
        """Send once term, vote and the entries up to `upto` are durable."""
        if upto > self.written_last or self._hard_dirty:
            self._promise(to, message, self._next())
            return
        rests_on = self._hard_write
        if self._urgent or upto > self.durable_index:
            holder = self._holder(upto)
            if holder > rests_on:
                rests_on = holder
        self._promise(to, message, rests_on)

    def promise_all(self, to: NodeId, message: Message, log: Log) -> None:
        """Send once term, vote and the whole log are durable."""
        self._promise(to, message, self.everything(log))

    def everything(self, log: Log) -> WriteId:
        """Return the write which makes the whole present state durable."""
        return self._next() if self.changed else self.issued

    def _promise(self, to: NodeId, message: Message, rests_on: WriteId) -> None:
        if self.failed:
            return
        if rests_on <= self.durable:
            self.effects.append(_Send(to, message))
            return
        if len(self.held) >= MOST_HELD:
            del self.held[0]
        self.held.append((rests_on, _Send(to, message)))

    def _holder(self, upto: Index) -> WriteId:
        """Return the write with the entry at `upto`; `NO_WRITE` if this entry is already durable."""
        if upto <= self.durable_index and not self._truncate and self._snapshot is None:
            return _NO_WRITE
        if upto > self.written_last or self._snapshot is not None:
            return self._next()
        for write, first, last, _, _ in reversed(self._under_way):
            if first <= upto <= last:
                return write
        return _NO_WRITE

    def _next(self) -> WriteId:
        return WriteId(self.issued + 1)

    # The end of a step.

    def write(self, log: Log, term: Term, vote: NodeId, commit: Index, now: int) -> None:
        """Put a `Persist` of all that changed in front of the step's effects, unless the disk is busy."""
        if self.failed or (self.size_under_way >= self.max_bytes and not self._urgent):
            return  # a busy disk gets these entries with a later write
        after, last = self.written_last, log.last_index
        entries: tuple[Entry, ...] = ()
        size = 0
        if last > after:
            entries, size = log.page(after, last, _NO_LIMIT)
        hard: HardState | None = None
        if commit > self._commit_written or self._hard_dirty:
            hard = _HardState(term, vote, commit)
            self._commit_written = commit
        write = WriteId(self.issued + 1)
        self.issued = write
        self.issued_at.append((write, now))
        self.effects.insert(0, _Persist(write, hard, self._truncate, entries, self._snapshot, self._drop_before))
        self.changed = False
        self._drop_before = _NO_INDEX
        self.written_last = last
        self.size_under_way += size
        if self._urgent:
            self._write_urgent(write, after, last, size)
        elif entries:
            self._under_way.append((write, Index(after + 1), last, _NO_LIMIT, size))

    def _write_urgent(self, write: WriteId, after: Index, last: Index, size: int) -> None:
        """Note a write of term and vote, or one that rewrites the disk's log."""
        if self._hard_dirty:
            self._hard_write = write
        if size or self._truncate or self._snapshot is not None:
            first = _NO_INDEX if self._discards else Index(after + 1)  # all entries up to the snapshot depend on it
            cap = self._cap
            if self._truncate and self._truncate <= cap:
                cap = Index(self._truncate - 1)
            self._under_way.append((write, first, last, cap, size))
            if cap < self.durable_index:
                self.durable_index = cap
        self._urgent = self._hard_dirty = self._discards = False
        self._truncate = _NO_INDEX
        self._snapshot = None
        self._cap = _NO_LIMIT

    # Reports of the disk.

    def persisted(self, upto: WriteId) -> None:
        """Mark every write up to `upto` as durable and send the messages held for them."""
        if upto > self.issued:
            raise CallerError(f"Persisted({upto}) names a write that was never ordered; the last was {self.issued}")
        if upto <= self.durable:
            return
        self.durable = upto
        if upto == self.issued:
            self.issued_at.clear()
        else:
            self.issued_at = [issued for issued in self.issued_at if issued[0] > upto]
        if self._under_way:
            self._settle(upto)
        if self.held:
            self._release(upto)

    def _settle(self, upto: WriteId) -> None:
        """Move the durable index to the end of the newest durable write of the log, within the caps of later ones."""
        done = 0
        cap: Index = _NO_LIMIT
        for write, _, last, write_cap, size in self._under_way:
            if write <= upto:
                done += 1
                self._settled = last
                self.size_under_way -= size
            elif write_cap < cap:
                cap = write_cap
        if done == len(self._under_way):
            self._under_way.clear()
        else:
            del self._under_way[:done]
        self.durable_index = self._settled if self._settled < cap else cap

    def _release(self, upto: WriteId) -> None:
        held, self.held = self.held, []
        for rests_on, send in held:
            if rests_on <= upto:
                self.effects.append(send)
            else:
                self.held.append((rests_on, send))

    def fail(self) -> None:
        """Drop all held messages; hold and write nothing from now on."""
        self.failed = True
        self.held.clear()

    def oldest_age(self, now: int) -> int:
        """Return the age in ticks of the oldest write under way; 0 if there is none."""
        return now - self.issued_at[0][1] if self.issued_at else 0

    @property
    def stalled_end(self) -> Index:
        """The last entry of the oldest write under way, `NO_LIMIT` if it has none.

        A follower with this entry has acknowledged it after the write was issued.
        """
        if self._under_way:
            write, _, last, _, size = self._under_way[0]
            if write == self.issued_at[0][0] and size:
                return last
        return _NO_LIMIT

    def oldest_since(self, now: int) -> int:
        """Return the tick at which the oldest write under way was issued; `now` if there is none."""
        return self.issued_at[0][1] if self.issued_at else now
