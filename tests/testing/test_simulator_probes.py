"""What the probes check in the simulator: for every check something is planted that it must find, in these words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from raft_core import raft as core
from raft_core import status as status_module
from raft_core.effects import Effect, RoleName
from raft_core.entries import COMMAND, START, Entry
from raft_core.errors import CallerError, LogDamaged
from raft_core.events import Event, Tick
from raft_core.explain import Explainer, Explanation, Reason
from raft_core.ids import Index, NodeId, Term
from raft_core.node.core import NodeCore
from raft_core.node.limits import SECOND
from raft_core.raft import Raft
from raft_core.recorder import Recorder
from raft_core.state_machine import StateMachine
from raft_core.status import Status
from raft_core.typed_state_machine import TypedMachine, Undecodable
from raft_testing.__main__ import open_file_store, recover_file_store
from raft_testing.checkers import probes, recorder_probe, recovery_probe
from raft_testing.checkers.recovery_probe import RecoveredDisk
from raft_testing.checkers.status import (
    host_contradictions,
    said_wrongly,
    status_contradictions,
    wrong_answers,
    wrong_overview,
)
from raft_testing.disk.crash_disk import CrashDisk
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.rng import Rng
from raft_testing.sim.report import SeedReport
from raft_testing.sim.runner import run_seed
from raft_testing.sim.simulation import Simulation
from raft_testing.trace.replay import replay
from raft_testing.workloads.registers import Asked, RegisterMachine, RegisterWorkload
from raft_testing.workloads.typed_registers import (
    UNDECODABLE,
    Command,
    Done,
    Outcome,
    TypedRegisters,
    TypedRegisterWorkload,
    new_typed_registers,
    vocabulary,
)

BRIEF = Profile(chaos=6 * SECOND, operations=40)
CRASHES = frozenset({Fault.POWER_LOSS, Fault.KILL, Fault.BIT_FLIP})


@pytest.fixture
def curious(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every node is looked at all the time."""
    monkeypatch.setattr(probes, "_ASKED_EVERY", SECOND // 10)
    monkeypatch.setattr(probes, "_STILL_SHARE", 1.0)
    monkeypatch.setattr(recorder_probe, "RECORDED_SEEDS", 1.0)
    monkeypatch.setattr(probes, "_READ_WHOLE", 1.0)
    monkeypatch.setattr(recovery_probe, "RECOVERED_SEEDS", 1.0)
    monkeypatch.setattr(recovery_probe, "RECOVERED_CRASHES", 1.0)


def brief(seed: int = 2, **options: Any) -> SeedReport:
    options = {"profile": BRIEF, "faults": frozenset(), "recover": recover_file_store, **options}
    return run_seed(seed, open_store=open_file_store, **options)


@pytest.mark.usefixtures("curious")
def test_probes_find_nothing_and_have_looked_at_everything() -> None:
    profile = Profile(chaos=20 * SECOND, operations=60, mean_interval=4 * SECOND, fault_chance=1.0)
    reports = [brief(seed, profile=profile, faults=CRASHES) for seed in (7, 8)]

    assert not [report.violation for report in reports if report.failed]
    seen = sum((report.seen for report in reports), reports[0].seen - reports[0].seen)
    for what in (
        "nodes asked how they are",
        "cores compared before and after",
        "recordings replayed",
        "steps replayed from recordings",
        "disks recovered",
        "entries rescued",
        "snapshots rescued",
        "best survivor chosen",
        "events and effects in words",
    ):
        assert seen[f"probes: {what}"], what


def test_probes_change_nothing_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [brief(digest=True).digest]
    monkeypatch.setattr(recorder_probe, "RECORDED_SEEDS", 1.0)
    monkeypatch.setattr(probes, "_READ_WHOLE", 1.0)
    monkeypatch.setattr(recovery_probe, "RECOVERED_SEEDS", 1.0)
    digests.append(brief(digest=True).digest)
    digests.append(brief(digest=True, recover=None).digest)

    assert len(set(digests)) == 1


# Status.


def a_simulation() -> Simulation:
    """A cluster that has run for a while, in which some node leads."""
    simulation = Simulation(
        2,
        machine=RegisterMachine,
        workload=RegisterWorkload(),
        open_store=open_file_store,
        profile=BRIEF,
        only=frozenset(),
    )
    for node in list(simulation.world.nodes.values()):
        node.start()
    for client in simulation.clients:
        client.start()
    simulation.world.run_until(3 * SECOND)
    return simulation


@pytest.fixture(scope="module")
def cluster() -> Simulation:
    return a_simulation()


LIES: list[tuple[dict[str, Any], str]] = [
    ({"node": NodeId(77)}, "its status says node 77"),
    ({"term": Term(99)}, "its status says term 99"),
    ({"role": RoleName.FOLLOWER}, "leading in term 0"),
    ({"commit": Index(1)}, "its status says commit 1"),
    ({"first_index": Index(40)}, "first index 40"),
    ({"last_index": Index(999)}, "last index 999"),
    ({"last_term": Term(99)}, "last term 99"),
    ({"writes_under_way": 1000}, "writes under way 1000"),
    ({"members_index": Index(2)}, "members of 2"),
    ({"durable_index": Index(999)}, "999 is durable"),
    ({"applied": Index(999)}, "999 is applied"),
]


@pytest.mark.parametrize(("lie", "words"), LIES)
def test_a_status_that_differs_from_what_was_seen_is_found(
    cluster: Simulation, lie: dict[str, Any], words: str
) -> None:
    leader = cluster.world.leader()
    assert leader is not None
    assert leader.raft is not None
    status = leader.raft.status

    assert list(status_contradictions(status, leader.watched)) == []
    assert any(words in text for text in status_contradictions(attrs.evolve(status, **lie), leader.watched))


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"applied": Index(999)}, "positions out of order"),
    ({"first_index": Index(40)}, "the log begins at 40"),
    ({"last_term": Term(99)}, "last term 99 of"),
    ({"waiting_reads": -1}, "counted below nothing"),
    ({"role": RoleName.FOLLOWER}, "a follower has peers"),
    ({"leader": NodeId(77)}, "it leads, and names 77"),
    ({"peers": ()}, "it sends to []"),
]


@pytest.mark.parametrize(("lie", "words"), CONTRADICTIONS)
def test_a_status_that_contradicts_itself_is_found(cluster: Simulation, lie: dict[str, Any], words: str) -> None:
    leader = cluster.world.leader()
    assert leader is not None
    assert leader.raft is not None
    status = leader.raft.status

    assert list(said_wrongly(status)) == []
    assert any(words in text for text in said_wrongly(attrs.evolve(status, **lie)))


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"match": Index(999)}, "match 999"),
        ({"state": "snapshot"}, "state snapshot, snapshot 0"),
        ({"in_flight_bytes": -1}, "-1 bytes"),
        ({"learner": True}, "learner True"),
    ],
)
def test_a_wrong_picture_of_a_peer_is_found(cluster: Simulation, lie: dict[str, Any], words: str) -> None:
    leader = cluster.world.leader()
    assert leader is not None
    assert leader.raft is not None
    status = leader.raft.status
    peers = (attrs.evolve(status.peers[0], **lie), *status.peers[1:])

    assert any(words in text for text in said_wrongly(attrs.evolve(status, peers=peers)))


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"core": None}, "another status of its core"),
        ({"term": Term(99)}, "the node says leader in term 99"),
        ({"node": NodeId(77)}, "the node is 77"),
        ({"waiting_clients": -1}, "counted below nothing"),
        ({"drops": (("bad_frame", 0),)}, "drops that are none"),
    ],
)
def test_a_wrong_status_of_a_host_is_found(cluster: Simulation, lie: dict[str, Any], words: str) -> None:
    leader = cluster.world.leader()
    assert leader is not None
    assert leader.host is not None
    status = leader.host.status

    assert list(host_contradictions(status, status.core)) == []
    assert any(words in text for text in host_contradictions(attrs.evolve(status, **lie), status.core))


