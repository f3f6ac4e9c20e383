"""Snapshot transfer between nodes: the receiver pulls chunks straight into its store.

`Receiving` is the one snapshot that this node may be fetching; `Serving` answers the pulls of others. The receiver
decides everything: the offset to resume at, the window, the retries. The sender keeps no state except the furthest
offset, to tell progress from repetition. So a restart of either side, a lost connection or a dropped chunk costs a
pause and nothing else.

A retry too early costs more than a late one: the sender answers every pull, so on a slow line repeated chunks queue up
before new ones. The retry timeout therefore adapts to the transfer rate: it doubles on every expiry, and is a few times
the duration of the last step.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.effects import AlarmKind
from raft_core.entries import SnapshotMeta
from raft_core.events import SnapshotProgress, SnapshotReceived, SnapshotRejected
from raft_core.ids import Index, NodeId, Term
from raft_core.membership import Members
from raft_core.node.alarm_limiter import AlarmLimiter
from raft_core.node.events import ChunkRead, ChunkStored, ConnectionId
from raft_core.node.jobs import DropReceived, Lane, ReadChunk, StoreChunk
from raft_core.node.limits import NodeLimits
from raft_core.node.outputs import Outputs
from raft_core.node.peers import Peers
from raft_core.node.status import Drop
from raft_core.wire.payloads import Chunk, Pull

__all__ = ["Receiving", "Serving"]

_STEPS: Final = 4
"""The retry timeout, as a multiple of the previous step's duration."""
_LONGEST: Final = 32
"""The longest retry timeout, as a multiple of the shortest."""


@final
class _Incoming:
    """The incoming snapshot.

    stored ≤ received ≤ pulled, in bytes; `size` is unknown before the first chunk. `ready`: the store has returned the
    offset to resume at. `asked_at`: start of the present wait, by a request or by progress. `length`, `window`: bytes
    of a pull, and pulls at once. Both fall to what the sender gives: its `chunk_bytes` may be less; chunks beyond its
    `request_bytes` are lost.
    """

    __slots__ = (
        "asked_at",
        "last_progress",
        "length",
        "meta",
        "patience",
        "pulled",
        "ready",
        "received",
        "sender",
        "size",
        "stored",
        "whole",
        "window",
    )

    def __init__(self, sender: NodeId, meta: SnapshotMeta, now: int, patience: int, length: int, window: int) -> None:
        self.sender = sender
        self.meta = meta
        self.ready = False
        self.whole = False  # its last chunk is with the store
        self.stored = 0
        self.received = 0
        self.pulled = 0
        self.size: int | None = None
        self.last_progress = now
        self.asked_at = now
        self.patience = patience
        self.length = length
        self.window = window


