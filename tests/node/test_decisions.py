"""What a host makes of each event and of each of the core's orders; the core is played by a script."""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs
import msgspec
import pytest

from raft_core.effects import (
    Alarm,
    AlarmKind,
    Apply,
    Effect,
    Persist,
    ReceiveSnapshot,
    Refusal,
    RefusalReason,
    Respond,
    Restore,
    RoleChanged,
    RoleName,
    Send,
    Stop,
    StopReason,
    Success,
    TakeSnapshot,
    UnknownReason,
)
from raft_core.entries import HardState, SnapshotMeta
from raft_core.errors import CallerError, InvariantBroken, LogLost, RequestError, SettingsError, StorageBroken
from raft_core.events import (
    Applied,
    Event,
    PeerConnected,
    PeerUnreachable,
    Persisted,
    Proposed,
    Requested,
    Restored,
    SnapshotFailed,
    SnapshotProgress,
    SnapshotReceived,
    SnapshotRejected,
    SnapshotTaken,
    StopRequested,
    StorageFailed,
    Tick,
)
from raft_core.ids import ClusterId, Incarnation, Index, MessageId, NodeId, ReadId, RequestId, Term, WriteId
from raft_core.membership import Members
from raft_core.messages import HEARTBEAT, AppendEntries, InstallSnapshot
from raft_core.node import MILLISECOND, SECOND, Drop, NodeCore, NodeLimits, Phase
from raft_core.node.events import (
    Answer,
    BytesReceived,
    Call,
    CallCancelled,
    ChunkStored,
    ConnectionId,
    ConnectionOpened,
    Dial,
    Disconnect,
    Finished,
    Formed,
    JobFailed,
    NodeEffect,
    NodeEvent,
    Run,
    SnapshotBegun,
    SnapshotComplete,
    StopAsked,
    TimerFired,
    Transmit,
    Transmitted,
    WakeAt,
)
from raft_core.node.jobs import FormCluster, Job, Lane, StoreChunk, StoreSnapshot
from raft_core.node.outcomes import error_of
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered
from raft_core.requests import Propose, Read, TransferLeadership
from raft_core.settings import Settings
from raft_core.wire import Greeted, Link, encode_message, encode_payload
from raft_core.wire.payloads import WIRE_VERSION, Forward, ForwardReply, Hello, Pull

CLUSTER, ME, OTHER = ClusterId("c"), NodeId(1), NodeId(2)
TICK = 10 * MILLISECOND
MEMBERS = Members.initial([1, 2, 3], incarnations={ME: Incarnation(11), OTHER: Incarnation(22)})
META = SnapshotMeta(Index(7), Term(1), MEMBERS, Index(1))
HELLO = Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), to=ME, address="n2")
HEARD = AppendEntries(Term(1), OTHER, MessageId(1), HEARTBEAT, Index(0), Term(0), Index(0), ReadId(0))
LEADS = RoleChanged(RoleName.LEADER, Term(1), ME)


class Script:
    """Stands in for the core: remembers what it was told, and answers as it was told to."""

    def __init__(self) -> None:
        self.told: list[Event | None] = []
        self.answers: dict[type, list[Effect] | Exception] = {}

    def step(self, raft: Raft, event: Event | None) -> list[Effect]:
        self.told.append(event)
        answer = self.answers.get(type(event), [])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def heard(self) -> list[Event | None]:
        told, self.told = self.told, []
        return told


class Stage:
    """One host, node 1 of three, on a disk that is part of a cluster, unless told otherwise."""

    def __init__(self, recovered: Recovered | None = None, **config: object) -> None:
        self.script = Script()
        self.now = SECOND
        self.host = NodeCore(
            NodeLimits(address="n1", peers={OTHER: "n2"}, **config),  # type: ignore[arg-type]
            Settings(),
            recovered if recovered is not None else formed(),
            lambda command, now, wall: command,
            random.Random(1),
            random.Random(2),
            self.script.step,
        )

    def start(self) -> list[NodeEffect]:
        return self.tell(TimerFired())

    def tell(self, *events: NodeEvent, after: int = 0) -> list[NodeEffect]:
        self.now += after
        return self.host.handle(events, self.now, 77)

    def core(self, effects: Sequence[Effect], on: Event | None = None) -> list[NodeEffect]:
        """The effects, when the core orders them. One that leads has applied an entry of its term."""
        if LEADS in effects:
            raft = self.host._raft
            assert raft is not None
            raft.server.pipeline.applied = raft.log.last_index
        self.script.answers = {Persisted: list(effects)}
        try:
            return self.tell(Persisted(WriteId(1)))
        finally:
            self.script.answers = {}
            self.script.heard()

    def connect(self) -> ConnectionId:
        """Node 2 has greeted us on the connection 2 that we dialled, and nothing is under way on it."""
        self.tell(ConnectionOpened(ConnectionId(2), accepted=False))
        self.tell(Transmitted(ConnectionId(2)), BytesReceived(ConnectionId(2), encode_payload(HELLO)))
        return ConnectionId(2)

    def accept(self, number: int = 1, hello: Hello = HELLO) -> ConnectionId:
        connection = ConnectionId(number)
        self.tell(ConnectionOpened(connection, accepted=True), BytesReceived(connection, encode_payload(hello)))
        self.tell(Transmitted(connection))
        return connection


