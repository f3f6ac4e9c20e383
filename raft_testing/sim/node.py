"""One simulated node: real `Driver`, `NodeCore` and `JobRunner` over a crash disk, with a clock of its own.

`SimulatedNode` does what the event loop of a node does, in virtual time. The driver's orders go through
`SimulatedAdapter` to the simulated network and to the `SimulatedWorkers` of disk and state machine. Faults strike from
outside: see `raft_testing.faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Final, Protocol, final

import attrs

from raft_core.effects import Alarm, AlarmKind, Effect, RoleChanged, RoleName
from raft_core.errors import DiskError, LogLost, SettingsError
from raft_core.events import Event
from raft_core.ids import NO_NODE, Incarnation, NodeId
from raft_core.node.api import NodeApi
from raft_core.node.core import NodeCore
from raft_core.node.descriptors import OpenAccepted
from raft_core.node.driver import Driver
from raft_core.node.events import ConnectionId, NodeEvent, Run, StopAsked, TimerFired, Transmit
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Lane
from raft_core.node.limits import SECOND, NodeLimits
from raft_core.raft import Raft
from raft_core.recorder import Recorder
from raft_core.recovered import Recovered
from raft_core.requests import NodeRequest
from raft_core.settings import Settings
from raft_core.state_machine import preparer
from raft_core.store import Store
from raft_testing.checkers.bounds import limits_of_node, queue_of_node
from raft_testing.checkers.reference_model import ModelMismatch
from raft_testing.checkers.requests import Reply
from raft_testing.checkers.safety import Watched
from raft_testing.checkers.state_machine import CheckedStateMachine
from raft_testing.disk.crash_disk import Call, CrashDisk, FaultKind, PowerLost
from raft_testing.disk.crash_disk import Fault as DiskFault
from raft_testing.faults.state_machine import FailingStateMachine
from raft_testing.rng import Rng
from raft_testing.sim.adapter import SimulatedAdapter
from raft_testing.sim.callers import Callers
from raft_testing.sim.clock import NodeClock
from raft_testing.sim.environment import Environment
from raft_testing.sim.random_config import address_of, unlike
from raft_testing.sim.releases import of_some_release
from raft_testing.sim.workers import SimulatedWorkers

__all__ = ["WALL", "Death", "NodeObserver", "SimulatedNode"]

WALL: Final = 1_700_000_000 * SECOND
"""What wall clocks show when a simulation begins, nearly."""


class Death(Enum):
    """How a node ends."""

    KILLED = auto()  # the process: its writes are in the page cache
    POWER = auto()  # the machine: any part of the unsynced writes survives
    POWER_CLEAN = auto()  # the machine: nothing survives that was not synced
    ENDED = auto()  # the node decided to


class NodeObserver(Protocol):
    """Observes the nodes of a simulation without changing anything."""

    def recorder_for(self, node: SimulatedNode, step: Callable[[Raft, Event | None], list[Effect]]) -> Recorder | None:
        """Return a recorder around `step` for this life of the node, or None."""
        ...

    def stepped(self, node: SimulatedNode, event: Event | None, effects: list[Effect]) -> None:
        """Note a step of the node's core."""
        ...

    def dying(self, node: SimulatedNode) -> None:
        """Note a node about to end."""
        ...

    def disk_left(self, node: SimulatedNode) -> None:
        """Note the disk of a node that has ended."""
        ...

    def disk_refused(self, node: SimulatedNode) -> None:
        """Note a damaged disk that its node refused."""
        ...