def planted_status(monkeypatch: pytest.MonkeyPatch, lie: Callable[[Status, Any], Status]) -> None:
    """Cores answer with a status that was changed."""
    true = status_module.picture
    monkeypatch.setattr(core, "picture", lambda server, role: lie(true(server, role), server))


@pytest.mark.usefixtures("curious")
def test_a_node_that_lies_about_its_status_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    planted_status(monkeypatch, lambda status, _: attrs.evolve(status, commit=Index(status.commit + 1)))

    assert "asked how it is" in brief().violation


@pytest.mark.usefixtures("curious")
def test_a_question_that_raises_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(status: Status, _: object) -> Status:
        raise KeyError("peer")

    planted_status(monkeypatch, broken)

    assert "a question was answered with KeyError" in brief().violation


@pytest.mark.usefixtures("curious")
def test_a_question_that_changes_a_core_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    def tampering(status: Status, server: Any) -> Status:
        server.messages_made += 1
        return status

    planted_status(monkeypatch, tampering)

    assert "it is not what it was before it was asked" in brief().violation


@pytest.mark.usefixtures("curious")
def test_a_host_that_answers_differently_twice_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    true = NodeCore.status.fget  # type: ignore[attr-defined]
    counted = iter(range(10**9))
    monkeypatch.setattr(NodeCore, "status", property(lambda host: attrs.evolve(true(host), forwarded=next(counted))))

    assert "two looks at one moment differ" in brief().violation


@pytest.mark.usefixtures("curious")
def test_a_host_that_explains_less_than_its_core_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NodeCore, "explain", lambda host: ())

    assert "the node explains other things than its core" in brief().violation


# Explanations.


def why(about: str, reason: Reason, *nodes: int, text: str = "because") -> Explanation:
    return Explanation(about, reason, text, tuple(NodeId(node) for node in nodes))


def leading(cluster: Simulation) -> tuple[Raft, Status]:
    leader = cluster.world.leader()
    assert leader is not None
    assert leader.raft is not None
    return leader.raft, leader.raft.status


def following(cluster: Simulation) -> tuple[Raft, Status]:
    raft = next(
        node.raft for node in cluster.world.nodes.values() if node.raft is not None and not node.raft.status.leads
    )
    return raft, raft.status


def found_in(wrong: Iterator[str], words: str) -> bool:
    return any(words in text for text in wrong)


def test_an_overview_that_is_not_so_is_found(cluster: Simulation) -> None:
    raft, status = following(cluster)
    true = why("leader", Reason.FOLLOWS_LEADER, status.leader)
    quiet = attrs.evolve(status, waiting_reads=0)
    behind = attrs.evolve(status, last_index=Index(status.commit + 1), applied=Index(status.commit - 1))

    assert list(wrong_overview(raft, status, raft.explain())) == []
    assert found_in(wrong_overview(raft, status, ()), "leader: waits and is not explained")
    assert found_in(wrong_overview(raft, status, (true, true)), "explained twice")
    assert found_in(wrong_overview(raft, quiet, (true, why("reads", Reason.NOT_COMMITTED))), "does not wait")
    assert found_in(wrong_overview(raft, behind, (true,)), f"commit of {status.commit + 1}: waits")
    assert found_in(wrong_overview(raft, behind, (true,)), f"applying of {status.commit}: waits")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.WINDOW_FULL, "why it does not lead: window_full"),
        (Reason.STOPPED, "why it does not lead: stopped"),
        (Reason.VOTES_MISSING, "a follower does not lead because of votes_missing"),
        (Reason.LEARNER, "does not lead because of learner"),
    ],
)
def test_a_wrong_reason_for_not_leading_is_found(cluster: Simulation, reason: Reason, words: str) -> None:
    raft, status = following(cluster)

    assert found_in(wrong_overview(raft, status, (why("leader", reason, status.leader),)), words)


