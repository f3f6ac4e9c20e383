"""Events of connections, each given to its handler in `Peers`."""

from __future__ import annotations

from raft_core.node.events import (
    ConnectionClosed,
    ConnectionOpened,
    ConnectionSecured,
    DialFailed,
    NodeEvent,
    SecuringFailed,
)
from raft_core.node.peers import Peers

__all__ = ["tell_peers"]


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
