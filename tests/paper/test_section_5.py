"""The Raft paper's section 5, sentence by sentence. Each docstring names the section; the words are ours.

Pre-vote, CheckQuorum and loyalty are off here: they came after the paper, and have tests of their own.
"""

from __future__ import annotations

import pytest

from raft_core.effects import Apply, Persist, RefusalReason, Respond, RoleName, Send, Success
from raft_core.entries import MEMBERS, Entry, HardState, LogPosition
from raft_core.events import CampaignRequested, Proposed, Tick
from raft_core.ids import Incarnation, Index, MessageId, NodeId, ReadId, RequestId, Term, WriteId
from raft_core.membership import Members
from raft_core.messages import COMMIT_UPDATE, DATA, AppendEntries, AppendReply, Message, RequestVote, VoteKind
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered
from raft_core.settings import Settings
from tests.core.cluster import Cluster, with_settings
from tests.core.helpers import (
    accepted,
    announced,
    append,
    apply_of,
    asks,
    bare,
    campaign_id,
    candidate,
    core,
    entries,
    everybody_has_all,
    heartbeat,
    leader,
    noop,
    only,
    persist,
    persists,
    rejected,
    replicated,
    sent,
    step,
    tick,
    votes,
)

PAPER = with_settings(pre_vote=False, check_quorum=False)


def plain(node: int = 1, *, log: tuple[int, ...] = (), term: int = 0, vote: int = 0, commit: int = 1) -> Raft:
    return core(node, log=log, term=term, vote=vote, commit=commit, settings=PAPER)


def five(log: tuple[int, ...], term: int = 0) -> Raft:
    return core(1, count=5, log=log, term=term, settings=PAPER)


def vote_reply(term: int, to: int, *, granted: bool) -> Send:
    return Send(NodeId(to), votes(term, 1, granted=granted))


# §5.1 Raft basics


@pytest.mark.parametrize("make", [lambda: plain(), lambda: candidate(plain()), lambda: leader(plain())])
def test_a_smaller_term_is_updated_to_the_larger_one(make: object) -> None:
    """§5.1: a node that learns of a larger term takes it over."""
    raft: Raft = make()  # type: ignore[operator]

    step(raft, append(9, 2, (1, 1)))

    assert (raft.server.term, raft.server.vote) == (9, 0)


def test_a_candidate_whose_term_is_out_of_date_becomes_a_follower_at_once() -> None:
    """§5.1."""
    raft = candidate(plain())

    effects = step(raft, votes(9, 2, granted=False))

    assert announced(RoleName.FOLLOWER, 9, 0) in effects


def test_a_leader_whose_term_is_out_of_date_becomes_a_follower_at_once() -> None:
    """§5.1."""
    raft = leader(plain())

    effects = step(raft, rejected(9, 2, at=1, hint=(0, 0)))

    assert announced(RoleName.FOLLOWER, 9, 0) in effects


def test_a_request_with_a_stale_term_is_rejected() -> None:
    """§5.1: and the answer carries the current term; nothing else happens."""
    raft = plain(term=5)

    assert step(raft, append(4, 2, (1, 1), (2, 4))) == [Send(NodeId(2), rejected(5, 1, at=1, hint=(0, 0)))]
    assert step(raft, asks(4, 2, (9, 4))) == [vote_reply(5, 2, granted=False)]
    assert (raft.log.last_index, raft.server.vote) == (1, 0)


def test_every_message_carries_the_current_term() -> None:
    """§5.1: terms are exchanged whenever servers communicate."""
    cluster = Cluster(3, settings=PAPER)
    cluster.elect(1)
    cluster.propose(1, b"x")
    terms = {message.term for _, _, message in cluster.network}

    assert terms == {cluster[1].raft.server.term}


def test_a_term_never_falls_even_over_restarts() -> None:
    """§5.1: current terms rise monotonically over time; figure 2 keeps them on stable storage."""
    raft = plain()

    effects = step(raft, append(7, 2, (1, 1)))

    assert persists(effects)[0].hard == HardState(Term(7), NodeId(0), Index(1))
    step(raft, append(3, 2, (1, 1)))
    assert raft.server.term == 7


