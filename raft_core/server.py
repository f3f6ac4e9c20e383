"""State shared by all roles: term, vote, log, commit index, members, outbox, random generator; and the apply pipeline.

It survives a change of role, and its methods are the same in every role. Nothing here may depend on the role.
"""

from __future__ import annotations

import random
from bisect import bisect_right, insort_right
from collections import deque
from collections.abc import Sequence
from typing import Final, final

from raft_core.apply import Page, others_between, per_entry
from raft_core.compaction import base_after_snapshot, log_at_start, snapshot_due
from raft_core.configurations import MembershipHistory
from raft_core.effects import (
    Alarm,
    AlarmKind,
    Apply,
    Indeterminate,
    ReadReady,
    ReceiveSnapshot,
    Refusal,
    RefusalReason,
    Respond,
    Restore,
    StopReason,
    TakeSnapshot,
    UnknownReason,
)
from raft_core.entries import COMMAND, MEMBERS, Entry, SnapshotMeta
from raft_core.errors import CallerError, LogLost, invariant
from raft_core.events import Applied, Restored, SnapshotTaken
from raft_core.ids import MAX_INT63, NO_INDEX, NO_NODE, NO_WRITE, Index, MessageId, NodeId, RequestId, Term, WriteId
from raft_core.membership import Members
from raft_core.messages import RequestVote, VoteKind, VoteReply
from raft_core.outbox import Outbox
from raft_core.pending import PendingProposals
from raft_core.recovered import RESTART_TEXT, Recovered
from raft_core.settings import LONGEST_LEASE, Settings, unfit

__all__ = ["Server"]


_MOST_DOUBLINGS = 7
"""Upper limit of the exponent by which a failed snapshot's retry delay grows: about a minute by default."""
_MESSAGES: Final = (1 << 40) - 1
_BOOTS: Final = (1 << 23) - 1


_TOLD_AT_THE_END: Final = {
    StopReason.REQUESTED: (UnknownReason.STOPPING, RefusalReason.STOPPING),
    StopReason.LOG_LOST: (UnknownReason.STORAGE_FAILED, RefusalReason.STORAGE_FAILED),
    StopReason.STORAGE_FAILED: (UnknownReason.STORAGE_FAILED, RefusalReason.STORAGE_FAILED),
    StopReason.MACHINE_FAILED: (UnknownReason.MACHINE_FAILED, RefusalReason.MACHINE_FAILED),
}
"""Outcomes of the proposals and reads still waiting when the core stops."""


def _index_of(waiting: tuple[Index, RequestId]) -> Index:
    return waiting[0]


