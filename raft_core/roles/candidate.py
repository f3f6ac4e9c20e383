"""Elections: the pre-candidate asks whether it could win (thesis 9.6), the candidate asks for votes (§5.2).

Both keep the votes of one campaign. Neither knows a leader, so stickiness never makes two of them refuse each other.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.compiled import mypyc_attr
from raft_core.effects import AlarmKind, RoleName
from raft_core.ids import NO_NODE, NodeId, Term, WriteId
from raft_core.messages import AppendEntries, InstallSnapshot, RequestVote, TimeoutNow, VoteKind, VoteReply
from raft_core.quorum import Verdict, vote_verdict
from raft_core.roles.role import Role
from raft_core.roles.transitions import BecomeCandidate, BecomeLeader, BecomePreCandidate, StepDown, Transition
from raft_core.server import Server

__all__ = ["Candidate", "PreCandidate"]


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Campaign:
    """The votes of one (pre-)election, keyed by voter: a set, never a counter (rule 1.4)."""

    __slots__ = ("id", "kind", "rests_on", "server", "silent_ticks", "term", "votes")

    def __init__(self, server: Server, kind: VoteKind, term: Term) -> None:
        self.server = server
        self.kind = kind
        self.term = term
        self.id = server.next_message()
        self.votes: dict[NodeId, bool] = {}
        self.silent_ticks = 0
        self.rests_on: WriteId = server.outbox.everything(server.log)

    @property
    def held_back(self) -> bool:
        """True while the vote requests wait for our own disk.

        Sending or campaigning again would only add work for a disk too slow already (rule 14.1).
        """
        return self.server.outbox.durable < self.rests_on

    def ask(self) -> None:
        """Request a vote from each voter yet to answer, once term, vote and log are durable (rule 12.2)."""
        server = self.server
        request = RequestVote(self.term, server.me, self.id, self.kind, server.log.last)
        for voter in server.members.all_voters:
            if voter != server.me and voter not in self.votes:
                server.outbox.promise_all(voter, request, server.log)

    def on_tick(self) -> None:
        """Repeat the request to silent voters every heartbeat interval: it or its reply may be lost."""
        self.silent_ticks += 1
        if self.silent_ticks >= self.server.settings.heartbeat_ticks and not self.held_back:
            self.silent_ticks = 0
            self.ask()

    def count(self, reply: VoteReply) -> Verdict:
        """Count a reply and return the verdict. Replies from another disk or to another campaign do not count."""
        if reply.kind is not self.kind or reply.id != self.id:
            return self.verdict()
        if reply.incarnation != self.server.members.incarnation_of(reply.sender):
            self.server.alarm(AlarmKind.WRONG_INCARNATION, reply.sender, "a vote from another disk than the member's")
            return self.verdict()
        self.votes.setdefault(reply.sender, reply.granted)
        return self.verdict()

    def count_own(self) -> Verdict:
        self.votes[self.server.me] = True
        return self.verdict()

    def verdict(self) -> Verdict:
        return vote_verdict(self.server.members, self.votes)


def campaign_anew(server: Server) -> Transition | None:
    """Return the arrow to another election, if this node may stand."""
    if not server.may_campaign:
        return None
    return BecomePreCandidate() if server.settings.pre_vote else BecomeCandidate()


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class PreCandidate(Role):
    """Asks whether a majority would vote for this node, without changing term or vote."""

    name: Final = RoleName.PRE_CANDIDATE
    __slots__ = ("campaign", "elapsed", "hurry", "leader", "server", "timeout")

    def __init__(self, server: Server, hurry: int) -> None:
        self.server = server
        self.leader: NodeId = NO_NODE
        self.hurry = hurry
        self.elapsed = 0
        self.timeout = server.election_timeout()
        self.campaign = Campaign(server, VoteKind.PRE, Term(server.term + 1))

    def begin(self) -> Transition | None:
        """Send the first pre-vote requests; a sole voter wins at once."""
        if self.campaign.count_own() is Verdict.WON:
            return BecomeCandidate(hurry=self.hurry)
        self.campaign.ask()
        return None

    def on_tick(self, elapsed: int) -> Transition | None:
        """Repeat unanswered requests; after a timeout, start another pre-vote."""
        self.elapsed += 1
        if self.elapsed >= self.timeout and not self.campaign.held_back:
            self.server.hurry_priority += 1
            return BecomePreCandidate() if self.server.may_campaign else StepDown()
        self.campaign.on_tick()
        return None

    def on_campaign(self) -> Transition | None:
        """Campaign anew, on an operator's order."""
        return campaign_anew(self.server)

    def on_stop(self) -> Transition | None:
        """Step down: a stopping node must not win an election."""
        return StepDown()

    def ignores_vote(self, request: RequestVote) -> bool:
        """Ignore candidates while a lease may rest on this voter (rule 8.1)."""
        return self.server.bound and request.kind is not VoteKind.TRANSFER

    def on_request_vote(self, request: RequestVote) -> Transition | None:
        """Vote like a follower without a leader: a pre-candidate has promised nothing (rule 2.1)."""
        return StepDown() if self.server.answer_vote(request, NO_NODE) else None

    def on_vote_reply(self, reply: VoteReply) -> Transition | None:
        """Count the reply. Won: campaign in a new term. Lost: step down."""
        verdict = self.campaign.count(reply)
        if verdict is Verdict.WON:
            return BecomeCandidate(hurry=self.hurry)
        return StepDown() if verdict is Verdict.LOST else None

    def on_append_entries(self, request: AppendEntries) -> Transition | None:
        """Follow the sender."""
        return StepDown(request.sender)  # our term has a leader

    def on_install_snapshot(self, request: InstallSnapshot) -> Transition | None:
        """Follow the sender, which leads our term."""
        return StepDown(request.sender)

    def on_timeout_now(self, request: TimeoutNow) -> Transition | None:
        """Campaign at once on a member's order."""
        known = self.server.knows(request.sender)  # not a member: ignore
        return BecomeCandidate(transfer=True) if known else None  # rule 2.10: no pre-vote on the leader's order


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Candidate(Role):
    """Asks for votes in a new term. Its own vote counts once durable, like any other (rule 1.1)."""

    name: Final = RoleName.CANDIDATE
    __slots__ = ("campaign", "elapsed", "hurry", "leader", "own_write", "server", "timeout")

    def __init__(self, server: Server, hurry: int, *, transfer: bool) -> None:
        self.server = server
        self.leader: NodeId = NO_NODE
        self.hurry = hurry
        self.elapsed = 0
        self.timeout = server.settings.short_ticks + server.short_timeout() if hurry else server.election_timeout()
        kind = VoteKind.TRANSFER if transfer else VoteKind.REAL
        server.enter_term(Term(server.term + 1), server.me)
        self.own_write: WriteId = server.outbox.everything(server.log)
        self.campaign = Campaign(server, kind, server.term)

    def begin(self) -> Transition | None:
        """Request votes; our own counts once it is durable."""
        self.campaign.ask()
        return None

    def on_tick(self, elapsed: int) -> Transition | None:
        """Campaign again after a random timeout, which ends a split vote (§5.2)."""
        self.elapsed += 1
        if self.elapsed >= self.timeout and not self.campaign.held_back:
            return self._again()
        self.campaign.on_tick()
        return None

    def _again(self) -> Transition:
        server, hurry = self.server, self.hurry - 1 if self.hurry else 0
        server.hurry_priority += 1
        if not server.may_campaign:
            return StepDown()
        return BecomePreCandidate(hurry) if server.settings.pre_vote else BecomeCandidate(hurry=hurry)

    def on_persisted(self) -> Transition | None:
        """Count our own vote once it is durable."""
        if self.server.me in self.campaign.votes or self.server.outbox.durable < self.own_write:
            return None
        return BecomeLeader() if self.campaign.count_own() is Verdict.WON else None

    def on_campaign(self) -> Transition | None:
        """Campaign anew, on an operator's order."""
        return campaign_anew(self.server)

    def on_stop(self) -> Transition | None:
        """Step down: a stopping node must not win an election."""
        return StepDown()

    def ignores_vote(self, request: RequestVote) -> bool:
        """Ignore candidates while a lease may rest on this voter (rule 8.1)."""
        return self.server.bound and request.kind is not VoteKind.TRANSFER

    def on_request_vote(self, request: RequestVote) -> Transition | None:
        """Refuse a vote, since we voted for ourselves; answer a pre-vote by its log."""
        self.server.answer_vote(request, NO_NODE)  # §5.2: we voted for ourselves, so this refuses any but a pre-vote
        return None

    def on_vote_reply(self, reply: VoteReply) -> Transition | None:
        """Become leader if won. If lost, wait as a follower, briefly if the leader is known to be gone (§5.2)."""
        verdict = self.campaign.count(reply)
        if verdict is Verdict.WON:
            return BecomeLeader()
        if verdict is Verdict.LOST:
            self.server.hurry_priority += 1
            return StepDown(hurry=self.hurry)
        return None

    def on_append_entries(self, request: AppendEntries) -> Transition | None:
        """Follow the sender: it won this election (§5.2)."""
        return StepDown(request.sender)  # same term, so it won this election (§5.2)

    def on_install_snapshot(self, request: InstallSnapshot) -> Transition | None:
        """Follow the sender, which leads our term."""
        return StepDown(request.sender)
