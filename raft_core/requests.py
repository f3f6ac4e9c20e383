"""Requests: one class for each kind, from the caller through the node and over the wire to the core.

A caller's request carries no number and no deadline: `node.events.Call` adds the caller and its deadline, the payload
`Forward` the number for the leader's reply, and the core's event `Requested` a request id. Only proposals change their
form on the way: the node puts those of many callers into one `Proposed`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias, final

from raft_core._moved import moved_names
from raft_core.ids import NO_INDEX, NO_NODE
from raft_core.membership import Change, ChangeMode
from raft_core.structs import Value

__all__ = [
    "BackupRequest",
    "ChangeMembership",
    "Forwarded",
    "LeaveJoint",
    "NodeRequest",
    "OpenBackup",
    "Propose",
    "Read",
    "ReadBackup",
    "ReadConsistency",
    "Request",
    "SingleRequest",
    "TransferLeadership",
]


class ReadConsistency(StrEnum):
    """The guarantee of a read.

    `LINEARIZABLE`: it sees every write answered before the read was requested (§8).
    `STALE_BOUNDED`: NOT linearizable. It sees the commits of the leader at the time of its last message, received at
    most `limit` ticks ago. The message's time on the network is not counted, and the sender may be a deposed leader
    for up to an election timeout.
    `MONOTONE`: NOT linearizable. It sees the state at index `limit` or later, for clients which keep the highest index
    they have seen; refused as stale while this node's commit index is lower.
    """

    LINEARIZABLE = "linearizable"
    STALE_BOUNDED = "stale_bounded"
    MONOTONE = "monotone"


@final
class Propose(Value, frozen=True, tag=1, array_like=True):
    """Append a command to the log. Answered with the machine's result once it is committed and applied."""

    command: bytes


@final
class ChangeMembership(Value, frozen=True, tag=2, array_like=True):
    """Change the members. Answered once the change is committed and, unless `mode` is explicit, not joint any more.

    `expected`: refuse unless the configuration in force was appended at this index; 0: any. `features` are to be
    enabled, in a change of its own: with it `changes` is empty. A leader of release 0.1.0 refuses that, because to it
    the change names no node.
    """

    changes: tuple[Change, ...]
    mode: ChangeMode = ChangeMode.AUTO
    expected: int = NO_INDEX
    features: tuple[str, ...] = ()


@final
class LeaveJoint(Value, frozen=True, tag=3, array_like=True):
    """Leave a joint configuration (needed only after `ChangeMode.EXPLICIT`)."""


@final
class TransferLeadership(Value, frozen=True, tag=4, array_like=True):
    """Transfer the leadership to `to`, or (0) to the best-matched voter."""

    to: int = NO_NODE


@final
class Read(Value, frozen=True, tag=5, array_like=True):
    """Read on this node, with the guarantee `consistency` and its `limit`.

    The core says when and is given no `query`. A caller whose query is None is answered b"" as soon as a query could be
    answered.
    """

    consistency: ReadConsistency = ReadConsistency.LINEARIZABLE
    limit: int = 0
    query: bytes | None = None


@final
class OpenBackup(Value, frozen=True):
    """Return piece 0, the header, of a backup of this node's state; see `raft_core.backup_format`.

    Without `index`: of a snapshot with everything committed before the request, which is taken now if there is none.
    With `index` and `term`: of exactly this snapshot, to continue an interrupted backup; refused if it is gone. `label`
    names the program in the header.
    """

    label: str = ""
    index: int = NO_INDEX
    term: int = 0


@final
class ReadBackup(Value, frozen=True):
    """Return piece `piece` of the backup that was opened at `index` and `term`; b"" beyond the last one."""

    index: int
    term: int
    piece: int


BackupRequest: TypeAlias = OpenBackup | ReadBackup
"""Requests that a node answers from its own disk; they reach neither the core nor another node."""
Forwarded: TypeAlias = Propose | ChangeMembership | LeaveJoint | TransferLeadership
"""Requests that only the leader carries out; other nodes forward them to it."""
SingleRequest: TypeAlias = Read | ChangeMembership | LeaveJoint | TransferLeadership
"""Requests that reach the core one by one; proposals come many in one `Proposed`."""
Request: TypeAlias = Forwarded | Read
"""Requests about the replicated state."""
NodeRequest: TypeAlias = Request | BackupRequest
"""All requests of a caller to its node."""

if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
