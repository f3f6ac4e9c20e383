"""`Link`: the protocol of one connection between two nodes, without I/O: bytes in, `LinkEvent` values out.

Both ends use it, the dialling and the accepting one. No input raises. A broken link reports the reason in its last
event and ignores all further input.

The first frame in each direction is a `Hello`. It is judged by version, cluster, sender, addressee and incarnation, and
never by membership: an unknown node may be a voter of a configuration that this node has not received yet. After the
hello, a peer may send messages in its own name only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeAlias, final

import attrs
import msgspec

from raft_core.errors import FrameError, SettingsError
from raft_core.features import missing_features, named
from raft_core.ids import NO_NODE, Incarnation, NodeId
from raft_core.messages import Message
from raft_core.settings import Settings
from raft_core.structs import Value
from raft_core.wire.certificates import stranger_in
from raft_core.wire.codec import decode, decode_version, encode_payload, encode_refusal
from raft_core.wire.frames import FrameKind, FrameReader
from raft_core.wire.payloads import BadFrame, Chunk, Forward, ForwardReply, Frame, Hello, Pull, Refuse

__all__ = [
    "Greeted",
    "Limits",
    "Link",
    "LinkBroken",
    "LinkEvent",
    "LinkFault",
    "MessageReceived",
    "PayloadReceived",
    "lacking_text",
]

_KIB: Final = 1024
_MIB: Final = 1024 * 1024


@final
@attrs.frozen
class Limits:
    """Largest payloads of a frame, in bytes. Raise `SettingsError` if no frame could pass."""

    max_frame: int = 8 * _MIB
    """Any frame of a greeted peer."""
    max_hello: int = 64 * _KIB
    """The first frame, from a peer not yet known."""

    def __attrs_post_init__(self) -> None:
        for name in ("max_frame", "max_hello"):
            if not _KIB <= getattr(self, name) < 1 << 32:
                raise SettingsError(f"{name} must be between 1 KiB and 4 GiB, not {getattr(self, name)}")

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return limits with room for any frame of a node with these settings.

        The largest are one entry too large for a message, a full message whose many small entries double in size when
        encoded, and 4 MiB for the results of commands.
        """
        return cls(max_frame=4 * _MIB + settings.max_entry_bytes + 2 * settings.max_message_bytes)


class LinkFault(StrEnum):
    """The reason for a broken link."""

    BAD_FRAME = "bad_frame"  # damage, garbage, or invalid contents
    OUT_OF_ORDER = "out_of_order"  # something else before the hello, or a second hello
    WRONG_VERSION = "wrong_version"
    WRONG_CLUSTER = "wrong_cluster"
    WRONG_ADDRESSEE = "wrong_addressee"  # the peer takes this node for another one
    WRONG_PEER = "wrong_peer"  # another node answers at the dialled address, or this node has dialled itself
    WRONG_INCARNATION = "wrong_incarnation"  # the right node with another disk
    WRONG_SENDER = "wrong_sender"  # a message in another node's name
    FEATURE_MISSING = "feature_missing"  # the peer's code lacks a feature that the cluster uses
    WRONG_CERTIFICATE = "wrong_certificate"  # the certificate is another node's or none's, or there is none
    REFUSED = "refused"  # the peer closed and sent its reason


@final
class Greeted(Value, frozen=True):
    """The peer is the expected node; the first event of a good link, sent once."""

    hello: Hello


@final
class MessageReceived(Value, frozen=True):
    """A message for the core, from the greeted peer."""

    message: Message


@final
class PayloadReceived(Value, frozen=True):
    """A payload for the node, from the greeted peer."""

    payload: Forward | ForwardReply | Pull | Chunk


@final
class LinkBroken(Value, frozen=True):
    """The link is dead; the last event. Send its `Link.refusal`, then close the connection."""

    fault: LinkFault
    text: str


LinkEvent: TypeAlias = MessageReceived | PayloadReceived | Greeted | LinkBroken


