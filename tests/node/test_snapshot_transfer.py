"""Snapshots between nodes: pulled piece by piece, resumed after every kind of loss."""

from __future__ import annotations

import random

from raft_core.effects import Alarm, AlarmKind
from raft_core.entries import SnapshotMeta
from raft_core.events import SnapshotProgress, SnapshotReceived, SnapshotRejected
from raft_core.ids import ClusterId, Incarnation, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.node import MILLISECOND, SECOND, Drop, NodeLimits
from raft_core.node.events import (
    ChunkRead,
    ChunkStored,
    ConnectionClosed,
    ConnectionId,
    ConnectionOpened,
    Run,
    Transmit,
    Transmitted,
)
from raft_core.node.jobs import DropReceived, Job, Lane, ReadChunk, StoreChunk
from raft_core.node.outputs import Outputs
from raft_core.node.peers import Peers
from raft_core.node.snapshot_transfer import Receiving, Serving
from raft_core.recovered import Identity
from raft_core.settings import Settings
from raft_core.wire import Link, PayloadReceived, encode_payload
from raft_core.wire.payloads import WIRE_VERSION, Chunk, Hello, Pull
from tests.node.cluster import greet

ME, SENDER = NodeId(1), NodeId(2)
META = SnapshotMeta(Index(7), Term(2), Members.initial([1, 2]), Index(1))
HELLO = Hello(WIRE_VERSION, ClusterId("c"), SENDER, Incarnation(22), to=ME)
ASK_STORE = StoreChunk(META, "2", 0, b"", last=False)


class Desk:
    """Both halves of node 1's transfers; chunks of 10 bytes, two under way."""

    def __init__(self) -> None:
        self.config = NodeLimits(peers={SENDER: "n2"}, chunk_bytes=10, chunk_window=2)
        self.orders = Outputs()
        identity = Identity(ME, ClusterId("c"), Incarnation(11))
        self.peers = Peers(self.config, Settings(), identity, self.orders, random.Random(1))
        self.peers.on_members(Members.initial([1, 2, 3]))
        self.receiving = Receiving(self.config, self.orders, self.peers)
        self.serving = Serving(self.config, self.orders, self.peers)
        self.theirs = Link(HELLO, dialer=False)
        self.next = 2

    def connect(self) -> None:
        self.peers.now += 3 * SECOND
        self.peers.dial_due()
        connection = ConnectionId(self.next)
        self.next += 2
        self.theirs = Link(HELLO, dialer=False)
        self.peers.on_opened(ConnectionOpened(connection, accepted=False))
        greet(self.peers, connection, HELLO)
        self.sent()
        self.orders.events.clear()

    def lose(self) -> None:
        self.peers.on_closed(ConnectionClosed(ConnectionId(self.next - 2)))
        self.sent()
        self.orders.events.clear()

    def sent(self) -> list[object]:
        """What the sender has been asked, and (as jobs) what the store has to do."""
        self.peers.flush()
        said: list[object] = []
        for effect in self.orders.taken():
            if isinstance(effect, Run):
                assert effect.lane is Lane.CHUNKS
                said.append(effect.job)
            elif isinstance(effect, Transmit):
                said.extend(e.payload for e in self.theirs.receive(effect.data) if isinstance(e, PayloadReceived))
                self.peers.on_transmitted(Transmitted(effect.connection))
        return said

    def chunk(self, offset: int, data: bytes, size: int = 25) -> list[object]:
        self.receiving.on_chunk(SENDER, Chunk(META.index, META.term, offset, size, data))
        return self.sent()

    def stored(self, offset: int) -> list[object]:
        self.receiving.on_stored(ChunkStored(META, offset))
        return self.sent()


def pull(offset: int) -> Pull:
    return Pull(META.index, META.term, offset, 10)


def piece(offset: int, data: bytes, *, last: bool = False) -> Job:
    return StoreChunk(META, "2", offset, data, last)


def test_a_snapshot_is_pulled_from_where_the_store_says_in_a_window() -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)

    assert desk.sent() == [ASK_STORE]
    assert desk.stored(0) == [pull(0)], "one, until the size is known"
    assert desk.chunk(0, b"a" * 10, size=55) == [piece(0, b"a" * 10)]
    assert desk.stored(10) == [pull(10), pull(20)]
    assert desk.chunk(10, b"b" * 10, size=55) == [piece(10, b"b" * 10)]
    assert desk.chunk(20, b"c" * 10, size=55) == [piece(20, b"c" * 10)]
    assert desk.stored(20) == [pull(30)]
    assert desk.stored(30) == [pull(40)]
    desk.chunk(30, b"d" * 10, size=55)
    desk.chunk(40, b"e" * 10, size=55)
    assert desk.stored(50) == [pull(50)]
    assert desk.chunk(50, b"f" * 5, size=55) == [piece(50, b"f" * 5, last=True)]
    desk.receiving.on_complete(META)
    assert list(desk.orders.events) == [SnapshotReceived(META)]
    assert desk.sent() == []


