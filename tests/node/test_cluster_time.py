"""Cluster time: it follows the time that has passed, through changes of leader, restarts and steps of wall clocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import msgspec
import pytest

from raft_core.effects import Apply
from raft_core.entries import Entry, SnapshotMeta
from raft_core.errors import OutcomeUnknown
from raft_core.events import Applied
from raft_core.ids import MAX_INT63, NO_INDEX, NO_TERM, Index, MessageId, NodeId, ReadId, Term
from raft_core.membership import Members
from raft_core.messages import DATA, AppendEntries, InstallSnapshot
from raft_core.node.cluster_time import ClusterTime
from raft_core.node.events import JobFailed, MachineTime
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Lane
from raft_core.node.limits import MILLISECOND, SECOND
from raft_core.raft import Raft
from raft_core.sessions import Sessions, encode_plain
from raft_core.settings import Settings
from raft_core.state_machine import KeepsTime, PreparesWithWallTime, StateMachine, latest_time, preparer
from raft_storage import MemoryStore
from tests.node.cluster import WALL, Cluster, LogMachine, Node

HOUR = 3600 * SECOND
BOUND = 50 * MILLISECOND
"""By how much time may be late after one change of leader: what a heartbeat takes, and what the test itself waits."""


class Clock(LogMachine):
    """Stamps each command, and answers with the stamp."""

    def __init__(self) -> None:
        super().__init__()
        self.stamps: list[int] = []
        self.walls: list[int] = []

    def prepare_with_wall(self, command: bytes, now: int, wall: int) -> bytes:
        self.walls.append(wall)
        return b"%d" % now

    def apply(self, index: Index, command: bytes) -> bytes:
        self.stamps.append(int(command))
        return command

    def latest_time(self) -> int:
        return max(self.stamps, default=0)

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"%d" % self.latest_time()])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.stamps = [int(b"".join(chunks))]


def clocks(**config: object) -> Cluster:
    cluster = Cluster(3, new_machine=Clock, **config)  # type: ignore[arg-type]
    cluster.start()
    return cluster


def ask(cluster: Cluster, node: Node) -> int:
    """The time that the cluster stamps now."""
    (stamp,) = cluster.wait(node, node.propose(b"now"))
    assert isinstance(stamp, bytes)
    return int(stamp)


def passed(cluster: Cluster, node: Node, before: tuple[int, int]) -> int:
    """How much later the cluster thinks that it is than `before`, less how much later it is."""
    return (ask(cluster, node) - before[0]) - (cluster.now - before[1])


# One node's idea of it.


def test_time_moves_with_the_nodes_own_clock() -> None:
    time = ClusterTime()
    assert time.read(5) == 0
    time.log_shows(1000, 5)
    assert time.read(25) == 1020


def test_time_in_the_log_is_taken_although_the_nodes_own_clock_shows_more() -> None:
    """A cluster was founded while the wall clock showed 1970. The next leader must not begin anew."""
    time = ClusterTime()
    time.log_shows(1000, 5000)
    assert time.read(5010) == 1010


def test_log_never_moves_time_back() -> None:
    time = ClusterTime()
    time.log_shows(1000, 0)
    time.log_shows(900, 50)
    assert time.read(50) == 1050


def test_late_heartbeat_takes_back_little_and_the_next_one_gives_it_again() -> None:
    time = ClusterTime()
    time.leader_says(Term(1), 10_000, 0)
    time.leader_says(Term(1), 10_200, 1000)
    assert time.read(1000) == 10_900
    time.leader_says(Term(1), 11_100, 1100)
    assert time.read(1100) == 11_100


def test_leader_of_a_later_term_is_believed_even_where_it_knows_less() -> None:
    time = ClusterTime()
    time.leader_says(Term(1), 10_000, 0)
    time.leader_says(Term(2), 4_000, 100)
    assert time.read(100) == 4_000
    time.leader_says(Term(1), 10_100, 100)
    assert time.read(100) == 4_000


def test_stamp_in_the_log_is_believed_whatever_a_leader_says() -> None:
    time = ClusterTime()
    time.log_shows(5_000, 0)
    time.leader_says(Term(2), 4_000, 100)
    assert time.read(100) == 5_000


def test_fast_clock_stays_near_the_leaders() -> None:
    time = ClusterTime()
    for beat in range(1000):
        time.leader_says(Term(1), 1 + beat * 100, beat * 101)  # gains one in a hundred
    assert 0 <= time.read(999 * 101) - (1 + 999 * 100) <= 8


def test_log_with_other_entries_than_the_leaders_takes_the_smaller_time() -> None:
    """Those entries may be stamped by a later clock than this leader's, and may yet be committed."""
    time = ClusterTime()
    time.leader_says(Term(1), 10_000, 0)
    time.leader_says(Term(2), 12_000, 100, same=False)
    assert time.read(100) == 10_100
    time.leader_says(Term(2), 12_100, 200, same=False)
    assert time.read(200) == 10_200
    time.leader_says(Term(3), 9_000, 300, same=False)
    assert time.read(300) == 9_000
    time.leader_says(Term(3), 12_200, 400)
    assert time.read(400) == 12_200