@final
class Server:
    """Shared state. Invariants: snapshot <= applied <= applying <= commit <= last index, and applying <= durable."""

    __slots__ = (
        "applied",
        "applying",
        "boot",
        "bytes_since_snapshot",
        "commit",
        "configurations",
        "give_up_at",
        "hurry_priority",
        "identity",
        "installing",
        "log",
        "loyalty",
        "me",
        "messages_made",
        "now",
        "outbox",
        "pages",
        "ready_reads",
        "receiving",
        "requests",
        "rng",
        "settings",
        "snapshot",
        "snapshot_failures",
        "snapshot_pending",
        "snapshot_retry_at",
        "snapshot_write",
        "stopping",
        "term",
        "vote",
    )

    def __init__(self, settings: Settings, recovered: Recovered, rng: random.Random) -> None:
        snapshot = recovered.snapshot
        self.settings = settings
        self.identity = recovered.identity
        self.me: NodeId = recovered.identity.node
        self.boot = recovered.boot
        self.rng = rng
        self.term: Term = recovered.hard.term  # never falls
        self.vote: NodeId = recovered.hard.vote  # never changes within a term once given
        self.log = log_at_start(settings, recovered)
        self.snapshot: SnapshotMeta | None = snapshot  # the newest one switched to
        base = snapshot.index if snapshot else NO_INDEX
        self.commit: Index = max(recovered.hard.commit, recovered.applied, base)  # never falls
        self.applied: Index = recovered.applied  # reported by the machine
        self.applying: Index = recovered.applied  # ordered from the machine
        self.pages: deque[Page] = deque()  # jobs in the apply lane, not yet reported
        self.bytes_since_snapshot = 0
        self.snapshot_pending: Index = NO_INDEX  # a TakeSnapshot not yet reported
        self.snapshot_failures = 0  # in a row, since the last success
        self.snapshot_retry_at = 0  # tick of the next attempt after a failure
        self.snapshot_write = NO_WRITE  # the write that switches to `snapshot`
        self.receiving: ReceiveSnapshot | None = None  # an incoming transfer under way
        self.installing: tuple[WriteId, SnapshotMeta] | None = None  # restore when this write is durable
        self.configurations = MembershipHistory()
        if snapshot is not None:
            self.configurations.reset(snapshot.members_index or snapshot.index, snapshot.members)
        for entry in recovered.entries:
            self._note_members(entry)
        self.outbox = Outbox(self.log.last_index, settings.max_persist_bytes, recovered.hard.commit)
        self.requests = PendingProposals()
        self.ready_reads: list[tuple[Index, RequestId]] = []  # confirmed, sorted; wait for the machine
        self.messages_made = 0
        self.now = 0  # ticks, pauses included
        longest = -(-LONGEST_LEASE // settings.tick_nanoseconds) if self.members.leases else 0
        # Ticks for which a lease may still depend on us; at the start, on promises made before a restart.
        self.loyalty = 1 + max(settings.election_ticks, longest)
        # Tick at which the requests left from our leadership become indeterminate; -1: none. Example: A leads, appends
        # x for a client and is deposed by B. B may still commit x: A waits for this until `give_up_at`.
        self.give_up_at = -1
        self.hurry_priority = 0  # failed campaigns since a leader was heard; each halves a low priority's delay
        self.stopping = False

    def start(self) -> None:
        """Order what a restart needs: the snapshot's restore, the replay of what is committed.

        Raise `LogLost` if the disk has lost entries this node had committed or applied.
        """
        if self.commit > self.log.last_index or self.term < self.log.last_term:
            raise LogLost(RESTART_TEXT.format(last=self.log.last_index, commit=self.commit))
        if self.snapshot is not None and self.applied < self.snapshot.index:
            self.restore(self.snapshot)
        self.emit_apply()

    # Names and numbers.

    @property
    def members(self) -> Members:
        """The configuration in force: the last one in the log, committed or not."""
        return self.configurations.members

    def next_message(self) -> MessageId:
        """Return a message id not used before by this node, in this boot or an earlier one.

        The count takes 40 bits, the boot the 23 above; both wrap around. Ids are compared for equality only, and no
        id is remembered for 2**23 boots or 2**40 later messages.
        """
        self.messages_made += 1
        boot, count = self.boot & _BOOTS, self.messages_made & _MESSAGES
        return MessageId((boot << 40) + count)

    def draw(self, most: int) -> int:
        """Return a random number from 1 to `most`."""
        return 1 + int(self.rng.random() * most)

    def election_timeout(self) -> int:
        """Draw ticks from [T, 2T), anew each time (§5.2). A low priority adds a delay that halves with every try."""
        base = self.settings.election_ticks
        patience = (self.settings.priority * base) >> self.hurry_priority
        return base + int(self.rng.random() * base) + patience

    def short_timeout(self) -> int:
        """Draw a short timeout in ticks, for use after the connection to the leader broke."""
        patience = (self.settings.priority * self.settings.short_ticks) >> self.hurry_priority
        return self.draw(self.settings.short_ticks) + patience

    @property
    def bound(self) -> bool:
        """True while a leader may hold a lease that counts on this node (thesis 6.4.1).

        Until it ends we must not vote or campaign in any role, unless that leader orders it (TimeoutNow). Example: B
        answers A's heartbeat, so A reads locally for T ticks. If B voted for C within T, C could commit a write which
        A's reads miss. A new voter without a configuration cannot know whether leases are in use and assumes they
        are.
        """
        return self.loyalty > 0 and (self.members.leases or self.members.empty)

    def stay_loyal(self) -> None:
        """Keep our `lease_promise` from now on, after hearing a leader, and any promise made before a restart.

        This takes two ticks more than the lease: one since the first tick is partial, one for a tick already due but
        delivered late by a slow loop.
        """
        self.loyalty = max(self.loyalty, self.settings.election_ticks + 2)

    @property
    def may_campaign(self) -> bool:
        """True if this node may stand for election and no snapshot is being installed.

        A removed voter may still stand until its removal commits (rule 9.5). Example: A leads A, B, C, D,
        appends "C is removed" and crashes; only C has received it. B and D need three of four votes, but C refuses
        their shorter logs. C needs two votes of A, B and D: no other node can win.
        """
        if self.installing is not None or self.stopping or self.term >= MAX_INT63:
            return False
        if self.members.is_voter(self.me):
            return True
        if self.configurations.index <= self.commit:
            return False
        older = self.configurations.before(self.configurations.index)
        return older is not None and older.is_voter(self.me)

    def knows(self, node: NodeId) -> bool:
        """Return whether `node` is in a configuration this node remembers. True for all while it has none yet."""
        if self.members.is_member(node) or self.members.empty:
            return True
        return any(members.is_member(node) for _, members in self.configurations.held())

    def alarm(self, kind: AlarmKind, peer: NodeId, text: str) -> None:
        """Report a condition for an operator; the core continues."""
        self.outbox.effects.append(Alarm(kind, peer, text))

    def respond(self, answer: Respond) -> None:
        """Answer a request."""
        self.outbox.effects.append(answer)

    def refuse(
        self, request: RequestId, reason: RefusalReason, *, leader: NodeId = NO_NODE, text: str = "", count: int = 1
    ) -> None:
        """Refuse all `count` commands of the request."""
        self.respond(Respond(request, Refusal(reason, leader, text), 0, count))

    # Term and vote.

    def enter_term(self, term: Term, vote: NodeId = NO_NODE) -> None:
        """Enter a higher term with `vote` as our vote in it, if any (§5.1)."""
        invariant(term > self.term, "terms only rise")
        self.term = term
        self.vote = vote
        self.outbox.touch_hard()

    def answer_vote(self, request: RequestVote, leader: NodeId) -> bool:
        """Answer a vote request: one vote per term, first come first served, only for a log as up to date as ours.

        Return whether a real vote was granted (§5.2, §5.4.1). Membership is not checked: the candidate may know a
        newer configuration.
        """
        real = request.kind is not VoteKind.PRE
        free = self.vote == request.sender or (self.vote == NO_NODE and leader == NO_NODE)
        if not real and request.term > self.term:
            free = True
        granted = free and request.last.at_least_as_up_to_date_as(self.log.last)
        if granted and real and self.vote != request.sender:
            self.vote = request.sender
            self.outbox.touch_hard()
        term = request.term if granted else self.term  # thesis 9.6: a granted pre-vote echoes the requested term
        reply = VoteReply(term, self.me, self.identity.incarnation, request.id, request.kind, granted)
        self.outbox.promise_term(request.sender, reply)
        return granted and real

    def refuse_old_vote(self, request: RequestVote) -> None:
        """Refuse a candidate of an older term and report ours (rule 2.6: silence would deadlock it)."""
        reply = VoteReply(self.term, self.me, self.identity.incarnation, request.id, request.kind, granted=False)
        self.outbox.promise_term(request.sender, reply)

    # The log.

    def append(self, entries: tuple[Entry, ...]) -> None:
        """Append `entries` after the last one. Configurations among them take effect at once (thesis 4.1)."""
        self.log.append(entries)
        for entry in entries:
            if entry.kind is MEMBERS:
                self._note_members(entry)
                self._look_at_settings()

    def _look_at_settings(self) -> None:
        """Raise an alarm if our settings do not suit the cluster just joined, again at every membership change.

        The node continues, but would refuse to start with these settings.
        """
        if self.unfit:
            self.alarm(AlarmKind.SETTINGS, NO_NODE, f"{self.unfit}; mend this node's settings before it is restarted")

    @property
    def unfit(self) -> str:
        """The reason why our settings do not suit the known configuration; empty if they do."""
        return unfit(self.settings, self.members)

    def _note_members(self, entry: Entry) -> None:
        if entry.kind is MEMBERS:
            self.configurations.append(entry.index, Members.decode(entry.data))

    def truncate_from(self, index: Index) -> None:
        """Remove all entries from `index` on. A configuration among them is undone (thesis 4.1)."""
        invariant(index > self.commit, "what is committed is never truncated")
        self.log.truncate_from(index)
        self.outbox.truncate(index)
        self.configurations.truncate_from(index)

    def commit_to(self, index: Index) -> None:
        """Raise the commit index to `index` and order the apply of entries that are also durable here."""
        if index <= self.commit:
            return
        invariant(index <= self.log.last_index, "only what the log holds can be committed")
        self.commit = index
        self.emit_apply()

    # The apply pipeline.

    def emit_apply(self) -> None:
        """Order the next pages, at most two at a time; more follow when these are reported."""
        outbox = self.outbox
        limit = self.commit if self.commit < outbox.durable_index else outbox.durable_index
        while self.applying < limit and len(self.pages) < 2 and not outbox.failed:
            if self.applying < self.log.base.index:
                return  # a snapshot must be restored first
            page = self.log.slice(Index(self.applying + 1), limit, self.settings.max_apply_bytes)
            size = self.log.size_between(self.applying, page[-1].index)
            self.applying = page[-1].index
            commands = tuple([(entry.index, entry.data) for entry in page if entry.kind is COMMAND])
            others: tuple[Index, ...] = ()
            if len(commands) < len(page):
                others = tuple([entry.index for entry in page if entry.kind is not COMMAND])
            self.pages.append(Page(self.applying, size, others=others))
            outbox.effects.append(Apply(self.applying, commands, self.requests.wanted(page[0].index, self.applying)))

    def on_applied(self, report: Applied, transfers_from: Index) -> None:
        """Answer the clients of applied entries and waiting reads; take a snapshot if one is due."""
        upto = report.upto
        results: Sequence[bytes | None] = report.results
        if upto <= self.applied or not self.pages or self.pages[0].restore or upto > self.applying:
            raise CallerError(f"Applied({upto}) does not answer an Apply: {self.applied} is applied already")
        others = others_between(self.pages, self.applied, upto)
        if results:
            count = upto - self.applied - len(others)
            if len(results) != count:
                raise CallerError(f"Applied({upto}) has {len(results)} results for {count} commands")
            if others:
                results = per_entry(report.results, self.applied, others)
        while self.pages and not self.pages[0].restore and self.pages[0].last <= upto:
            self.bytes_since_snapshot += self.pages.popleft().size
        self.applied = upto
        self.requests.applied(upto, results, self.respond)
        self._after_progress(transfers_from)

    def _after_progress(self, transfers_from: Index) -> None:
        self.configurations.forget_before(self.applied)
        ready = bisect_right(self.ready_reads, self.applied, key=_index_of)
        for index, request in self.ready_reads[:ready]:
            self.respond(Respond(request, ReadReady(index)))
        del self.ready_reads[:ready]
        self.emit_apply()
        since = self.applied - (self.snapshot.index if self.snapshot else NO_INDEX)
        if self.snapshot_pending == NO_INDEX and snapshot_due(self.settings, since, self.bytes_since_snapshot):
            self._take_snapshot()

    def on_snapshot_failed(self, index: Index) -> None:
        """Schedule the next attempt; each failure in a row doubles the delay.

        On a full disk every attempt briefly takes space from the log, so attempts must become rare.
        """
        if index == self.snapshot_pending:
            self.snapshot_pending = NO_INDEX
            self.snapshot_retry_at = self.now + (self.settings.election_ticks << self.snapshot_failures)
            self.snapshot_failures = min(self.snapshot_failures + 1, _MOST_DOUBLINGS)

    @property
    def snapshot_to_offer(self) -> SnapshotMeta | None:
        """The newest snapshot, or None while the switch to it is not durable.

        Example: A offers snapshot 100 too early, sends half of it to B and crashes. After the restart A's machine
        writes other bytes under the same index and term, and B would join halves of two files.
        """
        return self.snapshot if self.snapshot_write <= self.outbox.durable else None

    @property
    def reads_full(self) -> bool:
        """True if no further read may wait for the machine."""
        return len(self.ready_reads) >= self.settings.max_waiting_reads

    def read_when_applied(self, index: Index, request: RequestId) -> None:
        """Answer the read once the machine has applied `index`."""
        if index <= self.applied:
            self.respond(Respond(request, ReadReady(index)))
        else:
            insort_right(self.ready_reads, (index, request), key=_index_of)

    def reads_beyond_commit(self) -> list[RequestId]:
        """Remove and return the confirmed reads above our commit index, which need a leader.

        The other reads need only entries this node has.
        """
        beyond = bisect_right(self.ready_reads, self.commit, key=_index_of)
        requests = [request for _, request in self.ready_reads[beyond:]]
        del self.ready_reads[beyond:]
        return requests

    # Snapshots of our own.

    def _take_snapshot(self) -> None:
        if self.installing is not None or self.applying <= self.log.base.index or self.outbox.failed:
            return
        if self.now < self.snapshot_retry_at:
            return
        index = self.applying  # the apply lane is in order, so the machine will be at `index` (§7)
        term = self.log.term_at(index)
        assert term is not None
        place, members = self.configurations.at(index)
        self.snapshot_pending = index
        self.outbox.effects.append(TakeSnapshot(SnapshotMeta(index, term, members, place)))

    def make_room(self) -> None:
        """Shrink a log at its limit: drop all entries the snapshot covers.

        The kept tail and the entries that running transfers need go too. If none are left to drop, take a snapshot
        early.
        """
        covered = self.snapshot.index if self.snapshot else NO_INDEX
        if covered > self.log.base.index:
            self.log.compact(covered)
            self.outbox.drop_before(Index(covered + 1))
        elif self.snapshot_pending == NO_INDEX and self.applying > covered:
            self._take_snapshot()

    def on_snapshot_taken(self, report: SnapshotTaken, transfers_from: Index) -> None:
        """Switch the disk to the snapshot and drop the entries before it, except for a tail (§7)."""
        meta = report.meta
        if meta.index != self.snapshot_pending:
            return  # superseded by one from the leader
        self.snapshot_pending = NO_INDEX
        if self.outbox.failed or not self.log.matches(meta.index, meta.term):
            return
        self.snapshot = meta
        self.snapshot_failures = 0
        self.outbox.switch(meta, discard=False, cap=NO_INDEX)
        self.snapshot_write = self.outbox.everything(self.log)
        self.bytes_since_snapshot = sum(
            [page.size for page in self.pages if not page.restore and page.last > meta.index]
        )
        base = base_after_snapshot(self.settings, self.log, meta.index, transfers_from)
        if base > self.log.base.index:
            self.log.compact(base)
            self.outbox.drop_before(Index(base + 1))

    # A snapshot from the leader.

    def install(self, meta: SnapshotMeta) -> None:
        """Replace the whole log, which does not connect to the snapshot (fig. 13 rules 6-8).

        The machine is restored once the switch is durable. This node need not be among the snapshot's members: later
        entries may add it.
        """
        invariant(meta.index > self.commit, "an installed snapshot is ahead of everything committed here")
        durable_before = min(self.commit, self.outbox.durable_index)
        self.log.reset(meta.position)
        self.configurations.reset(meta.members_index or meta.index, meta.members)
        self._look_at_settings()
        self.snapshot = meta
        self.snapshot_pending = NO_INDEX
        self.bytes_since_snapshot = 0
        self.commit = meta.index
        self.requests.give_up(Indeterminate(UnknownReason.SNAPSHOT), self.respond)
        self.outbox.switch(meta, discard=True, cap=durable_before)
        self.snapshot_write = self.outbox.everything(self.log)
        self.installing = (self.snapshot_write, meta)

    @property
    def restoring(self) -> bool:
        """True while the switch to a received snapshot, or a restore of the machine, is under way."""
        return self.installing is not None or any(page.restore for page in self.pages)

    def restore_if_durable(self) -> None:
        """Order the restore once the switch is durable and no earlier restore is under way."""
        busy = any(page.restore for page in self.pages)
        if self.installing is not None and self.installing[0] <= self.outbox.durable and not busy:
            meta = self.installing[1]
            self.installing = None
            self.restore(meta)

    def restore(self, meta: SnapshotMeta) -> None:
        """Order the machine to load the snapshot `meta`."""
        self.applying = meta.index
        self.pages.append(Page(meta.index, 0, restore=True))
        self.outbox.effects.append(Restore(meta))

    def on_restored(self, report: Restored, transfers_from: Index) -> None:
        """Continue to apply after the snapshot the machine has loaded."""
        if not self.pages or not self.pages[0].restore or self.pages[0].last != report.index:
            raise CallerError(f"Restored({report.index}) does not answer a Restore")
        self.pages.popleft()
        self.applied = report.index
        self.restore_if_durable()
        self._after_progress(transfers_from)

    # The end.

    def answer_everybody(self, end: StopReason, text: str) -> None:
        """Answer every waiting proposal as indeterminate and refuse every read."""
        unknown, refused = _TOLD_AT_THE_END[end]
        self.requests.give_up(Indeterminate(unknown, text), self.respond)
        for _, read in self.ready_reads:
            self.refuse(read, refused, text=text)
        self.ready_reads.clear()
