"""Replicated objects: classes whose methods are applied on every node of a cluster, once each."""

from __future__ import annotations

from raft_objects.codec import Since
from raft_objects.declare import OPENERS, BoundCommand, BoundQuery, Command, Query, Replicated, command, query
from raft_objects.errors import (
    CommandCrashed,
    CommandError,
    CommandFailed,
    CommandHeld,
    CommandRefused,
    NotDeterministic,
    ReplicasDiffer,
    SessionExpired,
    VersionUnknown,
)
from raft_objects.held import Held
from raft_objects.machine import Objects
from raft_objects.opening import opening

__all__ = [
    "BoundCommand",
    "BoundQuery",
    "Command",
    "CommandCrashed",
    "CommandError",
    "CommandFailed",
    "CommandHeld",
    "CommandRefused",
    "Held",
    "NotDeterministic",
    "Objects",
    "Query",
    "ReplicasDiffer",
    "Replicated",
    "SessionExpired",
    "Since",
    "VersionUnknown",
    "command",
    "query",
]

OPENERS.append(opening)  # so `open_node` takes objects