def test_node_that_knows_no_time_takes_none_while_its_log_may_hold_other_stamps() -> None:
    time = ClusterTime()
    time.leader_says(Term(2), 12_000, 100, same=False)
    assert time.read(100) == 0
    time.leader_says(Term(2), 12_100, 200)
    assert time.read(200) == 12_100


def test_entries_without_a_time_take_back_all_but_the_latest_known_stamp() -> None:
    """They may be stamped by a later clock: their leader has restarted and does not know the time."""
    time = ClusterTime()
    time.log_shows(5_000, 0)
    time.leader_says(Term(1), 10_000, 0)
    time.leader_says(Term(2), 0, 100, same=False)
    assert time.read(100) == 10_100  # a heartbeat brings no entries
    time.leader_says(Term(2), 0, 100, brings=True)
    assert time.read(150) == 5_050


def test_stamp_ahead_of_a_late_leader_does_not_begin_to_run() -> None:
    """The leader's clock shows less than a stamp in our log; once it has applied that entry, its own stamps follow."""
    time = ClusterTime()
    time.log_shows(5_000, 0)
    time.leader_says(Term(2), 4_000, 0)
    for now in range(200, 2_200, 200):
        time.leader_says(Term(2), 4_000 + now, now)
        assert time.read(now) == max(5_000, 4_000 + now)
    assert time.read(2_000) == 6_000

    time = ClusterTime()
    time.log_shows(5_000, 0)
    time.leader_says(Term(2), 4_000, 0)
    time.leader_says(Term(3), 0, 100, brings=True)
    assert time.read(1_500) == 5_500


def test_clock_that_runs_from_an_earlier_leaders_stamp_gives_way_to_a_late_leaders() -> None:
    """All have restarted; the leader applies the stamp 10 later than we, so its clock stays 10 behind ours."""
    time = ClusterTime()
    time.leader_says(Term(2), 1_000, 0)
    time.log_shows(9_000, 100)
    assert time.read(120) == 9_020
    time.leader_says(Term(2), 9_020, 130)
    assert time.read(130) == 9_020
    time.leader_says(Term(2), 9_060, 250)  # 80 less than we show: what the stamp added is gone, so it is only delayed
    assert time.read(250) == 9_130
    time.leader_says(Term(2), 9_150, 260)
    time.log_shows(9_200, 270)  # the leader's own stamp, or none that it knows
    time.leader_says(Term(2), 9_155, 280)  # 55 less than we show, of which the stamp added 40
    assert time.read(280) == 9_200
    assert time.read(375) == 9_264


def test_leader_tells_the_time_with_its_first_entries() -> None:
    """What it sends may hold an earlier leader's stamps, long before it stamps itself."""
    time = ClusterTime()
    first = AppendEntries(
        Term(2), NodeId(1), MessageId(1), DATA, NO_INDEX, NO_TERM, NO_INDEX, ReadId(0), (Entry.make(1, 2),)
    )
    offer = InstallSnapshot(Term(2), NodeId(1), MessageId(2), SnapshotMeta(Index(1), Term(1), Members.initial((1,))))
    assert time.put_into(first, 0) is first
    time.leader_says(Term(1), 10_000, 0)
    assert time.put_into(first, 100) == msgspec.structs.replace(first, time=10_100)
    assert time.put_into(offer, 200) == msgspec.structs.replace(offer, time=10_200)
    time.leader_says(Term(3), 12_000, 300)
    assert time.put_into(offer, 300) is offer  # time of term 3 is no time of term 2