def test_wrong_reasons_about_an_index_are_found(cluster: Simulation) -> None:
    raft, status = leading(cluster)
    commit, last = status.commit, status.last_index
    behind = attrs.evolve(status, last_index=Index(last + 1), commit=Index(last - 1), applied=Index(last - 1))
    committed, far = f"commit of {commit}", f"commit of {last + 1}"
    mine, applying = f"commit of {last}", f"applying of {last}"

    assert list(wrong_answers(raft, status, last + 1, None, raft.explain(index=Index(last + 1)))) == []
    for found, at, picture, words in (
        ((why(committed, Reason.OLD_TERM),), commit, status, "is committed: old_term"),
        ((why(far, Reason.OLD_TERM),), last + 1, status, "the log ends at"),
        ((why(mine, Reason.ONLY_LEADER_COUNTS),), last, behind, "asked of a leader"),
        ((why(mine, Reason.OLD_TERM),), last, behind, "of this very term"),
        ((why(mine, Reason.QUORUM_MISSING, 77),), last, behind, "not for (77,)"),
        ((why(f"applying of {commit - 1}", Reason.NOT_DURABLE),), commit - 1, status, "is applied: not_durable"),
        ((why(applying, Reason.NOT_DURABLE),), last, behind, "is committed: not_durable"),
        ((why("reads", Reason.NOT_COMMITTED),), commit, status, "not asked about reads"),
    ):
        assert found_in(wrong_answers(raft, picture, at, None, found), words), words


def test_wrong_reasons_about_applying_are_found(cluster: Simulation) -> None:
    raft, status = leading(cluster)
    last = status.last_index
    lagging = attrs.evolve(status, commit=last, applied=Index(last - 1), durable_index=last)
    for reason, words in (
        (Reason.NOT_DURABLE, f"{last} is durable: not_durable"),
        (Reason.MACHINE_BUSY, "waits for a machine that has nothing to do"),
    ):
        assert found_in(wrong_answers(raft, lagging, last, None, (why(f"applying of {last}", reason),)), words)


def test_wrong_reasons_about_a_peer_are_found(cluster: Simulation) -> None:
    raft, status = leading(cluster)
    peer = attrs.evolve(status.peers[0], paused=True, state="replicate", pending_snapshot=Index(0))
    node = peer.node
    paused = attrs.evolve(status, peers=(peer, *status.peers[1:]))
    about = f"sending to {node}"

    assert list(wrong_answers(raft, paused, None, node, (why(about, Reason.WINDOW_FULL, node),))) == []
    assert found_in(wrong_answers(raft, paused, None, node, ()), "paused True: None")
    for reason in (Reason.SNAPSHOT_UNDER_WAY, Reason.PROBE_UNANSWERED):
        assert found_in(wrong_answers(raft, paused, None, node, (why(about, reason, node),)), "in state replicate")
    stranger = (why("sending to 99", Reason.WINDOW_FULL, node),)
    assert found_in(wrong_answers(raft, status, None, 99, stranger), "to whom nothing is sent")


def test_explanations_without_words_or_with_unknown_nodes_are_found(cluster: Simulation) -> None:
    raft, status = following(cluster)

    def wrong(explanation: Explanation) -> Iterator[str]:
        return wrong_overview(raft, status, (explanation,))

    assert found_in(wrong(why("leader", Reason.FOLLOWS_LEADER, 1, text="two\nlines")), "in the words")
    assert found_in(wrong(why("leader", Reason.NOTHING, 1)), "no explanation is nothing")
    assert found_in(wrong(why("leader", Reason.FOLLOWS_LEADER, 99)), "which are unknown")
    assert found_in(wrong(why("leader", Reason.FOLLOWS_LEADER)), "no node is named")


@pytest.mark.usefixtures("curious")
def test_a_node_that_explains_wrongly_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = why("leader", Reason.LEARNER)
    monkeypatch.setattr(Explainer, "why_not_leader", lambda explainer: wrong)

    assert "learner" in brief().violation


# Recordings.


def recorded(monkeypatch: pytest.MonkeyPatch, step: Callable[[Recorder, Raft, Event], list[Effect]]) -> str:
    """The violation where recorders take steps in this way."""
    monkeypatch.setattr(Recorder, "step", step)
    reports = (brief(seed, recover=None) for seed in range(3, 9))
    return next((report.violation for report in reports if report.failed), "")


