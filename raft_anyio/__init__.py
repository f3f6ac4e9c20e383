"""Raft nodes for asyncio and trio, by anyio: timers, sockets and threads for what `raft_core` decides.

What lives here: the public names. Everything else in this package is private.
"""

from __future__ import annotations

from raft_anyio.node import Node, open_node
from raft_core.effects import Alarm, Announce
from raft_core.errors import (
    DiskError,
    MembershipRefused,
    NotLeader,
    OutcomeUnknown,
    QueueFull,
    RaftError,
    Refused,
    RequestError,
    TransferInProgress,
)
from raft_core.events import ReadConsistency
from raft_core.host.config import HostConfig
from raft_core.host.node import NodeConfig
from raft_core.host.status import HostStatus
from raft_core.machine import StateMachine
from raft_core.settings import Settings

__all__ = [
    "Alarm",
    "Announce",
    "DiskError",
    "HostConfig",
    "HostStatus",
    "MembershipRefused",
    "Node",
    "NodeConfig",
    "NotLeader",
    "OutcomeUnknown",
    "QueueFull",
    "RaftError",
    "ReadConsistency",
    "Refused",
    "RequestError",
    "Settings",
    "StateMachine",
    "TransferInProgress",
    "open_node",
]