def formed() -> Recovered:
    return attrs.evolve(Recovered.fresh(1, MEMBERS), identity=Identity(ME, CLUSTER, Incarnation(11)))


def test_status_shows_the_settings_in_force() -> None:
    stage = Stage(tick=20 * MILLISECOND)
    assert stage.host.status.limits.tick == stage.host.status.settings.tick_nanoseconds == 20 * MILLISECOND


def test_contradicting_lengths_of_a_tick_raise_in_the_constructor() -> None:
    with pytest.raises(SettingsError):
        NodeCore(
            NodeLimits(address="n1", peers={OTHER: "n2"}),
            Settings(tick_nanoseconds=7),
            formed(),
            lambda command, now, wall: command,
            random.Random(1),
            random.Random(2),
        )


def empty() -> Recovered:
    return Recovered(Identity(ME, CLUSTER, Incarnation(11)))


def jobs(effects: list[NodeEffect]) -> list[tuple[Lane, Job]]:
    return [(effect.lane, effect.job) for effect in effects if isinstance(effect, Run)]


def error(effects: list[NodeEffect]) -> RequestError:
    (answer,) = [effect for effect in effects if isinstance(effect, Answer)]
    assert not isinstance(answer.outcome, Success)
    return error_of(answer.outcome)


# Order within a call.


def test_a_start_starts_the_core_dials_and_asks_to_be_woken() -> None:
    stage = Stage()

    assert stage.start() == [Dial(ConnectionId(2), "n2"), WakeAt(SECOND + TICK)]
    assert stage.script.heard() == [None]


def test_first_call_starts_the_node_whatever_its_events() -> None:
    waiting, told = Stage(), Stage()

    assert waiting.tell() == told.tell(TimerFired())
    assert waiting.host.status.phase is told.host.status.phase is Phase.RUNNING


def test_a_paused_process_hears_what_came_before_time_passes_and_passes_it_in_one_tick() -> None:
    stage = Stage()
    stage.start()
    connection = stage.accept()
    stage.script.heard()

    effects = stage.tell(TimerFired(), BytesReceived(connection, encode_message(HEARD)), after=100 * TICK + 3)

    assert stage.script.heard() == [HEARD, Tick(100)]
    assert [effect for effect in effects if isinstance(effect, WakeAt)] == [WakeAt(SECOND + 101 * TICK)]
    stage.tell(TimerFired(), after=TICK - 4)
    assert stage.script.heard() == []
    stage.tell(TimerFired(), after=1)
    assert stage.script.heard() == [Tick(1)]


def test_a_timer_that_fires_early_is_set_again() -> None:
    stage = Stage()
    stage.start()

    assert stage.tell() == []
    assert stage.tell(TimerFired(), after=TICK - 1) == [WakeAt(SECOND + TICK)]
    assert stage.script.heard() == [None]


def test_a_clock_that_goes_back_is_ignored() -> None:
    stage = Stage()
    stage.start()
    stage.tell(TimerFired(), after=TICK)
    stage.script.heard()

    assert stage.host.handle([TimerFired()], 0, 77) == [WakeAt(SECOND + 2 * TICK)]
    assert stage.script.heard() == []


def test_everything_that_came_in_one_call_is_one_proposal_and_one_read() -> None:
    stage = Stage()
    stage.start()
    stage.core([LEADS])

    stage.tell(*(Call(n, Propose(b"c")) for n in range(3)), *(Call(n, Read(query=b"?")) for n in range(3, 6)))

    told = stage.script.heard()
    assert [type(event) for event in told] == [Requested, Proposed]
    assert told[1].commands == (b"c", b"c", b"c")  # type: ignore[union-attr]


