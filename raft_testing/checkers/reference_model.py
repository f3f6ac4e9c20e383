"""Reference models of logs and disks, independent of the code under test.

`Ledger`: every entry that was ever in any log, chained. `LogMirror`: one core's log as last seen. `DiskModel`: the
meaning of `Persist`, spelled out. `Watched`: all knowledge of one node. They hold state and find differences; `safety`
and `durability` decide which are violations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeAlias, final

from raft_core.effects import Persist
from raft_core.entries import MEMBERS, Entry, HardState, SnapshotMeta
from raft_core.ids import Incarnation, Index, NodeId, WriteId
from raft_core.log import Log
from raft_core.membership import Members
from raft_core.recovered import Recovered
from raft_testing.checkers.requests import RequestTracker

__all__ = ["Change", "DiskModel", "Ledger", "LogMirror", "ModelMismatch", "Watched", "majority_of_each_half"]


class ModelMismatch(Exception):
    """Two things that must be equal are not; the text says which."""


Chain: TypeAlias = bytes
"""A hash over an entry and everything before it."""

NO_CHAIN: Chain = b""


def majority_of_each_half(members: Members, agrees: Callable[[NodeId], bool]) -> bool:
    """Return whether majorities of the voters, and of the outgoing voters, agree. Others do not count.

    Written independently of the core, whose quorum rule is under test.
    """
    halves = [half for half in (members.voters, members.outgoing) if half]
    return bool(halves) and all(2 * len([node for node in half if agrees(node)]) > len(half) for half in halves)


@final
class Ledger:
    """Every (index, term) that was ever in a log, with its chain: equal positions must have equal pasts (§5.3)."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Chain, Entry]] = {}

    def add(self, before: Chain, entry: Entry) -> Chain:
        """Return the entry's chain. Raise `ModelMismatch` if another entry or another past is known at its position."""
        known = self._known.get((entry.index, entry.term))
        content = b"%d %d %d " % (entry.index, entry.term, entry.kind)
        chain = hashlib.blake2b(before + content + entry.data, digest_size=8).digest()
        if known is None:
            self._known[entry.index, entry.term] = (chain, entry)
        elif known[0] != chain:
            raise ModelMismatch(
                f"two logs hold index {entry.index}, term {entry.term} with different entries before or at it"
            )
        return chain

    def clear(self) -> None:
        """Forget everything: none of it counts."""
        self._known.clear()

    def chain(self, index: int, term: int) -> Chain | None:
        """Return the chain at this position, None if no node ever had it; empty before the first entry."""
        if index == 0:
            return NO_CHAIN
        known = self._known.get((index, term))
        return None if known is None else known[0]

    def entry(self, index: int, term: int) -> Entry | None:
        """Return the entry at this position; None if no node ever had it."""
        known = self._known.get((index, term))
        return None if known is None else known[1]


Change: TypeAlias = tuple[int, int]
"""From where the log was cut (0: it was not), and from where it has new entries (0: none)."""


