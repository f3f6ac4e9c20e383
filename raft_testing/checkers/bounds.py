"""Bounds of a node's queues.

`queue_of_core` and `queue_of_node` name a queue longer than its limit. The limits are those of `Settings` and
`NodeLimits`; a comment marks each place where one item may exceed its limit.
"""

from __future__ import annotations

from typing import Final

import attrs

from raft_core.entries import ENTRY_OVERHEAD
from raft_core.events import Event, Proposed
from raft_core.node.limits import NodeLimits
from raft_core.node.status import Load
from raft_core.raft import Raft
from raft_core.roles.leader import Leader
from raft_core.settings import Settings

__all__ = ["limits_of_node", "queue_of_core", "queue_of_node"]

_UNREFUSED: Final = 8192
"""Bytes of no-ops and configurations, which are never kept out of a log."""
_URGENT_BYTES: Final = 1024
"""More than any message of the urgent lane takes."""


def queue_of_core(raft: Raft, event: Event | None) -> str:
    """Return a violation if the log or its uncommitted end is too long. Checked whenever the event made the log grow.

    A follower accepts the entries its leader had before its term, even without room: up to the leader's limit, plus its
    own entries not compacted yet. A new leader may start with more uncommitted entries as far as it knows. It takes no
    proposals then.
    """
    server = raft.server
    settings, log = server.settings, server.log
    most = 2 * settings.log_max_bytes + _UNREFUSED
    if log.size > most:
        return f"{log.size} bytes are in the log, at most {most} may be"
    if type(event) is Proposed and type(raft.role) is Leader:
        most = settings.max_uncommitted_bytes + settings.max_entry_bytes + ENTRY_OVERHEAD + _UNREFUSED
        if raft.role.uncommitted > most:  # one entry may exceed the limit, where nothing else waits
            return f"{raft.role.uncommitted} bytes of the log are uncommitted, at most {most} may be"
    return ""


def limits_of_node(config: NodeLimits, settings: Settings) -> Load:
    """Return the upper bounds of the work waiting for the core, for the leader, and for a peer.

    A message larger than its lane's limit is sent if nothing else waits in the lane, and another may be half sent.
    """
    single = max(settings.max_message_bytes, settings.max_entry_bytes) + _URGENT_BYTES
    bulk = max(config.bulk_limit(settings), single)
    most = bulk + single + 2 * config.request_bytes + config.urgent_frames * _URGENT_BYTES
    return Load(config.max_clients, config.max_client_bytes, config.max_forwarded, most)


def queue_of_node(load: Load, limits: Load) -> str:
    """Return a violation if too much waits in a node. Called after every turn, so it is fast if nothing is wrong."""
    if (
        load.clients <= limits.clients
        and load.client_bytes <= limits.client_bytes
        and load.forwarded <= limits.forwarded
        and load.peer_bytes <= limits.peer_bytes
    ):
        return ""
    what = ("clients wait", "bytes of clients wait", "requests are with the leader", "bytes wait for one peer")
    numbers = zip(what, attrs.astuple(load), attrs.astuple(limits), strict=True)
    return ", ".join([f"{waits} {name}, at most {most} may" for name, waits, most in numbers if waits > most])