@final
class SimulatedNode:
    """A node to be started any number of times. Its disk outlives a process; its state machine does not.

    `revive` is called after the node has ended by itself. `write_time`: mean nanoseconds of a write. `unlike`: every
    life has settings of its own; `mixed`: every life is of one of two releases, until `upgrade`.
    """

    def __init__(
        self,
        world: Environment,
        observer: NodeObserver,
        revive: Callable[[SimulatedNode], None],
        node: NodeId,
        incarnation: Incarnation,
        config: NodeLimits,
        settings: Settings,
        rng: Rng,
        *,
        write_time: int,
        unlike: bool,
        mixed: bool,
    ) -> None:
        self.world = world
        self.id = node
        self.incarnation = incarnation
        self.config = config
        self.settings = settings
        self.rng = rng
        self.write_time = write_time
        self.disk = CrashDisk()
        self.clock = NodeClock(rng.below(1000 * SECOND))
        self.watched: Watched = world.safety.watch(node, incarnation)
        self.life = 0
        self.alive = False
        self.retired = False  # its disk is lost, or it was removed and switched off: it never starts again
        self.harmed = False  # its disk was damaged: it may refuse to open
        self.wiped = False
        self.paused_until = 0
        self.slow_disk = 0
        self.crash_in = -1  # so many host effects from the next call on, then it dies
        self.faults: list[tuple[str, FaultKind, str]] = []  # armed: operation, fault, kind of file
        self.fault_struck = False
        self.troubles: list[str] = []  # to come in the machine
        self.standing = RoleChanged(RoleName.FOLLOWER, self.watched.stable.hard.term, NO_NODE)
        self.store: Store | None = None
        self.host: NodeCore | None = None
        self.witness: CheckedStateMachine | None = None
        self.work: JobRunner | None = None
        self.face: NodeApi | None = None
        self.lanes = SimulatedWorkers(self)
        self._observer = observer
        self._revive = revive
        self._usual_settings = settings
        self._unlike = unlike
        self._mixed = mixed
        self._upgraded = False
        self.newer = False  # the next life is of the newer release
        self._driver: Driver | None = None
        self._surroundings = SimulatedAdapter(self)
        self._news = (0, 0)  # places in the driver's feeds: changes, alarms
        self._raft: Raft | None = None
        self._scheduled = False
        self._connections = 1
        self._accepted = OpenAccepted(config)
        self._wake = 0
        self._handled_at = 0  # by its own clock
        self._limits = limits_of_node(config, settings)
        self._callers: Callers | None = None  # while it is alive

    @property
    def raft(self) -> Raft | None:
        """The core, once there is one in this life; to be looked at."""
        return self._raft if self.alive else None

    @property
    def address(self) -> str:
        """Where others dial it."""
        return self.config.address

    @property
    def last_raft(self) -> Raft | None:
        """The core of this life, or of the last one."""
        return self._raft

    # Birth.

    def start(self) -> bool:
        """Start a new process on the same disk. Return False if the disk cannot be opened."""
        opened = self._open_disk()
        if opened is None:
            return False
        store, recovered = opened
        self._begin_life(store, recovered)
        self.alive = True
        self.standing = RoleChanged(RoleName.FOLLOWER, recovered.hard.term, NO_NODE)
        self.world.recording.restarted(self.world.now, self.id)
        self.schedule()
        return True

    def _open_disk(self) -> tuple[Store, Recovered] | None:
        """Return the store and what it holds, which must be all acknowledged; None if the disk cannot be opened."""
        world = self.world
        self.disk.watch = self._on_disk_call
        self.life += 1
        if self._unlike:
            self.settings = unlike(self.rng.fork(f"settings {self.life}"), self._usual_settings)
            world.seen["started with settings of its own"] += 1
        try:
            store = world.open_store(self.disk, self.id, self.incarnation)
            recovered = store.recover()
        except DiskError as failure:
            self._refused_to_open(failure)
            return None
        except PowerLost:
            world.seen["crash while recovering"] += 1
            self.disk = self._after_power(clean=False)
            return None
        self.store = store
        try:
            self.watched.stable.recovered(recovered)
        except ModelMismatch as failure:
            world.fail(f"node {self.id}: {failure}")
            return None
        world.safety.restarted(self.watched, recovered)
        world.safety.founded(self.watched, recovered)
        if dict(recovered.members.incarnations).get(self.id) == self.incarnation:
            self.wiped = False  # it died after it had founded the cluster on its new disk, and before it could say so
        return store, recovered

    def _begin_life(self, store: Store, recovered: Recovered) -> None:
        """Make a new machine, core and driver."""
        world = self.world
        if self._mixed:
            rng = self.rng.fork(f"release {self.life}")
            newer, self.newer = self._upgraded or self.newer, False
            self.settings = of_some_release(self.settings, recovered, rng, world.seen, newer=newer)
        machine = world.new_machine()
        self.witness = CheckedStateMachine(machine, world.replicas, self._machine_stands, f"node {self.id}")
        troubled = FailingStateMachine(self.witness, self.troubles, self._machine_raised)
        self.work = JobRunner(store, troubled, machine_blocks=self.rng.chance(0.3))
        self._raft = None
        self.host = NodeCore(
            self.config,
            self.settings,
            recovered,
            preparer(troubled),
            self.rng.fork(f"core {self.life}").random,
            self.rng.fork(f"host {self.life}").random,
            self._step,
            self._observer.recorder_for(self, self._step),
        )
        self._surroundings = SimulatedAdapter(self)
        self._driver = Driver(self.host, self._surroundings, self._surroundings)
        self._callers = Callers(self, self._driver)
        self.face = NodeApi(self.host, self._surroundings, self.config.address)
        self.lanes = SimulatedWorkers(self)
        self._scheduled, self._wake, self._news = False, 0, (0, 0)
        self._accepted = OpenAccepted(self.config)
        self.paused_until, self.crash_in = 0, -1
        self.fault_struck = self.disk.capacity is not None
        self.harmed = False  # it opened with the same contents: the damage did not matter

    def upgrade(self) -> None:
        """Run the newer release from now on."""
        if self._mixed and not self._upgraded:
            self._upgraded = True
            if self.alive and not self.settings.features:
                self.die(Death.KILLED)

    def _step(self, raft: Raft, event: Event | None) -> list[Effect]:
        self._raft = raft
        effects = self.world.safety.step(self.watched, raft, event)
        self.world.recording.step(self.world.now, self.id, raft, event, effects)
        self._observer.stepped(self, event, effects)
        return effects

    def _machine_raised(self, trouble: str) -> None:
        self.world.seen[f"machine: trouble in {trouble}"] += 1
        self.fault_struck = self.fault_struck or trouble in ("apply", "restore")

    def _machine_stands(self, last: int, taken: bool) -> None:
        self.world.safety.machine_stands(self.watched, last, taken=taken)

    def _refused_to_open(self, failure: DiskError) -> None:
        """Judge a refusal to open: right for a damaged disk, to be repeated after a failed call, else wrong."""
        world = self.world
        if self.harmed:
            world.seen["damage detected on opening"] += 1
            self._observer.disk_refused(self)
            self.retire()
        elif self.fault_struck:
            world.seen["opening failed with a disk error"] += 1
            self.fault_struck = self.disk.capacity is not None
            self.disk = self.disk.restart()
        else:
            world.fail(f"node {self.id}: store refused to open an intact disk: {failure}")

    def replace_disk(self, death: Death, others: Iterable[NodeId]) -> None:
        """Die, and have another, empty disk from now on. `others`: all nodes so far."""
        self.die(death)
        self.disk = CrashDisk()
        self.wiped = True
        self.world.safety.lost(self.watched)
        self.incarnation = Incarnation(self.incarnation + 1_000_000)
        if self.config.founders == (self.id,):  # it must not be told to bootstrap alone again
            peers = {peer: address_of(peer) for peer in others if peer != self.id}
            self.config = attrs.evolve(self.config, founders=(), peers=peers)
        self.watched = self.world.safety.watch(self.id, self.incarnation)

    def retire(self) -> None:
        """Never start again."""
        self.retired = True
        self.world.recording.ended(self.world.now, self.id, "retired")

    # The disk.

    def _on_disk_call(self, call: Call) -> None:
        for armed in self.faults:
            operation, kind, name = armed
            if call.operation == operation and call.name.startswith(name):
                self.faults.remove(armed)
                taken = self.rng.below(len(call.data) + 1) if kind is FaultKind.POWER else 0
                self.disk.faults[call.number] = DiskFault(kind, taken)
                self.fault_struck = True
                self.world.seen[f"disk: {kind.value} in {operation}"] += 1
                return

    def _after_power(self, *, clean: bool) -> CrashDisk:
        count = self.disk.unsynced
        probability = 0.0 if clean else self.rng.choice((0.0, 0.5, 0.5, 1.0))
        survivors = [change for change in range(count) if self.rng.chance(probability)]
        if count > len(survivors):
            self.world.seen["unsynced writes lost"] += 1
        return self.disk.crash(survivors)

    # Death.

    def die(self, death: Death) -> None:
        """End the process in this way; waiting callers learn nothing."""
        if not self.alive:
            return
        self._observer.dying(self)
        self.lanes.finish_writes()
        self.alive = False
        self.watched.leads = 0
        how = f"died: {death.name.lower()}"
        self.world.recording.ended(self.world.now, self.id, how)
        if not self.world.over:
            self.world.seen[f"node {how}"] += 1
            if death is Death.ENDED:
                self._revive(self)
        silently = death in (Death.POWER, Death.POWER_CLEAN) or self.disk.off
        self.world.network.abandon(self, silently=silently)
        self.disk = self._after_power(clean=death is Death.POWER_CLEAN) if silently else self.disk.restart()
        self._observer.disk_left(self)
        callers, self._callers = self._callers, None
        if callers is not None:
            callers.abandon()

    def power_lost(self) -> None:
        """Die of a power loss in the middle of a disk call, and revive."""
        self.world.seen["power lost in the middle of a call"] += 1
        self.die(Death.POWER)
        self._revive(self)

    # The loop.

    def tell(self, *events: NodeEvent) -> None:
        """Handle the events at this very moment, with all other events of it; later, while paused."""
        assert self._driver is not None
        self._driver.post_all(list(events))

    def schedule(self) -> None:
        """Give the driver a turn at this very moment; later, while paused."""
        if not self._scheduled:
            self._scheduled = True
            self.at(max(0, self.paused_until - self.world.now), self._handle)

    def at(self, delay: int, action: Callable[[], None]) -> None:
        """Take the action after this delay, unless the node has died by then."""
        life = self.life
        self.world.at(delay, lambda: action() if self.alive and self.life == life else None)

    def stop(self) -> None:
        """Ask the node to end cleanly, like SIGTERM."""
        if self._callers is not None and self._callers.stop_asked < 0:
            self._callers.stop_asked = self.clock.at(self.world.now)
        self.tell(StopAsked())

    def pause(self, duration: int) -> None:
        """Nothing is handled before then; the clock goes on."""
        self.paused_until = self.world.now + duration

    def _handle(self) -> None:
        if self.paused_until > self.world.now:
            self.at(self.paused_until - self.world.now, self._handle)
            return
        self._scheduled = False
        driver = self._driver
        assert driver is not None
        local = self.clock.at(self.world.now)
        wall = WALL + local + self.clock.wall_offset
        if self.crash_in < 0:
            driver.turn(self._surroundings, local, wall)
        elif self._turn_until_death(driver, local, wall):
            return
        self._handled_at = local
        self.look_at_queues()
        if self.disk.off:
            self.power_lost()
        elif driver.ended:
            self._finished(driver.error)
        elif driver.waiting:
            self.schedule()

    def look_at_queues(self) -> None:
        """Check that the waiting work stays within the configured bounds."""
        if self.host is not None:
            too_much = queue_of_node(self.host.load, self._limits)
            if too_much:
                self.world.fail(f"node {self.id}: {too_much}")

    def _turn_until_death(self, driver: Driver, local: int, wall: int) -> bool:
        """Whether it died in its turn.

        Every prefix of an effect list is a state to die in, so the driver's turn is taken apart here.
        """
        assert self.host is not None
        events, driver._inbox = driver._inbox or [TimerFired()], []
        effects = self.host.handle(events, local, wall)
        # Half of the deaths wait for a write: effects behind it may rely on it already.
        writes = any(type(effect) is Run and effect.lane is Lane.WRITE for effect in effects)
        dies = writes or (bool(effects) and self.crash_in % 2 == 0)
        count = self.crash_in // 2 % (len(effects) + 1) if dies else len(effects)
        for effect in effects[:count]:
            driver._do(effect, self._surroundings)
        if not dies:
            driver._run_inline(self._surroundings, wall)
            return False
        self.crash_in = -1
        self.world.seen["died between two effects"] += 1
        wrote = any(type(effect) is Run and effect.lane is Lane.WRITE for effect in effects[:count])
        if wrote and any(type(effect) is Transmit for effect in effects[count:]):
            self.world.seen["crash between persist and send"] += 1
        self.die(self.rng.choice((Death.KILLED, Death.POWER, Death.POWER_CLEAN)))
        self._revive(self)
        return True

    def nudge(self, event: Event) -> None:
        """Give the core an event that our nodes never give it. Nothing outside can cause it."""
        assert self.host is not None
        self.host._orders.events.append(event)
        self.schedule()

    def look_at_news(self) -> None:
        """Read the driver's changes and alarms."""
        driver = self._driver
        assert driver is not None
        changes, alarms = self._news
        while (change := driver.changes.after(changes)) is not None:
            self.standing, changes = change
        while (alarm := driver.alarms.after(alarms)) is not None:
            self._alarmed(alarm[0])
            alarms = alarm[1]
        self._news = (changes, alarms)

    def wake_at(self, local: int) -> None:
        """Give the driver a turn when the node's clock shows this, at the latest; replaces the time before."""
        self._wake = local
        moment = self.clock.moment(local)

        def fire() -> None:
            if self._wake == local:
                self.schedule()

        self.at(max(0, moment - self.world.now), fire)

    def clock_changed(self) -> None:
        """Timers are set anew, by the clock as it is now."""
        if self.alive and self._wake:
            self.wake_at(self._wake)

    def _alarmed(self, alarm: Alarm) -> None:
        self.world.seen[f"alarm: {alarm.kind.value}"] += 1
        if alarm.kind in (AlarmKind.TWO_LEADERS, AlarmKind.COMMITTED_CONFLICT):
            self.world.fail(f"node {self.id} raised the alarm {alarm.kind.value}: {alarm.text}")

    def _finished(self, error: Exception | None) -> None:
        if error is not None:
            self.world.seen[f"node ended: {type(error).__name__}"] += 1
        if isinstance(error, LogLost):
            self.world.require(self.wiped, f"node {self.id} ended for no reason: {error}")
            self.retire()
        elif isinstance(error, SettingsError) and self._mixed and not self.settings.features:
            self._upgraded = True  # the others have founded a cluster with the feature meanwhile
        elif error is not None and not self.fault_struck:
            self.world.fail(f"node {self.id} ended for no reason: {error}")
        self.die(Death.ENDED)

    # Callers and connections.

    def accepted_closed(self) -> None:
        """Note that an accepted connection is closed."""
        self._accepted.leave()

    def accept(self) -> ConnectionId | None:
        """Return a number for an accepted connection, None where no descriptor is left."""
        if not self._accepted.enter():
            self.world.seen["connection not accepted: no descriptor is left"] += 1
            return None
        self._connections += 2
        return ConnectionId(self._connections)

    def call(self, ticket: int, request: NodeRequest, deadline: int, caller: Callable[[Reply], None]) -> None:
        """Make the request; the caller is told once."""
        if self._callers is None:
            caller(None)
        else:
            self._callers.call(ticket, request, deadline, caller)

    def cancel(self, ticket: int) -> None:
        """Drop the caller. A living node has answered every caller whose deadline has passed."""
        if self._callers is not None:
            self._callers.cancel(ticket, self._handled_at)