@final
class LogMirror:
    """One core's log, followed step by step at the cost of the change."""

    __slots__ = ("_ledger", "base", "base_chain", "base_term", "chains", "configurations", "cut_off", "entries")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.cut_off: list[tuple[int, int]] = []  # places (index, term) cut since they were last taken
        self.base = 0
        self.base_term = 0
        self.base_chain: Chain = NO_CHAIN
        self.entries: list[Entry] = []
        self.chains: list[Chain] = []
        self.configurations: list[int] = []  # indexes of membership entries held

    @property
    def last(self) -> int:
        """The index of the last entry."""
        return self.base + len(self.entries)

    def term_at(self, index: int) -> int | None:
        """Return the term at `index`; None if the log does not hold it."""
        if index == self.base:
            return self.base_term
        place = index - self.base - 1
        return self.entries[place].term if 0 <= place < len(self.entries) else None

    def chain_at(self, index: int) -> Chain | None:
        """Return the chain at `index`; None if the log does not hold it."""
        if index == self.base:
            return self.base_chain
        place = index - self.base - 1
        return self.chains[place] if 0 <= place < len(self.chains) else None

    def copy(self) -> LogMirror:
        """Return a copy of the present log."""
        twin = LogMirror(self._ledger)
        twin.base, twin.base_term, twin.base_chain = self.base, self.base_term, self.base_chain
        twin.entries, twin.chains = list(self.entries), list(self.chains)
        twin.configurations = list(self.configurations)
        return twin

    def follow(self, log: Log) -> Change:
        """Make the mirror equal to the log again. Raise `ModelMismatch` if the log contradicts the ledger."""
        last, base = log.last_index, log.base.index
        entries = self.entries
        if base == self.base and last == base + len(entries) and (not entries or log.entry(last) is entries[-1]):
            return (0, 0)
        replaced = self._rebase(log) if base != self.base or log.base.term != self.base_term else 0
        cut = replaced or self._cut(log)
        first_new = self.last + 1
        for index in range(first_new, last + 1):
            self._append(log.entry(Index(index)))
        return (cut, first_new if first_new <= last else 0)

    def _rebase(self, log: Log) -> int:
        """0 where the log lost its beginning; otherwise it is another one now, from the index returned on."""
        base, term = log.base.index, log.base.term
        place = base - self.base
        replaced = 0
        if 0 < place <= len(self.entries) and self.entries[place - 1].term == term:
            self.base_chain = self.chains[place - 1]
            del self.entries[:place], self.chains[:place]
        else:
            chain = self._ledger.chain(base, term)
            if chain is None:
                raise ModelMismatch(f"a log begins after index {base}, term {term}, which no log ever held")
            replaced = base + 1 if self.last else 0
            self.cut_off += [(entry.index, entry.term) for entry in self.entries]
            self.entries.clear()
            self.chains.clear()
            self.base_chain = chain
        self.base, self.base_term = base, term
        self.configurations = [index for index in self.configurations if base < index <= self.last]
        return replaced

    def _cut(self, log: Log) -> int:
        """Return the first index whose entry the log has changed or lost, 0 if it only grew."""
        common = min(log.last_index, self.last)
        last = self.last
        first_different = 0 if last == common else common + 1
        index = common
        while index > self.base:
            mine, theirs = self.entries[index - self.base - 1], log.entry(Index(index))
            if mine is theirs:
                break
            if mine != theirs:
                first_different = index
            index -= 1
        if first_different:
            place = first_different - self.base - 1
            self.cut_off += [(entry.index, entry.term) for entry in self.entries[place:]]
            del self.entries[place:], self.chains[place:]
            while self.configurations and self.configurations[-1] >= first_different:
                self.configurations.pop()
        return first_different

    def _append(self, entry: Entry) -> None:
        if entry.index != self.last + 1:
            raise ModelMismatch(f"a log holds index {entry.index} at the place of {self.last + 1}")
        chain = self._ledger.add(self.chains[-1] if self.chains else self.base_chain, entry)
        self.entries.append(entry)
        self.chains.append(chain)
        if entry.kind is MEMBERS:
            self.configurations.append(entry.index)


