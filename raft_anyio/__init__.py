"""Raft nodes for asyncio and trio, by anyio: timers, sockets and threads around `raft_core`.

It exports everything that a service needs: the node, its configuration, what its requests take, return and raise. All
other modules are private.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raft_anyio.node import Node, open_node
from raft_anyio.serving import serve
from raft_core._moved import moved_names
from raft_core.effects import Alarm, AlarmKind, RefusalReason, RoleChanged, RoleName, UnknownReason
from raft_core.entries import Checksum
from raft_core.errors import (
    CallerError,
    DirectoryInUse,
    DiskError,
    FeatureUnknown,
    InvariantBroken,
    LogDamaged,
    LogLost,
    MachineBroken,
    MembershipRefused,
    NotLeader,
    OutcomeUnknown,
    QueueFull,
    RaftError,
    Refused,
    RequestError,
    SettingsError,
    StorageBroken,
    TransferInProgress,
    WrongDirectory,
)
from raft_core.explain import Explanation
from raft_core.membership import AddLearner, AddVoter, Change, ChangeMode, Members, RemoveNode
from raft_core.node.config import NodeConfig
from raft_core.node.limits import NodeLimits
from raft_core.node.opening import Openable
from raft_core.node.reaching import ListenFailed
from raft_core.node.security import TLS
from raft_core.node.status import NodeStatus
from raft_core.requests import ReadConsistency
from raft_core.settings import Settings
from raft_core.state_machine import KeepsTime, PreparesWithWallTime, StateMachine
from raft_core.store import Store

__all__ = [
    "TLS",
    "AddLearner",
    "AddVoter",
    "Alarm",
    "AlarmKind",
    "CallerError",
    "Change",
    "ChangeMode",
    "Checksum",
    "DirectoryInUse",
    "DiskError",
    "Explanation",
    "FeatureUnknown",
    "InvariantBroken",
    "KeepsTime",
    "ListenFailed",
    "LogDamaged",
    "LogLost",
    "MachineBroken",
    "Members",
    "MembershipRefused",
    "Node",
    "NodeConfig",
    "NodeLimits",
    "NodeStatus",
    "NotLeader",
    "Openable",
    "OutcomeUnknown",
    "PreparesWithWallTime",
    "QueueFull",
    "RaftError",
    "ReadConsistency",
    "RefusalReason",
    "Refused",
    "RemoveNode",
    "RequestError",
    "RoleChanged",
    "RoleName",
    "Settings",
    "SettingsError",
    "StateMachine",
    "StorageBroken",
    "Store",
    "TransferInProgress",
    "UnknownReason",
    "WrongDirectory",
    "open_node",
    "serve",
]

if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