# §5.2 Leader election


def test_servers_start_up_as_followers() -> None:
    """§5.2."""
    raft = plain(term=4, vote=1)

    assert (raft.role.name, raft.status.leader) == (RoleName.FOLLOWER, 0)


def test_a_follower_stays_one_as_long_as_it_hears_its_leader() -> None:
    """§5.2: valid messages from a leader keep it a follower."""
    raft = plain()

    for _ in range(30):
        tick(raft, 9)
        step(raft, heartbeat(1, 2))

    assert raft.role.name is RoleName.FOLLOWER
    assert raft.server.term == 1


def test_a_follower_that_gave_its_vote_waits_for_that_candidate() -> None:
    """§5.2: a vote given is communication from a candidate, and begins the timeout anew."""
    raft = plain()
    tick(raft, 9)

    step(raft, asks(2, 2, (1, 1)))

    assert raft.role.elapsed == 0  # type: ignore[union-attr]


def test_a_leader_sends_heartbeats_to_all_followers_periodically() -> None:
    """§5.2: appends without entries, to keep its authority."""
    raft = leader(core(settings=with_settings(heartbeat_ticks=3)), settled=True)

    assert sent(tick(raft, 2)) == []
    effects = tick(raft, 1)

    beat = heartbeat(2, 1, (2, 2), commit=2, ident=0, tip=2)
    assert bare(effects) == [Send(NodeId(2), beat), Send(NodeId(3), beat)]


def test_a_follower_that_hears_nobody_for_a_timeout_begins_an_election() -> None:
    """§5.2: it raises its term, votes for itself, and asks all others in parallel, once that is durable."""
    raft = plain()

    effects = tick(raft, 20, until=lambda: raft.role.name is not RoleName.FOLLOWER)

    hard = HardState(Term(2), NodeId(1), Index(1))
    assert effects == [Persist(WriteId(1), hard), announced(RoleName.CANDIDATE, 2, 0)]
    request = RequestVote(Term(2), NodeId(1), MessageId(0), VoteKind.REAL, LogPosition(Index(1), Term(1)))
    assert bare(persist(raft)) == [Send(NodeId(2), request), Send(NodeId(3), request)]


@pytest.mark.parametrize(
    ("count", "granted", "wins"), [(1, 0, True), (3, 1, True), (3, 0, False), (5, 1, False), (5, 2, True)]
)
def test_a_candidate_wins_with_the_votes_of_a_majority(count: int, granted: int, wins: bool) -> None:
    """§5.2 (a): a majority of the full cluster, its own vote included."""
    raft = core(count=count, settings=PAPER)
    step(raft, CampaignRequested())
    persist(raft)

    for voter in range(2, 2 + granted):
        step(raft, votes(2, voter, ident=campaign_id(raft)))

    assert (raft.role.name is RoleName.LEADER) is wins


def test_a_server_votes_for_at_most_one_candidate_in_a_term_first_come_first_served() -> None:
    """§5.2."""
    raft = plain()

    step(raft, asks(2, 2, (1, 1)))
    assert persist(raft) == [vote_reply(2, 2, granted=True)]

    assert step(raft, asks(2, 3, (9, 2))) == [vote_reply(2, 3, granted=False)]
    assert step(raft, asks(2, 2, (1, 1))) == [vote_reply(2, 2, granted=True)]


def test_a_new_leader_tells_everybody_at_once() -> None:
    """§5.2: it sends appends to all others, to establish its authority and prevent new elections."""
    raft = candidate(plain())

    effects = step(raft, votes(2, 2, ident=campaign_id(raft)))

    first = AppendEntries(Term(2), NodeId(1), MessageId(0), DATA, Index(1), Term(1), Index(1), ReadId(0), (noop(2, 2),))
    assert bare(effects) == [
        Persist(WriteId(2), None, Index(0), (noop(2, 2),)),
        Send(NodeId(2), first),
        Send(NodeId(3), first),
        announced(RoleName.LEADER, 2, 1),
    ]


