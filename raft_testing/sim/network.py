"""Byte connections between simulated nodes, with all their faults.

`Network` and its lines. A line is a pair of ends and carries the bytes of one node to another in order. Frames with
protocol messages may also be lost, doubled or overtaken: protocols must bear that, and it makes rare interleavings
common. All other frames (greetings, forwarded requests, snapshot chunks) are lost only with their line, because their
order and completeness is part of the contract: a line that loses one in a partition is broken. While `recording`, some
messages of each kind are kept, and delivered again much later by `replay`.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from struct import Struct
from typing import Final, Protocol, final

from raft_core.ids import NodeId
from raft_core.node.events import (
    BytesReceived,
    ConnectionClosed,
    ConnectionId,
    ConnectionOpened,
    DialFailed,
    NodeEvent,
    Transmitted,
)
from raft_core.node.limits import MILLISECOND, SECOND
from raft_core.node.peers import PING
from raft_core.node.reaching import dial_failure
from raft_core.wire.codec import encode_payload
from raft_core.wire.frames import FRAME_OVERHEAD, FrameKind
from raft_testing.rng import Rng

__all__ = ["Endpoint", "Network"]

_REFUSED: Final = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
_ALL_REFUSED: Final = OSError("all attempts to connect failed")
_ALL_REFUSED.__cause__ = BaseExceptionGroup("", [_REFUSED, OSError(errno.EHOSTUNREACH, "No route to host")])
_DIAL_FAILURES: Final = (_REFUSED, _ALL_REFUSED, TimeoutError())
"""What event loops raise where a node cannot be dialled: at one address, at several, after a while."""

_LENGTH: Final = Struct("<I")
_PING: Final = encode_payload(PING)
_KEPT: Final = 6
"""Kept messages of one kind, from one node to another."""
_TAKEN_WHILE_CLOGGED: Final = 2
"""Transmissions taken by the operating system while a line is clogged."""


class Endpoint(Protocol):
    """A node, as the network sees it."""

    @property
    def id(self) -> NodeId:
        """The node's id."""
        ...

    @property
    def alive(self) -> bool:
        """True while the node runs."""
        ...

    @property
    def life(self) -> int:
        """The number of this life."""
        ...

    @property
    def address(self) -> str:
        """The node's address."""
        ...

    def tell(self, *events: NodeEvent) -> None:
        """Give the node these events."""
        ...

    def accept(self) -> ConnectionId | None:
        """Return the number of a new connection, None where the limit of open files leaves no room for one."""
        ...

    def accepted_closed(self) -> None:
        """Note that an accepted connection is closed."""
        ...


@final
class _End:
    """One end of a line. `arrived`: the time of arrival of the last bytes sent from here."""

    __slots__ = (
        "arrived",
        "closed",
        "dialled",
        "half",
        "held",
        "life",
        "number",
        "other",
        "station",
        "torn",
        "unreported",
    )

    def __init__(self, station: Endpoint, number: ConnectionId, *, dialled: bool) -> None:
        self.station = station
        self.number = number
        self.dialled = dialled
        self.life = station.life
        self.other: _End | None = None
        self.closed = False
        self.arrived = 0
        self.torn = False  # there is a gap in the stream sent from here
        self.held: list[bytes] = []  # sent into a clog
        self.unreported = False  # a Transmitted that waits for the clog to end
        self.half = b""  # the beginning of a frame of which the rest has not been sent

    @property
    def usable(self) -> bool:
        return not self.closed and self.station.alive and self.station.life == self.life

    def whole(self, data: bytes) -> bytes:
        """Return the frames completed by this piece."""
        data, at = self.half + data, 0
        while at + FRAME_OVERHEAD <= len(data):
            (length,) = _LENGTH.unpack_from(data, at + 8)
            if at + FRAME_OVERHEAD + length > len(data):
                break
            at += FRAME_OVERHEAD + length
        self.half = data[at:]
        return data[:at]


