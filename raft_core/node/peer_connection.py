"""One connection to or from a peer: its link, its three lanes of waiting frames, its signs of life.

What lives here: `Connection`, which holds and measures and decides one thing only: what goes into the next
transmission. Who is dialled, greeted and given up is decided in `peers`.

The lanes: *urgent* (votes, heartbeats and their replies) goes out whole and first; *requests* (forwarded requests,
snapshot pieces, and the answers to both) and *bulk* (appends in the window) go out in bounded portions, so that a
heartbeat never waits behind more than one transmission. Only behind a frame that is larger than two portions it
waits for all of that: nothing can be said in the middle of a frame. Such a frame goes out piece by piece, because a
piece that is taken while others wait shows that the line moves, however slowly.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from raft_core.ids import NodeId
from raft_core.messages import AppendEntries, Message
from raft_core.node.events import ConnectionId
from raft_core.wire.codec import encode_message
from raft_core.wire.handshake import Link

__all__ = ["Connection", "Frames", "Queue"]


@final
class Queue:
    """Frames in order, and how many bytes they are."""

    __slots__ = ("bytes", "frames", "pushed")

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.bytes = 0
        self.pushed = 0

    @property
    def left(self) -> int:
        """How many frames have left the queue. Frames are numbered from 0, so this is the number of the first one."""
        return self.pushed - len(self.frames)

    def push(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.bytes += len(frame)
        self.pushed += 1

    def take_back(self, number: int) -> bool:
        """Frame `number` will not leave; False where it has left already. Its place stays, so that numbers hold."""
        place = number - self.left
        if place < 0:
            return False
        self.bytes -= len(self.frames[place])
        self.frames[place] = b""
        return True

    def take(self, limit: int, into: list[bytes]) -> None:
        """Moves frames until `limit` bytes are reached; always at least one, so that a large frame gets through."""
        frames, taken = self.frames, 0
        while frames and (taken == 0 or taken + len(frames[0]) <= limit):
            frame = frames.popleft()
            taken += len(frame)
            into.append(frame)
        self.bytes -= taken

    def clear(self) -> int:
        """Throws everything away; how many frames that were."""
        count = len(self.frames)
        self.frames.clear()
        self.bytes = 0
        return count


@final
class Frames:
    """The frames of messages; an append to several followers is one object, and is encoded once."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, tuple[Message, bytes]] = {}  # the messages are held, so that no other takes their id

    def of(self, message: Message) -> bytes:
        """The message's frame."""
        if type(message) is not AppendEntries or not message.entries:
            return encode_message(message)
        known = self._known.get(id(message))
        if known is None:
            known = self._known[id(message)] = (message, encode_message(message))
        return known[1]

    def clear(self) -> None:
        self._known.clear()


@final
class Connection:
    """What this node knows of one connection. `peer` is `NO_NODE` on an accepted one until its greeting."""

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
        "silent_ticks",
        "urgent",
    )

    def __init__(
        self, identifier: ConnectionId, link: Link, peer: NodeId, *, dialled: bool, deadline: int, address: str = ""
    ) -> None:
        self.id: Final = identifier
        self.link: Final = link
        self.dialled: Final = dialled
        self.address: Final = address  # where it was dialled
        self.asked = False  # no greeting came in time, and the other side was asked for any word at all
        self.peer = peer
        self.open = not dialled
        self.greeted = False  # the other side's hello was found good
        self.greeted_at = 0
        self.deadline = deadline  # of the greeting, or of what is said before closing
        self.closing = False  # closed as soon as everything queued is out
        self.busy = False  # a Transmit is under way: at most one at a time
        self.queued = False  # it stands in the list of those to be looked at before `handle` returns
        self.silent_ticks = 0
        self.proof_ticks = 0  # within so many ticks something must be heard; 0: nothing need be
        self.handed = 0  # bytes given to the operating system; invariant: arrived <= handed
        self.arrived = 0  # of these, what the other side has certainly read
        self.pings: deque[int] = deque()  # of each that is unanswered: what had been handed over before it
        self._rest = memoryview(b"")  # of a frame of which a part is out
        self.urgent = Queue()
        self.requests = Queue()
        self.bulk = Queue()

    def failed_proof(self) -> bool:
        """A tick has passed in which a sign of life was due; whether the last of them has."""
        self.proof_ticks -= 1
        return self.proof_ticks == 0

    def ask_for_a_word(self, frame: bytes) -> bool:
        """Where a connection was taken and nothing said, have `frame` sent before it is closed, once.

        It ends as a line, so that a server of another protocol answers to it, and an operator learns what is there."""
        if not self.dialled or not self.open or self.asked:
            return False
        self.asked = True
        self.urgent.push(frame)
        return True

    @property
    def queued_bytes(self) -> int:
        return self.urgent.bytes + self.requests.bytes + self.bulk.bytes + len(self._rest)

    @property
    def mid_frame(self) -> bool:
        """The other side has been given a part of a frame, and the rest waits."""
        return len(self._rest) > 0

    def ping(self, frame: bytes) -> None:
        """A ping waits to go out, before everything but what is half out."""
        self.urgent.push(frame)
        self.pings.append(self.handed)

    def ponged(self) -> None:
        """What was handed over before the oldest ping has been read: streams keep their order."""
        if self.pings:
            self.arrived = self.pings.popleft()

    def next_transmission(self, portion: int) -> bytes:
        """The bytes to hand to the operating system now; b"" where nothing waits or something is under way."""
        if self.busy or not self.open:
            return b""
        data = self._next_piece(portion) if self.mid_frame else self._next_frames(portion)
        if data:
            self.busy = True
            self.handed += len(data)
        return data

    def _next_piece(self, portion: int) -> bytes:
        piece, self._rest = self._rest[:portion], self._rest[portion:]
        return bytes(piece)

    def _next_frames(self, portion: int) -> bytes:
        taken: list[bytes] = []
        self.urgent.take(1 << 62, taken)
        self.requests.take(portion, taken)
        if not (taken and len(taken[-1]) > 2 * portion):
            self.bulk.take(portion, taken)
        if not taken:
            return b""
        data, last = taken[0] if len(taken) == 1 else b"".join(taken), len(taken[-1])
        if last <= 2 * portion:
            return data
        start = len(data) - last + portion
        self._rest = memoryview(data)[start:]
        return data[:start]
