"""`Connection`: one connection to or from a peer: its link, its three lanes of waiting frames, its signs of life.

It decides one thing only: the contents of the next transmission. `peers` decides on dialling, greeting and giving up.

The lanes: *urgent* (votes, heartbeats and their replies) is sent whole and first; *requests* (forwarded requests,
snapshot chunks, and the replies to both) and *bulk* (appends in the window) are sent in bounded portions, so that a
heartbeat waits behind at most one transmission. The exception is a frame larger than two portions: a heartbeat waits
for all of it, because frames cannot be interleaved. Such a frame is sent piece by piece: a piece taken while others
wait shows that the line makes progress, however slow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, final

from raft_core.ids import NodeId
from raft_core.messages import AppendEntries, Message
from raft_core.node.address_book import AddressBook
from raft_core.node.events import ConnectionId
from raft_core.node.status import PeerStatus
from raft_core.wire.codec import encode_message
from raft_core.wire.handshake import Link

__all__ = ["Connection", "Frames", "Queue", "status_of"]


@final
class Queue:
    """Frames in order, with their size in bytes."""

    __slots__ = ("bytes", "frames", "pushed")

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.bytes = 0
        self.pushed = 0

    @property
    def left(self) -> int:
        """Return the number of frames that left.

        Frames are numbered from 0, so it is the number of the first one queued.
        """
        return self.pushed - len(self.frames)

    def push(self, frame: bytes) -> None:
        """Queue a frame."""
        self.frames.append(frame)
        self.bytes += len(frame)
        self.pushed += 1

    def take_back(self, number: int) -> bool:
        """Cancel frame `number`; return False if it has left. Its place stays, to keep the numbering."""
        place = number - self.left
        if place < 0:
            return False
        self.bytes -= len(self.frames[place])
        self.frames[place] = b""
        return True

    def take(self, limit: int, into: list[bytes]) -> None:
        """Move frames until `limit` bytes are reached; always at least one, so that a large frame gets through."""
        frames, taken = self.frames, 0
        while frames and (taken == 0 or taken + len(frames[0]) <= limit):
            frame = frames.popleft()
            taken += len(frame)
            into.append(frame)
        self.bytes -= taken

    def drop_last(self) -> None:
        """Discard the newest frame."""
        self.bytes -= len(self.frames.pop())

    def clear(self) -> int:
        """Discard all frames; return their number."""
        count = len(self.frames)
        self.frames.clear()
        self.bytes = 0
        return count


@final
class Frames:
    """Encoded messages. An append to several followers is one object, and is encoded once."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, tuple[Message, bytes]] = {}  # keeps the messages alive, so that no other gets their id

    def of(self, message: Message) -> bytes:
        """Return the message's frame."""
        if type(message) is not AppendEntries or not message.entries:
            return encode_message(message)
        known = self._known.get(id(message))
        if known is None:
            known = self._known[id(message)] = (message, encode_message(message))
        return known[1]

    def clear(self) -> None:
        """Forget the encoded messages."""
        self._known.clear()