@pytest.mark.parametrize("term", [2, 3])
def test_a_candidate_recognises_a_leader_of_its_own_or_a_larger_term(term: int) -> None:
    """§5.2 (b)."""
    raft = candidate(plain())
    assert raft.server.term == 2

    effects = step(raft, append(term, 3, (1, 1)))

    assert announced(RoleName.FOLLOWER, term, 3) in effects


def test_a_candidate_rejects_a_leader_of_a_smaller_term_and_goes_on() -> None:
    """§5.2 (b)."""
    raft = candidate(plain(term=4))

    effects = step(raft, append(4, 3, (1, 1)))

    assert effects == [Send(NodeId(3), rejected(5, 1, at=1, hint=(0, 0)))]
    assert raft.role.name is RoleName.CANDIDATE


def test_a_candidate_that_neither_wins_nor_loses_begins_another_election_in_a_new_term() -> None:
    """§5.2 (c): a split vote ends by a timeout."""
    raft = candidate(plain())

    tick(raft, 20, until=lambda: raft.server.term == 3)

    assert (raft.role.name, raft.server.term, raft.server.vote) == (RoleName.CANDIDATE, 3, 1)


def test_election_timeouts_are_drawn_at_random_from_a_fixed_interval() -> None:
    """§5.2: from T to 2 T."""
    drawn = {core(seed=seed).role.timeout for seed in range(200)}  # type: ignore[union-attr]

    assert drawn == set(range(10, 20))


def test_a_candidate_draws_a_new_timeout_for_every_election() -> None:
    """§5.2: that makes another split vote unlikely."""
    raft = candidate(plain())
    drawn = set()

    for _ in range(40):
        drawn.add(raft.role.timeout)  # type: ignore[union-attr]
        term = raft.server.term
        tick(raft, 40, until=lambda: raft.server.term > term)  # noqa: B023
        persist(raft)

    assert len(drawn) >= 5


def test_a_split_vote_is_resolved() -> None:
    """§5.2: three candidates of one term; soon one of them leads."""
    cluster = Cluster(3, settings=PAPER, seed=4)
    for node in cluster.nodes.values():
        node.step(CampaignRequested())
    cluster.deliver()
    assert not any(node.raft.status.leads for node in cluster.nodes.values())

    for _ in range(100):
        cluster.tick()
        if any(node.raft.status.leads for node in cluster.nodes.values()):
            break

    assert cluster.leader.raft.server.term > 2


# §5.3 Log replication


def test_a_command_is_appended_and_sent_to_all_in_parallel() -> None:
    """§5.3; thesis 10.2.1: the leader writes it to its own disk meanwhile."""
    raft = leader(plain(), settled=True)

    effects = step(raft, Proposed(RequestId(5), (b"x",)))

    (entry,) = raft.log.slice(Index(3), Index(3), 1)
    assert (entry.term, entry.data) == (2, b"x")
    message = AppendEntries(Term(2), NodeId(1), MessageId(0), DATA, Index(2), Term(2), Index(2), ReadId(0), (entry,))
    assert bare(effects) == [
        Persist(WriteId(3), HardState(Term(2), NodeId(1), Index(2)), Index(0), (entry,)),
        Send(NodeId(2), message),
        Send(NodeId(3), message),
    ]


def test_an_entry_is_applied_and_answered_once_it_is_safely_replicated() -> None:
    """§5.3: on a majority, the leader's own durable copy included."""
    cluster = Cluster(3, settings=PAPER)
    cluster.elect(1)

    cluster.propose(1, b"x", request=5)
    assert cluster[1].answers == []
    cluster.deliver()

    assert cluster[1].answers == [Respond(RequestId(5), Success(Index(3), (b"x",)))]
    assert [node.data for node in cluster.nodes.values()] == [[b"x"]] * 3


def test_a_leader_retries_until_a_slow_or_crashed_follower_has_everything() -> None:
    """§5.3: indefinitely, even after it has answered the client."""
    cluster = Cluster(3, settings=PAPER)
    cluster.elect(1)
    cluster[3].crash()
    cluster.propose(1, b"x", b"y")
    cluster.deliver()
    cluster.tick(50, nodes=[1])
    assert cluster[1].answers

    cluster[3].restart()
    cluster.tick(3, nodes=[1])

    assert cluster[3].data == [b"x", b"y"]


