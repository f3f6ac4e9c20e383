"""The error tree: the class says who is at fault, the text says what to do about it.

What lives here: exceptions only. The core itself raises `CallerError` and `InvariantBroken` and nothing else;
`PeerError` is raised and caught inside the wire layer, `DiskError` by stores, and `RequestError` by adapters,
towards the code that awaits an answer.
"""

from __future__ import annotations

from raft_core.ids import NO_NODE, NodeId

__all__ = [
    "CallerError",
    "DirectoryInUse",
    "DiskError",
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
    """Everything that this library raises on purpose."""


# The caller is at fault.


class CallerError(RaftError):
    """The calling code broke the contract; the text says which rule and what to do instead."""


class SettingsError(CallerError):
    """A setting is out of range, or two settings contradict each other."""


class RaftStopped(CallerError):
    """`step` was called after an earlier step had raised or had ordered `Stop`; build a new core from the store."""


class MachineBroken(CallerError):
    """The state machine raised an exception where none can be passed over: in `apply`, `restore` or `init`. The node
    ends with this error; `__cause__` is the exception.

    `machine` is the name of its class and `operation` the method's. `index` is the entry that was being applied, or
    the snapshot that was being restored; 0 in `init`. `command` is what could not be applied, b"" elsewhere."""

    def __init__(self, text: str, machine: str, operation: str, index: int = 0, command: bytes = b"") -> None:
        super().__init__(text)
        self.machine = machine
        self.operation = operation
        self.index = index
        self.command = command


# We are at fault.


class InvariantBroken(RaftError):
    """A safety property does not hold: a defect of this library. The node must stop; report it with its recording."""


def invariant(holds: bool, text: str) -> None:
    """Nothing where it holds; otherwise `InvariantBroken`, also under `python -O`. `text` is constant: it is hot."""
    if not holds:
        raise InvariantBroken(text)


# A peer is at fault.


class PeerError(RaftError):
    """What came over a connection breaks the wire protocol; the connection is closed and the node lives on."""


class FrameError(PeerError):
    """A frame is too long, has a wrong checksum, an unknown kind or contents that do not decode."""


# The disk is at fault.


class DiskError(RaftError):
    """Storage cannot be trusted or used; the node does not start, or stops. The text names file, offset and remedy."""


class LogLost(DiskError):
    """The disk no longer holds what this node has acknowledged; it must never vote with what is left (thesis 11.2)."""


class LogDamaged(DiskError):
    """Bytes that were once durable do not match their checksum, or a file of the log is missing."""

    def __init__(self, file: str, offset: int, problem: str, remedy: str) -> None:
        super().__init__(f"{file} at offset {offset}: {problem}. {remedy}")
        self.file = file
        self.offset = offset
        self.problem = problem
        self.remedy = remedy


class StorageBroken(DiskError):
    """A write, sync or read failed; the store acknowledges nothing more until it is opened again."""


class DirectoryInUse(DiskError):
    """Another process holds the lock of this data directory; the text names it, where that is known."""


class WrongDirectory(DiskError):
    """The data directory belongs to another node or another cluster, or has a newer format."""


# A request was not carried out, or nobody can know.


class RequestError(RaftError):
    """What an adapter raises instead of giving a result; one of `Refused` and `OutcomeUnknown`."""


class Refused(RequestError):
    """The request has certainly not been carried out and never will be; it may be sent again."""

    def __init__(self, reason: str, text: str = "", leader: NodeId = NO_NODE) -> None:
        super().__init__(text or reason)
        self.reason = reason
        self.leader = leader


class NotLeader(Refused):
    """This node does not lead and could not pass the request on; `leader` (0: unknown) and `address` say where to."""

    def __init__(self, reason: str, text: str = "", leader: NodeId = NO_NODE, address: str = "") -> None:
        super().__init__(reason, text, leader)
        self.address = address


class QueueFull(Refused):
    """A bounded queue is full (uncommitted bytes, waiting reads, waiting clients, log); try again later."""


class TransferInProgress(Refused):
    """The leader is handing over and takes nothing new; try again at the next leader."""


class MembershipRefused(Refused):
    """A membership change was refused before it was appended; `reason` says which rule."""


class OutcomeUnknown(RequestError):
    """The request may or may not be carried out, now or later. Repeat it only under a session, or if harmless twice."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason
