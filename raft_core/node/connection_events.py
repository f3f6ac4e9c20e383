"""Events of connections and of snapshots on their way, and peers' payloads, each given to its handler."""

from __future__ import annotations

from typing import assert_never

from raft_core.node.events import (
    ChunkRead,
    ChunkStored,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionSecured,
    DialFailed,
    NodeEvent,
    SecuringFailed,
    SnapshotComplete,
)
from raft_core.node.peer_connection import Connection
from raft_core.node.peers import Peers
from raft_core.node.requests import RequestBook
from raft_core.node.snapshot_transfer import Receiving, Serving
from raft_core.wire.payloads import Chunk, Forward, ForwardReply, Pull

__all__ = ["give_payload", "tell_peers", "tell_transfers"]


def tell_peers(peers: Peers, event: NodeEvent) -> bool:
    """Have the event handled if it is one of a connection's life. Return whether it was."""
    match event:
        case ConnectionOpened():
            peers.on_opened(event)
        case ConnectionSecured() | SecuringFailed():
            peers.on_secured(event)
        case DialFailed():
            peers.on_dial_failed(event)
        case ConnectionClosed():
            peers.on_closed(event)
        case _:
            return False
    return True


def give_payload(
    payload: Forward | ForwardReply | Pull | Chunk,
    connection: Connection,
    peers: Peers,
    clients: RequestBook,
    serving: Serving,
    receiving: Receiving,
) -> None:
    """Have a greeted peer's payload handled."""
    if isinstance(payload, ForwardReply):
        clients.on_forward_reply(connection.id, payload)
    elif isinstance(payload, Forward):
        clients.on_forward(connection.id, payload, member=peers.is_member(connection.peer))
    elif isinstance(payload, Pull):
        serving.on_pull(connection.peer, payload)
    elif isinstance(payload, Chunk):
        receiving.on_chunk(connection.peer, payload)
    else:
        assert_never(payload)


def tell_transfers(serving: Serving, receiving: Receiving, event: NodeEvent) -> bool:
    """Have the event handled if it is one of a snapshot on its way. Return whether it was."""
    match event:
        case ChunkRead():
            serving.on_read(event)
        case ChunkStored():
            receiving.on_stored(event)
        case SnapshotComplete(meta):
            receiving.on_complete(meta)
        case _:
            return False
    return True
