"""The effects of a client session, and its limits.

The server carries out every effect in order. An effect that asks for something is answered by one of
`Session.answered`, `Session.failed`, `Session.declined`, `Session.inspected` and `Session.resume`; at most one such
effect is open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

import attrs

from raft_core.ids import NodeId
from raft_core.membership import Change
from raft_core.requests import BackupRequest
from raft_core.structs import Value
from raft_kv.resp_parser import RequestLimits

__all__ = [
    "BackUp",
    "ChangeMembers",
    "Close",
    "Disconnect",
    "Inspect",
    "LeaveJoint",
    "OffLoop",
    "Pause",
    "Propose",
    "Read",
    "Send",
    "SessionEffect",
    "SessionLimits",
    "Share",
    "ShareRead",
    "TransferLeadership",
    "Wait",
]


@final
@attrs.frozen
class SessionLimits:
    """Limits on the resources of one client."""

    requests: RequestLimits = attrs.field(factory=RequestLimits)
    batch_calls: int = 512
    """Commands of one connection in a batch: one log entry or one query."""
    batch_bytes: int = 256 * 1024
    """The same in bytes; a single larger command is sent alone."""
    shared_bytes: int = 0
    """Short writes of so many bytes may share a log entry with those of other clients, and short reads a query."""
    transaction_bytes: int = 1024 * 1024
    """Bytes queued between MULTI and EXEC."""
    transaction_calls: int = 65_536
    """Commands queued between MULTI and EXEC."""
    turn_cost: int = 2048
    """Work for one client in a turn, in units of about a microsecond, for commands and the bytes of their replies. Then
    the other clients have their turns."""
    watched_keys: int = 65_536
    """Watched keys of one connection; their bytes are limited like those of a transaction."""


@final
class Send(Value, frozen=True):
    """Write these bytes to the client, from place `skip` on."""

    data: bytes
    skip: int = 0


@final
class Close(Value, frozen=True):
    """Close the connection once everything was sent. `problem`: what is wrong with the client's bytes, if anything."""

    problem: str = ""


@final
class Propose(Value, frozen=True):
    """Have this command applied; answer with its result."""

    command: bytes


@final
class Share(Value, frozen=True):
    """Have these commands applied, in one log entry with those of other clients; answer with their replies.

    Their replies are one line each. `size`: bytes of the commands, at most.
    """

    calls: list[list[bytes]]
    size: int


@final
class ShareRead(Value, frozen=True):
    """Have these commands answered, in one query with those of other clients; answer with their replies.

    If some would be long, do nothing and call `Session.declined`. `size`: bytes of the commands, at most.
    """

    calls: list[list[bytes]]
    size: int
    protocol: int


@final
class Read(Value, frozen=True):
    """Query the machine, linearizably; answer with its reply."""

    query: bytes


@final
class BackUp(Value, frozen=True):
    """Read a piece of a backup of this node; answer with its bytes."""

    request: BackupRequest


@final
class Disconnect(Value, frozen=True):
    """Close the connections of these other clients of the node, by their numbers; answer with b""."""

    clients: tuple[int, ...]


@final
class Inspect(Value, frozen=True):
    """Answer with the `ServerStatus` of this node."""


@final
class ChangeMembers(Value, frozen=True):
    """Change the members, if those in force are still the ones of entry `expected`, or enable these features.

    The answer is b"" once the change is in force.
    """

    changes: tuple[Change, ...]
    expected: int
    features: tuple[str, ...] = ()


@final
class LeaveJoint(Value, frozen=True):
    """Leave the joint configuration; answer with b""."""


@final
class TransferLeadership(Value, frozen=True):
    """Transfer leadership to `to`, or for 0 to the best voter; answer with b""."""

    to: NodeId = NodeId(0)


@final
class OffLoop(Value, frozen=True, eq=False, gc=True):
    """Do this work, which takes long, in a thread; answer with its result."""

    work: Callable[[], bytes]


@final
class Wait(Value, frozen=True):
    """Answer with b"" after so many seconds."""

    seconds: float


@final
class Pause(Value, frozen=True):
    """Let the others have their turns, then call `Session.resume`."""


SessionEffect: TypeAlias = (
    Send
    | Close
    | Propose
    | Share
    | ShareRead
    | Read
    | BackUp
    | Inspect
    | ChangeMembers
    | LeaveJoint
    | TransferLeadership
    | Disconnect
    | Pause
    | OffLoop
    | Wait
)