@pytest.mark.parametrize(("count", "holders", "committed"), [(3, 0, 1), (3, 1, 2), (5, 1, 1), (5, 2, 2), (5, 4, 2)])
def test_an_entry_is_committed_when_a_majority_holds_it(count: int, holders: int, committed: int) -> None:
    """§5.3."""
    raft = leader(core(count=count, settings=PAPER))

    for node in range(2, 2 + holders):
        step(raft, accepted(2, node, 2))

    assert raft.server.commit == committed


def test_committing_an_entry_commits_all_before_it_those_of_earlier_leaders_too() -> None:
    """§5.3."""
    raft = leader(plain(log=(1, 2, 3)))
    assert raft.server.commit == 1

    step(raft, accepted(4, 2, 5))

    assert raft.server.commit == 5


def test_a_leader_tells_the_commit_index_with_its_messages_so_that_others_learn_it() -> None:
    """§5.3: at once to those whom it can move, and with every heartbeat."""
    raft = leader(plain())
    step(raft, accepted(2, 3, 1))

    effects = step(raft, accepted(2, 2, 2))

    announcement = append(2, 1, (2, 2), commit=2, purpose=COMMIT_UPDATE, ident=0)
    assert sent(effects) == [announcement, announcement]
    assert [message.commit for message in sent(tick(raft), to=2)] == [2]  # type: ignore[union-attr]


def test_a_follower_applies_what_it_learns_is_committed_in_the_order_of_the_log() -> None:
    """§5.3."""
    raft = plain()
    step(raft, append(1, 2, (1, 1), (2, 1), (3, 1), (4, 1), commit=1))
    persist(raft)

    effects = step(raft, append(1, 2, (4, 1), commit=3, purpose=COMMIT_UPDATE))

    assert only(Apply, effects) == [apply_of(entries((2, 1), (3, 1)))]


def test_an_append_names_the_entry_before_its_own() -> None:
    """§5.3: by index and term, for the consistency check."""
    raft = leader(plain(log=(1, 2)), settled=True)

    effects = step(raft, Proposed(RequestId(1), (b"x",)))

    (message,) = sent(effects, to=2)
    assert isinstance(message, AppendEntries)
    assert (message.prev_index, message.prev_term) == (4, 3)


@pytest.mark.parametrize("prev", [(3, 2), (2, 1), (1, 1)])
def test_a_follower_that_holds_the_named_entry_accepts(prev: tuple[int, int]) -> None:
    """§5.3."""
    raft = plain(log=(1, 2))

    step(raft, append(3, 2, prev, (prev[0] + 1, 3)))

    assert persist(raft) == [Send(NodeId(2), accepted(3, 1, prev[0] + 1))]
    assert raft.log.term_at(Index(prev[0] + 1)) == 3


@pytest.mark.parametrize("prev", [(3, 3), (4, 2), (2, 2), (9, 3)])
def test_a_follower_that_does_not_hold_the_named_entry_refuses(prev: tuple[int, int]) -> None:
    """§5.3: and keeps its log as it was."""
    raft = plain(log=(1, 2))
    before = raft.log.entries()

    step(raft, append(3, 2, prev, (prev[0] + 1, 3)))
    (reply,) = sent(persist(raft))

    assert isinstance(reply, AppendReply)
    assert (reply.ok, reply.rejected) == (False, prev[0])
    assert raft.log.entries() == before


