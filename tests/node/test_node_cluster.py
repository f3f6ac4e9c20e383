"""Whole nodes together: they form, elect, answer, survive; over byte pipes and a virtual clock."""

from __future__ import annotations

import random

import attrs
import pytest

from raft_core.effects import AlarmKind, Refusal, RefusalReason, RoleName, UnknownReason
from raft_core.errors import (
    CallerError,
    LogLost,
    NotLeader,
    OutcomeUnknown,
    QueueFull,
    Refused,
    RequestError,
    SettingsError,
)
from raft_core.ids import ClusterId, Incarnation, NodeId
from raft_core.membership import AddLearner, AddVoter, RemoveNode
from raft_core.node import MILLISECOND, SECOND, Drop, Phase
from raft_core.node.events import Answer, BytesReceived, Call, Transmit, Transmitted
from raft_core.node.outcomes import deadline_text
from raft_core.requests import ChangeMembership, Propose, TransferLeadership
from raft_core.settings import Settings
from raft_core.wire import encode_payload
from raft_core.wire.payloads import WIRE_VERSION, Hello
from tests.node.cluster import Cluster, Node, error_of

MIB = 1024 * 1024
SMALL_LOG = Settings(snapshot_entries=20, keep_entries=2)


def test_three_nodes_form_a_cluster_and_elect_a_leader() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()

    assert cluster.now < 3 * SECOND
    assert all(node.host.status.phase is Phase.RUNNING for node in cluster.nodes.values())
    core = leader.host.status.core
    assert core is not None
    assert core.members.incarnations == ((1, 1001), (2, 1002), (3, 1003))


def test_a_single_node_forms_alone() -> None:
    cluster = Cluster(1)
    cluster.start()
    leader = cluster.elect()

    assert cluster.wait(leader, leader.propose(b"a")) == [b"ok:a"]


def test_a_node_that_is_alone_leads_without_waiting_for_an_election_timeout() -> None:
    cluster = Cluster(1)
    cluster.start()
    leader = cluster.elect()
    cluster.wait(leader, leader.propose(b"a"))
    cluster.crash(leader.id)
    leader.start()
    begun = cluster.now

    assert cluster.wait(leader, leader.ask(b"a"))
    assert cluster.now - begun < leader.settings.election_ticks * leader.config.tick // 10


def test_a_command_can_be_proposed_anywhere_and_is_prepared_once_on_the_leader() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()

    for name, node in zip((b"a", b"b", b"c"), cluster.nodes.values(), strict=True):
        assert cluster.wait(node, node.propose(name), within=20 * MILLISECOND) == [b"ok:" + name]
    cluster.run_until(cluster.converged, within=SECOND)
    assert leader.machine.prepared == 3
    assert [node.machine.prepared for node in cluster.followers()] == [0, 0]


def test_a_read_anywhere_sees_every_write_answered_before() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    cluster.wait(leader, leader.propose(b"a"))

    for node in cluster.nodes.values():
        assert cluster.wait(node, node.ask(b"all"), within=300 * MILLISECOND) == [b"a"]


def test_a_query_that_raises_fails_alone() -> None:
    cluster = Cluster(1)
    cluster.start()
    leader = cluster.elect()
    good, bad = leader.ask(b"len"), leader.ask(b"raise")

    assert cluster.wait(leader, good)[0] == b"0"
    cluster.wait(leader, bad)
    assert "ValueError: bad query" in str(error_of(leader, bad))
    assert leader.alive


def test_the_death_of_the_leader_is_answered_in_milliseconds() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    cluster.wait(leader, leader.propose(b"a"))
    died = cluster.now
    cluster.crash(leader.id)
    survivor = next(node for node in cluster.nodes.values() if node.alive)
    cluster.run(MILLISECOND)

    assert cluster.wait(survivor, survivor.propose(b"b"), within=SECOND) == [b"ok:b"]
    assert cluster.now - died < 150 * MILLISECOND
    assert survivor.machine.commands == [b"a", b"b"]


def test_a_leader_without_power_is_replaced_and_comes_back() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    cluster.lose_power(leader.id)
    survivor = next(node for node in cluster.nodes.values() if node.alive)
    cluster.run_until(lambda: (found := cluster.leader()) is not None and found is not leader, within=3 * SECOND)
    cluster.wait(survivor, survivor.propose(b"b"))

    cluster.silent.clear()
    leader.start()
    cluster.elect()
    assert cluster.wait(leader, leader.propose(b"c"), within=3 * SECOND) == [b"ok:c"]
    cluster.run_until(cluster.converged)


def test_a_node_without_power_is_noticed_by_silence() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    silent, other = cluster.followers()
    cluster.run(3 * SECOND)
    cluster.lose_power(silent.id)
    cluster.run(7 * SECOND)

    for node in (leader, other):
        peer = next(peer for peer in node.host.status.peers if peer.node == silent.id)
        assert (peer.connected, peer.heard) == (False, False)
        assert node.drops["silent"] >= 1
    assert cluster.leader() is leader