def test_receiver_adapts_to_sender_with_smaller_chunks() -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    assert desk.stored(0) == [pull(0)]
    assert desk.chunk(0, b"a" * 4) == [piece(0, b"a" * 4)]
    asked = [Pull(META.index, META.term, offset, 4) for offset in (4, 8)]
    assert desk.stored(4) == asked
    assert desk.chunk(4, b"b" * 4) == [piece(4, b"b" * 4)]
    assert desk.chunk(8, b"c" * 4) == [piece(8, b"c" * 4)]


def test_window_falls_with_each_expiry_until_single_chunks_are_pulled() -> None:
    """A sender whose `request_bytes` hold less than a window loses the rest of each."""
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    desk.stored(0)
    desk.chunk(0, b"a" * 10)
    assert desk.stored(10) == [pull(10), pull(20)]
    desk.receiving.now += desk.config.pull_timeout
    desk.receiving.on_tick()
    assert desk.sent() == [ASK_STORE]
    assert desk.stored(10) == [pull(10)]
    assert desk.chunk(10, b"b" * 10) == [piece(10, b"b" * 10)]
    assert desk.stored(20) == [pull(20)]
    assert desk.chunk(20, b"c" * 5) == [piece(20, b"c" * 5, last=True)]


def test_an_empty_snapshot_is_complete_with_its_first_answer() -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    desk.stored(0)

    assert desk.chunk(0, b"", size=0) == [piece(0, b"", last=True)]


def test_a_transfer_whose_bytes_were_all_there_is_finished_with_one_question() -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()

    assert desk.stored(25) == [pull(25)]
    assert desk.chunk(25, b"") == [piece(25, b"", last=True)]


def test_after_a_lost_connection_only_what_is_missing_is_asked_for() -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    desk.stored(0)
    desk.chunk(0, b"a" * 10)
    desk.stored(10)
    desk.chunk(10, b"b" * 10)
    desk.lose()
    desk.connect()
    desk.receiving.on_connected(SENDER)

    assert desk.sent() == [pull(20)]


def test_a_transfer_begun_without_a_connection_starts_with_it() -> None:
    desk = Desk()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    assert desk.stored(0) == []
    desk.connect()
    desk.receiving.on_connected(SENDER)

    assert desk.sent() == [pull(0)]


def test_without_progress_the_store_is_asked_again_where_it_stands() -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    desk.stored(0)
    desk.receiving.now += desk.config.pull_timeout - 1
    desk.receiving.on_tick()
    assert desk.sent() == []
    desk.receiving.now += 1
    desk.receiving.on_tick()

    assert desk.sent() == [ASK_STORE]
    assert desk.stored(10) == [pull(10)]


def waits_until_asked_again(desk: Desk) -> int:
    """In milliseconds."""
    began = desk.receiving.now
    while desk.sent() != [ASK_STORE]:
        assert desk.receiving.now - began < 1000 * SECOND
        desk.receiving.now += MILLISECOND
        desk.receiving.on_tick()
    return (desk.receiving.now - began) // MILLISECOND


def test_each_time_that_patience_was_too_short_it_doubles_up_to_a_limit() -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    waits = []
    for _ in range(8):
        desk.stored(0)
        waits.append(waits_until_asked_again(desk))

    assert waits == [2000, 4000, 8000, 16_000, 32_000, 64_000, 64_000, 64_000]


def test_a_transfer_whose_steps_take_long_is_given_time_for_the_next_and_one_that_is_fast_again_is_not() -> None:
    """Pieces that took longer than the time to wait were all sent several times, and little else was."""
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    desk.stored(0)
    assert waits_until_asked_again(desk) == 2000
    desk.stored(0)
    desk.receiving.now += SECOND
    desk.chunk(0, b"a" * 10, size=1000)
    desk.stored(10)  # three seconds after the beginning
    assert waits_until_asked_again(desk) == 12_000

    desk.stored(10)
    desk.receiving.now += 10 * MILLISECOND
    desk.stored(20)
    assert waits_until_asked_again(desk) == 2000


def test_a_store_that_stands_still_is_no_progress() -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    desk.stored(0)
    for _ in range(4):
        desk.receiving.now += desk.config.pull_timeout // 4
        desk.stored(0)
    desk.receiving.on_tick()

    assert desk.sent() == [ASK_STORE]


def test_a_piece_that_does_not_follow_is_ignored() -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    desk.stored(0)

    assert desk.chunk(10, b"x" * 10) == []
    desk.chunk(0, b"a" * 10)
    assert desk.chunk(0, b"a" * 10) == [], "a repeated one"
    assert desk.chunk(10, b"") == [], "an empty one that is not the last"
    desk.receiving.on_chunk(NodeId(3), Chunk(META.index, META.term, 10, 25, b"x"))
    desk.receiving.on_chunk(SENDER, Chunk(Index(6), META.term, 10, 25, b"x"))
    assert desk.sent() == []
    assert desk.peers.drops[Drop.STALE_CHUNK] == 5


