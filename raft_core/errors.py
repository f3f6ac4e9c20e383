"""The exceptions. The class names the party at fault, the text the remedy.

The core itself raises only `CallerError` and `InvariantBroken`. `PeerError` is raised and caught inside the wire
layer, `DiskError` is raised by stores, and `RequestError` by adapters, to the code awaiting an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raft_core._moved import moved_names
from raft_core.ids import NO_NODE, NodeId

__all__ = [
    "CallerError",
    "DirectoryInUse",
    "DiskError",
    "FeatureUnknown",
    "FrameError",
    "InvariantBroken",
    "LogDamaged",
    "LogLost",
    "MachineBroken",
    "MembershipRefused",
    "NotLeader",
    "OutcomeUnknown",
    "PeerError",
    "QueueFull",
    "RaftError",
    "RaftStopped",
    "Refused",
    "RequestError",
    "SettingsError",
    "StorageBroken",
    "TransferInProgress",
    "WrongDirectory",
    "invariant",
]


class RaftError(Exception):
    """Base class of all exceptions of this library."""


# The caller is at fault.


class CallerError(RaftError):
    """The calling code broke the contract; the text names the rule and the correct use."""


class SettingsError(CallerError):
    """A setting is out of range, or two settings contradict each other."""


class FeatureUnknown(SettingsError):
    """The log on this disk enables a feature that this node's code does not have: an older release than the last.

    The node ends before it applies anything, and the disk is left as it is.
    """


class RaftStopped(CallerError):
    """`step` was called after an earlier step had raised or had ordered `Stop`; build a new core from the store."""


class MachineBroken(CallerError):
    """The state machine raised an exception in `apply`, `restore` or `init`, which cannot be ignored.

    The node ends with this error; `__cause__` is the exception.

    `machine` and `operation` name its class and method. `index` is that of the entry being applied or the snapshot
    being restored; 0 in `init`. `command` is the command being applied, b"" elsewhere.
    """

    def __init__(self, text: str, machine: str, operation: str, index: int = 0, command: bytes = b"") -> None:
        super().__init__(text)
        self.machine = machine
        self.operation = operation
        self.index = index
        self.command = command


# We are at fault.


class InvariantBroken(RaftError):
    """A safety property does not hold: a bug in this library. The node must stop; report it with its recording."""


def invariant(holds: bool, text: str) -> None:
    """Raise `InvariantBroken` unless `holds`, also under `python -O`. Pass a constant `text`: this is a hot path."""
    if not holds:
        raise InvariantBroken(text)


# A peer is at fault.


class PeerError(RaftError):
    """A peer broke the wire protocol; its connection is closed and the node continues."""


class FrameError(PeerError):
    """A frame is too long, has a wrong checksum, an unknown kind or contents that do not decode."""


# The disk is at fault.


class DiskError(RaftError):
    """Storage is unusable or damaged; the node stops or does not start. The text names file, offset and remedy."""


class LogLost(DiskError):
    """The disk lost entries this node has acknowledged; the node must never vote with the rest (thesis 11.2)."""


class LogDamaged(DiskError):
    """Bytes once durable do not match their checksum, or a file of the log is missing."""

    def __init__(self, file: str, offset: int, problem: str, remedy: str) -> None:
        super().__init__(f"{file} at offset {offset}: {problem}. {remedy}")
        self.file = file
        self.offset = offset
        self.problem = problem
        self.remedy = remedy


class StorageBroken(DiskError):
    """A write, sync or read failed; the store refuses all writes until it is opened again."""


class DirectoryInUse(DiskError):
    """Another process holds the lock of this data directory; the text names it if known."""


class WrongDirectory(DiskError):
    """The data directory belongs to another node or another cluster, or has a newer format."""


# A request was refused, or its outcome is unknown.


class RequestError(RaftError):
    """Base class of the errors an adapter raises in place of a result: `Refused` and `OutcomeUnknown`."""


class Refused(RequestError):
    """The request was certainly not carried out and never will be; it may be sent again."""

    def __init__(self, reason: str, text: str = "", leader: NodeId = NO_NODE) -> None:
        super().__init__(text or reason)
        self.reason = reason
        self.leader = leader


class NotLeader(Refused):
    """The node is not the leader and could not forward the request; try `leader` (0: unknown) at `address`."""

    def __init__(self, reason: str, text: str = "", leader: NodeId = NO_NODE, address: str = "") -> None:
        super().__init__(reason, text, leader)
        self.address = address


class QueueFull(Refused):
    """A bounded queue is full (uncommitted bytes, waiting reads, waiting clients, log); try again later."""


class TransferInProgress(Refused):
    """The leader transfers its leadership and takes no requests; try again at the next leader."""


class MembershipRefused(Refused):
    """A membership change was refused before it was appended; `reason` names the rule."""


class OutcomeUnknown(RequestError):
    """The request may or may not be carried out, now or later. Repeat it only in a session, or if idempotent."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason


if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