def test_an_idle_cluster_keeps_its_connections_and_its_leader() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    term = leader.announced[-1].term
    cluster.run(60 * SECOND)

    assert cluster.leader() is leader
    assert leader.announced[-1].term == term
    for node in cluster.nodes.values():
        assert "silent" not in node.drops
        assert all(peer.connected and peer.heard for peer in node.host.status.peers)


def test_a_far_behind_node_gets_a_snapshot() -> None:
    cluster = Cluster(3, settings=SMALL_LOG, chunk_bytes=16)
    cluster.start()
    behind = cluster.followers()[0]
    cluster.crash(behind.id)
    leader = cluster.elect()
    for number in range(100):
        cluster.wait(leader, leader.propose(b"value %d" % number))

    behind.start()
    cluster.run_until(cluster.converged)

    assert len(behind.machine.commands) == 100
    core = behind.host.status.core
    assert core is not None
    assert core.snapshot_index > 50
    assert cluster.wait(behind, behind.propose(b"more")) == [b"ok:more"]


def test_a_snapshot_transfer_survives_the_death_of_its_receiver_and_of_the_connection() -> None:
    cluster = Cluster(3, settings=SMALL_LOG, chunk_bytes=8)
    cluster.start()
    behind = cluster.followers()[0]
    cluster.crash(behind.id)
    leader = cluster.elect()
    for number in range(200):
        leader.propose(b"value %d" % number)
    cluster.run(2 * SECOND)
    behind.start()
    cluster.run_until(lambda: behind.store._memory.received is not None and len(behind.store._memory.received[2]) > 200)
    cluster.crash(behind.id)
    cluster.run(50 * MILLISECOND)
    behind.start()
    held = behind.store._memory.received
    assert held is not None
    assert len(held[2]) > 200, "what was received before is kept"
    cluster.run_until(lambda: len(held[2]) > 400)
    cluster.partition(behind.id, leader.id)
    cluster.run(100 * MILLISECOND)
    cluster.heal()

    cluster.run_until(cluster.converged)
    assert len(behind.machine.commands) == 200


def test_garbage_on_a_connection_closes_it_and_nothing_else() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    connection = cluster.connect_stranger(leader.id, b"GET / HTTP/1.1\r\n\r\n")
    cluster.run(100 * MILLISECOND)

    assert connection not in leader.pipes
    assert leader.drops["bad_frame"] == 1
    assert cluster.wait(leader, leader.propose(b"a")) == [b"ok:a"]
    assert cluster.leader() is leader


def test_a_stranger_that_says_nothing_is_closed_in_time() -> None:
    cluster = Cluster(1)
    cluster.start()
    node = cluster.elect()
    connection = cluster.connect_stranger(node.id, b"")
    cluster.run(3 * SECOND)

    assert connection not in node.pipes
    assert node.drops["no_greeting"] == 1


def test_strangers_cannot_exhaust_connections() -> None:
    cluster = Cluster(1, max_connections=3)
    cluster.start()
    node = cluster.elect()
    connections = [cluster.connect_stranger(node.id, b"") for _ in range(10)]
    cluster.run(MILLISECOND)

    assert [c in node.pipes for c in connections] == [False] * 7 + [True] * 3


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (Hello(WIRE_VERSION, ClusterId("other"), NodeId(2), Incarnation(1002)), "wrong_cluster"),
        (Hello(WIRE_VERSION + 1, ClusterId("test"), NodeId(2), Incarnation(1002)), "wrong_version"),
        (Hello(WIRE_VERSION, ClusterId("test"), NodeId(2), Incarnation(1002), to=NodeId(7)), "wrong_peer"),
        (Hello(WIRE_VERSION, ClusterId("test"), NodeId(2), Incarnation(666)), "wrong_incarnation"),
    ],
)
def test_a_greeting_that_is_not_for_us_is_refused_counted_and_told(hello: Hello, reason: str) -> None:
    cluster = Cluster(3)
    cluster.start()
    cluster.elect()
    node = cluster[1]
    connection = cluster.connect_stranger(1, encode_payload(hello))
    cluster.run(100 * MILLISECOND)

    assert connection not in node.pipes
    assert node.drops[reason] == 1
    assert len(node.alarms) == 1
    assert cluster.wait(node, node.propose(b"a")) == [b"ok:a"]