@pytest.mark.usefixtures("curious")
def test_a_recorder_that_forgets_an_event_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Recorder.step
    count = iter(range(10**9))

    def forgetful(recorder: Recorder, raft: Raft, event: Event) -> list[Effect]:
        effects = right(recorder, raft, event)
        if type(event) is Tick and next(count) % 10 == 9:
            recorder._newer.events.pop()  # type: ignore[union-attr]
        return effects

    assert "lead to another state" in recorded(monkeypatch, forgetful)


@pytest.mark.usefixtures("curious")
def test_a_recorder_whose_states_are_not_copies_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Recorder.step

    def sharing(recorder: Recorder, raft: Raft, event: Event) -> list[Effect]:
        effects = right(recorder, raft, event)
        recorder._newer.start = raft  # type: ignore[union-attr]
        return effects

    assert "the recording of node" in recorded(monkeypatch, sharing)


@pytest.mark.usefixtures("curious")
def test_a_recorder_without_bounds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(recorder: Recorder, raft: Raft, event: Event) -> list[Effect]:
        half = recorder._newer if raft is recorder._raft else None
        (half or recorder._begin(raft)).events.append(event)
        return recorder._take(raft, event)

    assert "are allowed" in recorded(monkeypatch, greedy)


@pytest.mark.usefixtures("curious")
def test_a_recorder_that_records_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing was recorded" in recorded(monkeypatch, lambda recorder, raft, event: recorder._take(raft, event))


@pytest.mark.usefixtures("curious")
@pytest.mark.parametrize(
    ("name", "planted", "words"),
    [
        ("replay", lambda true: lambda dump: attrs.evolve(true(dump), failure="KeyError: 3"), "it raised KeyError: 3"),
        ("replay", lambda true: lambda dump: attrs.evolve(true(dump), effects=()), "have other effects than"),
        ("replay", lambda true: lambda dump: true(dump[:-1]), "it cannot be replayed"),
    ],
)
def test_a_replay_that_says_something_else_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, planted: Callable[[Any], Any], words: str
) -> None:
    monkeypatch.setattr(recorder_probe, name, planted(getattr(recorder_probe, name)))

    reports = (brief(seed, recover=None) for seed in range(3, 9))
    assert any(words in report.violation for report in reports)


@pytest.mark.usefixtures("curious")
def test_a_damaged_recording_that_is_accepted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true, whole = replay, list[bytes]()

    def lenient(dump: bytes) -> Any:
        try:
            replayed = true(dump)
        except CallerError:
            return true(whole[-1])
        whole.append(dump)
        return replayed

    monkeypatch.setattr(recorder_probe, "replay", lenient)

    reports = (brief(seed, recover=None) for seed in range(3, 9))
    assert any("is not what was dumped" in report.violation for report in reports)


# RecoverDisk.


def recovered_as(change: Callable[[RecoveredDisk], RecoveredDisk]) -> Callable[[CrashDisk, CrashDisk], RecoveredDisk]:
    return lambda disk, target: change(recover_file_store(disk, target))


def with_another_entry(found: RecoveredDisk) -> RecoveredDisk:
    survivor = found.survivor
    made_up = Entry.make(len(survivor.entries) + 1, 1, b"made up", COMMAND)
    return attrs.evolve(found, survivor=attrs.evolve(survivor, entries=(*survivor.entries, made_up)))


def without_its_last_entry(found: RecoveredDisk) -> RecoveredDisk:
    founded = found.founded
    return attrs.evolve(found, founded=attrs.evolve(founded, entries=founded.entries[1:]))


def that_knows_more_than_anybody(found: RecoveredDisk) -> RecoveredDisk:
    return attrs.evolve(found, statement=attrs.evolve(found.statement, known_commit=Index(9999)))