@pytest.mark.parametrize("told", [1, -5, MAX_INT63, 2 * MAX_INT63])
def test_time_stays_in_its_range(told: int) -> None:
    time = ClusterTime()
    time.leader_says(Term(1), told, 0)
    assert 1 <= time.read(0) <= time.read(100) <= MAX_INT63


# A cluster.


def test_time_begins_with_the_wall_clock_of_the_first_leader() -> None:
    cluster = clocks()
    leader = cluster.elect()
    leader.wall_offset = -WALL - HOUR  # a machine that was started before 1970
    assert 0 < ask(cluster, leader) < 10 * SECOND


@pytest.mark.parametrize("step", [HOUR, -HOUR, -WALL])
def test_steps_of_the_wall_clock_move_nothing(step: int) -> None:
    cluster = clocks()
    leader = cluster.elect()
    before = ask(cluster, leader), cluster.now
    leader.wall_offset = step
    cluster.run(2 * SECOND)
    assert abs(passed(cluster, leader, before)) <= BOUND
    assert isinstance(leader.machine, Clock)
    assert abs(leader.machine.walls[-1] - (WALL + cluster.now + step)) <= BOUND


def test_follower_knows_the_time_of_an_idle_cluster() -> None:
    cluster = clocks()
    leader = cluster.elect()
    before = ask(cluster, leader), cluster.now
    cluster.run(5 * SECOND)
    for node in cluster.nodes.values():
        told = node.host.cluster_time(cluster.now)
        assert abs((told - before[0]) - (cluster.now - before[1])) <= BOUND


def test_time_goes_on_through_changes_of_leader_while_the_cluster_idles() -> None:
    cluster = clocks()
    before = ask(cluster, cluster.elect()), cluster.now
    for round_ in range(5):
        cluster.run(3 * SECOND)
        leader = cluster.elect()
        for number, node in cluster.nodes.items():
            node.wall_offset = (-1) ** (number + round_) * HOUR
        cluster.crash(leader.id)
        cluster.run(3 * SECOND)
        drift = passed(cluster, cluster.elect(), before)
        assert -(round_ + 1) * BOUND <= drift <= BOUND
        leader.start()


def test_restarted_node_that_leads_at_once_does_not_stamp_the_past() -> None:
    cluster = clocks()
    cluster.elect()
    stamps = [ask(cluster, cluster.elect()) for _ in range(3)]
    cluster.run(SECOND)
    for number in (1, 2, 3):
        cluster.crash(number)
    for node in cluster.nodes.values():
        node.wall_offset = -HOUR
        node.start()
    later = ask(cluster, cluster.elect())
    assert later >= stamps[-1]
    assert later - stamps[-1] < 2 * SECOND, "the time of the outage does not count"


def test_stamps_never_run_back_while_leaders_are_cut_off() -> None:
    cluster = clocks()
    cluster.elect()
    for round_ in range(6):
        leader = cluster.elect()
        leader.propose(b"a", timeout=SECOND)
        cluster.isolate(leader.id)
        leader.propose(b"lost", timeout=SECOND)
        cluster.run_until(lambda led=leader: cluster.leader() is not led and cluster.leader() is not None)  # type: ignore[misc]
        ask(cluster, cluster.elect_among(*[n for n in (1, 2, 3) if n != leader.id]))
        cluster.heal()
        cluster.run(SECOND)
        cluster[1 + round_ % 3].wall_offset = (-1) ** round_ * HOUR
    for node in cluster.nodes.values():
        assert isinstance(node.machine, Clock)
        assert node.machine.stamps == sorted(node.machine.stamps)
        assert len(node.machine.stamps) >= 12


def test_new_leader_holds_commands_until_it_knows_the_time() -> None:
    cluster = clocks()
    cluster.elect()
    ask(cluster, cluster.elect())
    old = cluster.elect()
    cluster.crash(old.id)
    cluster.run_until(lambda: cluster.leader() is not None)
    leader = cluster.leader()
    assert leader is not None
    cluster.isolate(leader.id)
    refused = leader.propose(b"now", timeout=30 * MILLISECOND)
    cluster.wait(leader, refused)
    assert not isinstance(leader.answers[refused], OutcomeUnknown), "nothing was appended"