# Lanes.


def test_each_order_of_the_core_is_a_job_in_its_lane() -> None:
    stage = Stage()
    stage.start()
    persist = Persist(WriteId(2), hard=HardState(Term(2)))
    apply = Apply(Index(2), ((Index(2), b"x"),))

    assert jobs(stage.core([persist, apply, TakeSnapshot(META), Restore(META)])) == [
        (Lane.WRITE, persist),
        (Lane.APPLY, apply),
        (Lane.APPLY, TakeSnapshot(META)),
        (Lane.APPLY, Restore(META)),
    ]


@pytest.mark.parametrize(
    "report",
    [
        Persisted(WriteId(3)),
        Applied(Index(3), (b"r",)),
        Restored(Index(7)),
        SnapshotTaken(META),
        SnapshotFailed(META.index, "no space"),
    ],
)
def test_each_report_of_a_worker_reaches_the_core(report: Event) -> None:
    stage = Stage()
    stage.start()
    stage.script.heard()
    effects = stage.tell(report)  # type: ignore[arg-type]

    assert stage.script.heard() == [report]
    alarms = [effect.text for effect in effects if isinstance(effect, Alarm)]
    assert alarms == (["no space"] if isinstance(report, SnapshotFailed) else [])


def test_a_begun_snapshot_is_stored_in_its_own_lane() -> None:
    stage = Stage()
    stage.start()
    chunks = iter([b"x"])

    ((lane, job),) = jobs(stage.tell(SnapshotBegun(META, chunks)))
    assert lane is Lane.SNAPSHOT
    assert isinstance(job, StoreSnapshot)
    assert job.chunks is chunks


def test_an_order_to_fetch_a_snapshot_ends_with_it_or_with_its_refusal() -> None:
    stage = Stage()
    stage.start()
    ask = (Lane.CHUNKS, StoreChunk(META, "2", 0, b"", last=False))
    assert jobs(stage.core([ReceiveSnapshot(OTHER, META)])) == [ask]
    stage.tell(SnapshotComplete(META))
    assert stage.script.heard() == [SnapshotReceived(META)]

    stage.core([ReceiveSnapshot(OTHER, META)])
    effects = stage.tell(JobFailed(Lane.CHUNKS, StorageBroken("unplugged")))
    assert stage.script.heard() == [SnapshotRejected(Index(7))]
    assert Alarm(AlarmKind.SNAPSHOT_STUCK, NodeId(0), "unplugged") in effects
    assert stage.host.status.phase is Phase.RUNNING


def test_a_transfer_goes_on_when_its_sender_is_connected() -> None:
    stage = Stage()
    stage.start()
    stage.core([ReceiveSnapshot(OTHER, META)])
    stage.tell(ChunkStored(META, 0))
    stage.tell(ConnectionOpened(ConnectionId(2), accepted=False))
    effects = stage.tell(Transmitted(ConnectionId(2)), BytesReceived(ConnectionId(2), encode_payload(HELLO)))

    length = NodeLimits().chunk_bytes
    assert Transmit(ConnectionId(2), encode_payload(Pull(Index(7), Term(1), 0, length))) in effects


def test_a_snapshot_offered_anew_makes_every_pull_progress_again() -> None:
    stage = Stage()
    stage.start()
    connection = stage.accept()
    pull = encode_payload(Pull(Index(7), Term(1), 0, 10))
    stage.script.heard()
    stage.tell(BytesReceived(connection, pull), BytesReceived(connection, pull))
    assert stage.script.heard() == [SnapshotProgress(OTHER)]
    stage.core([Send(OTHER, InstallSnapshot(Term(1), ME, MessageId(1), META))])
    stage.tell(BytesReceived(connection, pull))

    assert stage.script.heard() == [SnapshotProgress(OTHER)]


# Forming.


