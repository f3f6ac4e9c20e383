"""State shared by all roles: term, vote, log, commit index, members, outbox, random generator.

It survives a change of role, and its methods are the same in every role. Nothing here may depend on the role.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Final, final

from raft_core.apply import ApplyPipeline
from raft_core.compiled import mypyc_attr
from raft_core.effects import (
    Alarm,
    AlarmKind,
    Indeterminate,
    Refusal,
    RefusalReason,
    Respond,
    StopReason,
    UnknownReason,
)
from raft_core.entries import (
    COMMAND,
    COMMAND_SEED,
    CRC_BYTES,
    MEMBERS,
    START,
    Checksum,
    Entry,
    LogPosition,
    SnapshotMeta,
    all_commands,
    seal_commands,
)
from raft_core.errors import InvariantBroken, LogLost, invariant
from raft_core.events import Applied, Restored
from raft_core.ids import (
    MAX_INT63,
    NO_INDEX,
    NO_NODE,
    Incarnation,
    Index,
    MessageId,
    NodeId,
    ReadId,
    RequestId,
    Term,
    WriteId,
)
from raft_core.membership import Members
from raft_core.membership_history import MembershipHistory
from raft_core.messages import (
    AppendEntries,
    AppendPurpose,
    AppendReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
    VoteKind,
    VoteReply,
)
from raft_core.outbox import Outbox
from raft_core.pending import PendingProposals
from raft_core.recovered import RESTART_TEXT, Recovered
from raft_core.settings import LONGEST_LEASE, Settings, unfit
from raft_core.snapshots import Snapshots, log_at_start
from raft_core.state_values import PendingProposal

__all__ = ["Server"]


# Names of this module, which may be compiled: see `raft_core.compiled`.
_AppendReply: Final = AppendReply
_Entry: Final = Entry
_PendingProposal: Final = PendingProposal
_COMMAND: Final = COMMAND
_COMMAND_SEED: Final = COMMAND_SEED
_MEMBERS: Final = MEMBERS
_crc32: Final = zlib.crc32
_crc_bytes: Final = CRC_BYTES

_MESSAGES: Final = (1 << 40) - 1
_BOOTS: Final = (1 << 23) - 1


_TOLD_AT_THE_END: Final = {
    StopReason.REQUESTED: (UnknownReason.STOPPING, RefusalReason.STOPPING),
    StopReason.LOG_LOST: (UnknownReason.STORAGE_FAILED, RefusalReason.STORAGE_FAILED),
    StopReason.STORAGE_FAILED: (UnknownReason.STORAGE_FAILED, RefusalReason.STORAGE_FAILED),
    StopReason.MACHINE_FAILED: (UnknownReason.MACHINE_FAILED, RefusalReason.MACHINE_FAILED),
}
"""Outcomes of the proposals and reads still waiting when the core stops."""


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Server:
    """Shared state. Invariants: snapshot <= applied <= applying <= commit <= last index, and applying <= durable.

    The way to the machine is in `pipeline`, snapshots of our own and of a leader are in `snapshots`.
    """

    __slots__ = (
        "boot",
        "commit",
        "configurations",
        "crc",
        "first_message",
        "give_up_at",
        "hurry_priority",
        "identity",
        "incarnation",
        "log",
        "log_free_below",
        "log_max_bytes",
        "loyal_ticks",
        "loyalty",
        "max_entry_bytes",
        "max_uncommitted_bytes",
        "me",
        "messages_made",
        "now",
        "outbox",
        "own_features",
        "pipeline",
        "requests",
        "rng",
        "role_touched",
        "settings",
        "snapshot_bytes",
        "snapshots",
        "stopping",
        "term",
        "vote",
    )

    def __init__(self, settings: Settings, recovered: Recovered, rng: random.Random) -> None:
        snapshot = recovered.snapshot
        self.settings = settings
        self.identity = recovered.identity
        self.me: NodeId = recovered.identity.node
        self.incarnation: Incarnation = recovered.identity.incarnation
        self.boot = recovered.boot
        self.rng = rng
        self.term: Term = recovered.hard.term  # never falls
        self.vote: NodeId = recovered.hard.vote  # never changes within a term once given
        self.log = log_at_start(settings, recovered)
        # Settings that every step needs, in fields of a class that may be compiled.
        self.crc = settings.checksum is Checksum.CRC32
        self.log_max_bytes = settings.log_max_bytes
        self.max_entry_bytes = settings.max_entry_bytes
        self.max_uncommitted_bytes = settings.max_uncommitted_bytes
        self.own_features = settings.features
        self.snapshot_bytes = settings.snapshot_bytes
        # A log up to this size surely has room for one more message.
        self.log_free_below = settings.log_max_bytes - settings.max_message_bytes - settings.max_entry_bytes
        base = snapshot.index if snapshot else NO_INDEX
        self.commit: Index = max(recovered.hard.commit, recovered.applied, base)  # never falls
        self.configurations = MembershipHistory()
        if snapshot is not None:
            self.configurations.reset(snapshot.members_index or snapshot.index, snapshot.members)
        for entry in recovered.entries:
            self._note_members(entry)
        self.outbox = Outbox(self.log.last_index, settings.max_persist_bytes, recovered.hard.commit)
        self.requests = PendingProposals()
        self.pipeline = ApplyPipeline(settings, self.log, self.outbox, self.requests, recovered.applied)
        self.snapshots = Snapshots(settings, self.log, self.outbox, self.pipeline, self.configurations, snapshot)
        self.messages_made = 0
        self.first_message = (recovered.boot & _BOOTS) << 40
        self.now = 0  # ticks, pauses included
        longest = -(-LONGEST_LEASE // settings.tick_nanoseconds) if self.members.leases else 0
        # Ticks for which a lease may still depend on us; at the start, on promises made before a restart.
        self.loyalty = 1 + max(settings.election_ticks, longest)
        # After hearing a leader we keep our `lease_promise`, and any promise made before a restart, for two ticks more
        # than the lease: one since the first tick is partial, one for a tick already due but delivered late.
        self.loyal_ticks = settings.election_ticks + 2
        # Tick at which the requests left from our leadership become indeterminate; -1: none. Example: A leads, appends
        # x for a client and is deposed by B. B may still commit x: A waits for this until `give_up_at`.
        self.give_up_at = -1
        self.hurry_priority = 0  # failed campaigns since a leader was heard; each halves a low priority's delay
        self.stopping = False
        self.role_touched = False  # role, term or leader may have changed in this step

    def start(self) -> None:
        """Order what a restart needs: the snapshot's restore, the replay of what is committed.

        Raise `LogLost` if the disk has lost entries this node had committed or applied.
        """
        if self.commit > self.log.last_index or self.term < self.log.last_term:
            raise LogLost(RESTART_TEXT.format(last=self.log.last_index, commit=self.commit))
        newest = self.snapshots.newest
        if newest is not None and self.pipeline.applied < newest.index:
            self.pipeline.restore(newest)
        self.pipeline.order(self.commit)

    # Names and numbers.

    @property
    def members(self) -> Members:
        """The configuration in force: the last one in the log, committed or not."""
        return self.configurations.members

    @property
    def features(self) -> tuple[str, ...]:
        """The features of the newest configuration known to be committed."""
        return self.configurations.at(self.commit)[1].features

    @property
    def members_committed(self) -> bool:
        """True if the configuration in force is known to be committed."""
        return self.configurations.index <= self.commit

    def next_message(self) -> MessageId:
        """Return a message id not used before by this node, in this boot or an earlier one.

        The count takes 40 bits, the boot the 23 above; both wrap around. Ids are compared for equality only, and no
        id is remembered for 2**23 boots or 2**40 later messages.
        """
        made = self.messages_made + 1
        self.messages_made = made
        return MessageId(self.first_message + (made & _MESSAGES))

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

    def timeout_after(self, leader: NodeId) -> int:
        """Draw the ticks for which this node waits for a word of `leader`, which it has heard: T at least.

        The voters take turns, a tenth of T apart, so that two do not split the votes although they stand soon. Example,
        with T = 50: 1 led; 2 stands after 51 or 52 ticks, 3 after 56 or 57, 4 after 61 or 62. Not after T itself: a
        voter whose tick is a little later would still be sticky. A lease binds voters for two ticks more.
        """
        base = self.settings.election_ticks
        step = max(2, base // 10)
        wait = self._turn(leader) * step + int(self.rng.random() * (step // 2))
        if wait >= base:  # so late in a line of more than ten that others have stood long before
            return base + self.election_timeout()
        patience = (self.settings.priority * base) >> self.hurry_priority
        return base + (3 if self.members.leases else 1) + wait + patience

    def _turn(self, gone: NodeId) -> int:
        """Return how many voters stand before this node once the leader `gone` is gone."""
        return sum(voter < self.me for voter in self.members.all_voters if voter != gone)

    def turn_to_stand(self, gone: NodeId) -> int:
        """Return the ticks until this node stands after the connection to its leader `gone` broke.

        The voters take turns, so that two that notice it at once do not split the votes. Example, with 4 `short_ticks`:
        1 led; 2 stands after 1 tick, 3 after 3, and 4 later than `short_ticks`, at a random time.
        """
        turn = 1 + 2 * self._turn(gone)
        if turn > self.settings.short_ticks:
            return self.settings.short_ticks + self.short_timeout()
        return turn + ((self.settings.priority * self.settings.short_ticks) >> self.hurry_priority)

    @property
    def bound(self) -> bool:
        """True while a leader may hold a lease that counts on this node (thesis 6.4.1).

        Until it ends we must not vote or campaign in any role, unless that leader orders it (TimeoutNow). Example: B
        answers A's heartbeat, so A reads locally for T ticks. If B voted for C within T, C could commit a write which
        A's reads miss. A new voter without a configuration cannot know whether leases are in use and assumes they
        are.
        """
        return self.loyalty > 0 and bool(self.members.leases or self.members.empty)

    @property
    def may_campaign(self) -> bool:
        """True if this node may stand for election and no snapshot is being installed.

        A removed voter may still stand until its removal commits (rule 9.5). Example: A leads A, B, C, D,
        appends "C is removed" and crashes; only C has received it. B and D need three of four votes, but C refuses
        their shorter logs. C needs two votes of A, B and D: no other node can win.
        """
        if self.snapshots.installing is not None or self.stopping or self.term >= MAX_INT63:
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
        self.role_touched = True
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
        reply = VoteReply(term, self.me, self.incarnation, request.id, request.kind, granted)
        self.outbox.promise_term(request.sender, reply)
        return granted and real

    # Replies.

    def append_reply(self, to: MessageId, purpose: AppendPurpose, read: ReadId, match: Index) -> AppendReply:
        """Return an acknowledgement of entries up to `match`, in reply to the append `to`."""
        return _AppendReply(self.term, self.me, self.incarnation, to, purpose, read, match)

    def heartbeat_reply(self, request: AppendEntries, match: Index, lease: int) -> AppendReply:
        """Return the reply to a heartbeat, with a promise for `lease` nanoseconds."""
        head = (self.term, self.me, self.incarnation, request.id, request.purpose, request.read)
        return AppendReply(*head, match, lease=lease)

    def append_rejection(self, request: AppendEntries, hint: LogPosition = START) -> AppendReply:
        """Return a rejection of an append, with the last position at which the logs can still be equal."""
        me, incarnation, rejected = self.me, self.incarnation, request.prev_index
        head = (self.term, me, incarnation, request.id, request.purpose, request.read)
        return AppendReply(*head, NO_INDEX, rejected, hint.index, hint.term, ok=False)

    def snapshot_reply(self, to: MessageId, index: Index, match: Index, *, ok: bool) -> SnapshotReply:
        """Return the reply to the offer `to` of a snapshot at `index`."""
        return SnapshotReply(self.term, self.me, self.incarnation, to, index, match, ok=ok)

    def answer_old(self, message: Message) -> None:
        """Answer a request of an older term with our term, so that its sender can catch up (rules 2.5, 2.6, §5.1).

        Drop any other message: a reply of an older term concerns that term only.
        """
        if type(message) is AppendEntries:
            self.outbox.promise_term(message.sender, self.append_rejection(message))
        elif type(message) is RequestVote:
            self.refuse_old_vote(message)
        elif type(message) is InstallSnapshot:
            reply = self.snapshot_reply(message.id, message.meta.index, NO_INDEX, ok=False)
            self.outbox.promise_term(message.sender, reply)
        elif type(message) is ReadIndex:
            self.refuse_read_index(message)

    def refuse_read_index(self, message: ReadIndex) -> None:
        """Refuse a read which cannot be confirmed here; the reply carries our term."""
        reply = ReadIndexReply(self.term, self.me, message.id, NO_INDEX, ok=False)
        self.outbox.promise_term(message.sender, reply)

    def refuse_old_vote(self, request: RequestVote) -> None:
        """Refuse a candidate of an older term and report ours (rule 2.6: silence would deadlock it)."""
        reply = VoteReply(self.term, self.me, self.incarnation, request.id, request.kind, granted=False)
        self.outbox.promise_term(request.sender, reply)

    # The log.

    def append(self, entries: tuple[Entry, ...]) -> None:
        """Append `entries` after the last one. Configurations among them take effect at once (thesis 4.1)."""
        self.log.append(entries)
        self.outbox.changed = True
        plain = entries[0].kind is not _MEMBERS if len(entries) == 1 else all_commands(entries)
        if plain:
            return
        for entry in entries:
            if entry.kind is MEMBERS:
                self._note_members(entry)
                self._look_at_settings()

    def append_commands(self, request: RequestId, offset: int, commands: Sequence[bytes]) -> None:
        """Append these commands, items of the request from `offset` on, and note that the request waits for them."""
        log = self.log
        first = Index(log.last_index + 1)
        if len(commands) == 1 and self.crc:
            data = commands[0]
            checksum = _crc_bytes(_crc32(data, _COMMAND_SEED))
            log.append_one(_Entry(first, self.term, _COMMAND, data, checksum), self.term, len(data))
        else:
            log.append(seal_commands(first, self.term, commands, self.settings.checksum))
        self.outbox.changed = True
        self.requests.queue.append(_PendingProposal(request, offset, first, log.last_index))

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
        if index > self.log.last_index:
            raise InvariantBroken("only what the log holds can be committed")
        self.commit = index
        self.pipeline.order(index)

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
        self.commit = meta.index
        self.requests.give_up(Indeterminate(UnknownReason.SNAPSHOT), self.respond)
        self.snapshots.install(meta, durable_before)

    # Reports.

    def on_persisted(self, upto: WriteId) -> None:
        """Release the messages that waited for the write, and order what the machine may do now."""
        self.outbox.persisted(upto)
        if self.snapshots.installing is not None:
            self.snapshots.restore_if_durable()
        if self.pipeline.applying < self.commit:
            self.pipeline.order(self.commit)

    def on_applied(self, report: Applied) -> None:
        """Answer the clients of applied entries and waiting reads; take a snapshot if one is due."""
        self.snapshots.bytes_since_snapshot += self.pipeline.on_applied(report)
        self._after_progress()

    def on_restored(self, report: Restored) -> None:
        """Continue to apply after the snapshot the machine has loaded."""
        self.pipeline.on_restored(report)
        self.snapshots.restore_if_durable()
        self._after_progress()

    def _after_progress(self) -> None:
        pipeline, snapshots = self.pipeline, self.snapshots
        if self.configurations.several:
            self.configurations.forget_before(pipeline.applied)
        if pipeline.reads:
            pipeline.answer_reads()
        if pipeline.applying < self.commit:
            pipeline.order(self.commit)
        if pipeline.applied >= snapshots.due_at or snapshots.bytes_since_snapshot >= self.snapshot_bytes:
            snapshots.take_if_free(self.now)

    # The end.

    def answer_everybody(self, end: StopReason, text: str) -> None:
        """Answer every waiting proposal as indeterminate and refuse every read."""
        unknown, refused = _TOLD_AT_THE_END[end]
        self.requests.give_up(Indeterminate(unknown, text), self.respond)
        for _, read in self.pipeline.reads:
            self.refuse(read, refused, text=text)
        self.pipeline.reads.clear()