@final
class Connection:
    """The state of one connection. `peer` is `NO_NODE` on an accepted one until its greeting."""

    __slots__ = (
        "_rest",
        "address",
        "arrived",
        "asked",
        "bulk",
        "busy",
        "closing",
        "deadline",
        "dialled",
        "greeted",
        "greeted_at",
        "handed",
        "id",
        "link",
        "open",
        "peer",
        "pings",
        "proof_ticks",
        "queued",
        "requests",
        "rides",
        "silent_ticks",
        "urgent",
    )

    def __init__(
        self, identifier: ConnectionId, link: Link, peer: NodeId, *, dialled: bool, deadline: int, address: str = ""
    ) -> None:
        self.id: Final = identifier
        self.link: Final = link
        self.dialled: Final = dialled
        self.address: Final = address  # the dialled one, or that of the other side, without a port
        self.asked = False  # no greeting came in time, and we sent a line to provoke an answer
        self.peer = peer
        self.open = not dialled
        self.greeted = False  # the peer's greeting was accepted
        self.greeted_at = 0
        self.deadline = deadline  # of the greeting, or of the last words before closing
        self.closing = False  # close once everything queued is sent
        self.busy = False  # a Transmit is under way: at most one at a time
        self.queued = False  # listed for `flush` before `handle` returns
        self.rides = False  # the only frame of `bulk` is an announcement that waits for company (`Riders`)
        self.silent_ticks = 0
        self.proof_ticks = 0  # ticks left for a sign of life; 0: none required
        self.handed = 0  # bytes given to the operating system; invariant: arrived <= handed
        self.arrived = 0  # of these, certainly read by the peer
        self.pings: deque[int] = deque()  # per unanswered ping: the bytes handed over before it
        self._rest = memoryview(b"")  # of a frame sent in part
        self.urgent = Queue()
        self.requests = Queue()
        self.bulk = Queue()

    def with_address(self, text: str) -> str:
        """Return a text for an operator, with the other side's address while it is not known to be our peer."""
        if self.greeted:
            return text
        if not self.dialled:
            return f"a connection from {self.address}: {text}" if self.address else text
        return f"at {self.address}, where node {self.peer} was dialled: {text}"

    def failed_proof(self) -> bool:
        """Count a tick towards the deadline of a sign of life. Return whether it has passed."""
        self.proof_ticks -= 1
        return self.proof_ticks == 0

    def ask_for_a_word(self, frame: bytes) -> bool:
        """Send `frame` once before closing, if the connection was accepted by a silent peer.

        It ends as a line, so that a server of another protocol answers it and the operator learns which one it is.
        """
        if not self.dialled or not self.open or self.asked:
            return False
        self.asked = True
        self.urgent.push(frame)
        return True

    @property
    def queued_bytes(self) -> int:
        """The bytes that wait to be sent."""
        return self.urgent.bytes + self.requests.bytes + self.bulk.bytes + len(self._rest)

    @property
    def has_more(self) -> bool:
        """True if bytes wait to be sent."""
        return bool(self._rest or self.bulk.frames or self.requests.frames or self.urgent.frames)

    @property
    def mid_frame(self) -> bool:
        """True if a part of a frame is sent and the rest waits."""
        return len(self._rest) > 0

    def ping(self, frame: bytes) -> None:
        """Queue a ping before everything except the rest of a partly sent frame."""
        self.urgent.push(frame)
        self.pings.append(self.handed)

    def ponged(self) -> None:
        """Note that the bytes before the oldest ping were read: streams keep their order."""
        if self.pings:
            self.arrived = self.pings.popleft()

    def next_transmission(self, portion: int) -> bytes:
        """Return the next bytes for the operating system; b"" if nothing waits or a transmission is under way."""
        if self.busy or not self.open:
            return b""
        data = self._next_piece(portion) if self._rest else self._next_frames(portion)
        if data:
            self.busy = True
            self.rides = False
            self.handed += len(data)
        return data

    def _next_piece(self, portion: int) -> bytes:
        piece, self._rest = self._rest[:portion], self._rest[portion:]
        return bytes(piece)

    def _next_frames(self, portion: int) -> bytes:
        taken: list[bytes] = []
        if self.urgent.frames:
            self.urgent.take(1 << 62, taken)
        if self.requests.frames:
            self.requests.take(portion, taken)
        if self.bulk.frames and not (taken and len(taken[-1]) > 2 * portion):
            self.bulk.take(portion, taken)
        if not taken:
            return b""
        data, last = taken[0] if len(taken) == 1 else b"".join(taken), len(taken[-1])
        if last <= 2 * portion:
            return data
        start = len(data) - last + portion
        self._rest = memoryview(data)[start:]
        return data[:start]


def status_of(
    peer: NodeId,
    addresses: AddressBook,
    out: Connection | None,
    accepted: Connection | None,
    errors: Mapping[NodeId, str],
) -> PeerStatus:
    """Return the status of a peer with the connections that we dialled and accepted."""
    connected, queued = (False, 0) if out is None else (out.greeted, out.queued_bytes)
    both = [connection for connection in (out, accepted) if connection is not None and connection.greeted]
    secure = bool(both) and all(connection.link.secure for connection in both)
    hello = both[0].link.greeting if both else None
    features = None if hello is None else hello.features
    return PeerStatus(
        node=peer,
        address=addresses.of(peer),
        connected=connected,
        heard=accepted is not None,
        queued_bytes=queued,
        last_error=errors.get(peer, ""),
        secure=secure,
        features=features,
        metadata=addresses.metadata.get(peer, ()),
    )
