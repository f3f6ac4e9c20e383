"""Raft nodes for trio: timers, sockets and threads around `raft_core`.

This module exports the public names; all other modules are private.
"""

from __future__ import annotations

from raft_core.effects import Alarm, RoleChanged
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
from raft_core.node.config import NodeConfig
from raft_core.node.limits import NodeLimits
from raft_core.node.status import NodeStatus
from raft_core.settings import Settings
from raft_core.state_machine import StateMachine
from raft_trio.node import Node, open_node

__all__ = [
    "Alarm",
    "DiskError",
    "MembershipRefused",
    "Node",
    "NodeConfig",
    "NodeLimits",
    "NodeStatus",
    "NotLeader",
    "OutcomeUnknown",
    "QueueFull",
    "RaftError",
    "ReadConsistency",
    "Refused",
    "RequestError",
    "RoleChanged",
    "Settings",
    "StateMachine",
    "TransferInProgress",
    "open_node",
]