def without_new_members(found: RecoveredDisk) -> RecoveredDisk:
    founded = found.founded
    last = Entry.make(founded.entries[-1].index, 9, b"", COMMAND)
    return attrs.evolve(found, founded=attrs.evolve(founded, entries=(*founded.entries[:-1], last)))


def with_a_snapshot(found: RecoveredDisk) -> RecoveredDisk:
    return attrs.evolve(found, snapshot=None if found.snapshot else b"made up")


def with_another_snapshot(found: RecoveredDisk) -> RecoveredDisk:
    return attrs.evolve(found, snapshot=found.snapshot and found.snapshot[:-3])


@pytest.mark.usefixtures("curious")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_another_entry, "the disk came back wrong"),
        (without_its_last_entry, "the new disk does not hold what the old one did"),
        (that_knows_more_than_anybody, "commit 9999"),
        (without_new_members, "the new cluster begins with"),
        (with_a_snapshot, "a snapshot is missing, or made up"),
        (with_another_snapshot, "a machine cannot restore its snapshot"),
    ],
)
def test_a_recovery_that_makes_things_up_is_found(change: Callable[[RecoveredDisk], RecoveredDisk], words: str) -> None:
    reports = (brief(seed, recover=recovered_as(change)) for seed in range(3, 12))

    assert any(words in report.violation for report in reports)


def touching(disk: CrashDisk, target: CrashDisk) -> RecoveredDisk:
    """It leaves a file behind."""
    found = recover_file_store(disk, target)
    disk.create("found")
    return found


def refusing(disk: CrashDisk, target: CrashDisk) -> RecoveredDisk:
    raise LogDamaged("log", 7, "it looks strange", "buy another")


def blaming(disk: CrashDisk, target: CrashDisk) -> RecoveredDisk:
    raise CallerError("never part of a cluster")


def breaking(disk: CrashDisk, target: CrashDisk) -> RecoveredDisk:
    raise KeyError("boot")


@pytest.mark.usefixtures("curious")
@pytest.mark.parametrize(
    ("recover", "words"),
    [
        (touching, "recovery changed the disk that it was to look at"),
        (refusing, "recovery refused an intact disk"),
        (blaming, "recovery refused a disk of the cluster"),
        (breaking, "recovery raised KeyError"),
    ],
)
def test_a_recovery_that_does_harm_or_gives_up_is_found(
    recover: Callable[[CrashDisk, CrashDisk], RecoveredDisk], words: str
) -> None:
    assert words in brief(recover=recover).violation


@pytest.mark.usefixtures("curious")
def test_choosing_the_worst_survivor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery_probe, "RECOVERED_CRASHES", 0.0)

    def short_of_one(disk: CrashDisk, target: CrashDisk) -> RecoveredDisk:
        """What a disk would hold that missed the last entry."""
        found = recover_file_store(disk, target)
        monkeypatch.setattr(recovery_probe, "log_end", lambda recovered: START)
        return attrs.evolve(found, statement=attrs.evolve(found.statement, last=START))

    assert "the best of 3 survivors ends at" in brief(recover=short_of_one).violation


# Words.


