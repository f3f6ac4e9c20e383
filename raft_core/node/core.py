"""`NodeCore`: one node without its I/O. Events in, effects out.

It owns the Raft core and the parts around it, and decides the order in which they see each event. One call handles the
events in order, each with the core's effects; then the elapsed time, as one tick, so that a process that slept handles
waiting input before its timers; then the callers' requests, as one batch; then outgoing bytes. It returns everything
that it caused. The adapter reads the clock and supplies the generators: the same calls return the same effects.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, final

from raft_core.effects import (
    Alarm,
    AlarmKind,
    Apply,
    Effect,
    Persist,
    ReceiveSnapshot,
    Respond,
    Restore,
    RoleChanged,
    RoleName,
    Send,
    Stop,
    TakeSnapshot,
)
from raft_core.errors import CallerError, RaftError
from raft_core.events import (
    Applied,
    CampaignRequested,
    Event,
    PeerConnected,
    Persisted,
    Restored,
    SnapshotFailed,
    SnapshotTaken,
    Tick,
)
from raft_core.ids import NO_NODE
from raft_core.membership import Members
from raft_core.messages import AppendEntries, InstallSnapshot, ReadIndex
from raft_core.node.cluster_time import ClusterTime
from raft_core.node.connection_events import give_payload, tell_peers, tell_transfers
from raft_core.node.events import (
    Answer,
    BytesReceived,
    Call,
    CallCancelled,
    CertificateRead,
    Finished,
    Formed,
    JobFailed,
    MachineTime,
    NodeEffect,
    NodeEvent,
    QueryAnswered,
    QueryFailed,
    SnapshotBegun,
    StopAsked,
    TimerFired,
    Transmitted,
    WakeAt,
)
from raft_core.node.features import refuse_lacking
from raft_core.node.handshake import Handshake
from raft_core.node.jobs import Lane, StoreSnapshot
from raft_core.node.leaving import Leaving
from raft_core.node.limits import NodeLimits
from raft_core.node.meter import Meter
from raft_core.node.notices import Notices
from raft_core.node.outcomes import core_error, ended, ending, failure_event, stop_error
from raft_core.node.outputs import Outputs
from raft_core.node.own_certificate import OwnCertificate
from raft_core.node.peer_connection import Connection
from raft_core.node.peers import Peers
from raft_core.node.requests import RequestBook
from raft_core.node.snapshot_transfer import Receiving, Serving
from raft_core.node.status import Drop, Phase
from raft_core.node.ticks import Ticks
from raft_core.node.view import NodeView
from raft_core.raft import Raft
from raft_core.recorder import Recorder
from raft_core.recovered import Recovered
from raft_core.settings import Settings, check_features
from raft_core.wire.handshake import Greeted, LinkBroken, LinkEvent, MessageReceived
from raft_core.wire.payloads import Hello

__all__ = ["NodeCore"]

_LANES: Final = {Persist: Lane.WRITE, Apply: Lane.APPLY, TakeSnapshot: Lane.APPLY, Restore: Lane.APPLY}
"""The core's effects that are jobs."""
_FOR_CORE: Final = frozenset({Persisted, Applied, Restored, SnapshotTaken, SnapshotFailed})
"""The reports that are the core's events."""

_ENDED: Final = Phase.ENDED
_SWEEP_TICKS: Final = 100
_RETRY_TICKS: Final = 5
"""Ticks between two attempts to move held requests. News of a leader moves them at once."""