def test_a_minority_answers_in_time_and_says_what_is_true() -> None:
    cluster = Cluster(3, leader_wait=SECOND)
    cluster.start()
    leader = cluster.elect()
    cluster.run(50 * MILLISECOND)
    cluster.isolate(leader.id)
    proposed = leader.propose(b"a", timeout=200 * MILLISECOND)
    cluster.wait(leader, proposed)
    assert isinstance(error_of(leader, proposed), OutcomeUnknown)
    cluster.run(2 * SECOND)

    held = leader.propose(b"b", timeout=100 * MILLISECOND)
    patient = leader.propose(b"c")
    read = leader.ask(b"len", timeout=3 * SECOND)
    start = cluster.now
    cluster.wait(leader, held, patient, read)

    assert error_of(leader, held).reason == RefusalReason.DEADLINE  # type: ignore[attr-defined]
    assert isinstance(error_of(leader, patient), NotLeader)
    assert type(error_of(leader, read)) is Refused
    waited = [leader.answered_at[ticket] - start for ticket in (held, patient, read)]
    assert waited == sorted(waited)
    assert waited[2] <= 3 * SECOND + 10 * MILLISECOND


def test_a_request_held_without_a_leader_succeeds_when_one_appears() -> None:
    cluster = Cluster(3)
    cluster.start()
    cluster.run(20 * MILLISECOND)
    node = cluster[1]
    assert cluster.leader() is None

    assert cluster.wait(node, node.propose(b"a", timeout=5 * SECOND)) == [b"ok:a"]


def test_a_forward_whose_leader_dies_is_unknown_or_done_and_never_done_twice() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    follower = cluster.followers()[0]
    tickets = [follower.propose(b"%d" % n, timeout=5 * SECOND) for n in range(50)]
    cluster.run(MILLISECOND)
    cluster.crash(leader.id)
    cluster.wait(follower, *tickets)

    outcomes = [follower.answers[ticket] for ticket in tickets]
    for outcome in outcomes:
        if isinstance(outcome, RequestError):
            assert isinstance(outcome, OutcomeUnknown)
            assert outcome.reason == UnknownReason.FORWARD_LOST
    assert any(isinstance(outcome, OutcomeUnknown) for outcome in outcomes)
    cluster.elect()
    cluster.wait(follower, follower.propose(b"end"))
    assert len(follower.machine.commands) == len(set(follower.machine.commands))


def test_a_thousand_waiting_clients_are_all_answered() -> None:
    cluster = Cluster(3)
    cluster.start()
    cluster.elect()
    asked: list[tuple[Node, int]] = []
    for number in range(1000):
        node = cluster[1 + number % 3]
        asked.append((node, node.propose(b"%d" % number) if number % 2 else node.ask(b"len")))
    cluster.run_until(lambda: all(node.host.load.clients for node in cluster.nodes.values()), within=SECOND)
    for node in cluster.nodes.values():
        status, load = node.host.status, node.host.load
        assert (load.clients, load.client_bytes) == (status.waiting_clients, status.waiting_bytes)
        assert load.forwarded == status.forwarded
        assert load.peer_bytes == max(peer.queued_bytes for peer in status.peers)
    cluster.run_until(lambda: all(ticket in node.answers for node, ticket in asked), within=5 * SECOND)

    assert not [answer for node in cluster.nodes.values() for answer in node.answers.values() if answer is None]
    assert all(isinstance(node.answers[ticket], bytes) for node, ticket in asked)
    cluster.run_until(cluster.converged)
    assert all(node.host.status.waiting_clients == 0 for node in cluster.nodes.values())


def test_more_clients_than_allowed_are_refused_and_the_rest_answered() -> None:
    cluster = Cluster(3, max_clients=100)
    cluster.start()
    leader = cluster.elect()
    tickets = [leader.propose(b"x") for _ in range(150)]
    cluster.wait(leader, *tickets)

    refused = [leader.answers[t] for t in tickets if isinstance(leader.answers[t], RequestError)]
    assert len(refused) == 50
    assert all(isinstance(error, QueueFull) for error in refused)


def test_a_stopping_leader_hands_over_and_answers_everybody() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    tickets = [leader.propose(b"%d" % n) for n in range(10)]
    cluster.stop(leader.id)
    late = leader.propose(b"late")
    cluster.run_until(lambda: leader.finished is not None, within=2 * SECOND)

    assert leader.finished is not None
    assert leader.finished.error is None
    assert set(leader.answers) >= {*tickets, late}
    assert [leader.answers[ticket] for ticket in (*tickets, late)] == [b"ok:%d" % n for n in range(10)] + [b"ok:late"]
    stopped = cluster.now
    survivor = next(node for node in cluster.nodes.values() if node.alive)
    cluster.wait(survivor, survivor.propose(b"next"))
    assert cluster.now - stopped < 100 * MILLISECOND


def test_a_lone_leader_without_a_majority_stops_in_bounded_time() -> None:
    cluster = Cluster(3, stop_timeout=2 * SECOND)
    cluster.start()
    leader = cluster.elect()
    cluster.isolate(leader.id)
    ticket = leader.propose(b"a")
    cluster.run(MILLISECOND)
    cluster.stop(leader.id)
    cluster.run_until(lambda: leader.finished is not None, within=2 * SECOND + 20 * MILLISECOND)

    assert ticket in leader.answers


