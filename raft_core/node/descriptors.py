"""How the files that a process may have open are shared between the disk, the peers and the clients.

Each has an allowance of its own, so that none can take what another needs: a node that cannot open its next log segment
ends, and one whose peers cannot connect does not lead. The disk's share is fixed and comes first; the peers have at
least `_PEERS`, and an eighth of a large limit; the clients have the rest.
"""

from __future__ import annotations

from typing import Final, final

import attrs

from raft_core.errors import CallerError
from raft_core.node.limits import NodeLimits

__all__ = ["RESERVED", "DescriptorShares", "OpenAccepted", "share_descriptors"]

_DISK: Final = 32
"""For the log, snapshots, the directory's lock, listeners, the loop and the standard streams."""
_PEERS: Final = 32
RESERVED: Final = _DISK + _PEERS
"""What clients leave at least."""
_CLOSING: Final = 8
"""Of the peers' share: connections that are being closed while others are accepted."""


@final
@attrs.frozen
class DescriptorShares:
    """What fits: so many clients, and connections of peers as `limits` has them."""

    clients: int
    limits: NodeLimits


def share_descriptors(files: int, clients: int, limits: NodeLimits) -> DescriptorShares:
    """Return `clients` and `limits`, each lowered to what `files` descriptors leave room for.

    A peer has two connections, one in each direction, so accepted ones may take half of the peers' share; those without
    a greeting may take half of that. Raise `CallerError` if no client fits.
    """
    peers = max(_PEERS, min(2 * limits.max_connections + _CLOSING, files // 8))
    room = files - _DISK - peers
    if room < 1:
        raise CallerError(
            f"this process may have {files} files open at once (ulimit -n), and a node needs {RESERVED} and one for "
            f"each client: raise the limit"
        )
    clients = min(clients, room)
    connections = min(limits.max_connections, (files - _DISK - clients - _CLOSING) // 2)
    ungreeted = min(limits.max_ungreeted, connections // 2)
    return DescriptorShares(clients, attrs.evolve(limits, max_connections=connections, max_ungreeted=max(1, ungreeted)))


@final
class OpenAccepted:
    """Count of an adapter's accepted sockets, including those the node has not heard of or is closing.

    The sockets of a burst above the limit are closed before they take all descriptors.
    """

    __slots__ = ("_most", "_open")

    def __init__(self, limits: NodeLimits) -> None:
        self._most: Final = limits.max_connections + _CLOSING
        self._open = 0

    def enter(self) -> bool:
        """Count one more. Return False, and count nothing, where it has to be closed at once."""
        if self._open >= self._most:
            return False
        self._open += 1
        return True

    def leave(self) -> None:
        """Count one less: it is closed."""
        self._open -= 1
