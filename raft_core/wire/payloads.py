"""The values of the wire besides the protocol's messages: frames, greetings, forwarded requests, snapshot chunks.

Plain values. A frame's kind byte tells which of these, or a `Message`, its payload is.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

from raft_core.effects import RefusalReason, UnknownReason
from raft_core.ids import NO_INDEX, ClusterId, GroupId, Incarnation, Index, NodeId, Term
from raft_core.requests import Forwarded
from raft_core.structs import Value
from raft_core.wire.metadata import Metadata

__all__ = [
    "HIGHEST_VERSION",
    "WIRE_VERSION",
    "BadFrame",
    "Chunk",
    "Forward",
    "ForwardReply",
    "Frame",
    "Hello",
    "HelloVersion",
    "Payload",
    "Pull",
    "Refuse",
]

WIRE_VERSION: Final = 1
"""The lowest wire version that this release speaks."""
HIGHEST_VERSION: Final = 1
"""The highest one. Two nodes talk in the highest that both speak."""


@final
class Hello(Value, frozen=True, array_like=True):
    """The first frame in each direction. `to`: the node that the sender expects at the other end (0: unknown).

    `to_incarnation`: the incarnation that the sender expects there by its configuration, 0 if unknown. `address`: where
    the sender can be dialled; `known`: other addresses it knows. `formed`: its disk has been part of a cluster.
    `founders`: while not `formed`, the founders it is configured with, sorted; empty for a joiner. `version` is the
    lowest wire version that the sender speaks, and the one in which the hello itself is written. It is always the first
    field, so that a later version can be recognised.
    """

    version: int
    cluster: ClusterId
    sender: NodeId
    incarnation: Incarnation
    to: NodeId = NodeId(0)
    to_incarnation: Incarnation = Incarnation(0)
    formed: bool = True
    founders: tuple[NodeId, ...] = ()
    address: str = ""
    known: tuple[tuple[NodeId, str], ...] = ()
    founding: bytes = b""
    """From a formed node: its founding `Members.encode()`, so that a founder that was late can form as well. From a
    founder that has not formed: its plan, with incarnations once all are known. Others can object before anything is
    written, and write the same once every founder has sent it.
    """
    highest: int = 0
    """The highest wire version that the sender speaks; 0 from a release that knows only `version`, its lowest."""
    features: tuple[str, ...] = ()
    """The features that the sender's code has, sorted; none from release 0.1.0."""
    metadata: Metadata = ()
    """What the sender's application tells its peers about itself."""


@final
class Forward(Value, frozen=True, array_like=True):
    """A request forwarded to the leader: at most once, one hop; `id` is unique within the sender's run.

    `budget`: nanoseconds until the client's deadline, after which the answer is worthless.
    """

    id: int
    budget: int
    request: Forwarded


@final
class ForwardReply(Value, frozen=True, array_like=True):
    """The reply to a `Forward`: exactly one of a result, a refusal and an uncertainty.

    `exact` is the reason's own name if `refused` or `unknown` is only the nearest one known to every version. `index`
    is that of the command's entry; 0 for another request, and from release 0.1.0.
    """

    id: int
    result: bytes | None = None
    refused: RefusalReason | None = None
    unknown: UnknownReason | None = None
    leader: NodeId = NodeId(0)
    text: str = ""
    exact: str = ""
    index: Index = NO_INDEX


@final
class Pull(Value, frozen=True, array_like=True):
    """A request of a snapshot's receiver for `length` bytes from `offset`. The sender keeps no state for a transfer."""

    index: Index
    term: Term
    offset: int
    length: int


@final
class Chunk(Value, frozen=True, array_like=True):
    """The reply to a `Pull`: bytes of the snapshot of total size `size`; `gone` if it no longer exists."""

    index: Index
    term: Term
    offset: int
    size: int
    data: bytes
    gone: bool = False


@final
class Frame(Value, frozen=True):
    """A whole frame with valid checksums. `kind` is a plain number: it may be unknown to this release."""

    kind: int
    group: GroupId
    payload: bytes


@final
class BadFrame(Value, frozen=True):
    """The stream has no valid frame from here on; the last value returned by a reader."""

    text: str


@final
class Refuse(Value, frozen=True, array_like=True):
    """The sender's reason for closing the connection, for the peer's operator."""

    text: str


@final
class HelloVersion(Value, frozen=True, array_like=True):
    """The first field of every hello of every version."""

    version: int


Payload: TypeAlias = Hello | Forward | ForwardReply | Pull | Chunk
