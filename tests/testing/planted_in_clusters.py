"""Mistakes planted into whole simulated clusters: stores, machines, queues, hosts.

Plants for the checks that only a run shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import count
from random import Random
from typing import Any, Final

import attrs
import msgspec
import pytest

from raft_core.apply import ApplyPipeline
from raft_core.entries import Entry
from raft_core.errors import LogDamaged
from raft_core.events import StopRequested, Tick
from raft_core.ids import Incarnation, Index, NodeId
from raft_core.node.leaving import Leaving
from raft_core.node.limits import SECOND
from raft_core.node.status import Load
from raft_core.recovered import Recovered
from raft_core.roles import leader
from raft_core.roles.candidate import Campaign
from raft_core.server import Server
from raft_core.sessions import encode_plain
from raft_core.settings import Settings
from raft_core.store import Store
from raft_testing.__main__ import open_file_store
from raft_testing.checkers import state_machine as witnesses
from raft_testing.disk.crash_disk import CrashDisk
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.sim.runner import run_seed
from raft_testing.sim.simulation import Simulation
from raft_testing.workloads.registers import Asked, RegisterMachine, RegisterWorkload
from tests.testing.planted import shows
from tests.testing.test_simulator import open_forgetful_store
from tests.testing.watched_cores import PLAIN, Stage

# Whole clusters.

BRIEF: Final = Profile(chaos=4 * SECOND, operations=40, liveness=8 * SECOND)


def made(seed: int) -> Simulation:
    """A simulated cluster without faults."""
    return Simulation(
        seed,
        machine=RegisterMachine,
        workload=RegisterWorkload(),
        open_store=open_file_store,
        profile=BRIEF,
        only=frozenset(),
    )


def is_plain(simulation: Simulation) -> bool:
    """It has three founders, and logs that are not compacted so soon."""
    nodes = simulation.world.nodes.values()
    return len(nodes) == 3 and all(node.settings.snapshot_entries >= 40 for node in nodes)


@cache
def plain_seed() -> int:
    """The first seed that draws a plain cluster."""
    return next(seed for seed in count() if is_plain(made(seed)))


def found(**subject: Any) -> str:
    """The violation in a short run without faults."""
    chosen = {"open_store": open_file_store, "profile": BRIEF, "faults": frozenset[Fault](), **subject}
    return run_seed(plain_seed(), **chosen).violation


@shows("an answer belongs to its request", "got an answer that is not its own: this is the result of command")
def answers_change_places(patch: pytest.MonkeyPatch) -> str:
    class Confused(RegisterWorkload):  # type: ignore[misc]
        """Takes every answer for that of another caller."""

        def result(self, asked: Asked, answer: bytes) -> Any:
            if not asked.reads:
                raise ValueError("this is the result of command 7")
            return super().result(asked, answer)

    return found(workload=Confused)


@shows("every invariant of a single core (raft_core.invariants)", "only committed entries are applied")
def a_core_breaks_its_own_invariant(patch: pytest.MonkeyPatch) -> str:
    patch.undo()
    stage = Stage()
    stage.raft(2).server.pipeline.applying = Index(2)
    stage.step(2, Tick())
    return stage.text


DISK: Final = "a disk comes back with everything that was acknowledged, and nothing made up"


@shows(DISK, "the disk came back wrong: it holds HardState(term=")
def a_store_forgets_votes(patch: pytest.MonkeyPatch) -> str:
    return found(open_store=open_forgetful_store)


@shows(DISK, "the disk came back wrong: its log ends at")
def a_store_loses_the_last_entry(patch: pytest.MonkeyPatch) -> str:
    return found(open_store=OpeningOtherwise(lambda entries: entries[:-1]))


class OpeningOtherwise:
    """Opens stores that recover other entries than they hold."""

    def __init__(self, change: Callable[[tuple[Entry, ...]], tuple[Entry, ...]]) -> None:
        self._change = change

    def __call__(self, disk: CrashDisk, node: NodeId, incarnation: Incarnation) -> Store:
        store = open_file_store(disk, node, incarnation)
        recover = store.recover

        def broken() -> Any:
            recovered = recover()
            if len(recovered.entries) > 1:
                recovered = attrs.evolve(recovered, entries=self._change(recovered.entries))
            return recovered

        store.recover = broken  # type: ignore[method-assign]
        return store


@shows("a disk refuses to open only when it was harmed", "store refused to open an intact disk: ")
def a_store_refuses_for_no_reason(patch: pytest.MonkeyPatch) -> str:
    def refuse(disk: CrashDisk, node: NodeId, incarnation: Incarnation) -> Store:
        raise LogDamaged("0.log", 0, "imagined damage", "none")

    return found(open_store=refuse)


@shows("histories are linearizable per key", "not linearizable")
def a_machine_answers_reads_from_the_past(patch: pytest.MonkeyPatch) -> str:
    class Slow(RegisterMachine):
        """Reads see the register as it was two writes before."""

        def __init__(self) -> None:
            super().__init__()
            self._past: dict[str, list[str | None]] = {}

        def apply(self, index: Index, command: bytes) -> bytes:
            result = super().apply(index, command)
            for key, value in self._values.items():
                past = self._past.setdefault(key, [None])
                if past[-1] != value:
                    past.append(value)
            return result

        def query(self, request: bytes) -> bytes:
            past = self._past.get(request.decode(), [None])
            return msgspec.msgpack.encode((request, past[max(0, len(past) - 3)]))

    return found(machine=Slow)


class Unfinished:
    """A simulated cluster without faults, after its run, to look at again."""

    def __init__(self) -> None:
        self.simulation = made(plain_seed())
        assert self.simulation.run() is None

    @property
    def text(self) -> str:
        violation = self.simulation.safety.violation
        return violation.text if violation is not None else ""


class Boaster:
    """A host that says this of its queues."""

    def __init__(self, load: Load) -> None:
        self.load = load


def queues_of(**changes: int) -> str:
    """What is said where the host of node 1 says this of its queues."""
    simulation = made(plain_seed())
    for node in simulation.world.nodes.values():
        node.start()
    simulation.world.run_until(3 * SECOND)
    node = simulation.world.nodes[NodeId(1)]
    node.look_at_queues()
    assert simulation.safety.violation is None
    assert node.host is not None
    node.host = Boaster(attrs.evolve(node.host.load, **changes))  # type: ignore[assignment]
    node.look_at_queues()
    assert simulation.safety.violation is not None
    return simulation.safety.violation.text


QUEUES: Final = "queues are bounded, in cores and in hosts"


@shows(QUEUES, "node 1: 1000000 clients wait")
def too_many_clients_wait(patch: pytest.MonkeyPatch) -> str:
    return queues_of(clients=1_000_000)


@shows(QUEUES, "node 1: 1000000000 bytes wait for one peer")
def too_much_waits_for_a_peer(patch: pytest.MonkeyPatch) -> str:
    return queues_of(peer_bytes=10**9)


@shows(QUEUES, "node 1: 1000000000 bytes of clients wait")
def too_many_bytes_wait(patch: pytest.MonkeyPatch) -> str:
    return queues_of(client_bytes=10**9)


@shows(QUEUES, "node 1: 100000 requests are with the leader")
def too_many_requests_are_forwarded(patch: pytest.MonkeyPatch) -> str:
    return queues_of(forwarded=100_000)


def everything_is_appended(patch: pytest.MonkeyPatch, settings: Settings) -> str:
    """What is said where a leader does not look at its limits."""
    patch.setattr(
        leader, "append_commands", lambda server, request, commands: server.append_commands(request, 0, commands)
    )
    stage = Stage(settings=settings)
    stage.elect(1)
    stage.propose(1, *[bytes(1000)] * 20)
    return stage.text


@shows(QUEUES, "bytes are in the log, at most 12192 may be")
def a_log_outgrows_its_limit(patch: pytest.MonkeyPatch) -> str:
    return everything_is_appended(patch, attrs.evolve(PLAIN, max_entry_bytes=1000, log_max_bytes=2000))


@shows(QUEUES, "bytes of the log are uncommitted, at most")
def too_much_is_uncommitted(patch: pytest.MonkeyPatch) -> str:
    return everything_is_appended(patch, attrs.evolve(PLAIN, max_entry_bytes=1000, max_uncommitted_bytes=2000))


FAREWELL: Final = "a node that stops answers what is open, and clients of other nodes hear nothing of it"


def found_in_restarts() -> str:
    """The violation in a short run with planned restarts and nothing else."""
    profile = attrs.evolve(BRIEF, chaos=30 * SECOND, mean_interval=3 * SECOND, fault_chance=1.0)
    return found(profile=profile, faults=frozenset({Fault.RESTART}))


@shows(FAREWELL, "ended with a request open")
def a_stopping_node_waits_for_nobody(patch: pytest.MonkeyPatch) -> str:
    def begin(leaving: Leaving, now: int, *, leads: bool) -> None:
        leaving._orders.events.append(StopRequested())

    patch.setattr(Leaving, "begin", begin)
    return found_in_restarts()


@shows(FAREWELL, "and was not asked to stop")
def a_refusal_of_a_leader_that_goes_is_passed_on(patch: pytest.MonkeyPatch) -> str:
    patch.setattr("raft_core.node.retries._LEAVING", frozenset())
    return found_in_restarts()


PEACE: Final = "with a majority up and no faults there is one leader, and everybody is answered"


@shows(PEACE, "did not converge within 8 s after the last fault: 0 nodes lead")
def nobody_is_ever_elected(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(Campaign, "count", lambda campaign, *vote, **fate: campaign.verdict())
    return found()


@shows(PEACE, "left a request unanswered for")
def nobody_is_ever_answered(patch: pytest.MonkeyPatch) -> str:
    patch.setattr("raft_core.pending.PendingProposals.applied", lambda requests, upto, results, respond: None)
    patch.setattr("raft_core.node.pending_request.Deadlines.passed", lambda deadlines, now: [])
    return found(profile=attrs.evolve(BRIEF, chaos=10 * SECOND))


CONVERGED: Final = "all members converge to the same state"


@shows(CONVERGED, "did not converge within 16 s after the last fault: node 2 has not applied")
def one_member_falls_behind(patch: pytest.MonkeyPatch) -> str:
    build, order = Server.__init__, ApplyPipeline.order
    idle = Settings(answer_ticks=12_345)  # marks the pipeline of node 2, and those of its copies

    def mark_second(server: Server, settings: Settings, recovered: Recovered, rng: Random) -> None:
        build(server, settings, recovered, rng)
        server.pipeline.settings = idle if server.me == 2 else settings

    def order_unless_idle(pipeline: ApplyPipeline, commit: Index) -> None:
        if pipeline.settings != idle:
            order(pipeline, commit)

    patch.setattr(Server, "__init__", mark_second)
    patch.setattr(ApplyPipeline, "order", order_unless_idle)
    return found()


@shows(CONVERGED, "differ in the end")
def machines_differ_inside(patch: pytest.MonkeyPatch) -> str:
    class Marked(RegisterMachine):
        """Its state holds something of its own, which no result shows."""

        made = 0

        def __init__(self) -> None:
            super().__init__()
            Marked.made += 1
            self._mark = b"%d" % Marked.made

        def snapshot(self) -> Iterator[bytes]:
            return iter([*super().snapshot(), self._mark])

        def restore(self, chunks: Iterable[bytes]) -> None:
            super().restore([b"".join(chunks)[: -len(self._mark)]])

    patch.setattr(witnesses.ReplicaChecker, "snapshot", lambda replicas, index, digest: None)
    return found(machine=Marked)


EVERYWHERE: Final = "every acknowledged command is on every member"


@shows(EVERYWHERE, "an acknowledged command was never applied")
def a_command_is_acknowledged_and_not_applied(patch: pytest.MonkeyPatch) -> str:
    after = Unfinished()
    after.simulation.traffic.written.append(encode_plain(b"never"))
    after.simulation._check_acknowledged(list(after.simulation.world.nodes.values()))
    return after.text


@shows(EVERYWHERE, "node 1 lacks the acknowledged command at index")
def a_member_lacks_a_command(patch: pytest.MonkeyPatch) -> str:
    after = Unfinished()
    witness = after.simulation.world.nodes[NodeId(1)].witness
    assert witness is not None
    witness.last -= 1
    after.simulation._check_acknowledged(list(after.simulation.world.nodes.values()))
    return after.text