# What machines say.


def test_machine_that_says_nothing_of_time_is_asked_nothing() -> None:
    assert latest_time(LogMachine()) == 0
    assert preparer(LogMachine())(b"a", 1, 2) == b"a"
    assert isinstance(Clock(), KeepsTime)
    assert isinstance(Clock(), PreparesWithWallTime)
    assert preparer(Clock())(b"a", 1, 2) == b"1"


def test_sessions_tell_the_time_and_pass_on_both_clocks() -> None:
    inner = Clock()
    sessions: StateMachine = Sessions(inner)
    sessions.apply(Index(1), preparer(sessions)(encode_plain(b"now"), 70, 5))
    assert latest_time(sessions) == 70
    assert (inner.stamps, inner.walls) == ([70], [5])


def test_reports_of_the_machine_carry_its_time() -> None:
    work = JobRunner(MemoryStore(1, "c"), Clock())
    page = Apply(Index(2), ((Index(1), b"30"), (Index(2), b"40")))
    assert work.run(Lane.APPLY, [page]) == [MachineTime(40), Applied(Index(2))]


@pytest.mark.parametrize("answer", [ValueError("no"), "noon", -1])
def test_machine_that_tells_no_time_when_asked_ends_the_lane(answer: object) -> None:
    class Wrong(Clock):
        def latest_time(self) -> int:
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[return-value]

    work = JobRunner(MemoryStore(1, "c"), Wrong())
    reports = work.run(Lane.APPLY, [Apply(Index(1), ((Index(1), b"30"),))])
    assert [type(report) for report in reports] == [JobFailed]


class Following:
    """As much of a core as `ClusterTime.hear` looks at: one that follows node 1."""

    def __init__(self, *, verified: bool, known: bool = True) -> None:
        self.log_verified = verified
        self.status = self
        self.leader = NodeId(1)
        self._known = known

    def obeys(self, node: NodeId, term: Term) -> bool:
        return self._known


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("following", "expected"),
    [
        (Following(verified=True), 12_000),
        (Following(verified=False), 10_100),
        (Following(verified=True, known=False), 5_000),
        (Following(verified=False, known=False), 10_100),
    ],
)
def test_entries_bring_the_time_of_a_known_leader_whose_log_is_ours(following: Following, expected: int) -> None:
    time = ClusterTime()
    time.log_shows(5_000, 0)
    time.leader_says(Term(1), 10_000, 0)
    page = (Entry.make(1, 2),)
    sent = AppendEntries(
        Term(2), NodeId(1), MessageId(1), DATA, NO_INDEX, NO_TERM, NO_INDEX, ReadId(0), page, time=12_000
    )

    time.hear(cast(Raft, following), sent, 100)

    assert time.read(100) == expected


@pytest.mark.interpreted
def test_snapshot_brings_a_smaller_time_and_no_larger_one() -> None:
    """Its stamps are not applied yet, and the log is not the leader's until it is installed."""
    time = ClusterTime()
    time.leader_says(Term(1), 10_000, 0)
    meta = SnapshotMeta(Index(1), Term(1), Members.initial((1,)))
    following = cast(Raft, Following(verified=True))

    time.hear(following, InstallSnapshot(Term(2), NodeId(1), MessageId(1), meta, time=12_000), 100)
    assert time.read(100) == 10_100
    time.hear(following, InstallSnapshot(Term(3), NodeId(1), MessageId(2), meta, time=9_000), 100)
    assert time.read(100) == 9_000


@pytest.mark.interpreted
def test_node_hears_the_time_of_an_offered_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    hear = ClusterTime.hear

    def listen(self: ClusterTime, raft: Raft, message: AppendEntries | InstallSnapshot, now: int) -> None:
        if isinstance(message, InstallSnapshot):
            heard.append(message.time)
        hear(self, raft, message, now)

    monkeypatch.setattr(ClusterTime, "hear", listen)
    cluster = clocks(settings=Settings(snapshot_entries=20, keep_entries=2), chunk_bytes=16)
    behind = cluster.followers()[0]
    cluster.crash(behind.id)
    leader = cluster.elect()
    for _ in range(60):
        ask(cluster, leader)
    behind.start()
    cluster.run_until(lambda: bool(heard))

    assert all(time > 0 for time in heard)