@pytest.mark.parametrize(
    ("ours", "prev", "new", "after"),
    [
        ((1, 2), (3, 2), [(4, 3)], (1, 2, 3)),
        ((1, 2), (2, 1), [(3, 3)], (1, 3)),
        ((1, 2), (1, 1), [(2, 3), (3, 3)], (3, 3)),
        ((1, 2), (1, 1), [(2, 1)], (1, 2)),
        ((), (1, 1), [(2, 3)], (3,)),
    ],
)
def test_conflicting_entries_are_overwritten_with_the_leaders(
    ours: tuple[int, ...], prev: tuple[int, int], new: list[tuple[int, int]], after: tuple[int, ...]
) -> None:
    """§5.3: a conflicting entry and all that follow it go; entries that agree stay."""
    raft = plain(log=ours)

    step(raft, append(3, 2, prev, *new))

    assert [entry.term for entry in raft.log.entries()[1:]] == list(after)


def test_a_new_leader_begins_right_behind_its_own_last_entry() -> None:
    """§5.3: next index starts as the one after the last in the leader's log."""
    raft = candidate(plain(log=(1, 2)))

    effects = step(raft, votes(3, 2, ident=campaign_id(raft)))

    assert {(m.prev_index, m.prev_term) for m in sent(effects) if isinstance(m, AppendEntries)} == {(3, 2)}


def test_a_refusal_moves_the_leader_back_and_it_tries_again() -> None:
    """§5.3: until the logs meet."""
    raft = leader(plain(log=(1, 1, 1)))

    effects = step(raft, rejected(2, 2, at=4, hint=(1, 1)))

    (message,) = sent(effects, to=2)
    assert isinstance(message, AppendEntries)
    assert (message.prev_index, message.prev_term) == (1, 1)
    assert [entry.index for entry in message.entries] == [2, 3, 4, 5]


def test_a_leader_never_overwrites_or_deletes_its_own_entries() -> None:
    """§5.3, figure 3: Leader Append-Only."""
    raft = leader(plain(log=(1, 2)))
    before = raft.log.entries()

    step(raft, append(3, 2, (1, 1), (2, 3)))
    step(raft, rejected(3, 2, at=3, hint=(0, 0)))
    step(raft, Proposed(RequestId(1), (b"x",)))

    assert raft.log.entries()[: len(before)] == before


FIGURE_7 = {  # the followers of figure 7, by the terms of their entries
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}
FIGURE_7_LEADER = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)


@pytest.mark.parametrize("name", FIGURE_7)
def test_every_follower_of_figure_7_comes_to_hold_the_leaders_log(name: str) -> None:
    """§5.3, figure 7; with one probe at most for each of the terms in the follower's log."""
    boss, other = (
        core(n, log=log[1:], term=7, settings=PAPER) for n, log in ((1, FIGURE_7_LEADER), (2, FIGURE_7[name]))
    )
    refusals = replicated(candidate(boss), other)

    assert [e.term for e in other.log.entries()] == [*FIGURE_7_LEADER, 8]
    assert refusals <= len({*FIGURE_7[name], *FIGURE_7_LEADER})


# §5.4 Safety


def test_a_vote_request_tells_the_end_of_the_candidates_log() -> None:
    """§5.4.1."""
    raft = plain(log=(1, 3))
    step(raft, CampaignRequested())

    requests = [m for m in sent(persist(raft)) if isinstance(m, RequestVote)]

    assert {request.last for request in requests} == {LogPosition(Index(3), Term(3))}


@pytest.mark.parametrize(
    ("ours", "theirs", "granted"),
    [
        ((1, 2), (3, 2), True),
        ((1, 2), (4, 2), True),
        ((1, 2), (2, 2), False),
        ((1, 2), (2, 3), True),
        ((1, 3), (9, 2), False),
        ((), (1, 1), True),
        ((), (0, 0), False),
    ],
)
def test_a_voter_denies_its_vote_if_its_own_log_is_more_up_to_date(
    ours: tuple[int, ...], theirs: tuple[int, int], granted: bool
) -> None:
    """§5.4.1: the later last term wins, at equal terms the longer log."""
    raft = plain(log=ours)

    step(raft, asks(5, 2, theirs))

    assert persist(raft) == [vote_reply(5, 2, granted=granted)]
    assert raft.server.vote == (2 if granted else 0)


