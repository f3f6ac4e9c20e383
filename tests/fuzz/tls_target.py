"""The target `tls`: the TLS of a connection between nodes, at both of its ends, above sockets that are not there.

Random bytes do not get far into a handshake: its keys are new each time. So the input is also taken as changes to the
bytes of an honest peer, or as what an honest peer says once its handshake is done.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, final

from raft_core.node.events import (
    BytesReceived,
    ConnectionClosed,
    ConnectionId,
    ConnectionOpened,
    DialFailed,
    NodeEvent,
    SecuringFailed,
)
from raft_tls import Credentials, SecureConnections, TlsSession
from tests.certificates import CLUSTER, tls

__all__ = ["SEEDS", "run"]

_NUMBER: Final = ConnectionId(7)
_HONEST: Final = 4
"""From this first byte on, there is an honest peer."""
_RECORDS: Final = (
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",  # a handshake that breaks off
    b"\x15\x03\x03\x00\x02\x02\x30",  # an alert: unknown authority
    b"\x17\x03\x03\x00\x03abc",  # data before the handshake
    b"\x14\x03\x03\x00\x01\x01",
    b"PING\r\n",
)
SEEDS: Final = [
    *(bytes([way, 4]) + record for way in range(_HONEST) for record in _RECORDS),
    *(bytes([way, 4]) + change for way in range(_HONEST, 8) for change in (b"", b"\x00\x2b\x01", b"\x01\x00\x80\x20")),
]
"""The first byte says which end is tried and how, the second how the bytes are cut."""


@cache
def _credentials(mode: str) -> Credentials:
    return Credentials(tls("node-1", mode=mode), (CLUSTER, 1))


@final
class _Wire:
    """An adapter's connections: they keep what is sent."""

    def __init__(self) -> None:
        self.sent = b""
        self.open = True
        self.later: list[Callable[[], None]] = []  # to be called in the event loop's next pass

    def dial(self, number: ConnectionId, address: str) -> None:
        pass

    def transmit(self, number: ConnectionId, data: bytes) -> bool:
        self.sent += data
        return True

    def disconnect(self, number: ConnectionId) -> None:
        self.open = False


def _cut(data: bytes, step: int) -> list[bytes]:
    size = (1, 7, 100, 1 << 16, 1 << 16)[step % 5]
    size = max(size, len(data) // 400 + 1)
    return [data[start : start + size] for start in range(0, len(data), size)]


def _changed(data: bytes, changes: bytes) -> bytes:
    """Change the bytes at the places named by pairs of bytes, in the manner of the third byte."""
    buffer = bytearray(data)
    for at in range(0, len(changes) - 2, 3):
        if buffer:
            buffer[(changes[at] << 8 | changes[at + 1]) % len(buffer)] ^= changes[at + 2]
    return bytes(buffer)


def run(data: bytes) -> None:
    """Give the input to one end of a connection. Whatever it is, the node hears a proper sequence of events."""
    if len(data) < 2:
        return
    way, step, rest = data[0] % 8, data[1], data[2:]
    credentials = _credentials("accept" if way % 2 else "require")
    accepted = way % 4 < 2
    heard: list[NodeEvent] = []
    wire = _Wire()
    ours = SecureConnections(heard.append, credentials, wire.later.append)
    ours.use(wire)
    if not accepted:
        ours.dial(_NUMBER, "h:1")
    ours.on_event(ConnectionOpened(_NUMBER, accepted=accepted))
    if way < _HONEST:
        _receive(ours, wire, _cut(rest, step))
    else:
        _with_honest_peer(ours, wire, credentials, rest, step, accepted=accepted)
    ours.transmit(_NUMBER, b"words of the node")
    while wire.later:
        wire.later.pop()()
    if wire.open:
        ours.on_event(ConnectionClosed(_NUMBER))
    _check(heard)


def _receive(ours: SecureConnections, wire: _Wire, parts: list[bytes]) -> None:
    """Report these bytes, as adapters do: nothing after a connection was ended by order."""
    for part in parts:
        if wire.open:
            ours.on_event(BytesReceived(_NUMBER, part))
        if part[:1] < b"U" and wire.later:
            wire.later.pop()()


def _with_honest_peer(
    ours: SecureConnections, wire: _Wire, credentials: Credentials, rest: bytes, step: int, *, accepted: bool
) -> None:
    """Shake hands with an honest peer whose bytes are changed on the way if `step` is odd, and who then says `rest`."""
    context = credentials.client if accepted else credentials.server
    peer = TlsSession(context, server=not accepted)
    said = peer.start() if accepted else b""
    for _ in range(4):
        _receive(ours, wire, _cut(_changed(said, rest) if step % 2 else said, step // 2))
        reply, wire.sent = wire.sent, b""
        said = peer.receive(reply).send if reply else b""
    if step % 2 == 0:
        _receive(ours, wire, [*_cut(peer.encrypt(rest), step // 2), rest])


def _check(heard: list[NodeEvent]) -> None:
    """Bytes come only while the connection is open for the node, and after a failure there are none."""
    opened = ended = False
    for event in heard:
        if isinstance(event, ConnectionOpened):
            opened = True
        elif isinstance(event, BytesReceived):
            assert opened, "bytes before the connection"
            assert not ended, "bytes after the connection"
        elif isinstance(event, SecuringFailed | ConnectionClosed | DialFailed):
            ended = True