@final
class Network:
    """All lines of one simulation. Rates are probabilities per frame; the nemesis turns them."""

    def __init__(self, rng: Rng, at: Callable[[int, Callable[[], None]], None], clock: Callable[[], int]) -> None:
        self._rng = rng
        self._at = at
        self._clock = clock
        self._stations: dict[str, Endpoint] = {}
        self._ends: dict[tuple[NodeId, ConnectionId], _End] = {}
        self.seen: Counter[str] = Counter()
        self.latency = MILLISECOND
        self.jitter = 2 * MILLISECOND
        self.loss = 0.0
        self.duplication = 0.0
        self.reordering = 0.0
        self.spike = 0
        self.cuts: dict[tuple[NodeId, NodeId], int] = {}  # how many faults cut this direction
        self.clogs: dict[tuple[NodeId, NodeId], int] = {}
        self.cut_pieces = False
        self.recording = False
        self._replays = rng.fork("replays")
        self._recorded: dict[tuple[NodeId, NodeId], dict[int, list[bytes]]] = {}  # by the message's tag
        self._greetings: dict[tuple[NodeId, NodeId], bytes] = {}

    def place(self, address: str, station: Endpoint) -> None:
        """Let the endpoint be dialled at this address."""
        self._stations[address] = station

    # What is broken.

    def is_cut(self, sender: NodeId, to: NodeId) -> bool:
        """Return whether this direction is cut."""
        return self.cuts.get((sender, to), 0) > 0

    def cut(self, sender: NodeId, to: NodeId) -> None:
        """Lose everything in this direction, without a notice to either side."""
        self.cuts[sender, to] = self.cuts.get((sender, to), 0) + 1

    def mend(self, sender: NodeId, to: NodeId) -> None:
        """Undo one cut of this direction."""
        self.cuts[sender, to] = max(0, self.cuts.get((sender, to), 0) - 1)

    def clog(self, sender: NodeId, to: NodeId) -> None:
        """Hold back all bytes in this direction."""
        self.clogs[sender, to] = self.clogs.get((sender, to), 0) + 1

    def unclog(self, sender: NodeId, to: NodeId) -> None:
        """Deliver the held bytes in one burst."""
        self.clogs[sender, to] = max(0, self.clogs.get((sender, to), 0) - 1)
        if self.clogs[sender, to]:
            return
        for end in list(self._ends.values()):
            if end.station.id == sender and end.other is not None and end.other.station.id == to:
                self._burst(end)

    def _burst(self, end: _End) -> None:
        held, end.held = end.held, []
        for data in held:
            self._carry(end, data)
        if end.unreported:
            end.unreported = False
            self._report(end)

    def reset(self, one: NodeId, other: NodeId) -> int:
        """Break every line between the two, notify both sides, and return the number of lines."""
        found = [
            end
            for end in self._ends.values()
            if end.station.id == one and end.other is not None and end.other.station.id == other
        ]
        for end in found:
            self._break(end)
        return len(found)

    def heal(self) -> None:
        """Everything passes again."""
        self.cuts.clear()
        clogged = [pair for pair, count in self.clogs.items() if count]
        for sender, to in clogged:
            self.clogs[sender, to] = 1
            self.unclog(sender, to)
        self.loss = self.duplication = self.reordering = 0.0
        self.spike = 0

    # What was said before.

    def replay(self, sender: NodeId, to: NodeId, rng: Rng) -> bool:
        """Deliver an earlier message of the sender once more, on the present connection."""
        end = next((e for (node, _), e in self._ends.items() if node == sender and _leads_to(e, to)), None)
        kinds = self._recorded.get((sender, to))
        if end is None or not kinds:
            return False
        self._arrive(end, rng.choice(kinds[rng.choice(sorted(kinds))]), self._delay(), in_order=False)
        return True

    def heard(self, sender: NodeId, to: NodeId) -> list[bytes]:
        """Return the sender's last greeting of the other, and all its kept messages to it; empty if none."""
        greeting = self._greetings.get((sender, to))
        if greeting is None:
            return []
        kinds = self._recorded.get((sender, to), {})
        return [greeting, *(frame for kind in sorted(kinds) for frame in kinds[kind])]

    def _record(self, end: _End, data: bytes) -> None:
        far = end.other
        if far is None or end.station.address not in self._stations:
            return
        pair = (end.station.id, far.station.id)
        for frame in _frames(data):
            if frame[2] == FrameKind.HELLO and end.dialled:
                self._greetings[pair] = frame
            if frame[2] != FrameKind.MESSAGE:
                continue
            kept = self._recorded.setdefault(pair, {}).setdefault(frame[FRAME_OVERHEAD + 1], [])
            if len(kept) < _KEPT:
                kept.append(frame)
            elif self._replays.chance(0.02):
                kept[self._replays.below(_KEPT)] = frame

    # What hosts order.

    def dial(self, station: Endpoint, number: ConnectionId, address: str) -> None:
        """Open the connection, or fail, after a while. In a cut direction there may be no answer at all."""
        near = _End(station, number, dialled=True)
        self._ends[station.id, number] = near
        target = self._stations.get(address)

        def arrive() -> None:
            if not near.usable:
                return
            if target is not None and (self.is_cut(station.id, target.id) or self.is_cut(target.id, station.id)):
                if self._rng.chance(0.5):
                    return  # packets vanish: the dialler's patience ends some time
                target_answers = False
            else:
                target_answers = target is not None and target.alive
            accepted = target.accept() if target is not None and target_answers else None
            if accepted is None:
                self._drop_end(near)
                station.tell(DialFailed(number, dial_failure(_DIAL_FAILURES[number % len(_DIAL_FAILURES)])))
                return
            assert target is not None
            assert accepted is not None
            far = _End(target, accepted, dialled=False)
            near.other, far.other = far, near
            self._ends[target.id, far.number] = far
            target.tell(ConnectionOpened(far.number, accepted=True))
            station.tell(ConnectionOpened(number, accepted=False))

        self._at(self._delay() * 2, arrive)

    def transmit(self, station: Endpoint, number: ConnectionId, data: bytes) -> None:
        """Send the bytes, or lose them."""
        end = self._ends.get((station.id, number))
        if end is None or end.other is None:
            return
        pair = (station.id, end.other.station.id)
        if self.clogs.get(pair, 0):
            end.held.append(data)
            self.seen["transmissions held in a clog"] += 1
            if len(end.held) > _TAKEN_WHILE_CLOGGED:
                end.unreported = True
                return
        else:
            self._carry(end, data)
        self._report(end)

    def _report(self, end: _End) -> None:
        def taken() -> None:
            if end.usable:
                end.station.tell(Transmitted(end.number))

        self._at(self.latency // 4 + 1, taken)

    def close(self, station: Endpoint, number: ConnectionId) -> None:
        """Close this end; the other side learns of it if there is a way."""
        end = self._ends.get((station.id, number))
        if end is None:
            return
        self._drop_end(end)
        far = end.other
        if far is None or far.closed:
            return
        if self.is_cut(station.id, far.station.id):
            return

        def hear() -> None:
            if far.usable:
                self._drop_end(far)
                far.station.tell(ConnectionClosed(far.number))

        self._at(max(0, end.arrived - self._clock()) + 1, hear)

    def abandon(self, station: Endpoint, *, silently: bool) -> None:
        """Close all connections of a dead endpoint. Its peers learn of it, unless `silently`: a loss of power."""
        numbers = [number for node, number in self._ends if node == station.id]
        for number in numbers:
            if silently:
                self._drop_end(self._ends[station.id, number])
            else:
                self.close(station, number)

    def _drop_end(self, end: _End) -> None:
        if not end.closed and not end.dialled:
            end.station.accepted_closed()
        end.closed = True
        end.held.clear()
        self._ends.pop((end.station.id, end.number), None)

    # On the way.

    def _delay(self) -> int:
        delay = self.latency + self._rng.below(self.jitter + 1)
        return delay + self._rng.below(self.spike) if self.spike else delay

    def _carry(self, end: _End, data: bytes) -> None:
        far = end.other
        if far is None or end.torn:
            return
        if end.station.address in self._stations:  # rogue peers send any bytes
            data = end.whole(data)
            if not data:
                self.seen["pieces of a frame"] += 1
                return
        if self.is_cut(end.station.id, far.station.id):
            self._lose(end, data)
            return
        if self.recording:
            self._record(end, data)
        if (self.loss or self.duplication or self.reordering) and end.station.address in self._stations:
            data = self._mistreat(end, data)
            if not data:
                return
        self._arrive(end, data, self._delay())

    def _lose(self, end: _End, data: bytes) -> None:
        """Lose bytes sent into a partition.

        If this leaves a gap in the stream, the line is useless: nothing is delivered after the gap, and after a while
        both sides learn of the break.
        """
        self.seen["transmissions lost in a partition"] += 1
        whole = end.station.address in self._stations  # rogue peers send any bytes
        if not whole or all(frame[2] == FrameKind.MESSAGE or frame == _PING for frame in _frames(data)):
            return
        end.torn = True
        self.seen["lines torn by a partition"] += 1
        self._at(self._rng.around(2 * SECOND), lambda: self._break(end))

    def _break(self, end: _End) -> None:
        """Notify both sides of the break."""
        assert end.other is not None
        for side in (end, end.other):
            heard = side.usable
            self._drop_end(side)
            if heard:
                side.station.tell(ConnectionClosed(side.number))

    def _mistreat(self, end: _End, data: bytes) -> bytes:
        """Return the rest of the frames in `data` after the faults of this line."""
        stay: list[bytes] = []
        rng = self._rng
        for frame in _frames(data):
            if frame[2] != FrameKind.MESSAGE:
                stay.append(frame)
            elif self.loss and rng.chance(self.loss):
                self.seen["messages lost"] += 1
            elif self.reordering and rng.chance(self.reordering):
                self.seen["messages out of order"] += 1
                self._arrive(end, frame, self._delay() + rng.below(20 * self.latency), in_order=False)
            else:
                stay.append(frame)
                if self.duplication and rng.chance(self.duplication):
                    self.seen["messages doubled"] += 1
                    self._arrive(end, frame, self._delay() + rng.below(20 * self.latency), in_order=False)
        return b"".join(stay)

    def _arrive(self, end: _End, data: bytes, delay: int, *, in_order: bool = True) -> None:
        far = end.other
        assert far is not None
        now = self._clock()
        moment = now + delay
        if in_order:
            moment = max(moment, end.arrived)
            end.arrived = moment
        elif end.arrived == 0:
            return  # nothing overtakes the greeting

        def arrive() -> None:
            if not far.usable or end.torn:
                return
            if self.is_cut(end.station.id, far.station.id):
                self._lose(end, data)
                return
            if self.cut_pieces and len(data) > 1:
                place = 1 + self._rng.below(len(data) - 1)
                far.station.tell(BytesReceived(far.number, data[:place]), BytesReceived(far.number, data[place:]))
            else:
                far.station.tell(BytesReceived(far.number, data))

        self._at(moment - now, arrive)


def _leads_to(end: _End, to: NodeId) -> bool:
    return end.dialled and end.other is not None and end.other.station.id == to


def _frames(data: bytes) -> list[bytes]:
    """Whole frames, taken apart."""
    frames: list[bytes] = []
    at = 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at + 8)
        end = at + FRAME_OVERHEAD + length
        frames.append(data[at:end])
        at = end
    return frames
