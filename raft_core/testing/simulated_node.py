"""One simulated node: a real `Host` and `Work` over a crash disk, a clock of its own, and the ways in which it dies.

What lives here: `SimulatedNode`, which does a host's effects against the simulated network and disk; `NodeClock`.
When something bad happens to it is decided in `nemesis`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, TypeAlias, final

from raft_core.effects import Alarm, AlarmKind, Announce, Effect, Persist, RoleName
from raft_core.errors import DiskError, LogLost, RequestError
from raft_core.events import Event
from raft_core.host.config import SECOND, HostConfig
from raft_core.host.host import Host
from raft_core.host.values import (
    Answer,
    ClientCancelled,
    ConnectionId,
    Dial,
    Disconnect,
    Finished,
    FormCluster,
    Formed,
    HostEffect,
    HostEvent,
    HostStarted,
    Job,
    JobFailed,
    Lane,
    Run,
    Ticket,
    TimerFired,
    Transmit,
    WakeAt,
    Write,
    Wrote,
)
from raft_core.host.work import Work
from raft_core.ids import NOBODY, Incarnation, NodeId, WriteId
from raft_core.raft import Raft
from raft_core.recovered import formation
from raft_core.settings import Settings
from raft_core.storage import Store
from raft_core.testing.checks import Watched
from raft_core.testing.crash_disk import Call, CrashDisk, FaultKind, PowerLost
from raft_core.testing.crash_disk import Fault as DiskFault
from raft_core.testing.dice import Dice
from raft_core.testing.mirrors import Mismatch
from raft_core.testing.witness import Witness

if TYPE_CHECKING:
    from raft_core.testing.simulation import Simulation

__all__ = ["Death", "NodeClock", "Reply", "SimulatedNode"]

_WALL: Final = 1_700_000_000 * SECOND

Reply: TypeAlias = "bytes | RequestError | None"
"""What a caller gets: an answer, an error, or None where the node died."""


class Death(Enum):
    """How a node ends."""

    KILLED = auto()  # the process: what it wrote is in the page cache
    POWER = auto()  # the machine: of what was not synced anything or nothing survives
    POWER_CLEAN = auto()  # the machine: nothing survives that was not synced
    ENDED = auto()  # the node decided to


@final
class NodeClock:
    """A clock that runs at its own rate, in thousandths, and may jump; the monotonic part never goes back."""

    __slots__ = ("_global", "_local", "rate", "wall_offset")

    def __init__(self, offset: int) -> None:
        self._global = 0
        self._local = offset
        self.rate = 1000
        self.wall_offset = 0

    def at(self, moment: int) -> int:
        """What the clock shows at this moment of the simulation."""
        return self._local + (moment - self._global) * self.rate // 1000

    def moment(self, local: int) -> int:
        """When the clock will show this."""
        return self._global - (self._local - local) * 1000 // self.rate + 1

    def change(self, moment: int, rate: int, *, jump: int = 0) -> None:
        self._local = self.at(moment) + jump
        self._global = moment
        self.rate = rate


@final
class SimulatedNode:
    """A node that can be started any number of times. Its disk outlives it; its machine does not."""

    def __init__(
        self,
        simulation: Simulation,
        node: NodeId,
        incarnation: Incarnation,
        config: HostConfig,
        settings: Settings,
        dice: Dice,
    ) -> None:
        self.simulation = simulation
        self.id = node
        self.incarnation = incarnation
        self.config = config
        self.settings = settings
        self.dice = dice
        self.disk = CrashDisk()
        self.clock = NodeClock(dice.below(1000 * SECOND))
        self.watched: Watched = simulation.overseer.watch(node, incarnation)
        self.life = 0
        self.alive = False
        self.retired = False  # its disk is lost, or it was removed and switched off: it never starts again
        self.harmed = False  # its disk was damaged: it may refuse to open
        self.wiped = False
        self.paused_until = 0
        self.slow_disk = 0
        self.crash_in = -1  # so many host effects from the next call on, then it dies
        self.faults: list[tuple[str, FaultKind, str]] = []  # armed: operation, what, in which kind of file
        self.fault_struck = False
        self.finished: Finished | None = None
        self.standing = Announce(RoleName.FOLLOWER, self.watched.stable.hard.term, NOBODY)
        self.store: Store | None = None
        self.host: Host | None = None
        self.witness: Witness | None = None
        self._work: Work | None = None
        self._raft: Raft | None = None
        self._lanes: dict[Lane, deque[Job]] = {lane: deque() for lane in Lane}
        self._running: dict[Lane, list[Job]] = {}
        self._inbox: list[HostEvent] = []
        self._scheduled = False
        self._connections = 1
        self._wake = 0
        self._callers: dict[Ticket, Callable[[Reply], None]] = {}

    @property
    def raft(self) -> Raft | None:
        """The core, once there is one in this life; to be looked at."""
        return self._raft if self.alive else None

    # Birth.

    def start(self) -> bool:
        """A new process on the same disk; False where the disk could not be opened."""
        simulation = self.simulation
        self.disk.watch = self._on_disk_call
        self.life += 1
        try:
            store = simulation.open_store(self.disk, self.id, self.incarnation)
            recovered = store.recover()
        except DiskError as failure:
            self._refused_to_open(failure)
            return False
        except PowerLost:
            simulation.seen["crash while recovering"] += 1
            self.disk = self._after_power(clean=False)
            return False
        self.store = store
        try:
            self.watched.stable.recovered(recovered)
        except Mismatch as failure:
            simulation.overseer.fail(f"node {self.id}: {failure}")
            return False
        simulation.overseer.restarted(self.watched, recovered)
        simulation.overseer.founded(self.watched, recovered)
        machine = simulation.new_machine()
        self.witness = Witness(machine, simulation.testimony)
        self._work = Work(store, self.witness, machine_blocks=self.dice.chance(0.3))
        self._raft = None
        self.host = Host(
            self.config,
            self.settings,
            recovered,
            self.witness.prepare,
            self.dice.fork(f"core {self.life}").random,
            self.dice.fork(f"host {self.life}").random,
            self._step,
        )
        self._lanes = {lane: deque() for lane in Lane}
        self._running, self._inbox, self._scheduled, self._wake = {}, [], False, 0
        self.paused_until, self.crash_in = 0, -1
        self.fault_struck = self.disk.capacity is not None
        self.harmed = False  # it opened, and is what it was: the damage did not matter
        self.alive, self.finished = True, None
        self.standing = Announce(RoleName.FOLLOWER, recovered.hard.term, NOBODY)
        simulation.record_life(self, "started")
        self.tell(HostStarted())
        return True

    def _step(self, raft: Raft, event: Event) -> list[Effect]:
        self._raft = raft
        effects = self.simulation.overseer.step(self.watched, raft, event)
        self.simulation.record_step(self, raft, event, effects)
        return effects

    def _refused_to_open(self, failure: DiskError) -> None:
        """Where the disk was harmed that is right; where a call failed it is opened again; otherwise it is wrong."""
        simulation = self.simulation
        if self.harmed:
            simulation.seen["damage detected on opening"] += 1
            self.retire()
        elif self.fault_struck:
            simulation.seen["opening failed with a disk error"] += 1
            self.fault_struck = self.disk.capacity is not None
            self.disk = self.disk.restart()
        else:
            simulation.overseer.fail(f"node {self.id}: a disk that nothing happened to was refused: {failure}")

    def retire(self) -> None:
        """It never starts again."""
        self.retired = True
        self.simulation.record_life(self, "retired")

    # The disk.

    def _on_disk_call(self, call: Call) -> None:
        for armed in self.faults:
            operation, kind, name = armed
            if call.operation == operation and call.name.startswith(name):
                self.faults.remove(armed)
                taken = self.dice.below(len(call.data) + 1) if kind is FaultKind.POWER else 0
                self.disk.faults[call.number] = DiskFault(kind, taken)
                self.fault_struck = True
                self.simulation.seen[f"disk: {kind.value} in {operation}"] += 1
                return

    def _after_power(self, *, clean: bool) -> CrashDisk:
        count = self.disk.unsynced
        probability = 0.0 if clean else self.dice.choice((0.0, 0.5, 0.5, 1.0))
        survivors = [change for change in range(count) if self.dice.chance(probability)]
        if count > len(survivors):
            self.simulation.seen["unsynced writes lost"] += 1
        return self.disk.crash(survivors)

    # Death.

    def die(self, death: Death) -> None:
        """The process is gone, in this way; whoever waits learns nothing."""
        if not self.alive:
            return
        self._finish_writes()
        self.alive = False
        self.watched.leads = 0
        self.simulation.record_life(self, f"died: {death.name.lower()}")
        silently = death in (Death.POWER, Death.POWER_CLEAN) or self.disk.off
        self.simulation.network.abandon(self, silently=silently)
        self.disk = self._after_power(clean=death is Death.POWER_CLEAN) if silently else self.disk.restart()
        callers, self._callers = self._callers, {}
        for caller in callers.values():
            caller(None)

    def _finish_writes(self) -> None:
        """What the write lane was doing may get done, up to any point, before the process is gone."""
        assert self._work is not None
        jobs = self._running.pop(Lane.WRITE, []) or list(self._lanes[Lane.WRITE])
        if not jobs or not self.dice.chance(0.6):
            return
        self._hand_over(jobs)
        if self.dice.chance(0.5):
            at = self.disk.calls + 1 + self.dice.below(6)
            self.disk.faults[at] = DiskFault(FaultKind.POWER, self.dice.below(3000))
            self.simulation.seen["power lost in the middle of a write"] += 1
        self._work.run(Lane.WRITE, jobs)
        self.simulation.seen["crash between persist and report"] += 1

    # What the host orders.

    def tell(self, *events: HostEvent) -> None:
        """The events are handled at this very moment, with whatever else happens in it; later, while paused."""
        self._inbox.extend(events)
        if not self._scheduled:
            self._scheduled = True
            self._at(max(0, self.paused_until - self.simulation.now), self._handle)

    def _at(self, delay: int, action: Callable[[], None]) -> None:
        life = self.life
        self.simulation.at(delay, lambda: action() if self.alive and self.life == life else None)

    def pause(self, duration: int) -> None:
        """Nothing is handled before then; the clock goes on."""
        self.paused_until = self.simulation.now + duration

    def _handle(self) -> None:
        if self.paused_until > self.simulation.now:
            self._at(self.paused_until - self.simulation.now, self._handle)
            return
        self._scheduled = False
        events, self._inbox = self._inbox, []
        host = self.host
        assert host is not None
        local = self.clock.at(self.simulation.now)
        effects = host.handle(events, local, _WALL + local + self.clock.wall_offset)
        if self.crash_in >= 0 and effects:
            self._handle_until_death(effects)
            return
        for effect in effects:
            self._do(effect)

    def _handle_until_death(self, effects: list[HostEffect]) -> None:
        """Every prefix of an effect list is a state to die in."""
        count, self.crash_in = self.crash_in % (len(effects) + 1), -1
        for effect in effects[:count]:
            self._do(effect)
        self.simulation.seen["died between two effects"] += 1
        wrote = any(type(effect) is Run and effect.lane is Lane.WRITE for effect in effects[:count])
        if wrote and any(type(effect) is Transmit for effect in effects[count:]):
            self.simulation.seen["crash between persist and send"] += 1
        self.die(self.dice.choice((Death.KILLED, Death.POWER, Death.POWER_CLEAN)))

    def _do(self, effect: HostEffect) -> None:  # hottest first
        network = self.simulation.network
        if type(effect) is Transmit:
            network.transmit(self, effect.connection, effect.data)
        elif type(effect) is WakeAt:
            self._wake_at(effect.at)
        elif type(effect) is Run:
            self._lanes[effect.lane].append(effect.job)
            self._work_on(effect.lane)
        elif type(effect) is Answer:
            caller = self._callers.pop(effect.ticket, None)
            if caller is not None:
                caller(effect.error if effect.error is not None else effect.data)
        elif type(effect) is Announce:
            self.standing = effect
        elif type(effect) is Dial:
            network.dial(self, effect.connection, effect.address)
        elif type(effect) is Disconnect:
            network.close(self, effect.connection)
        elif type(effect) is Alarm:
            self._alarmed(effect)
        elif type(effect) is Finished:
            self._finished(effect)

    def _wake_at(self, local: int) -> None:
        self._wake = local
        moment = self.clock.moment(local)

        def fire() -> None:
            if self._wake == local:
                self.tell(TimerFired())

        self._at(max(0, moment - self.simulation.now), fire)

    def clock_changed(self) -> None:
        """Timers are set anew, by the clock as it is now."""
        if self.alive and self._wake:
            self._wake_at(self._wake)

    def _alarmed(self, alarm: Alarm) -> None:
        self.simulation.seen[f"alarm: {alarm.kind.value}"] += 1
        if alarm.kind in (AlarmKind.TWO_LEADERS, AlarmKind.COMMITTED_CONFLICT):
            self.simulation.overseer.fail(f"node {self.id} raised the alarm {alarm.kind.value}: {alarm.text}")

    def _finished(self, effect: Finished) -> None:
        self.finished = effect
        error = effect.error
        if error is not None:
            self.simulation.seen[f"node ended: {type(error).__name__}"] += 1
        if isinstance(error, LogLost):
            self.simulation.overseer.require(self.wiped, f"node {self.id} ended for no reason: {error}")
            self.retire()
        elif error is not None and not self.fault_struck:
            self.simulation.overseer.fail(f"node {self.id} ended for no reason: {error}")
        self.die(Death.ENDED)

    # Lanes.

    def _work_on(self, lane: Lane) -> None:
        if lane in self._running or not self._lanes[lane]:
            return
        jobs = list(self._lanes[lane])
        self._lanes[lane].clear()
        self._running[lane] = jobs
        self._at(self.simulation.duration(self, lane), lambda: self._work_done(lane))

    def _work_done(self, lane: Lane) -> None:
        jobs = self._running.pop(lane)
        assert self._work is not None
        if lane is Lane.WRITE:
            self._hand_over(jobs)
        reports = self._work.run(lane, jobs)
        if self.disk.off:
            self.simulation.seen["power lost in the middle of a call"] += 1
            self.die(Death.POWER)
            return
        for report in reports:
            if type(report) is Wrote:
                self.watched.stable.done(report.upto)
            elif type(report) is Formed:
                self.watched.stable.done(WriteId(0))
                self.watched.told.load(report.recovered)
                self.simulation.overseer.founded(self.watched, report.recovered)
            elif type(report) is JobFailed and lane is Lane.SNAPSHOT:
                self.simulation.seen["snapshot not stored"] += 1
        if reports:
            self.tell(*reports)
        self._work_on(lane)

    def _hand_over(self, jobs: list[Job]) -> None:
        """The disk model knows what may be found from now on."""
        for job in jobs:
            if type(job) is Write:
                self.watched.stable.pending.append(job.persist)
            elif type(job) is FormCluster:
                hard, entry = formation(job.members)
                self.watched.stable.pending.append(Persist(WriteId(0), hard=hard, entries=(entry,)))

    def next_connection(self) -> ConnectionId:
        self._connections += 2
        return ConnectionId(self._connections)

    # Callers.

    def call(self, ticket: Ticket, event: HostEvent, caller: Callable[[Reply], None]) -> None:
        """The event carries the ticket; the caller is told once."""
        self._callers[ticket] = caller
        self.tell(event)

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits any more."""
        if self._callers.pop(ticket, None) is not None and self.alive:
            self.tell(ClientCancelled(ticket))