def test_after_the_end_a_request_is_still_answered() -> None:
    cluster = Cluster(1)
    cluster.start()
    node = cluster.elect()
    cluster.stop(1)
    cluster.run_until(lambda: node.finished is not None)
    (answer,) = node.host.handle([Call(99, Propose(b"x"))], cluster.now, 0)

    assert isinstance(answer, Answer)
    assert isinstance(answer.outcome, Refusal)
    assert node.host.handle([], cluster.now + SECOND, 0) == []


def test_a_failed_write_ends_the_node_with_its_error_and_loses_nothing_acknowledged() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    cluster.wait(leader, leader.propose(b"a"))
    leader.store.fail("no space left on device")
    ticket = leader.propose(b"b")
    cluster.run_until(lambda: leader.finished is not None, within=SECOND)

    assert leader.finished is not None
    assert "no space left on device" in str(leader.finished.error)
    assert isinstance(leader.answers[ticket], OutcomeUnknown)
    survivor = next(node for node in cluster.nodes.values() if node.alive)
    cluster.wait(survivor, survivor.propose(b"c"))
    assert survivor.machine.commands[0] == b"a"


def test_a_command_that_the_machine_cannot_apply_ends_the_node_and_is_not_skipped() -> None:
    cluster = Cluster(1)
    cluster.start()
    node = cluster.elect()
    ticket = node.propose(b"poison")
    cluster.run_until(lambda: node.finished is not None)

    assert node.finished is not None
    assert isinstance(node.finished.error, CallerError)
    assert "RuntimeError: cannot apply" in str(node.finished.error)
    assert isinstance(node.answers[ticket], OutcomeUnknown)