def test_entries_of_earlier_terms_are_never_committed_by_counting() -> None:
    """§5.4.2: only under an entry of the leader's own term."""
    raft = leader(plain(log=(1, 2)))

    step(raft, accepted(3, 2, 3))
    step(raft, accepted(3, 3, 3))
    assert raft.server.commit == 1

    step(raft, accepted(3, 2, 4))
    assert raft.server.commit == 4


def figure_8() -> Cluster:
    """(c): S1 leads term 4, and its entry of term 2 lies on a majority: on S1, S2 and S3. S5 has one of term 3."""
    members = Members.initial(range(1, 6))
    logs = {1: (2,), 2: (2,), 3: (), 4: (), 5: (3,)}

    def disk(node: int) -> Recovered:
        founding = Entry.make(1, 1, members.encode(), MEMBERS)
        held = (founding, *entries(*[(2, term) for term in logs[node]]))
        return Recovered(Identity(NodeId(node)), HardState(Term(3), commit=Index(1)), entries=held)

    def only_old_entries(sender: int, to: int, message: Message) -> bool:
        new = isinstance(message, AppendEntries) and any(entry.term == 4 for entry in message.entries)
        return not new or not cluster[to].raft.log.matches(message.prev_index, message.prev_term)  # type: ignore[union-attr]

    settings = with_settings(pre_vote=False, check_quorum=False, max_message_bytes=1)
    cluster = Cluster(5, members=members, settings=settings, recovered=disk)
    cluster.isolate(5)
    cluster[1].step(CampaignRequested())
    cluster.deliver(only_old_entries)
    assert cluster[1].raft.status.leads
    assert [cluster[n].raft.log.term_at(Index(2)) for n in range(1, 6)] == [2, 2, 2, 2, 3]
    return cluster


def test_figure_8_d_an_old_entry_on_a_majority_is_not_committed_and_may_still_be_replaced() -> None:
    """§5.4.2, figure 8 (c) and (d)."""
    cluster = figure_8()
    assert [node.raft.server.commit for node in cluster.nodes.values()] == [1] * 5

    cluster[1].crash()
    cluster.heal()
    cluster[5].step(CampaignRequested())
    cluster.deliver()
    cluster.elect(5)

    assert [cluster[n].raft.log.term_at(Index(2)) for n in range(2, 6)] == [3] * 4
    assert cluster[5].raft.server.commit == cluster[5].raft.log.last_index


def test_figure_8_e_with_an_entry_of_its_own_term_on_a_majority_the_old_one_is_safe_for_ever() -> None:
    """§5.4.2, figure 8 (e): S5 cannot win any more."""
    cluster = figure_8()

    cluster.tick(3, nodes=[1])
    assert cluster[1].raft.server.commit == 3
    cluster[1].crash()
    cluster.heal()
    for _ in range(3):
        cluster[5].step(CampaignRequested())
        cluster.deliver()

    assert not cluster[5].raft.status.leads
    assert [cluster[n].raft.log.term_at(Index(2)) for n in range(1, 5)] == [2] * 4


def test_all_machines_apply_the_same_entries_in_the_same_order() -> None:
    """§5.4.3, figure 3: State Machine Safety."""
    cluster = Cluster(5, settings=PAPER)
    cluster.elect(1)
    for number in range(20):
        cluster.propose(cluster.leader.id, b"%d" % number, request=number)
        cluster.deliver()
        if number == 10:
            cluster.elect(2)

    cluster.tick(3)

    assert {tuple(node.data) for node in cluster.nodes.values()} == {tuple(b"%d" % n for n in range(20))}


# §5.5 Follower and candidate crashes


def test_an_append_that_comes_twice_does_no_harm() -> None:
    """§5.5: messages are idempotent; entries that are there already are ignored."""
    raft = plain()
    message = append(1, 2, (1, 1), (2, 1), (3, 1), commit=2)
    step(raft, message)
    first = persist(raft)

    second = step(raft, message)

    assert Send(NodeId(2), accepted(1, 1, 3)) in first
    assert second == [Send(NodeId(2), accepted(1, 1, 3))]
    assert raft.log.last_index == 3