def test_a_founder_greets_anew_with_every_round_and_before_its_core_says_a_word() -> None:
    stage = Stage(empty(), founders=(ME, OTHER))
    stage.start()
    hello = attrs_hello(formed=False, founders=(ME, OTHER))
    stage.tell(ConnectionOpened(ConnectionId(2), accepted=False))
    accepted = ConnectionId(1)
    stage.tell(ConnectionOpened(accepted, accepted=True))  # it has not said anything yet
    effects = stage.tell(BytesReceived(ConnectionId(2), encode_payload(hello) + encode_message(HEARD)))
    text = "this node has met all founders, and greets anew"
    assert [effect for effect in effects if isinstance(effect, Disconnect | Dial | Run)] == [
        Disconnect(ConnectionId(2), text),
        Disconnect(accepted, text),
        Dial(ConnectionId(4), "n2"),
    ]
    disks = {ME: empty().identity.incarnation, OTHER: hello.incarnation}
    plan = Members.initial((ME, OTHER), incarnations=disks)
    assert said_hello(stage, 3, hello).founding == plan.encode()

    agreed = msgspec.structs.replace(hello, founding=plan.encode())
    stage.tell(ConnectionOpened(ConnectionId(4), accepted=False))
    effects = stage.tell(BytesReceived(ConnectionId(4), encode_payload(agreed) + encode_message(HEARD)))
    assert jobs(effects) == [(Lane.WRITE, FormCluster(plan))]
    assert stage.script.heard() == []
    assert dict(stage.host.status.drops)[Drop.NOT_READY] >= 1

    effects = stage.tell(Formed(attrs.evolve(Recovered.fresh(1, plan), identity=empty().identity)))
    text = "this node has become part of a cluster, and greets anew"
    assert [effect for effect in effects if isinstance(effect, Disconnect | Dial)] == [
        Disconnect(ConnectionId(4), text),
        Disconnect(ConnectionId(3), text),
        Dial(ConnectionId(6), "n2"),
    ]

    assert stage.script.heard() == [None]
    assert stage.host.status.phase is Phase.RUNNING
    greeting = said_hello(stage, 5, hello)
    assert greeting.formed
    assert greeting.founding == plan.encode()


def test_who_was_greeted_before_the_core_was_there_is_connected_for_it() -> None:
    stage = Stage(empty(), founders=(ME, OTHER))
    stage.start()
    stage.tell(ConnectionOpened(ConnectionId(2), accepted=False))
    stage.tell(BytesReceived(ConnectionId(2), encode_payload(attrs_hello(formed=True, founders=()))))

    assert stage.script.heard() == [None, PeerConnected(OTHER)]


def attrs_hello(*, formed: bool, founders: tuple[NodeId, ...]) -> Hello:
    return Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), to=ME, address="n2", formed=formed, founders=founders)


def said_hello(stage: Stage, number: int, hello: Hello = HELLO) -> Hello:
    """What our greeting to a newly accepted connection says."""
    connection = ConnectionId(number)
    events = (ConnectionOpened(connection, accepted=True), BytesReceived(connection, encode_payload(hello)))
    (data,) = [e.data for e in stage.tell(*events) if isinstance(e, Transmit) and e.connection == connection]
    (greeted,) = Link(HELLO, dialer=True, peer=ME).receive(data)
    assert isinstance(greeted, Greeted)
    return greeted.hello


def test_a_joiner_is_part_of_the_cluster_from_its_first_write_on() -> None:
    stage = Stage(empty())
    stage.start()
    assert stage.script.heard() == [None]
    assert not said_hello(stage, 1).formed
    stage.core([Persist(WriteId(1), hard=HardState(Term(3)))])

    assert said_hello(stage, 3).formed


def test_an_empty_disk_that_is_known_with_another_number_ends_the_node() -> None:
    stage = Stage(empty())
    stage.start()
    hello = Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), to=ME, to_incarnation=Incarnation(99))
    stage.tell(ConnectionOpened(ConnectionId(1), accepted=True))
    effects = stage.tell(BytesReceived(ConnectionId(1), encode_payload(hello)))

    assert isinstance(effects[-1], Finished)
    assert isinstance(effects[-1].error, LogLost)


def test_a_disk_in_use_that_is_called_by_another_number_only_refuses_the_caller() -> None:
    stage = Stage()
    stage.start()
    hello = Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), to=ME, to_incarnation=Incarnation(99))
    stage.tell(ConnectionOpened(ConnectionId(1), accepted=True))
    effects = stage.tell(BytesReceived(ConnectionId(1), encode_payload(hello)))

    assert [e.kind for e in effects if isinstance(e, Alarm)] == [AlarmKind.WRONG_INCARNATION]
    assert stage.host.status.phase is Phase.RUNNING