class SlowLine(Cluster):
    """Nodes 1 and 3 have a line of 150 kB a second, and operating systems that take 4 MiB at once."""

    def transmit(self, node: Node, effect: Transmit) -> None:
        near = node.pipes.get(effect.connection)
        far = None if near is None else near.other
        if near is None or far is None or {node.id, far.node.id} != {1, 3}:
            super().transmit(node, effect)
            return
        end = max(self.now, near.free)
        for start in range(0, len(effect.data), 65_536):
            piece = effect.data[start : start + 65_536]
            end += len(piece) * SECOND // 150_000

            def arrive(piece: bytes = piece) -> None:
                if not far.closed and not near.closed:
                    far.node.tell(BytesReceived(far.number, piece))

            self.at(end - self.now, far.node, arrive)
        near.free = end
        taken = max(self.now, end - 4 * MIB * SECOND // 150_000)
        self.at(taken - self.now + 1000, node, lambda: node.tell(Transmitted(effect.connection)))


@pytest.mark.parametrize("size", [950_000, 8 * MIB])
def test_an_entry_that_takes_longer_than_silence_may_last_arrives(size: int) -> None:
    """Pings waited behind it, the connection was closed after five seconds, and it was sent again, for ever."""
    cluster = SlowLine(3, settings=Settings(max_entry_bytes=8 * MIB))
    cluster.start()
    cluster.elect()
    cluster.run_until(lambda: cluster[3].host.status.core is not None)
    cluster.crash(2)
    leader = cluster.elect_among(1, 3)
    other = cluster[4 - int(leader.id)]
    leader.propose(b"x" * size)
    cluster.run_until(lambda: len(other.machine.commands) == 1, within=120 * SECOND)

    assert Drop.SILENT not in {**leader.drops, **other.drops}


# Forming.


def test_a_founder_that_missed_the_moment_forms_from_the_others_greeting() -> None:
    cluster = Cluster(3)
    cluster.start()
    # Node 3 is greeted and greets, then dies before it has written anything.
    cluster[3].disk_stalled = True
    cluster.run_until(lambda: all(cluster[n].host.status.phase is Phase.RUNNING for n in (1, 2)))
    assert cluster[3].host.status.phase is Phase.FORMING
    cluster.crash(3)
    leader = cluster.elect()
    cluster.wait(leader, leader.propose(b"a"))

    cluster[3].disk_stalled = False
    cluster[3].start()
    cluster.run_until(cluster.converged)

    assert cluster[3].machine.commands == [b"a"]
    core = cluster[3].host.status.core
    assert core is not None
    assert core.members.voters == (1, 2, 3)


def test_a_founder_that_missed_the_moment_and_finds_the_first_entry_compacted_is_caught_up() -> None:
    cluster = Cluster(3, settings=SMALL_LOG)
    cluster.start()
    cluster[3].disk_stalled = True
    cluster.run_until(lambda: all(cluster[n].host.status.phase is Phase.RUNNING for n in (1, 2)))
    cluster.crash(3)
    leader = cluster.elect()
    for number in range(100):
        cluster.wait(leader, leader.propose(b"%d" % number))
    for number in (1, 2):  # now no node remembers the founding
        cluster.crash(number)
    for number in (1, 2):
        cluster[number].start()
    cluster.elect()
    assert cluster[1].host._handshake.bootstrap.founding == b""

    cluster[3].disk_stalled = False
    cluster[3].start()
    cluster.run_until(lambda: cluster.converged() and len(cluster[3].machine.commands) == 100)


def test_a_founder_whose_settings_do_not_go_with_the_cluster_that_it_finds_ends_and_says_so() -> None:
    cluster = Cluster(3, leases=True)
    cluster[3].disk_stalled = True
    cluster.start()
    cluster.run_until(lambda: all(cluster[n].host.status.phase is Phase.RUNNING for n in (1, 2)))
    cluster.crash(3)
    cluster[3].config = attrs.evolve(cluster[3].config, leases=False)
    cluster[3].settings = Settings(check_quorum=False)
    cluster[3].start()
    cluster.run_until(lambda: cluster[3].finished is not None)

    assert isinstance(cluster[3].finished and cluster[3].finished.error, SettingsError)
    assert not cluster[3].store.reopened().recover().formed


def test_a_fresh_disk_under_an_old_id_ends_with_the_remedy() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    cluster.wait(leader, leader.propose(b"a"))
    victim = cluster.followers()[0]
    cluster.crash(victim.id)
    founders = victim.config.founders
    wiped = cluster.add(int(victim.id), founders, 3, incarnation=9999)
    wiped.start()
    cluster.run_until(lambda: wiped.finished is not None, within=3 * SECOND)

    assert wiped.finished is not None
    assert isinstance(wiped.finished.error, LogLost)
    assert f"remove node {victim.id}" in str(wiped.finished.error)
    assert cluster.wait(leader, leader.propose(b"b")) == [b"ok:b"]


def test_founders_that_disagree_do_not_form_and_say_so() -> None:
    cluster = Cluster(3)
    cluster[3].config = attrs.evolve(cluster[3].config, founders=(NodeId(2), NodeId(3)))
    cluster.start()
    cluster.run(5 * SECOND)

    assert all(node.host.status.phase is Phase.FORMING for node in cluster.nodes.values())
    assert any("give all founders the same list" in alarm.text for alarm in cluster[1].alarms)


def test_founders_of_which_one_wants_leases_do_not_form_and_both_sides_say_so() -> None:
    """They formed with first entries that differed, talked and acknowledged until a connection broke."""
    cluster = Cluster(3)
    cluster[3].config = attrs.evolve(cluster[3].config, leases=True)
    cluster.start()
    cluster.run(5 * SECOND)

    assert all(node.host.status.phase is Phase.FORMING for node in cluster.nodes.values())
    for node in cluster.nodes.values():
        assert any("leases=true" in alarm.text and "leases=false" in alarm.text for alarm in node.alarms)


def test_a_disk_that_is_replaced_while_founders_meet_does_not_make_two_clusters_of_them() -> None:
    """Node 2's disk is replaced after node 3 has met it and before node 1 has. Each wrote what it knew."""
    cluster = Cluster(3)
    for number in (1, 3):
        cluster[number].stall_disk(True)
    cluster.start(1, 3)
    cluster.run(SECOND)
    cluster.cut.add(frozenset((NodeId(1), NodeId(2))))
    cluster.start(2)
    cluster[2].stall_disk(True)
    cluster.run(SECOND)
    cluster.crash(2)
    cluster.cut = {frozenset((NodeId(2), NodeId(3)))}
    cluster.add(2, (NodeId(1), NodeId(2), NodeId(3)), 3, incarnation=9999).start()
    cluster.run(SECOND)
    cluster.heal()
    for number in (1, 3):
        cluster[number].stall_disk(False)
    leader = cluster.elect()
    cluster.wait(leader, leader.propose(b"a"))
    cluster.run_until(cluster.converged)

    assert [node.machine.commands for node in cluster.nodes.values()] == [[b"a"]] * 3
    assert len({node.host._handshake.bootstrap.founding for node in cluster.nodes.values()}) == 1


@pytest.mark.parametrize("meets", [True, False], ids=["after-the-first-round", "before"])
def test_a_founder_is_no_majority_with_its_old_disk_and_its_new_one(meets: bool) -> None:
    """Nodes 1 and 2 found and acknowledge; node 2's disk is lost. Node 3 has not heard of the founding, and believes to
    be connected with node 1: with the new disk it would found again, and lose what was acknowledged."""
    cluster = Cluster(3, silence=60 * SECOND)
    if not meets:
        cluster.cut.add(frozenset((NodeId(2), NodeId(3))))
    for number in (1, 2, 3):
        cluster[number].stall_disk(True)
    cluster.start()
    cluster.run(SECOND)
    cluster.cut = {frozenset((NodeId(1), NodeId(3))), frozenset((NodeId(2), NodeId(3)))}
    for number in (1, 2, 3):
        cluster[number].stall_disk(number == 3)
    cluster.run(3 * SECOND)
    acknowledged = [node for node in cluster.nodes.values() if node.role is RoleName.LEADER]
    for leader in acknowledged:
        assert cluster.wait(leader, leader.propose(b"a")) == [b"ok:a"]
    cluster.crash(2)
    cluster.crash(3) if meets else None  # what it was about to write is lost with it
    cluster[3].stall_disk(False)
    cluster.cut = {frozenset((NodeId(1), NodeId(2))), frozenset((NodeId(1), NodeId(3)))}
    cluster.add(2, (NodeId(1), NodeId(2), NodeId(3)), 3, incarnation=9999).start()
    if meets:
        cluster[3].start()
    cluster.run(10 * SECOND)
    assert cluster[2].role is not RoleName.LEADER
    assert cluster[3].role is not RoleName.LEADER
    cluster.heal()
    leader = cluster.elect_among(1, 3) if acknowledged else cluster.elect()

    assert bool(acknowledged) == meets
    assert cluster.wait(leader, leader.propose(b"b")) == [b"ok:b"]
    assert leader.machine.commands == ([b"a", b"b"] if acknowledged else [b"b"])
    assert isinstance(cluster[2].finished and cluster[2].finished.error, LogLost) == meets


def test_a_node_that_is_not_among_its_founders_is_refused_at_once() -> None:
    cluster = Cluster(3)
    node = cluster.add(4, (NodeId(1), NodeId(2)), 4)

    with pytest.raises(CallerError):
        node.start()


def test_a_joiner_waits_is_added_with_its_own_disk_and_catches_up() -> None:
    cluster = Cluster(4, joiners=[4])
    cluster.start()
    leader = cluster.elect_among(1, 2, 3)
    cluster.wait(leader, leader.propose(b"a"))
    cluster.run(5 * SECOND)
    joiner = cluster[4]
    assert joiner.host.status.term == 0
    assert joiner.role is RoleName.FOLLOWER

    asker = cluster.followers_among(1, 2, 3)[0]
    ticket = cluster.next_ticket()
    asker.tell(Call(ticket, ChangeMembership((AddLearner(NodeId(4), promote_when_ready=True),))))
    assert cluster.wait(asker, ticket) == [b""]
    cluster.run_until(lambda: joiner.machine.commands == [b"a"])

    def promoted() -> bool:
        core = leader.host.status.core
        return core is not None and core.members.voters == (1, 2, 3, 4)

    cluster.run_until(promoted)
    core = leader.host.status.core
    assert core is not None
    assert core.members.incarnation_of(NodeId(4)) == 1004
    assert cluster.wait(joiner, joiner.propose(b"b")) == [b"ok:b"]


def test_a_member_that_nobody_has_heard_of_is_not_added() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    ticket = cluster.next_ticket()
    leader.tell(Call(ticket, ChangeMembership((AddLearner(NodeId(9)),))))
    cluster.wait(leader, ticket)

    assert "node 9 has not been heard from" in str(error_of(leader, ticket))


def test_a_removed_node_and_a_transfer_can_be_asked_for_anywhere() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    first, second = cluster.followers()
    ticket = cluster.next_ticket()
    first.tell(Call(ticket, TransferLeadership(second.id)))
    assert cluster.wait(first, ticket) == [b""]
    cluster.run_until(lambda: cluster.leader() is second)
    cluster.elect()
    cluster.wait(first, first.propose(b"a"))
    ticket = cluster.next_ticket()
    first.tell(Call(ticket, ChangeMembership((RemoveNode(leader.id),))))
    assert cluster.wait(first, ticket) == [b""]
    cluster.run(SECOND)
    assert cluster.leader() is second


def test_a_node_that_moves_to_another_address_is_found_there() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    mover = cluster.followers()[0]
    cluster.crash(mover.id)
    mover.config = attrs.evolve(mover.config, address="moved")
    mover.start()
    cluster.wait(leader, leader.propose(b"a"))
    cluster.run_until(lambda: mover.machine.commands == [b"a"], within=SECOND)

    assert dict(leader.host.status.addresses)[mover.id] == "moved"


@pytest.mark.parametrize("seed", range(4))
def test_under_crashes_and_partitions_everybody_is_answered_and_nothing_acknowledged_is_lost(seed: int) -> None:
    cluster = Cluster(3, seed=seed, settings=Settings(snapshot_entries=50, keep_entries=5), chunk_bytes=64)
    cluster.start()
    rng = random.Random(seed)
    asked: list[tuple[Node, int, int, bytes]] = []
    for number in range(300):
        cluster.run(int(rng.random() * 30 * MILLISECOND))
        alive = [node for node in cluster.nodes.values() if node.alive]
        node = alive[int(rng.random() * len(alive))]
        command = b"%d" % number
        asked.append((node, node.life, node.propose(command, timeout=2 * SECOND), command))
        event = rng.random()
        dead = [node for node in cluster.nodes.values() if not node.alive]
        if event < 0.05 and not dead:
            cluster.crash(1 + int(rng.random() * 3))
        elif event < 0.15 and dead:
            dead[0].start()
        elif event < 0.2:
            one = 1 + int(rng.random() * 3)
            cluster.partition(one, one % 3 + 1)
        elif event < 0.3:
            cluster.heal()
    cluster.heal()
    for node in cluster.nodes.values():
        if not node.alive:
            node.start()
    cluster.run(3 * SECOND)
    cluster.elect()
    cluster.run_until(cluster.converged, within=15 * SECOND)  # an offer of a snapshot that was lost: snapshot_ticks

    held = cluster[1].machine.commands
    assert len(held) == len(set(held)), "nothing is done twice"
    done = 0
    for node, life, ticket, command in asked:
        answer = node.answers.get(ticket)
        assert answer is not None or node.life != life, "a request is always answered while its node lives"
        if isinstance(answer, bytes):
            done += 1
            assert command in held
        elif isinstance(answer, Refused):
            assert command not in held
    assert done > 50
    assert not [a for n in cluster.nodes.values() for a in n.alarms if a.kind is AlarmKind.COMMITTED_CONFLICT]


def test_the_same_seed_gives_the_same_effects() -> None:
    def transcript() -> list[str]:
        cluster = Cluster(3, seed=5)
        cluster.start()
        leader = cluster.elect()
        cluster.wait(leader, leader.propose(b"a"))
        cluster.crash(leader.id)
        cluster.run(SECOND)
        return [
            repr(effect)
            for node in cluster.nodes.values()
            for effect in node.effects
            if "object at" not in repr(effect)
        ]

    assert transcript() == transcript()


def test_reads_at_a_founder_that_waits_for_the_others_are_answered_too() -> None:
    cluster = Cluster(3, leader_wait=SECOND)
    cluster.start(1)
    node = cluster[1]
    without, with_deadline = node.ask(b"len"), node.ask(b"len", timeout=8 * SECOND)

    cluster.run_until(lambda: without in node.answers, within=node.config.leader_wait + SECOND)
    assert isinstance(node.answers[without], NotLeader)
    assert with_deadline not in node.answers
    cluster.start(2, 3)
    cluster.run_until(lambda: with_deadline in node.answers)
    assert node.answers[with_deadline] == b"0"


def test_reads_at_a_founder_that_waits_for_the_others_leave_nothing_behind() -> None:
    cluster = Cluster(3)
    cluster.start(1)
    node = cluster[1]
    tickets = [node.ask(b"len", timeout=100 * MILLISECOND) for _ in range(50)]
    cluster.run_until(lambda: all(ticket in node.answers for ticket in tickets))
    cluster.run(2 * SECOND)

    assert node.host.load.clients == 0
    assert not node.host._clients._batches
    assert not node.host._clients._held


def test_a_sole_founder_whose_disk_was_lost_does_not_found_again_if_it_is_given_the_others() -> None:
    """As the operators' page says: started with the addresses of those that were added, it cannot found alone."""
    cluster = Cluster(2, joiners=(2,))
    cluster.start()
    first = cluster[1]
    cluster.run_until(lambda: first.role is RoleName.LEADER)
    cluster.run(SECOND)
    ticket = cluster.next_ticket()
    first.tell(Call(ticket, ChangeMembership((AddVoter(NodeId(2)),))))
    cluster.run_until(lambda: ticket in first.answers)
    assert isinstance(first.answers[ticket], bytes)
    cluster.crash(1)

    wiped = cluster.add(1, (NodeId(1), NodeId(2)), 2, incarnation=9999)
    wiped.start()
    cluster.run_until(lambda: wiped.finished is not None, within=5 * SECOND)

    assert wiped.finished is not None
    assert isinstance(wiped.finished.error, LogLost)


def test_two_nodes_that_moved_find_each_other_by_the_word_of_a_third() -> None:
    """Each had the other's old address from its own flags, and believed only those; none led once the third died."""
    cluster = Cluster(3)
    cluster.start()
    cluster.elect()
    for number in (1, 2):
        cluster.crash(NodeId(number))
        node = cluster[number]
        node.config = attrs.evolve(node.config, address=f"moved{number}")
        node.start()
    cluster.elect()
    cluster.run(3 * SECOND)
    cluster.crash(NodeId(3))
    cluster.run_until(lambda: (leader := cluster.leader()) is not None and leader.id != 3, within=10 * SECOND)
    ticket = cluster[1].propose(b"x")
    cluster.run_until(lambda: ticket in cluster[1].answers)

    assert cluster[1].answers[ticket] == b"ok:x"


def test_founder_without_the_others_says_whom_it_waits_for_and_where_it_looked() -> None:
    cluster = Cluster(3)
    cluster.start(1, 2)
    cluster.run(70 * SECOND)

    for number in (1, 2):
        first, second = [alarm for alarm in cluster[number].alarms if alarm.kind is AlarmKind.WAITING]
        assert first == second
        assert "node 3 (at n3 (as configured): refused)" in first.text
        assert "node 1" not in first.text
        assert "node 2" not in first.text


def test_node_that_was_not_added_yet_says_so_and_no_more_once_it_is() -> None:
    cluster = Cluster(4, joiners=(4,))
    cluster.start(1, 2, 3)
    leader = cluster.elect()
    cluster[4].start()
    cluster.run(5 * SECOND)
    assert [alarm.kind for alarm in cluster[4].alarms] == [AlarmKind.WAITING]
    change(cluster, leader, AddLearner(NodeId(4)))
    cluster.run(70 * SECOND)

    assert [alarm.kind for alarm in cluster[4].alarms] == [AlarmKind.WAITING]


def test_removed_node_says_at_which_entry_and_answers_at_once() -> None:
    cluster = Cluster(4)
    cluster.start()
    leader = cluster.elect()
    gone = next(node for node in cluster.nodes.values() if node is not leader)
    change(cluster, leader, RemoveNode(gone.id))
    cluster.run(SECOND)
    at = gone.host._raft.server.configurations.removal_of(gone.id)  # type: ignore[union-attr]
    began = cluster.now
    tickets = [gone.propose(b"x"), gone.ask(b"len")]
    cluster.run(50 * MILLISECOND)

    assert at > 0
    assert [(alarm.kind, f"entry {at} " in alarm.text) for alarm in gone.alarms] == [(AlarmKind.REMOVED, True)]
    for ticket in tickets:
        error = error_of(gone, ticket)
        assert isinstance(error, Refused)
        assert error.reason is RefusalReason.REMOVED
        assert f"entry {at} " in str(error)
        assert gone.answered_at[ticket] - began < 20 * MILLISECOND

    cluster.crash(gone.id)
    gone.start()
    cluster.run(5 * SECOND)
    assert [alarm.kind for alarm in gone.alarms] == [AlarmKind.REMOVED], "also after a restart"


def test_addition_right_after_the_start_of_the_new_node_waits_for_its_greeting() -> None:
    cluster = Cluster(4, joiners=(4,))
    cluster.start(1, 2, 3)
    leader = cluster.elect()
    early = cluster.next_ticket()
    leader.tell(Call(early, ChangeMembership((AddLearner(NodeId(4)),))))
    cluster.run(300 * MILLISECOND)
    assert early not in leader.answers
    cluster[4].start()
    cluster.run_until(lambda: early in leader.answers, within=5 * SECOND)

    assert leader.answers[early] == b""


def test_addition_of_a_node_that_never_greets_is_refused_in_its_own_word() -> None:
    cluster = Cluster(4, joiners=(4,))
    cluster.start(1, 2, 3)
    leader = cluster.elect()
    ticket = cluster.next_ticket()
    leader.tell(Call(ticket, ChangeMembership((AddLearner(NodeId(4)),))))
    cluster.run_until(lambda: ticket in leader.answers, within=5 * SECOND)

    error = error_of(leader, ticket)
    assert isinstance(error, Refused)
    assert error.reason is RefusalReason.NOT_HEARD_FROM


def test_addition_with_a_short_deadline_says_whose_greeting_it_waited_for() -> None:
    cluster = Cluster(4, joiners=(4,))
    cluster.start(1, 2, 3)
    leader = cluster.elect()
    ticket = cluster.next_ticket()
    leader.tell(Call(ticket, ChangeMembership((AddVoter(NodeId(4)),)), cluster.now + SECOND))
    cluster.run_until(lambda: ticket in leader.answers, within=5 * SECOND)

    error = error_of(leader, ticket)
    assert isinstance(error, Refused)
    assert error.reason is RefusalReason.DEADLINE
    assert str(error) == deadline_text(RefusalReason.NOT_HEARD_FROM)


def change(cluster: Cluster, leader: Node, one: AddLearner | RemoveNode) -> None:
    """The members change, as `leader` is told."""
    cluster.run(SECOND)
    ticket = cluster.next_ticket()
    leader.tell(Call(ticket, ChangeMembership((one,))))
    cluster.run_until(lambda: ticket in leader.answers)
    assert leader.answers[ticket] == b""
