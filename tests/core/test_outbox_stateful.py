"""The outbox beside a disk that may crash: a message never leaves before the writes that it depends on.

The disk carries out the writes in order, each as a whole. It may have carried out more of them than it has reported,
so a crash leaves the state after any write from the last reported one on. A message that leaves must be true in each
of these states, up to the state in which it was made.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raft_core.effects import Persist, Send
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.ids import Index, MessageId, NodeId, Term, WriteId
from raft_core.log import Log
from raft_core.membership import Members
from raft_core.messages import TimeoutNow
from raft_core.outbox import Outbox
from tests.core.helpers import finish
from tests.profiles import stateful

PEER: Final = NodeId(2)
PLACE: Final = st.integers(0, 40)  # taken modulo the number of possible places
Messages: TypeAlias = list[tuple[str, int]]
MESSAGES: Final = st.lists(st.tuples(st.sampled_from(["plain", "term", "entries", "newest", "all"]), PLACE), max_size=2)
MEMBERS: Final = Members.initial([1, 2])


@attrs.frozen
class Disk:
    """What a disk holds: term, vote, and the term of each entry from index 1 on, those under a snapshot included."""

    term: int
    vote: int
    terms: tuple[int, ...]

    def after(self, write: Persist, under_snapshot: tuple[int, ...]) -> Disk:
        """Return the state after this write. `under_snapshot`: the terms that its snapshot stands for."""
        term, vote, terms = self.term, self.vote, self.terms
        if write.hard is not None:
            term, vote = write.hard.term, write.hard.vote
        if write.truncate_from:
            assert write.truncate_from <= len(terms), "a write truncates nothing"
            terms = terms[: write.truncate_from - 1]
        if write.snapshot is not None and terms[: write.snapshot.index] != under_snapshot:
            terms = under_snapshot
        for entry in write.entries:
            assert entry.index == len(terms) + 1, "an entry does not follow the disk's last one"
            terms += (entry.term,)
        return Disk(term, vote, terms)


@attrs.frozen
class Promise:
    """The state that a message depends on. `made`: the last write that had been issued when it was made.

    Only states up to that write have to hold it. Those of later writes include it, or replace it in a later term.
    """

    made: int
    term: int
    vote: int
    terms: tuple[int, ...]

    def is_true_on(self, disk: Disk) -> bool:
        if disk.term == self.term and self.vote not in (0, disk.vote):
            return False
        return disk.term >= self.term and disk.terms[: len(self.terms)] == self.terms


class OutboxBesideDisk(RuleBasedStateMachine):
    """`states[n]` is the disk after the write `n`; those before `reported` are forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self._begin(Disk(term=2, vote=0, terms=(1, 1, 1, 2)))

    def _begin(self, disk: Disk, max_bytes: int = 10**9) -> None:
        self.term, self.vote, self.terms = disk.term, disk.vote, disk.terms
        self.log = Log(entries=[Entry.make(index, term, b"x") for index, term in enumerate(disk.terms, 1)])
        self.outbox = Outbox(self.log.last_index, max_bytes)
        self.states = {0: disk}
        self.reported = 0
        self.commit = 1
        self.under_snapshot: tuple[int, ...] = ()
        self.promises: dict[int, Promise] = {}
        self.expected_now: list[int] = []  # messages without a promise, of this step
        self.messages = 0

    # Steps: a change, then messages, of which some promise what has just changed.

    @rule(vote=st.integers(0, 2), messages=MESSAGES, ends=st.booleans())
    def new_term(self, vote: int, messages: Messages, ends: bool) -> None:
        self._new_term(vote)
        self._say(messages, ends)

    @rule(count=st.integers(0, 3), vote=st.sampled_from([0, 0, 1]), messages=MESSAGES, ends=st.booleans())
    def append(self, count: int, vote: int, messages: Messages, ends: bool) -> None:
        if vote and not self.vote:
            self.vote = vote
            self.outbox.touch_hard()
        self._append(count)
        self._say(messages, ends)

    @precondition(lambda self: len(self.terms) > self.commit)
    @rule(place=PLACE, count=st.integers(0, 3), messages=MESSAGES, apart=st.booleans(), ends=st.booleans())
    def replace(self, place: int, count: int, messages: Messages, apart: bool, ends: bool) -> None:
        """Other entries replace some that are not committed, by order of a leader of a later term.

        `apart`: the term was known a step earlier.
        """
        first = self.commit + 1 + place % (len(self.terms) - self.commit)
        self._outlive_log(apart)
        self.log.truncate_from(Index(first))
        self.outbox.truncate(Index(first))
        self.terms = self.terms[: first - 1]
        self._append(count)
        self._say(messages, ends)

    @precondition(lambda self: not self.under_snapshot)
    @rule(further=st.integers(1, 3), messages=MESSAGES, apart=st.booleans(), ends=st.booleans())
    def install_snapshot(self, further: int, messages: Messages, apart: bool, ends: bool) -> None:
        """A snapshot replaces the log, which contradicts it after the commit index."""
        self._outlive_log(apart)
        durable, index = min(self.commit, self.outbox.durable_index), self.commit + further
        self.terms = self.terms[: self.commit] + (self.term,) * further
        self.commit, self.under_snapshot = index, self.terms
        meta = SnapshotMeta(Index(index), Term(self.term), MEMBERS)
        self.log.reset(meta.position)
        self.outbox.switch(meta, discard=True, cap=Index(durable))
        self._say(messages, ends)

    @precondition(lambda self: self.log.base.index < min(self.commit, self.outbox.durable_index))
    @rule(keep=st.integers(0, 3))
    def take_snapshot(self, keep: int) -> None:
        """A snapshot of this node's own machine covers what is committed and durable here."""
        index = Index(min(self.commit, self.outbox.durable_index))
        term = self.log.term_at(index)
        assert term is not None
        self.under_snapshot = self.terms[:index]
        self.outbox.switch(SnapshotMeta(index, term, MEMBERS), discard=False, cap=Index(0))
        base = max(self.log.base.index, index - keep)
        self.log.compact(Index(base))
        self.outbox.drop_before(Index(base + 1))
        self.finish()

    def _outlive_log(self, apart: bool) -> None:
        if self.terms[-1] == self.term:
            self._new_term(0)
        if apart:
            self.finish()

    def _new_term(self, vote: int) -> None:
        self.term, self.vote = self.term + 1, vote
        self.outbox.touch_hard()

    def _append(self, count: int) -> None:
        first = len(self.terms) + 1
        if count:
            self.log.append([Entry.make(index, self.term, b"x") for index in range(first, first + count)])
            self.outbox.changed = True
            self.terms += (self.term,) * count

    def _say(self, messages: Messages, ends: bool = True) -> None:
        for kind, place in messages:
            last = len(self.terms)
            upto = {"entries": place % (last + 1), "newest": last, "all": last}.get(kind, 0)
            self.messages += 1
            message = TimeoutNow(Term(1), NodeId(1), MessageId(self.messages))
            if kind == "plain":
                self.expected_now.append(self.messages)
                self.outbox.send(PEER, message)
                continue
            self.promises[self.messages] = Promise(self.outbox.issued, self.term, self.vote, self.terms[:upto])
            if kind == "term":
                self.outbox.promise_term(PEER, message)
            elif kind == "all":
                self.outbox.promise_all(PEER, message, self.log)
            else:
                self.outbox.promise_entries(PEER, message, Index(upto))
        if ends:
            self.finish()

    # The end of a step, and the disk.

    def finish(self) -> None:
        effects = finish(self.outbox, self.log, HardState(Term(self.term), NodeId(self.vote), Index(self.commit)))
        if effects and isinstance(write := effects[0], Persist):
            self._issue(write)
            del effects[0]
        self.under_snapshot = ()
        for effect in effects:
            assert isinstance(effect, Send), "a step orders one write, in front"
            self._leave(int(effect.message.id))
        assert self.expected_now == [], "a message without a promise waits"
        if self.outbox.issued == self.reported:
            assert self.promises == {}, "a message waits although all is durable"

    def _issue(self, write: Persist) -> None:
        assert write.write == max(self.states) + 1
        disk = self.states[max(self.states)].after(write, self.under_snapshot)
        self.states[int(write.write)] = disk
        assert disk == Disk(self.term, self.vote, self.terms), "a write leaves out a part of the state"
        assert write.hard is None or write.hard.commit <= len(disk.terms)

    def _leave(self, number: int) -> None:
        if number in self.expected_now:
            self.expected_now.remove(number)
            return
        promise = self.promises.pop(number)
        for write in range(self.reported, promise.made + 1):
            assert promise.is_true_on(self.states[write]), f"a crash after write {write} breaks the promise"

    @precondition(lambda self: self.outbox.issued > self.reported)
    @rule(count=st.integers(0, 2), further=st.integers(0, 1))
    def report(self, count: int, further: int) -> None:
        """The disk reports some writes at once, or one again. Something may be committed."""
        self.finish()
        upto = min(self.outbox.issued, self.reported + count)
        self.reported = max(self.reported, upto)
        for write in [write for write in self.states if write < self.reported]:
            del self.states[write]
        self.outbox.persisted(WriteId(upto))
        self.commit = min(len(self.terms), self.commit + further)
        self.finish()

    @rule(write=PLACE, max_bytes=st.sampled_from([60, 150, 10**9]))
    def crash(self, write: int, max_bytes: int) -> None:
        kept = sorted(self.states)
        self._begin(self.states[kept[write % len(kept)]], max_bytes)

    # Always.

    @invariant()
    def durable_index_survives_every_crash(self) -> None:
        if self.under_snapshot:
            return  # a switch to a snapshot takes effect at the end of its step
        durable = self.outbox.durable_index
        assert durable <= len(self.terms)
        for disk in self.states.values():
            assert disk.terms[:durable] == self.terms[:durable]

    @invariant()
    def all_is_durable_once_all_is_reported(self) -> None:
        if self.outbox.issued == self.reported and self.outbox.written_last == len(self.terms):
            pending = self.outbox.everything(self.log) > self.reported
            assert pending or self.outbox.durable_index == len(self.terms)


TestOutboxBesideDisk = stateful(OutboxBesideDisk, runs=90, steps=25)