def test_nothing_that_comes_with_a_greeting_from_another_founding_reaches_the_core() -> None:
    stage = Stage()
    stage.start()
    stage.script.heard()
    others = Members.initial([1, 2, 3], incarnations={ME: Incarnation(11), OTHER: Incarnation(98)})
    hello = Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), to=ME, founding=others.encode())
    stage.tell(ConnectionOpened(ConnectionId(1), accepted=True))
    effects = stage.tell(BytesReceived(ConnectionId(1), encode_payload(hello) + encode_message(HEARD)))

    assert [e.text for e in effects if isinstance(e, Alarm) and "two clusters of one name" in e.text]
    assert HEARD not in stage.script.heard()
    stage.accept(3)
    good = encode_payload(HELLO) + encode_message(HEARD)
    stage.tell(ConnectionOpened(ConnectionId(5), accepted=True), BytesReceived(ConnectionId(5), good))
    assert HEARD in stage.script.heard()


def test_who_is_refused_does_not_take_the_place_of_the_node_whose_number_it_has() -> None:
    """It was dialled from then on, and the good node's connection was closed."""
    stage = Stage()
    stage.start()
    good = stage.accept()
    others = Members.initial([1, 2, 3], incarnations={ME: Incarnation(11), OTHER: Incarnation(98)})
    bad = msgspec.structs.replace(HELLO, address="elsewhere", founding=others.encode())
    stage.script.heard()
    stage.tell(ConnectionOpened(ConnectionId(3), accepted=True))
    effects = stage.tell(BytesReceived(ConnectionId(3), encode_payload(bad)))
    effects += stage.tell(after=10 * SECOND)

    assert Disconnect(good, "the peer dialled again") not in effects
    assert stage.host._peers.table.accepted_from(OTHER) == good
    assert "elsewhere" not in {effect.address for effect in effects if isinstance(effect, Dial)}
    assert PeerUnreachable(OTHER) not in stage.script.heard(), "nobody was lost"


def test_a_greeting_on_a_connection_that_broke_with_it_is_not_looked_at() -> None:
    stage = Stage(empty(), founders=(ME, OTHER))
    stage.start()
    stage.tell(ConnectionOpened(ConnectionId(1), accepted=True))
    hello = attrs_hello(formed=True, founders=())
    stage.tell(BytesReceived(ConnectionId(1), encode_payload(hello) + b"garbage" * 9))

    assert stage.host.status.phase is Phase.FORMING


# Forwarded requests at the leader.


def test_a_forwarded_request_is_answered_by_its_deadline_on_its_connection() -> None:
    stage = Stage()
    stage.start()
    stage.core([LEADS])
    connection = stage.accept()
    stage.tell(BytesReceived(connection, encode_payload(Forward(5, 3 * TICK, Propose(b"c")))))
    assert not [e for e in stage.tell(after=2 * TICK) if isinstance(e, Transmit)]
    effects = stage.tell(after=TICK)

    reply = ForwardReply(5, unknown=UnknownReason.DEADLINE)
    assert Transmit(connection, encode_payload(reply)) in effects


def test_a_forward_that_was_refused_waits_anew_for_a_leader() -> None:
    stage = Stage(leader_wait=SECOND)
    stage.start()
    connection = stage.connect()
    stage.core([RoleChanged(RoleName.FOLLOWER, Term(1), OTHER)])
    stage.tell(Call(1, Propose(b"c")))
    refusal = encode_payload(ForwardReply(1, refused=RefusalReason.NOT_LEADER))
    stage.core([RoleChanged(RoleName.FOLLOWER, Term(2), NodeId(0))])
    effects = stage.tell(BytesReceived(connection, refusal), after=2 * SECOND)

    assert not [e for e in effects if isinstance(e, Answer)], "it was with the leader, not waiting for one"
    assert isinstance(error(stage.tell(after=SECOND + 5 * TICK)), RequestError)


# The end.


def test_stop_ends_the_node_last_of_all_that_the_step_ordered() -> None:
    stage = Stage()
    stage.start()
    stage.accept()
    stage.script.answers = {
        StopRequested: [Stop(StopReason.REQUESTED), RoleChanged(RoleName.FOLLOWER, Term(1), NodeId(0))]
    }
    stage.script.heard()

    effects = stage.tell(StopAsked())

    assert stage.script.heard() == [StopRequested()]
    kinds = [type(effect) for effect in effects]
    assert kinds == [RoleChanged, Disconnect, Disconnect, Finished]
    assert effects[-1].error is None  # type: ignore[union-attr]