@final
class NodeCore(NodeView):
    """One node.

    `rng` is the node's generator, `core_rng` the core's; `machine_prepare` is `preparer` of the machine. `step`
    replaces `Raft.step`, to check each step, with the same effects. Raise `CallerError` if the configuration
    contradicts the disk or the settings (`FeatureUnknown`: the disk's last release was a newer one), and from `handle`
    if the adapter breaks the contract of `events.py`. No peer, client, disk or machine makes it raise.
    """

    def __init__(
        self,
        config: NodeLimits,
        settings: Settings,
        recovered: Recovered,
        machine_prepare: Callable[[bytes, int, int], bytes],
        core_rng: random.Random,
        rng: random.Random,
        step: Callable[[Raft, Event | None], list[Effect]] = Raft.step,
        recorder: Recorder | None = None,
    ) -> None:
        self._config = config
        self._settings = settings = config.settings_of_core(settings)
        check_features(settings, recovered.members)
        self._recovered = recovered
        self._core_rng = core_rng
        self._take = step if recorder is None else recorder.step
        self._recorder = recorder
        self._orders = Outputs()
        self._peers = Peers(config, settings, recovered.identity, self._orders, rng)
        self._handshake = Handshake(config, settings, recovered, self._orders, self._peers)
        self.meter = Meter()
        self._clients = RequestBook(config, settings, self._orders, self._peers, machine_prepare, self.meter)
        self._leaving = Leaving(config, self._orders, self._clients, self._peers)
        self._receiving = Receiving(config, self._orders, self._peers)
        self._serving = Serving(config, self._orders, self._peers)
        self._notices = Notices(config, recovered.identity.node, self._orders, self._peers, self._clients)
        self._certificate = OwnCertificate(self._orders)
        self._raft: Raft | None = None
        self._phase = Phase.FORMING
        self._standing = RoleChanged(RoleName.FOLLOWER, recovered.hard.term, NO_NODE)
        self._leads = False
        self._unstamped = False  # this node leads, and does not know the cluster's time yet
        self._members: Members | None = None
        self._uncommitted_members = False
        self._time = ClusterTime()
        self._started = False
        self._retry_held = False
        self._slept = False
        self._late_reads: list[ReadIndex] = []
        self._now = 0
        self._wall = 0
        self._ticks = Ticks(config.tick)
        self._swept_at = 0
        self._wake_at = 0
        self._stop_at = 0
        self._failure: RaftError | None = None
        self._core_stop: Stop | None = None

    def handle(self, events: Sequence[NodeEvent], now: int, wall: int) -> list[NodeEffect]:
        """Handle `events` and return all effects, in order.

        `now`: monotonic nanoseconds; `wall`: those since 1970, for wall times and the start of cluster time.
        """
        if self._phase is _ENDED:
            return self._after_the_end(events)
        self._set_time(now)
        self._wall = wall
        orders, peers = self._orders, self._peers
        ticks_pass = self._now >= self._ticks.next_at  # most calls come between two ticks
        if ticks_pass:
            if (quiet := self._ticks.pass_quiet(self._now)) > 0:
                self._pass_quiet(quiet)
            self._slept = self._ticks.due(self._now)
        if not self._started:
            self._start()
            self._settle()
        for event in events:
            self._on_event(event)
            if orders.events or peers.lost:
                self._settle()
        if ticks_pass:
            self._pass_time()
        if self._slept:
            self._slept = False
            orders.events.extend(self._late_reads)
            self._late_reads.clear()
            self._settle()
        self._move_requests()
        if self._phase is Phase.STOPPING:
            self._leaving.look(self._now, leads=self._leads)
            self._settle()
        if not self._ended():
            peers.flush(hurry=self._phase is Phase.STOPPING)
            if self._core_stop is not None and not peers.table.answering:
                self._end(self._failure, self._core_stop.text)
            else:
                self._wish_to_wake()
        return orders.taken()

    def _move_requests(self) -> None:
        """Give new and held requests to the core or the leader. Nothing here is called without something to do."""
        clients, raft, meter = self._clients, self._raft, self.meter
        clients.on_time()
        if clients.backups.waiting:
            clients.look_at_backups(raft)
        if clients.new or clients.full or self._retry_held or self._unstamped:
            leads = self._leads
            time = self._time.to_stamp(raft if leads else None, self._now, self._wall)
            self._unstamped = leads and not time
            retry, self._retry_held = self._retry_held, False
            clients.flush(time, self._wall, self._standing.leader, leads=leads, retry=retry, forming=raft is None)
        if self._orders.events or self._peers.lost:
            self._settle()
        if clients.reads:
            clients.look_at_disk(raft)
        if meter.has_proposed or meter.uncommitted:
            meter.look(raft, self._now, leads=self._leads)

    def _ended(self) -> bool:
        return self._phase is Phase.ENDED

    # Events.

    def _on_event(self, event: NodeEvent) -> None:  # hottest first
        if self._phase is _ENDED:
            self._refuse_client(event)
            return
        kind = type(event)
        if kind is BytesReceived:
            assert isinstance(event, BytesReceived)
            for connection, said in self._peers.on_bytes(event.connection, event.data):
                self._on_said(connection, said)
        elif kind is Transmitted:
            assert isinstance(event, Transmitted)
            self._peers.on_transmitted(event)
        elif type(event) is Call:
            self._clients.on_call(event)
        elif kind in _FOR_CORE:
            self._orders.events.append(event)  # type: ignore[arg-type]
            if type(event) is Persisted:
                self.meter.persisted(event.upto, self._now)
            elif type(event) is SnapshotFailed:
                self._orders.effects.append(Alarm(AlarmKind.SNAPSHOT_STUCK, NO_NODE, event.text))
                for failed in self._clients.backups.on_snapshot_failed(event.text):
                    self._clients.on_query_done(failed)
        elif type(event) is MachineTime:
            self._time.log_shows(event.time, self._now)
        elif type(event) is QueryAnswered:
            self._clients.on_query_done(event)
        elif kind is TimerFired:
            self._wake_at = 0  # every call checks the time; an early timer uses up the wake-up as well
        elif not tell_peers(self._peers, event):
            self._on_rare_event(event)

    def _on_rare_event(self, event: NodeEvent) -> None:
        match event:
            case CertificateRead():
                self._certificate.on_read(event)
            case CallCancelled(ticket):
                self._clients.cancel(ticket)
            case QueryFailed():
                self._clients.on_query_done(event)
            case StopAsked():
                self._on_stop_asked()
            case JobFailed():
                self._on_job_failed(event)
            case Formed(recovered):
                self._on_formed(recovered)
            case SnapshotBegun(meta, chunks):
                self._orders.run(Lane.SNAPSHOT, StoreSnapshot(meta, chunks))
            case _:
                if not tell_transfers(self._serving, self._receiving, event):
                    raise CallerError(f"{event!r} is no event of a host")

    def _on_said(self, connection: Connection, said: LinkEvent) -> None:
        if connection.closing and isinstance(said, Greeted | MessageReceived):
            return  # a later message broke the connection, or we refused the greeting
        if isinstance(said, Greeted):
            self._on_greeted(connection, said.hello)
        elif isinstance(said, MessageReceived):
            self._orders.events.append(said.message)
        elif not isinstance(said, LinkBroken):
            give_payload(said.payload, connection, self._peers, self._clients, self._serving, self._receiving)
        elif (error := self._handshake.on_broken(said)) is not None:
            self._end(error, str(error))

    def _on_greeted(self, connection: Connection, hello: Hello) -> None:
        welcome = self._handshake.on_greeted(connection, hello)
        if isinstance(welcome, RaftError):
            self._end(welcome, str(welcome))
        elif welcome:
            if self._raft is None and self._handshake.ready:
                self._build_core(self._recovered)
            self._retry_held = True
            if connection.dialled:
                self._receiving.on_connected(hello.sender)
            else:
                self._peers.dial_due()

    def _on_stop_asked(self) -> None:
        if self._raft is None:
            self._end(self._failure, "asked to stop")
        elif self._phase is not Phase.STOPPING:
            self._phase = Phase.STOPPING
            self._stop_at = self._stop_at or self._now + self._config.stop_timeout
            self._leaving.begin(self._now, leads=self._leads)

    def _on_job_failed(self, event: JobFailed) -> None:
        """End the node, unless the lane of chunks failed: then only the current snapshot fetch is given up."""
        if event.lane is Lane.CHUNKS:
            self._orders.effects.append(Alarm(AlarmKind.SNAPSHOT_STUCK, NO_NODE, str(event.error)))
            self._receiving.give_up()
            return
        self._failure = self._failure or event.error
        if self._raft is None:
            self._end(event.error, str(event.error))
            return
        self._stop_at = self._stop_at or self._now + self._config.stop_timeout
        self._orders.events.append(failure_event(event.error))

    # The core.

    def _start(self) -> None:
        self._started = True
        self._ticks.start(self._now)
        self._notices.at_start()
        if self._handshake.ready:
            self._build_core(self._recovered)
        else:
            self._handshake.bootstrap.begin()
        self._peers.dial_due()

    def _on_formed(self, recovered: Recovered) -> None:
        self._handshake.on_formed(recovered)
        self._build_core(recovered)

    def _build_core(self, recovered: Recovered) -> None:
        """Start the core. Report the peers that greeted before as connected."""
        self._raft = Raft(self._settings, recovered, rng=self._core_rng)
        self._phase = Phase.RUNNING
        self._standing = RoleChanged(RoleName.FOLLOWER, recovered.hard.term, NO_NODE)
        self._leads = False
        self._orders.events.clear()  # messages received before the core existed
        self._orders.events.append(None)  # a step without an event: a replay must not wait for one
        self._orders.events.extend(PeerConnected(peer) for peer in self._peers.table.connected_peers())
        if tuple(self._raft.members.all_voters) == (recovered.identity.node,):
            self._orders.events.append(CampaignRequested())  # nobody else can lead, so there is nobody to wait for

    def _settle(self) -> None:
        """Step the core until no event is left, and carry out its effects."""
        events = self._orders.events
        while True:
            while events:
                if self._phase is _ENDED:
                    break
                event = events.popleft()
                if self._raft is None or self._core_stop is not None:
                    self._peers.drop(Drop.NOT_READY)
                    continue
                if self._slept and type(event) is ReadIndex:
                    self._late_reads.append(event)  # a lease may have ended while we slept: the tick goes first
                    continue
                self._take_step(self._raft, event)
                if type(event) is AppendEntries or type(event) is InstallSnapshot:
                    self._time.hear(self._raft, event, self._now)
            if self._peers.lost:
                lost, self._peers.lost = self._peers.lost, []
                for connection, left in lost:
                    self._clients.on_lost(connection, left)
            if self._uncommitted_members or (self._raft is not None and self._raft.members is not self._members):
                self._look_at_members()
            if not (events or self._peers.lost) or self._ended():
                return

    def _take_step(self, raft: Raft, event: Event | None) -> None:
        """Step the core and carry out its effects. If it raises, this library has a bug: end the node."""
        try:
            effects = self._take(raft, event)
        except Exception as failure:
            error = core_error(failure, event)
            self._end(error, str(error))
            return
        for effect in effects:
            self._on_effect(effect)
        if self._core_stop is not None:  # after all other effects of the step
            self._on_core_stopped(self._core_stop)

    def _on_effect(self, effect: Effect) -> None:  # hottest first
        if type(effect) is Send:
            self._peers.send(effect.to, self._time.put_into(effect.message, self._now))
            if type(effect.message) is InstallSnapshot:
                self._serving.on_offered(effect.to)
        elif (lane := _LANES.get(type(effect))) is not None:
            here = self._config.inline_sync and not self._leads and lane is Lane.WRITE
            self._orders.run(lane, effect, here)  # type: ignore[arg-type]
            if type(effect) is Persist:
                self.meter.ordered(effect, self._now)
            self._handshake.on_write()
        elif isinstance(effect, Respond):
            self._leaving.on_respond(effect)
            self._clients.on_respond(effect)
        elif isinstance(effect, RoleChanged):
            self._standing = effect
            self._leaving.role_changes(self._now, led=self._leads)
            self._leads = self._unstamped = effect.role is RoleName.LEADER
            self.meter.role_changed(effect)
            self._retry_held = True
            self._orders.effects.append(effect)
        elif isinstance(effect, Alarm):
            self._orders.effects.append(effect)
        elif isinstance(effect, ReceiveSnapshot):
            self._receiving.begin(effect.sender, effect.meta)
        elif isinstance(effect, Stop):
            self._core_stop = effect
        else:
            raise AssertionError(f"an effect of no known kind: {effect!r}")

    def _on_core_stopped(self, stop: Stop) -> None:
        """End the node. After a failure, first send the answers to peers, so that their callers learn the reason."""
        error = stop_error(stop.reason, stop.text, self._failure)
        if error is None:
            self._end(None, stop.text or "asked to stop")
            return
        self._phase, self._failure = Phase.STOPPING, error
        self._stop_at = self._now + self._config.drain_timeout
        self._clients.answer_all(*ending(error))

    # Time.

    def _set_time(self, now: int) -> None:
        self._now = max(now, self._now)
        self._peers.now = self._clients.now = self._clients.backups.now = self._receiving.now = self._now

    def _pass_time(self) -> None:
        """Pass all elapsed ticks as one event. Check members, connections and notices at the same rate."""
        if self._ended():
            return
        before = self._ticks.count
        elapsed = self._ticks.pass_all(self._now)
        if not elapsed:
            return
        if before // _RETRY_TICKS != self._ticks.count // _RETRY_TICKS:
            self._retry_held = True
        if self._raft is not None and self._core_stop is None:
            self._orders.events.append(Tick(elapsed))
            self._settle()
        if self._stop_at and self._now >= self._stop_at and not self._ended():
            self._end(self._failure, "stopped without waiting any longer")
        if self._ended():
            return
        self._peers.on_tick()
        self._receiving.on_tick()
        self._clients.backups.on_tick()
        self._notices.look(self._now, self._raft)
        self._certificate.look(self._now, self._wall)
        if self._ticks.count - self._swept_at >= _SWEEP_TICKS:
            self._swept_at = self._ticks.count
            self._clients.sweep()
        self._settle()

    def _look_at_members(self) -> None:
        """Adopt the configuration in force: it says which peers to dial and which incarnations are theirs."""
        if self._raft is None or self._ended():
            return
        members = self._raft.members
        if members is not self._members:
            self._members = members
            self._clients.on_members(members, self._recovered.identity.node)
            self._peers.on_members(members)
            self._uncommitted_members = True
        if self._uncommitted_members:
            self._uncommitted_members = not self._raft.server.members_committed
            refuse_lacking(self._peers, self._raft.features)

    def _pass_quiet(self, ticks: int) -> None:
        """Pass ticks in which nothing is due, each for itself: the node could sleep, but counts as awake."""
        self._orders.events.extend([Tick()] * ticks)
        self._settle()
        self._peers.table.pass_quiet(ticks)

    def _quiet_ticks(self) -> int:
        """Return in how many of the next ticks nothing is due."""
        if self._raft is None or self._phase is not Phase.RUNNING or self._core_stop is not None:
            return 0
        if self._clients.count or not (quiet := self._raft.quiet_ticks):  # most calls of a busy node end here
            return 0
        if self._clients.busy or self._receiving.active or self._late_reads:
            return 0
        return min(quiet, self._peers.quiet_ticks())

    def _wish_to_wake(self) -> None:
        at = self._ticks.plan(self._quiet_ticks())
        if 0 < self._peers.riders.until < at:
            at = self._peers.riders.until
        if at != self._wake_at:
            self._wake_at = at
            self._orders.effects.append(WakeAt(at))

    # The end.

    def _end(self, error: RaftError | None, text: str) -> None:
        """End the node: answer every caller, close every connection, emit `Finished`."""
        if self._ended():
            return
        self._clients.answer_all(*ending(error))
        self._peers.flush()
        self._peers.close_all()
        self._phase = Phase.ENDED
        self._orders.events.clear()
        self._orders.effects.append(Finished(error, text))

    def _after_the_end(self, events: Sequence[NodeEvent]) -> list[NodeEffect]:
        for event in events:
            self._refuse_client(event)
        return self._orders.taken()

    def _refuse_client(self, event: NodeEvent) -> None:
        if type(event) is Call:
            self._orders.effects.append(Answer(event.ticket, ended(self._failure)))