@final
class Receiving:
    """Fetches at most one snapshot at a time. The node sets `now` first in each call."""

    def __init__(self, config: NodeLimits, orders: Outputs, peers: Peers) -> None:
        self._config = config
        self._orders = orders
        self._peers = peers
        self._incoming: _Incoming | None = None
        self.now = 0

    @property
    def active(self) -> bool:
        """True while a snapshot is being fetched."""
        return self._incoming is not None

    def begin(self, sender: NodeId, meta: SnapshotMeta) -> None:
        """Fetch this snapshot, instead of any other."""
        incoming = self._incoming
        if incoming is not None and incoming.sender == sender and incoming.meta == meta:
            return
        config = self._config
        self._ask_store(_Incoming(sender, meta, self.now, config.pull_timeout, config.chunk_bytes, config.chunk_window))

    def _ask_store(self, incoming: _Incoming) -> None:
        self._incoming = incoming
        self._orders.run(Lane.CHUNKS, StoreChunk(incoming.meta, str(incoming.sender), 0, b"", last=False))

    def on_stored(self, event: ChunkStored) -> None:
        """Record the stored offset, and pull more."""
        incoming = self._of(event.meta)
        if incoming is None or incoming.whole:
            return
        if event.offset > incoming.stored:
            incoming.patience = self._bounded(_STEPS * (self.now - incoming.last_progress))
            incoming.last_progress = incoming.asked_at = self.now
        incoming.stored = event.offset
        if not incoming.ready or event.offset > incoming.received:
            incoming.ready = True
            incoming.received = incoming.pulled = event.offset
        self._pull(incoming)

    def on_chunk(self, sender: NodeId, chunk: Chunk) -> None:
        """Store the next chunk; give up a snapshot that is gone; ignore stale chunks."""
        incoming = self._incoming
        if incoming is None or incoming.sender != sender or not incoming.ready or incoming.whole:
            self._peers.drop(Drop.STALE_CHUNK)
            return
        if (chunk.index, chunk.term) != (incoming.meta.index, incoming.meta.term):
            self._peers.drop(Drop.STALE_CHUNK)
            return
        if chunk.gone:
            self.give_up()
            return
        end = chunk.offset + len(chunk.data)
        if chunk.offset != incoming.received or (not chunk.data and end < chunk.size):
            self._peers.drop(Drop.STALE_CHUNK)
            return
        if incoming.size not in (None, chunk.size):
            self.give_up()  # another snapshot with the same index and term
            return
        incoming.size = chunk.size
        incoming.received = end
        incoming.whole = end >= chunk.size
        if not incoming.whole and len(chunk.data) < incoming.length:  # the sender gives no more at once
            incoming.length = len(chunk.data)
            incoming.pulled = end
        job = StoreChunk(incoming.meta, str(sender), chunk.offset, chunk.data, last=incoming.whole)
        self._orders.run(Lane.CHUNKS, job)

    def on_complete(self, meta: SnapshotMeta) -> None:
        """Tell the core that the snapshot is complete."""
        if self._of(meta) is not None:
            self._incoming = None
            self._orders.events.append(SnapshotReceived(meta))

    def give_up(self) -> None:
        """Discard the incoming snapshot, and tell the core."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            self._orders.run(Lane.CHUNKS, DropReceived())
            self._orders.events.append(SnapshotRejected(incoming.meta.index))

    def on_connected(self, peer: NodeId) -> None:
        """Pull again: the chunks under way on the old connection are lost."""
        incoming = self._incoming
        if incoming is not None and incoming.sender == peer and incoming.ready and not incoming.whole:
            incoming.pulled = incoming.received
            self._pull(incoming)

    def on_tick(self) -> None:
        """Restart a snapshot without progress from the offset in the store."""
        incoming = self._incoming
        if incoming is None or self.now - incoming.asked_at < incoming.patience:
            return
        patience, window = self._bounded(2 * incoming.patience), max(1, incoming.window // 2)
        anew = _Incoming(incoming.sender, incoming.meta, self.now, patience, incoming.length, window)
        anew.last_progress = incoming.last_progress
        self._ask_store(anew)

    def _bounded(self, patience: int) -> int:
        least = self._config.pull_timeout
        return max(least, min(patience, _LONGEST * least))

    def _pull(self, incoming: _Incoming) -> None:
        """Pull as many chunks as the window allows; one, until its reply gives the size."""
        length = incoming.length
        window = 1 if incoming.size is None else incoming.window
        limit = incoming.stored + length * window
        while incoming.pulled < limit:
            at = incoming.pulled
            if incoming.size is not None and at >= incoming.size:
                return
            if self._peers.ask(incoming.sender, Pull(incoming.meta.index, incoming.meta.term, at, length)) is None:
                return
            incoming.pulled = at + length

    def _of(self, meta: SnapshotMeta) -> _Incoming | None:
        incoming = self._incoming
        return incoming if incoming is not None and incoming.meta == meta else None


@final
class Serving:
    """Serves chunks of our snapshots to members; a few reads per peer at a time."""

    def __init__(self, config: NodeLimits, orders: Outputs, peers: Peers) -> None:
        self._config = config
        self._orders = orders
        self._peers = peers
        self._reading: dict[NodeId, int] = {}
        self._furthest: dict[NodeId, tuple[Index, Term, int]] = {}
        self._warnings = AlarmLimiter(orders, every=None)  # the peer will ask for the same snapshot again and again

    def on_pull(self, peer: NodeId, pull: Pull) -> None:
        """Read the chunk.

        A pull beyond all earlier offsets is progress. Serve members only: no other node is offered a snapshot, and
        state kept for unknown nodes would be unbounded.
        """
        if (
            not self._peers.is_member(peer)
            or pull.index <= 0
            or pull.length <= 0
            or self._reading.get(peer, 0) >= 4 * self._config.chunk_window
        ):
            self._peers.drop(Drop.PULL_REFUSED)
            return
        self._reading[peer] = self._reading.get(peer, 0) + 1
        meta = SnapshotMeta(pull.index, pull.term, Members())  # a store finds it by index and term
        self._orders.run(Lane.CHUNKS, ReadChunk(peer, meta, pull.offset, min(pull.length, self._config.chunk_bytes)))
        furthest = self._furthest.get(peer)
        if furthest is None or furthest[:2] != (pull.index, pull.term) or pull.offset > furthest[2]:
            if peer not in self._furthest:  # forget nodes that have left the cluster
                self._furthest = {node: far for node, far in self._furthest.items() if self._peers.is_member(node)}
            self._furthest[peer] = (pull.index, pull.term, pull.offset)
            self._orders.events.append(SnapshotProgress(peer))

    def on_offered(self, peer: NodeId) -> None:
        """Reset the peer's offset, because a snapshot is offered again: its next pulls are progress."""
        self._furthest.pop(peer, None)

    def on_read(self, event: ChunkRead) -> None:
        """Send the chunk on the connection of the peer's pull."""
        left = self._reading.get(event.peer, 0) - 1
        if left > 0:
            self._reading[event.peer] = left
        else:
            self._reading.pop(event.peer, None)
        meta = event.meta
        if event.text:
            about = (meta.index, meta.term)
            self._warnings.alarm(AlarmKind.SNAPSHOT_STUCK, about, event.peer, event.text, self._peers.now)
        connection: ConnectionId | None = self._peers.table.accepted_from(event.peer)
        if connection is None:
            self._peers.drop(Drop.ANSWER_LOST)
            return
        if event.offset > event.size and not event.gone:
            self._peers.drop(Drop.PULL_REFUSED)  # beyond the end: no such chunk
            return
        chunk = Chunk(meta.index, meta.term, event.offset, event.size, event.data, gone=event.gone)
        self._peers.answer(connection, chunk)