def test_a_snapshot_that_is_gone_is_given_up_and_the_core_knows() -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    desk.stored(0)
    desk.receiving.on_chunk(SENDER, Chunk(META.index, META.term, 0, 0, b"", gone=True))

    assert desk.sent() == [DropReceived()]
    assert list(desk.orders.events) == [SnapshotRejected(META.index)]
    desk.receiving.on_complete(META)
    assert len(desk.orders.events) == 1


def test_a_snapshot_that_changes_its_size_is_given_up() -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()
    desk.stored(0)
    desk.chunk(0, b"a" * 10)

    assert desk.chunk(10, b"a" * 10, size=26) == [DropReceived()]


def test_a_newer_order_replaces_the_older_and_the_same_changes_nothing() -> None:
    desk = Desk()
    desk.connect()
    newer = SnapshotMeta(Index(9), Term(2), META.members, Index(1))
    desk.receiving.begin(SENDER, META)
    desk.receiving.begin(SENDER, META)
    assert desk.sent() == [ASK_STORE]
    desk.receiving.begin(SENDER, newer)

    assert desk.sent() == [StoreChunk(newer, "2", 0, b"", last=False)]
    assert desk.stored(0) == [], "the older one is forgotten"
    desk.receiving.on_complete(META)
    assert not desk.orders.events


def test_a_pull_is_read_in_the_transfer_lane_and_answered_on_the_askers_connection() -> None:
    desk = Desk()
    connection = ConnectionId(1)
    desk.peers.on_opened(ConnectionOpened(connection, accepted=True))
    greet(desk.peers, connection, HELLO)
    desk.sent()
    desk.orders.events.clear()
    desk.serving.on_pull(SENDER, Pull(META.index, META.term, 10, 1000))

    (job,) = desk.sent()
    assert isinstance(job, ReadChunk)
    assert (job.peer, job.meta.position, job.offset, job.length) == (SENDER, META.position, 10, 10)
    assert list(desk.orders.events) == [SnapshotProgress(SENDER)]
    desk.peers.on_transmitted(Transmitted(connection))
    desk.serving.on_read(ChunkRead(SENDER, job.meta, 10, 25, b"b" * 10))
    desk.peers.flush()
    assert desk.orders.taken() == [
        Transmit(connection, encode_payload(Chunk(META.index, META.term, 10, 25, b"b" * 10)))
    ]


def test_only_new_ground_is_progress_until_the_snapshot_is_offered_anew() -> None:
    desk = Desk()
    for offset in (0, 10, 10, 0):
        desk.serving.on_pull(SENDER, pull(offset))
        desk.serving.on_read(ChunkRead(SENDER, META, offset, 25, b"x"))
    assert list(desk.orders.events) == [SnapshotProgress(SENDER)] * 2
    desk.serving.on_offered(SENDER)
    desk.serving.on_pull(SENDER, pull(0))

    assert len(desk.orders.events) == 3


def test_a_peer_cannot_order_more_reads_than_its_share() -> None:
    desk = Desk()
    for _ in range(100):
        desk.serving.on_pull(SENDER, pull(0))
    desk.serving.on_pull(NodeId(3), pull(0))

    assert len(desk.sent()) == 8 + 1
    assert desk.peers.drops[Drop.PULL_REFUSED] == 92


def test_a_snapshot_that_should_be_there_and_cannot_be_read_raises_one_alarm() -> None:
    desk = Desk()
    desk.peers.on_opened(ConnectionOpened(ConnectionId(1), accepted=True))
    greet(desk.peers, ConnectionId(1), HELLO)
    desk.sent()
    newer = SnapshotMeta(Index(9), Term(2), META.members, Index(1))
    alarms = []
    for hour, meta in enumerate((META, META, newer)):
        desk.peers.now = hour * 3600 * SECOND
        desk.serving.on_pull(SENDER, Pull(meta.index, meta.term, 0, 10))
        desk.serving.on_read(ChunkRead(SENDER, meta, 0, 0, b"", gone=True, text="why"))
        alarms.append([effect for effect in desk.orders.taken() if isinstance(effect, Alarm)])

    alarm = Alarm(AlarmKind.SNAPSHOT_STUCK, SENDER, "why")
    assert alarms == [[alarm], [], [alarm]]


def test_a_piece_beyond_the_end_is_not_answered() -> None:
    desk = Desk()
    desk.peers.on_opened(ConnectionOpened(ConnectionId(1), accepted=True))
    greet(desk.peers, ConnectionId(1), HELLO)
    desk.sent()
    desk.serving.on_pull(SENDER, pull(90))
    desk.serving.on_read(ChunkRead(SENDER, META, 90, 25, b""))

    assert desk.peers.drops[Drop.PULL_REFUSED] == 1