def test_a_vote_request_that_comes_twice_gets_the_same_answer() -> None:
    """§5.5: also after a restart, because the vote is durable."""
    cluster = Cluster(3, settings=PAPER)
    cluster[1].step(asks(2, 2, (1, 1)))
    cluster[1].crash()
    cluster[1].restart()

    assert cluster[1].step(asks(2, 2, (1, 1))) == [vote_reply(2, 2, granted=True)]
    assert cluster[1].step(asks(2, 3, (1, 1))) == [vote_reply(2, 3, granted=False)]


def test_a_restarted_server_finds_its_term_its_vote_and_its_log() -> None:
    """§5.5, figure 2 (persistent state)."""
    cluster = Cluster(3, settings=PAPER)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.deliver()
    before = cluster[2].raft.status

    cluster[2].crash()
    cluster[2].restart()

    after = cluster[2].raft.status
    assert (after.term, after.vote, after.last_index) == (before.term, before.vote, before.last_index)
    assert after.role is RoleName.FOLLOWER


# §5.6 Timing and availability


def test_a_leader_that_sends_heartbeats_in_time_stays_the_leader() -> None:
    """§5.6: broadcast time well below the election timeout."""
    cluster = Cluster(3, settings=PAPER)
    cluster.elect(1)

    cluster.tick(300)

    assert cluster.leader.id == 1
    assert cluster[1].raft.server.term == 2


def test_by_default_a_heartbeat_goes_out_ten_times_per_election_timeout() -> None:
    """§5.6: an order of magnitude."""
    settings = Settings()

    assert settings.heartbeat_ticks * 10 <= settings.election_ticks


def test_a_leader_that_crashes_is_replaced_after_an_election_timeout() -> None:
    """§5.6: and the cluster is unavailable for about that long."""
    cluster = Cluster(3, settings=PAPER)
    cluster.elect(1)
    cluster[1].crash()

    cluster.tick(60)

    assert cluster.leader.id in (2, 3)
    cluster.propose(cluster.leader.id, b"x", request=8)
    cluster.deliver()
    assert cluster.leader.answers == [Respond(RequestId(8), Success(cluster.leader.raft.log.last_index, (b"x",)))]


def test_a_cluster_without_a_majority_takes_nothing_and_loses_nothing() -> None:
    """§5.6: safety must not depend on timing."""
    cluster = Cluster(3, settings=PAPER)
    cluster.elect(1)
    cluster[2].crash()
    cluster[3].crash()

    cluster.propose(1, b"x", request=8)
    cluster.tick(100, nodes=[1])
    assert cluster[1].data == []
    assert [a for a in cluster[1].answers if isinstance(a.outcome, Success)] == []

    cluster[2].restart()
    cluster.tick(40)
    assert cluster[1].data == [b"x"]


def test_a_command_for_a_follower_is_refused_and_the_leader_named() -> None:
    """§5.1, §8: all requests go through the leader."""
    raft = plain()
    step(raft, heartbeat(1, 2))

    effects = step(raft, Proposed(RequestId(4), (b"x",)))

    (answer,) = only(Respond, effects)
    assert isinstance(answer, Respond)
    assert answer.outcome.reason is RefusalReason.NOT_LEADER  # type: ignore[union-attr]
    assert answer.outcome.leader == 2  # type: ignore[union-attr]


def test_elections_and_entries_need_nothing_but_events() -> None:
    """§5.1: a whole life of a single-server cluster, in whole lists of effects."""
    raft = core(count=1, settings=PAPER)

    assert step(raft, CampaignRequested()) == [
        Persist(WriteId(1), HardState(Term(2), NodeId(1), Index(1))),
        announced(RoleName.CANDIDATE, 2, 0),
    ]
    assert persist(raft) == [
        Persist(WriteId(2), None, Index(0), (noop(2, 2),)),
        announced(RoleName.LEADER, 2, 1),
    ]
    assert persist(raft) == [apply_of((noop(2, 2),))]
    assert step(raft, Tick()) == []
    assert everybody_has_all(raft) == []
    assert raft.role.acked(NodeId(1)) == 2  # type: ignore[union-attr]
    assert Incarnation(0) == raft.server.identity.incarnation
