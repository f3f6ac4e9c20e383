"""What travels between nodes besides the protocol's messages: greetings, forwarded requests, snapshot bytes.

What lives here: values. A frame's kind byte says which of these, or a `Message`, its payload is.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

from raft_core.effects import RefusalReason, UnknownReason
from raft_core.ids import ClusterId, Incarnation, Index, NodeId, Term
from raft_core.membership import Change, ChangeMode
from raft_core.structs import Value

__all__ = [
    "WIRE_VERSION",
    "Chunk",
    "Forward",
    "ForwardReply",
    "Forwarded",
    "Hello",
    "Payload",
    "ProposeChange",
    "ProposeCommand",
    "ProposeLeave",
    "Pull",
    "Transfer",
]

WIRE_VERSION: Final = 1


@final
class Hello(Value, frozen=True, array_like=True):
    """The first frame in each direction. `to`: whom the sender believes to talk to (0: does not know).

    `to_incarnation`: the disk that the sender expects there by its configuration, 0 where it does not know.
    `address` is where the sender can be dialled; `known` are other addresses it knows. `formed`: its disk has been
    part of a cluster. `founders`: while not `formed`, who it thinks founds the cluster, sorted; empty for a joiner.
    `version` is always the first field, so that a later version can be told from this one."""

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
    """Of a formed node: its founding `Members.encode()`, by which a founder that missed the moment can form too. Of a
    founder that has not formed: what it plans to write, with incarnations once it knows all of them. Others can object
    before anything is written, and write the same once everybody has said it."""


@final
class ProposeCommand(Value, frozen=True, tag=1, array_like=True):
    """A client's command, passed on to the leader; answered with the machine's result."""

    command: bytes


@final
class ProposeChange(Value, frozen=True, tag=2, array_like=True):
    """An operator's change of members, passed on to the leader."""

    changes: tuple[Change, ...]
    mode: ChangeMode = ChangeMode.AUTO
    expected: Index = Index(0)


@final
class ProposeLeave(Value, frozen=True, tag=3, array_like=True):
    """An operator's wish to leave the joint configuration, passed on to the leader."""


@final
class Transfer(Value, frozen=True, tag=4, array_like=True):
    """An operator's wish that the leader hand over, passed on to it."""

    to: NodeId = NodeId(0)


Forwarded: TypeAlias = ProposeCommand | ProposeChange | ProposeLeave | Transfer


@final
class Forward(Value, frozen=True, array_like=True):
    """A request passed on to the leader: at most once, one hop; `id` is unique within the sender's run.

    `budget`: nanoseconds until the client's deadline, by which the answer is worthless."""

    id: int
    budget: int
    request: Forwarded


@final
class ForwardReply(Value, frozen=True, array_like=True):
    """The answer to a `Forward`: exactly one of a result, a refusal and an uncertainty. `exact` is the reason's own
    name where `refused` or `unknown` is only the nearest one that every version knows."""

    id: int
    result: bytes | None = None
    refused: RefusalReason | None = None
    unknown: UnknownReason | None = None
    leader: NodeId = NodeId(0)
    text: str = ""
    exact: str = ""


@final
class Pull(Value, frozen=True, array_like=True):
    """The receiver of a snapshot asks for `length` bytes from `offset`. The sender keeps no state for a transfer."""

    index: Index
    term: Term
    offset: int
    length: int


@final
class Chunk(Value, frozen=True, array_like=True):
    """The answer to a `Pull`: bytes of the snapshot, whose whole size is `size`; `gone` where it no longer exists."""

    index: Index
    term: Term
    offset: int
    size: int
    data: bytes
    gone: bool = False


Payload: TypeAlias = Hello | Forward | ForwardReply | Pull | Chunk
