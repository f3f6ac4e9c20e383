"""Snapshots on their way between nodes: pulled by the receiver, piece by piece, straight into its store.

What lives here: `Receiving`, the one snapshot that this node may be fetching, and `Serving`, the answers to others'
pulls. The receiver decides everything: where to go on, how much may be under way, when to ask again. The sender
keeps no state besides what it needs to tell progress from repetition, so a restart of either side, a lost
connection or a dropped piece costs a pause and nothing else.

Asking again too early would cost more than asking late: the sender answers every pull, so on a slow line repeated
pieces queue up before new ones. So the receiver's patience follows the pace of the transfer: it doubles each time that
it was not enough, and is a few times what the last step took.
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
"""A step of a transfer may take so many times as long as the one before."""
_LONGEST: Final = 32
"""The most patience, in times of the least."""


@final
class _Incoming:
    """The snapshot being fetched. stored ≤ received ≤ pulled, in bytes; `size` is not known before the first piece.
    `ready`: the store has said where to go on. `asked_at`: when that, or a step forward, began the present wait."""

    __slots__ = (
        "asked_at",
        "last_progress",
        "meta",
        "patience",
        "pulled",
        "ready",
        "received",
        "sender",
        "size",
        "stored",
        "whole",
    )

    def __init__(self, sender: NodeId, meta: SnapshotMeta, now: int, patience: int) -> None:
        self.sender = sender
        self.meta = meta
        self.ready = False
        self.whole = False  # its last piece is with the store
        self.stored = 0
        self.received = 0
        self.pulled = 0
        self.size: int | None = None
        self.last_progress = now
        self.asked_at = now
        self.patience = patience


@final
class Receiving:
    """At most one snapshot is fetched at a time. `now` is set by the host first in each call."""

    def __init__(self, config: NodeLimits, orders: Outputs, peers: Peers) -> None:
        self._config = config
        self._orders = orders
        self._peers = peers
        self._incoming: _Incoming | None = None
        self.now = 0

    def begin(self, sender: NodeId, meta: SnapshotMeta) -> None:
        """The snapshot is being fetched; another one that was is not any more."""
        incoming = self._incoming
        if incoming is not None and incoming.sender == sender and incoming.meta == meta:
            return
        self._ask_store(_Incoming(sender, meta, self.now, self._config.pull_timeout))

    def _ask_store(self, incoming: _Incoming) -> None:
        self._incoming = incoming
        self._orders.run(Lane.TRANSFER, StoreChunk(incoming.meta, str(incoming.sender), 0, b"", last=False))

    def on_stored(self, event: ChunkStored) -> None:
        """The store has the bytes up to here: more are asked for."""
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
        """The next piece goes to the store; a snapshot that is gone is given up; anything else is a remnant."""
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
            self.give_up()  # it is another snapshot under the same name
            return
        incoming.size = chunk.size
        incoming.received = end
        incoming.whole = end >= chunk.size
        job = StoreChunk(incoming.meta, str(sender), chunk.offset, chunk.data, last=incoming.whole)
        self._orders.run(Lane.TRANSFER, job)

    def on_complete(self, meta: SnapshotMeta) -> None:
        """The core may switch to it."""
        if self._of(meta) is not None:
            self._incoming = None
            self._orders.events.append(SnapshotReceived(meta))

    def give_up(self) -> None:
        """The snapshot will not come; what was stored of it is thrown away, and the core knows."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            self._orders.run(Lane.TRANSFER, DropReceived())
            self._orders.events.append(SnapshotRejected(incoming.meta.index))

    def on_connected(self, peer: NodeId) -> None:
        """What was under way on the connection before is asked for again."""
        incoming = self._incoming
        if incoming is not None and incoming.sender == peer and incoming.ready and not incoming.whole:
            incoming.pulled = incoming.received
            self._pull(incoming)

    def on_tick(self) -> None:
        """A snapshot that makes no progress is begun again from where the store says that it stands."""
        incoming = self._incoming
        if incoming is None or self.now - incoming.asked_at < incoming.patience:
            return
        anew = _Incoming(incoming.sender, incoming.meta, self.now, self._bounded(2 * incoming.patience))
        anew.last_progress = incoming.last_progress
        self._ask_store(anew)

    def _bounded(self, patience: int) -> int:
        least = self._config.pull_timeout
        return max(least, min(patience, _LONGEST * least))

    def _pull(self, incoming: _Incoming) -> None:
        """As many pieces are under way as the window allows; one, until its answer has told the size."""
        length = self._config.chunk_bytes
        window = 1 if incoming.size is None else self._config.chunk_window
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
    """Pieces of our snapshots for whoever pulls them; a few reads per peer at a time."""

    def __init__(self, config: NodeLimits, orders: Outputs, peers: Peers) -> None:
        self._config = config
        self._orders = orders
        self._peers = peers
        self._reading: dict[NodeId, int] = {}
        self._furthest: dict[NodeId, tuple[Index, Term, int]] = {}
        self._warnings = AlarmLimiter(orders, every=None)  # the peer will ask for the same snapshot again and again

    def on_pull(self, peer: NodeId, pull: Pull) -> None:
        """The piece is being read. Asking for bytes beyond all that were asked for before shows progress. Only members
        are served: no other node is offered a snapshot, and what is kept here of strangers would have no bound."""
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
        self._orders.run(Lane.TRANSFER, ReadChunk(peer, meta, pull.offset, min(pull.length, self._config.chunk_bytes)))
        furthest = self._furthest.get(peer)
        if furthest is None or furthest[:2] != (pull.index, pull.term) or pull.offset > furthest[2]:
            if peer not in self._furthest:  # who has left the cluster since is not remembered
                self._furthest = {node: far for node, far in self._furthest.items() if self._peers.is_member(node)}
            self._furthest[peer] = (pull.index, pull.term, pull.offset)
            self._orders.events.append(SnapshotProgress(peer))

    def on_offered(self, peer: NodeId) -> None:
        """A snapshot is offered to the peer anew: whatever it asks for from now on is progress."""
        self._furthest.pop(peer, None)

    def on_read(self, event: ChunkRead) -> None:
        """The piece goes back on the connection that the peer asks on."""
        left = self._reading.get(event.peer, 0) - 1
        if left > 0:
            self._reading[event.peer] = left
        else:
            self._reading.pop(event.peer, None)
        meta = event.meta
        if event.text:
            about = (meta.index, meta.term)
            self._warnings.alarm(AlarmKind.SNAPSHOT_STUCK, about, event.peer, event.text, self._peers.now)
        connection: ConnectionId | None = self._peers.accepted_from(event.peer)
        if connection is None:
            self._peers.drop(Drop.ANSWER_LOST)
            return
        if event.offset > event.size and not event.gone:
            self._peers.drop(Drop.PULL_REFUSED)  # beyond the end: there is no such piece
            return
        chunk = Chunk(meta.index, meta.term, event.offset, event.size, event.data, gone=event.gone)
        self._peers.answer(connection, chunk)