def test_a_stopping_node_hands_over_then_takes_nothing_new_and_ends_in_bounded_time() -> None:
    stage = Stage()
    stage.start()
    stage.core([LEADS])
    stage.tell(Call(1, Propose(b"c")))
    stage.script.heard()
    stage.tell(StopAsked(), StopAsked())
    assert stage.script.heard() == [Requested(RequestId(2), TransferLeadership())]
    stage.core([Respond(RequestId(2), Refusal(RefusalReason.TARGET_UNREACHABLE))])
    stage.script.heard()
    assert error(stage.tell(Call(2, Propose(b"c")))).reason == RefusalReason.STOPPING  # type: ignore[attr-defined]
    drain = NodeLimits().drain_timeout
    stage.tell(after=drain - 1)
    assert StopRequested() not in stage.script.heard()
    stage.tell(after=TICK)
    assert stage.script.heard().count(StopRequested()) == 1
    limit = NodeLimits().stop_timeout - drain - TICK
    assert not any(isinstance(e, Finished) for e in stage.tell(after=limit - 1))
    effects = stage.tell(after=TICK)

    assert error(effects).reason == UnknownReason.STOPPING  # type: ignore[attr-defined]
    assert isinstance(effects[-1], Finished)
    assert effects[-1].error is None
    assert stage.tell(TimerFired(), after=SECOND) == []


def test_a_founder_that_is_asked_to_stop_ends_at_once() -> None:
    stage = Stage(empty(), founders=(ME, OTHER))
    stage.start()

    assert isinstance(stage.tell(StopAsked())[-1], Finished)


@pytest.mark.parametrize("lane", [Lane.WRITE, Lane.APPLY])
def test_a_failed_lane_ends_the_node_with_its_error_even_if_the_core_hangs(lane: Lane) -> None:
    stage = Stage()
    stage.start()
    stage.script.heard()
    failure = StorageBroken("on fire")
    stage.tell(JobFailed(lane, failure))
    assert stage.script.heard() == [StorageFailed("on fire")]
    effects = stage.tell(after=NodeLimits().stop_timeout)

    assert isinstance(effects[-1], Finished)
    assert effects[-1].error is failure


def test_a_failed_lane_before_there_is_a_core_ends_the_node() -> None:
    stage = Stage(empty(), founders=(ME, OTHER))
    stage.start()
    failure = StorageBroken("on fire")

    effects = stage.tell(JobFailed(Lane.WRITE, failure))
    assert effects[-1].error is failure  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (Stop(StopReason.LOG_LOST, "lost"), LogLost),
        (Stop(StopReason.STORAGE_FAILED, "broken"), StorageBroken),
        (Stop(StopReason.REQUESTED), type(None)),
    ],
)
def test_each_end_of_the_core_has_its_error(stop: Stop, expected: type) -> None:
    stage = Stage()
    stage.start()

    effects = stage.core([stop])
    assert type(effects[-1].error) is expected  # type: ignore[union-attr]


@pytest.mark.parametrize("failure", [InvariantBroken("terms only rise"), ZeroDivisionError("oops")])
def test_a_core_that_raises_ends_the_node_and_everybody_is_answered(failure: Exception) -> None:
    stage = Stage()
    stage.start()
    stage.core([LEADS])
    stage.script.answers = {Proposed: failure}

    effects = stage.tell(Call(1, Propose(b"c")))

    assert isinstance(error(effects), RequestError)
    assert isinstance(effects[-1], Finished)
    assert isinstance(effects[-1].error, InvariantBroken)
    assert str(failure) in str(effects[-1].error)


def test_what_was_answered_takes_no_room_for_long() -> None:
    stage = Stage()
    stage.start()
    for number in range(500):
        ticket = number + 1
        stage.tell(Call(ticket, Propose(b"c"), stage.now + 3600 * SECOND), CallCancelled(ticket))
    for _ in range(101):
        stage.tell(after=TICK)

    assert len(stage.host._clients._deadlines) <= 64


def test_an_event_of_no_known_kind_is_a_mistake_of_the_adapter() -> None:
    stage = Stage()
    stage.start()

    with pytest.raises(CallerError):
        stage.tell(Tick(1))  # type: ignore[arg-type]


def test_garbage_payloads_from_a_greeted_peer_change_nothing() -> None:
    stage = Stage()
    stage.start()
    connection = stage.accept()
    stage.script.heard()
    odd: list[ForwardReply | Pull] = [
        ForwardReply(99, result=b"x"),
        Pull(Index(0), Term(0), 5, 0),
        Pull(Index(3), Term(1), 0, 0),
    ]
    for payload in odd:
        for effect in stage.tell(BytesReceived(connection, encode_payload(payload))):
            assert not isinstance(effect, Answer | Run | Disconnect)
    assert stage.script.heard() == []
    assert dict(stage.host.status.drops)[Drop.PULL_REFUSED] == 2
