"""The Raft protocol without I/O: events in, effects out.

`Raft` is one node of a cluster: make it with `Raft.bootstrap` or `Raft.open`, give it events and carry out the effects
that it returns. What such a program needs is here: events, effects, outcomes, requests, membership changes. Whoever
writes a store, an adapter or a test finds the rest in the modules: values of the log in `entries`, numbers in `ids`,
peer messages in `messages`, all errors in `errors`, the `Store` protocol in `store`.

The rest of a running node is in `raft_core.node`, the formats of wire and disk are in `raft_core.wire` and
`raft_core.wal`, and the simulator and other test tools in `raft_testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raft_core import raft as _raft
from raft_core._moved import moved_names
from raft_core.effects import (
    Alarm,
    Apply,
    Effect,
    Indeterminate,
    Outcome,
    Persist,
    ReadReady,
    ReceiveSnapshot,
    Refusal,
    Respond,
    Restore,
    RoleChanged,
    Send,
    Stop,
    Success,
    TakeSnapshot,
)
from raft_core.errors import CallerError, RaftError, SettingsError
from raft_core.events import (
    Applied,
    CampaignRequested,
    Event,
    MachineFailed,
    PeerConnected,
    PeerUnreachable,
    Persisted,
    Proposed,
    Requested,
    Restored,
    SnapshotFailed,
    SnapshotProgress,
    SnapshotReceived,
    SnapshotRejected,
    SnapshotTaken,
    StopRequested,
    StorageFailed,
    Tick,
)
from raft_core.membership import AddLearner, AddVoter, Members, RemoveNode
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.requests import ChangeMembership, LeaveJoint, Read, ReadConsistency, TransferLeadership
from raft_core.settings import Settings
from raft_core.state_machine import StateMachine
from raft_core.status import Status

COMPILED: Final = not _raft.__file__.endswith(".py")
"""Whether the modules of logic are compiled. They do the same in either case."""

__all__ = [
    "COMPILED",
    "AddLearner",
    "AddVoter",
    "Alarm",
    "Applied",
    "Apply",
    "CallerError",
    "CampaignRequested",
    "ChangeMembership",
    "Effect",
    "Event",
    "Indeterminate",
    "LeaveJoint",
    "MachineFailed",
    "Members",
    "Outcome",
    "PeerConnected",
    "PeerUnreachable",
    "Persist",
    "Persisted",
    "Proposed",
    "Raft",
    "RaftError",
    "Read",
    "ReadConsistency",
    "ReadReady",
    "ReceiveSnapshot",
    "Recovered",
    "Refusal",
    "RemoveNode",
    "Requested",
    "Respond",
    "Restore",
    "Restored",
    "RoleChanged",
    "Send",
    "Settings",
    "SettingsError",
    "SnapshotFailed",
    "SnapshotProgress",
    "SnapshotReceived",
    "SnapshotRejected",
    "SnapshotTaken",
    "StateMachine",
    "Status",
    "Stop",
    "StopRequested",
    "StorageFailed",
    "Success",
    "TakeSnapshot",
    "Tick",
    "TransferLeadership",
]

if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