@final
class DiskModel:
    """The required contents of a disk.

    `pending`: writes handed over and not known to be done. `ever`: positions (index, term) held at some time in this
    life, or overwritten while they waited for a write: that write stands for both.
    """

    __slots__ = ("_overwritten", "entries", "ever", "hard", "pending", "snapshot")

    def __init__(self) -> None:
        self.hard = HardState()
        self.snapshot: SnapshotMeta | None = None
        self.entries: dict[int, Entry] = {}
        self.ever: set[tuple[int, int]] = set()
        self.pending: list[Persist] = []
        self._overwritten: dict[WriteId, list[tuple[int, int]]] = {}

    def ordered(self, persist: Persist, log: LogMirror) -> None:
        """Note a write of this log, with the entries cut since the previous write."""
        self.pending.append(persist)
        if log.cut_off:
            self._overwritten[persist.write], log.cut_off = log.cut_off, []

    def done(self, upto: WriteId) -> None:
        """Note the writes up to `upto` as durable."""
        while self.pending and self.pending[0].write <= upto:
            persist = self.pending.pop(0)
            self._write(persist)
            self.ever.update(self._overwritten.pop(persist.write, ()))

    def _write(self, persist: Persist) -> None:
        if persist.hard is not None:
            self.hard = persist.hard
        if persist.truncate_from:
            for index in [index for index in self.entries if index >= persist.truncate_from]:
                del self.entries[index]
        for entry in persist.entries:
            self.entries[entry.index] = entry
            self.ever.add((entry.index, entry.term))
        meta = persist.snapshot
        if meta is not None:
            held = self.entries.get(meta.index)
            if held is None or held.term != meta.term:
                self.entries = {}
            self.snapshot = meta
        if persist.drop_before:
            self._drop(persist.drop_before)

    def _drop(self, before: int) -> None:
        index = before - 1
        while index in self.entries:
            del self.entries[index]
            index -= 1

    @property
    def last(self) -> int:
        """The end of the log."""
        snapshot = self.snapshot.index if self.snapshot is not None else 0
        return max(next(reversed(self.entries), 0), snapshot)

    def term_at(self, index: int) -> int | None:
        """Return the term held at `index`; None if there is none, or a snapshot covers it."""
        entry = self.entries.get(index)
        if entry is not None:
            return entry.term
        if self.snapshot is not None and self.snapshot.index == index:
            return self.snapshot.term
        return 0 if index == 0 else None

    def covers(self, index: int, term: int) -> bool:
        """Return whether the committed entry at (index, term) is held, as an entry or within a snapshot."""
        entry = self.entries.get(index)
        if entry is not None:
            return entry.term == term
        return self.snapshot is not None and self.snapshot.index >= index

    def held(self, index: int, term: int) -> bool:
        """Return whether the position was ever on the disk: a message may depend on it even after a later write."""
        return self.covers(index, term) or (index, term) in self.ever

    def recovered(self, found: Recovered) -> int:
        """Mark the pending writes found on the disk as done, forget the others, and return the number of those found.

        Raise `ModelMismatch` if the contents do not match the model after any number of them.
        """
        writes, self.pending = self.pending, []
        first = self._difference(found)
        if first is None:
            return 0
        for count, persist in enumerate(writes, 1):
            self._write(persist)
            if self._difference(found) is None:
                return count
        raise ModelMismatch(f"the disk came back wrong: {first}; {len(writes)} more writes were under way")

    def load(self, found: Recovered) -> None:
        """Take over the recovered contents, with nothing pending."""
        self.hard, self.snapshot, self.pending = found.hard, found.snapshot, []
        self._overwritten.clear()
        held = found.covered + found.entries
        self.entries = {entry.index: entry for entry in held}
        self.ever = {(entry.index, entry.term) for entry in held}

    def _difference(self, found: Recovered) -> str | None:
        if found.hard != self.hard:
            return f"it holds {found.hard}, {self.hard} was acknowledged"
        if found.snapshot != self.snapshot:
            mine = self.snapshot.position if self.snapshot is not None else None
            theirs = found.snapshot.position if found.snapshot is not None else None
            return f"its snapshot is {theirs}, the acknowledged one {mine}"
        base = self.snapshot.index if self.snapshot is not None else 0
        mine_after: Sequence[Entry] = [entry for index, entry in self.entries.items() if index > base]
        if tuple(mine_after) != found.entries:
            ends = (found.entries[-1].index if found.entries else base, mine_after[-1].index if mine_after else base)
            return f"its log ends at {ends[0]}, {ends[1]} was acknowledged, or entries differ"
        if found.covered and (self.snapshot is None or found.covered[-1].index != base):
            return f"entries up to {found.covered[-1].index} are said to be covered by the snapshot at {base}"
        for entry in found.covered:
            if self.entries.get(entry.index) != entry:
                return f"entry {entry.index} of term {entry.term} came back, which it did not hold there"
        return None


@final
class Watched:
    """The state of one node as the checkers know it: the contents of its disk, and within a life its log."""

    def __init__(self, node: NodeId, incarnation: Incarnation, ledger: Ledger) -> None:
        self.node = node
        self.incarnation = incarnation
        self.lost = False  # the disk, with everything on it
        self.ledger = ledger
        self.stable = DiskModel()  # the contents of the disk
        self.told = DiskModel()  # the contents reported to the core
        self.log = LogMirror(ledger)
        self.answers = RequestTracker()
        self.term = 0
        self.commit = 0
        self.applied = 0
        self.snapshot_at = 0  # the snapshot that the machine was last asked for
        self.restore_at = 0  # the one that it was last set to
        self.promised_term = 0
        self.leads = 0  # the term it leads, 0 if it does not
        self.members: Members | None = None
        self.configuration = -1  # where the one in force was appended

    def begin(self, recovered: Recovered) -> None:
        """Start a new life on the same disk."""
        self.told.load(recovered)
        self.stable.load(recovered)
        self.log = LogMirror(self.ledger)
        self.answers = RequestTracker()
        self.term, self.commit, self.applied = recovered.hard.term, 0, 0
        self.leads, self.members, self.configuration = 0, None, -1