@final
class Link:
    """One connection. `mine` is our greeting; its `to` and `to_incarnation` are filled in here.

    `peer` is the dialled node, `NO_NODE` on an accepted connection or if any node may answer. `incarnations` are those
    in our configuration, by node; a node missing there is not checked. The mapping may change: it is read when our
    hello is written and when the peer's arrives; so may `required`, the features that the cluster uses. With
    `needs_certificate` no peer is greeted without `certified`.
    """

    __slots__ = (
        "_broken",
        "_incarnations",
        "_mine",
        "_names",
        "_needs_certificate",
        "_peer",
        "_reader",
        "_required",
        "dialer",
        "greeting",
        "version",
    )

    def __init__(
        self,
        mine: Hello,
        *,
        dialer: bool,
        peer: NodeId = NO_NODE,
        incarnations: Mapping[NodeId, Incarnation] | None = None,
        limits: Limits | None = None,
        needs_certificate: bool = False,
        required: Sequence[str] = (),
    ) -> None:
        limits = limits or Limits()
        self._names: tuple[str, ...] | None = None
        self._needs_certificate = needs_certificate
        self._required = required
        self._mine = mine
        self._peer = peer
        self._incarnations: Mapping[NodeId, Incarnation] = {} if incarnations is None else incarnations
        self._reader = FrameReader(max_first=limits.max_hello, max_later=limits.max_frame)
        self._broken = False
        self.dialer: Final = dialer
        self.greeting: Hello | None = None
        """The peer's hello, once accepted."""
        self.version = mine.version
        """The wire version of this connection: once greeted, the highest that both sides speak."""

    @property
    def peer(self) -> NodeId:
        """Return the node at the other end; before the greeting the dialled one, `NO_NODE` if it is open."""
        return self.greeting.sender if self.greeting is not None else self._peer

    @property
    def broken(self) -> bool:
        """True if the link is dead and ignores input."""
        return self._broken

    @property
    def secure(self) -> bool:
        """True if the peer has shown a certificate."""
        return self._names is not None

    def certified(self, names: tuple[str, ...]) -> LinkBroken | None:
        """Note the URIs in the peer's certificate. Return the end of the link if it is not the dialled node's.

        At an accepted connection it must be that of some node of the cluster; the greeting then says of which.
        """
        self._names = names
        problem = self._problem_of_certificate(self._peer)
        self._broken = self._broken or problem is not None
        return problem

    def _problem_of_certificate(self, node: NodeId) -> LinkBroken | None:
        if self._names is None:
            if not self._needs_certificate:
                return None
            text = "the other side shows no certificate, and this node talks to none without; set up TLS there"
            return LinkBroken(LinkFault.WRONG_CERTIFICATE, text)
        if not (why := stranger_in(self._names, self._mine.cluster, node)):
            return None
        who = f"node {node}" if node else f"no node of cluster {_short(self._mine.cluster)}"
        text = f"{why}: it is not {who}'s" if node else f"{why}: it is that of {who}"
        return LinkBroken(LinkFault.WRONG_CERTIFICATE, f"{text}; give each node a certificate with its own name")

    def hello(self) -> bytes:
        """Return our first frame.

        The dialling side sends it at once; the accepting side sends it after the peer's hello, and names the peer in
        it.
        """
        peer = self.peer
        disk = self._incarnations.get(peer, Incarnation(0))
        if self.greeting is not None:
            disk = self.greeting.incarnation
        return encode_payload(msgspec.structs.replace(self._mine, to=peer, to_incarnation=disk))

    def refusal(self, broken: LinkBroken) -> bytes:
        """Return the bytes to send before closing, with the reason for the peer's operator; b"" if the peer closed."""
        return b"" if broken.fault is LinkFault.REFUSED else encode_refusal(broken.text)

    def receive(self, data: bytes) -> list[LinkEvent]:
        """Return the events completed by `data`. Never raise. After `LinkBroken` no event follows."""
        events: list[LinkEvent] = []
        if self._broken:
            return events
        for frame in self._reader.feed(data):
            event = self._on_frame(frame)
            events.append(event)
            if type(event) is LinkBroken:
                self._broken = True
                break
        return events

    def _on_frame(self, frame: Frame | BadFrame) -> LinkEvent:
        if type(frame) is BadFrame:
            return LinkBroken(LinkFault.BAD_FRAME, frame.text)
        assert type(frame) is Frame
        if self.greeting is None and frame.kind != FrameKind.REFUSE:
            return self._on_first(frame)
        try:
            value = decode(frame)
        except FrameError as failure:
            return LinkBroken(LinkFault.BAD_FRAME, str(failure))
        kind = type(value)
        if kind is Refuse:
            return LinkBroken(LinkFault.REFUSED, f"the other side refuses: {value.text}")  # type: ignore[union-attr]
        if kind is Hello:
            return LinkBroken(LinkFault.OUT_OF_ORDER, "a second hello on one connection")
        if kind is Chunk or kind is Pull or kind is Forward or kind is ForwardReply:
            return PayloadReceived(value)  # type: ignore[arg-type]
        message: Message = value  # type: ignore[assignment]
        if message.sender != self.peer:
            text = f"node {self.peer} sends a message in the name of node {message.sender}"
            return LinkBroken(LinkFault.WRONG_SENDER, text)
        return MessageReceived(message)

    def _on_first(self, frame: Frame) -> Greeted | LinkBroken:
        if frame.kind != FrameKind.HELLO:
            return LinkBroken(LinkFault.OUT_OF_ORDER, f"the first frame must be a hello, not one of kind {frame.kind}")
        try:
            version = decode_version(frame.payload)
            if version > self._highest:  # written in a version unknown here, so its shape is unknown too
                return self._no_common_version(version, version)
            hello = decode(frame)
        except FrameError as failure:
            return LinkBroken(LinkFault.BAD_FRAME, str(failure))
        assert type(hello) is Hello
        highest = max(hello.highest, hello.version)
        if highest < self._mine.version:
            return self._no_common_version(version, highest)
        self.version = min(self._highest, highest)
        problem = self._problem_of(hello)
        if problem is not None:
            return problem
        self.greeting = hello
        return Greeted(hello)

    @property
    def _highest(self) -> int:
        return max(self._mine.highest, self._mine.version)

    def _no_common_version(self, lowest: int, highest: int) -> LinkBroken:
        theirs, ours = _versions(lowest, highest), _versions(self._mine.version, self._highest)
        text = f"the other side speaks wire version {theirs}, this node version {ours}"
        return LinkBroken(LinkFault.WRONG_VERSION, f"{text}; run releases that share one on all nodes")

    def _problem_of(self, hello: Hello) -> LinkBroken | None:
        """Return the first reason not to talk to the sender, or None."""
        mine, sender = self._mine, hello.sender
        if hello.cluster != mine.cluster:
            text = f"the other side belongs to cluster {_short(hello.cluster)}, this node to {_short(mine.cluster)}"
            return LinkBroken(LinkFault.WRONG_CLUSTER, f"{text}; correct the name, or the address that was dialled")
        if sender == mine.sender:
            text = f"both ends say that they are node {sender}: two nodes with one id, or a node that dialled itself"
            return LinkBroken(LinkFault.WRONG_PEER, f"{text}; give each its own id, or correct the address")
        if self._peer not in (NO_NODE, sender):
            text = f"node {sender} answers where node {self._peer} was dialled"
            return LinkBroken(LinkFault.WRONG_PEER, f"{text}; correct the address of node {self._peer}")
        if (problem := self._problem_of_certificate(sender)) is not None:
            return problem
        if hello.to not in (NO_NODE, mine.sender):
            text = f"node {sender} wants to talk to node {hello.to}, and this is node {mine.sender}"
            return LinkBroken(LinkFault.WRONG_ADDRESSEE, f"{text}; check its address book")
        if hello.to_incarnation not in (0, mine.incarnation):
            text = f"node {sender} knows node {mine.sender} with another disk (incarnation {hello.to_incarnation})"
            remedy = "put the data directory back that belongs there, or remove the node and add one under a new id"
            return LinkBroken(LinkFault.WRONG_INCARNATION, f"{text} than this one has ({mine.incarnation}); {remedy}")
        expected = self._incarnations.get(sender, Incarnation(0))
        if expected not in (0, hello.incarnation):
            text = f"node {sender} comes with another disk (incarnation {hello.incarnation}) than the configuration"
            remedy = "a node that lost its disk, or founded a cluster alone, must be removed and join under a new id"
            return LinkBroken(LinkFault.WRONG_INCARNATION, f"{text} names ({expected}); {remedy}")
        if lacking := missing_features(self._required, hello.features):
            return LinkBroken(LinkFault.FEATURE_MISSING, lacking_text(sender, lacking))
        return None


def lacking_text(node: NodeId, lacking: tuple[str, ...]) -> str:
    """Return the reason for not talking to a node without features that the cluster uses, with the remedy."""
    return f"node {node} does not have {named(lacking)}, which this cluster uses; start it with a newer release"


def _versions(lowest: int, highest: int) -> str:
    return str(lowest) if highest == lowest else f"{lowest} to {highest}"


def _short(name: str) -> str:
    return repr(name) if len(name) <= 60 else f"{name[:60]!r}…"