@pytest.mark.usefixtures("curious")
@pytest.mark.parametrize("line", ["", "two\nlines"])
def test_an_event_without_a_line_is_found(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(probes, "describe", lambda thing: line)

    assert f"no line is {line!r}" in brief().violation


@pytest.mark.usefixtures("curious")
def test_an_event_that_nobody_can_describe_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def speechless(thing: object) -> str:
        raise AttributeError("sender")

    monkeypatch.setattr(probes, "describe", speechless)

    assert "cannot be described" in brief().violation


# The typed machine.


def test_a_seed_draws_which_registers_it_uses_and_a_machine_that_is_named_is_used_as_it_is() -> None:
    made: list[object] = []

    def plain() -> StateMachine:
        made.append(1)
        return RegisterMachine()

    typed = [seed for seed in range(40) if Rng(seed).fork("machine").chance(0.25)]
    assert 0 < len(typed) < 20
    assert not brief(typed[0]).failed
    assert not brief(typed[0], machine=plain).failed
    assert made


def test_typed_registers_serve_the_same_clients_and_garbage_has_an_error_as_its_result() -> None:
    answered: list[str] = []

    class Listening(TypedRegisterWorkload):
        def result(self, asked: Asked, answer: bytes) -> Any:
            result = super().result(asked, answer)
            if asked.kind == "garbage":
                answered.append(str(result))
            return result

    profile = attrs.evolve(BRIEF, operations=150)
    report = brief(machine=new_typed_registers, workload=Listening, profile=profile)

    assert not report.failed, report.violation
    assert len(answered) > 3
    assert set(answered) == {UNDECODABLE}


def test_garbage_is_understood_by_no_vocabulary() -> None:
    workload, rng = TypedRegisterWorkload(), Rng(4)
    asked = [workload.ask(rng, 1, number) for number in range(2000)]
    garbage = [one.data for one in asked if one.kind == "garbage"]

    assert len(set(garbage)) == len(garbage) > 50
    for data in garbage:
        assert isinstance(vocabulary().decode_command(data), Undecodable)
        assert isinstance(vocabulary().decode_question(data), Undecodable)


class Guessing(TypedRegisters):
    """It takes every command twice, for it does not remember the first."""

    def apply_command(self, index: Index, command: Command) -> Outcome:
        self._values[command.key] = command.value
        return super().apply_command(index, command)


class Strict(TypedRegisters):
    """It raises where it should answer."""

    def apply_command(self, index: Index, command: Command) -> Outcome:
        if command.number % 20 == 7:
            raise OverflowError(command.number)
        return super().apply_command(index, command)


class Shifting(TypedRegisters):
    """It tells a result of another command."""

    def apply_command(self, index: Index, command: Command) -> Outcome:
        return attrs.evolve(super().apply_command(index, command), number=command.number + 1)


@pytest.mark.parametrize(
    ("kind", "words"), [(Guessing, "not linearizable"), (Strict, "OverflowError"), (Shifting, "not that of command")]
)
def test_a_typed_machine_with_a_mistake_is_found(kind: type[TypedRegisters], words: str) -> None:
    report = brief(
        machine=lambda: TypedMachine(kind(), vocabulary()),
        workload=TypedRegisterWorkload,
        profile=attrs.evolve(BRIEF, operations=150),
    )

    assert words in report.violation


class Lenient:
    """It carries out what it does not understand as if it did."""

    def __init__(self) -> None:
        self._machine = new_typed_registers()
        self.init, self.prepare, self.query = self._machine.init, self._machine.prepare, self._machine.query
        self.snapshot, self.restore = self._machine.snapshot, self._machine.restore

    def apply(self, index: Index, command: bytes) -> bytes:
        result = self._machine.apply(index, command)
        understood = not isinstance(vocabulary().decode_result(result), Undecodable)
        return result if understood else vocabulary().encode_result(Done(index))


def test_a_machine_that_takes_garbage_for_a_command_is_found() -> None:
    profile = attrs.evolve(BRIEF, operations=150)
    report = brief(machine=Lenient, workload=TypedRegisterWorkload, profile=profile)

    assert "garbage was answered Done" in report.violation


@pytest.mark.usefixtures("curious")
def test_a_recorder_that_miscounts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "kept_bytes", property(lambda recorder: 1 << 40))

    reports = (brief(seed, recover=None) for seed in range(2, 9))
    assert any("of 1099511627776 bytes" in report.violation for report in reports)


@pytest.mark.usefixtures("curious")
def test_a_recovery_under_the_old_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery_probe, "plan_quorum_loss_recovery", lambda survivor, target: None)

    assert "under the old name" in brief().violation


def test_a_machine_that_loses_a_note_is_found() -> None:
    class Wordless(TypedRegisters):
        def apply_command(self, index: Index, command: Command) -> Outcome:
            result = super().apply_command(index, command)
            return Done(result.number) if isinstance(result, Done) else result

    def machine() -> StateMachine:
        return TypedMachine(Wordless(), vocabulary())

    assert "has the result Done" in brief(machine=machine, workload=TypedRegisterWorkload).violation
