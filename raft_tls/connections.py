"""`SecureConnections`: TLS between an adapter's connections and its node.

Towards the node it looks like the adapter's connections, towards these like the node: each side sees the events and
effects of `raft_core.node.events`, the node plain bytes and the adapter encrypted ones. It runs in the adapter's loop
and does not wait.

An accepted connection is reported at once, so that the node's limits of number and time hold for slow handshakes. A
dialled one is reported when its handshake is done. With the mode "accept" a peer that does not use TLS is dialled again
without.

A step of a handshake takes half a millisecond, and hundreds of connections may be ready in one pass of the event loop.
So a few steps are taken in each pass; the bytes of the other connections wait, in order, for the next ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, TypeVar, final

from raft_core.node.events import (
    BytesReceived,
    ConnectionClosed,
    ConnectionId,
    ConnectionOpened,
    ConnectionSecured,
    DialFailed,
    NodeEvent,
    SecuringFailed,
    Transmitted,
)
from raft_core.node.status import Drop
from raft_core.wire.codec import encode_refusal
from raft_tls.credentials import Credentials
from raft_tls.failures import no_tls
from raft_tls.session import TlsSession

__all__ = ["SecureConnections", "with_tls"]

_REFUSAL: Final = encode_refusal(no_tls(b"", dialled=False).text)
_MOST_PLAIN: Final = 1000
"""Addresses without TLS that are remembered."""
_STEPS_AT_ONCE: Final = 8
"""Steps of handshakes in one pass of the event loop: about 4 ms."""
_MOST_WAITING: Final = 1 << 18
"""Bytes of one connection that wait for later passes. A handshake and a greeting need less than a tenth."""


class Sockets(Protocol):
    """An adapter's connections."""

    def dial(self, number: ConnectionId, address: str) -> None: ...

    def transmit(self, number: ConnectionId, data: bytes) -> bool: ...

    def disconnect(self, number: ConnectionId) -> None: ...


S = TypeVar("S", bound=Sockets)


def with_tls(
    credentials: Credentials | None,
    post: Callable[[NodeEvent], None],
    make: Callable[[Callable[[NodeEvent], None]], S],
    later: Callable[[Callable[[], None]], object],
) -> tuple[S, S | SecureConnections]:
    """Return an adapter's connections, and what the node uses: the same, or with credentials TLS above them.

    `make` makes the connections, which report to its argument. `later` calls a function in the event loop's next pass.
    """
    if credentials is None:
        sockets = make(post)
        return sockets, sockets
    secure = SecureConnections(post, credentials, later)
    sockets = make(secure.on_event)
    secure.use(sockets)
    return sockets, secure


@final
class _Secure:
    """One connection with TLS, or on the way to it."""

    __slots__ = ("address", "busy", "failed", "given_up", "heard", "heard_end", "node_waits", "session", "waiting")

    def __init__(self, session: TlsSession, address: str) -> None:
        self.session: Final = session
        self.address: Final = address  # the dialled one; "" if accepted
        self.busy = False  # a transmission is under way
        self.node_waits = False
        self.given_up = False  # by the node, while a transmission is under way
        self.failed = False  # its bytes are ignored until the node or the other side closes it
        self.heard: bytearray | None = None  # bytes that wait for a later pass of the event loop; None: not queued
        self.heard_end = False  # it was closed after these bytes
        self.waiting: list[bytes] = []


@final
class SecureConnections:
    """The connections of one node, with TLS. `post` takes the events for the node; `later` is that of `with_tls`."""

    def __init__(
        self,
        post: Callable[[NodeEvent], None],
        credentials: Credentials,
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        self._post: Final = post
        self._later: Final = later
        self._steps = 0  # of handshakes, in this pass of the event loop
        self._queue: Final[deque[tuple[ConnectionId, _Secure]]] = deque()  # each connection once: they take turns
        self._credentials: Final = credentials
        self._required: Final = credentials.tls.required
        self._known: Final[dict[ConnectionId, _Secure]] = {}
        self._dialled: Final[dict[ConnectionId, str]] = {}
        self._plain_at: Final[dict[str, None]] = {}
        self._sockets: Sockets
        post(credentials.state)

    def use(self, sockets: Sockets) -> None:
        """Set the adapter's connections, which report to `on_event`."""
        self._sockets = sockets

    # For the node.

    def dial(self, number: ConnectionId, address: str) -> None:
        """Open a connection."""
        self._dialled[number] = address
        self._sockets.dial(number, address)

    def transmit(self, number: ConnectionId, data: bytes) -> bool:
        """Encrypt and send the bytes. Return whether the system has taken them; if not, `Transmitted` follows."""
        secure = self._known.get(number)
        if secure is None:
            return self._sockets.transmit(number, data)
        self._send(number, secure, secure.session.encrypt(data))
        secure.node_waits = secure.busy
        return not secure.busy

    def disconnect(self, number: ConnectionId) -> None:
        """Close the connection; after a failed handshake, once the other side has been told why."""
        self._dialled.pop(number, None)
        secure = self._known.get(number)
        if secure is not None and secure.failed and secure.busy:
            secure.given_up = True
            return
        self._known.pop(number, None)
        self._sockets.disconnect(number)

    # For the adapter's connections.

    def on_event(self, event: NodeEvent) -> None:
        """Take an event of the adapter's connections."""
        if type(event) is BytesReceived or type(event) is ConnectionClosed:
            self._in_turn(event)
        elif type(event) is Transmitted:
            self._on_transmitted(event)
        elif type(event) is ConnectionOpened:
            self._on_opened(event)
        else:
            if type(event) is DialFailed:
                self._dialled.pop(event.connection, None)
            self._post(event)

    def _in_turn(self, event: BytesReceived | ConnectionClosed) -> None:
        """Take the event now, or in a later pass: a step of a handshake that is too many, and what follows it."""
        secure = self._known.get(event.connection)
        if secure is None:
            self._post(event)
            return
        shakes_hands = type(event) is BytesReceived and not (secure.session.settled or secure.failed)
        if secure.heard is not None or (shakes_hands and self._steps >= _STEPS_AT_ONCE):
            self._keep(secure, event)
            return
        if shakes_hands:
            if not self._steps:
                self._later(self._next_pass)
            self._steps += 1
        if type(event) is BytesReceived:
            self._on_bytes(secure, event)
        else:
            self._on_closed(secure, event)

    def _keep(self, secure: _Secure, event: BytesReceived | ConnectionClosed) -> None:
        """Keep what came in one place by connection, so that many small pieces are one step and take no more memory."""
        if secure.heard is None:
            secure.heard = bytearray()
            self._queue.append((event.connection, secure))
        if type(event) is not BytesReceived:
            secure.heard_end = True
            return
        secure.heard += event.data
        if len(secure.heard) > _MOST_WAITING:
            secure.heard.clear()
            self._sockets.disconnect(event.connection)
            self._on_closed(secure, ConnectionClosed(event.connection))

    def _next_pass(self) -> None:
        """Take what waits, until the steps of this pass are used up."""
        self._steps = 0
        while self._queue and self._steps < _STEPS_AT_ONCE:
            number, secure = self._queue.popleft()
            heard, secure.heard = bytes(secure.heard or b""), None
            if heard and self._known.get(number) is secure:  # the node may have closed it meanwhile
                self._steps += 1
                self._on_bytes(secure, BytesReceived(number, heard))
            if secure.heard_end and self._known.get(number) is secure:  # or just now
                self._on_closed(secure, ConnectionClosed(number))
        if self._steps:
            self._later(self._next_pass)

    def _on_opened(self, event: ConnectionOpened) -> None:
        credentials, number = self._credentials, event.connection
        if event.accepted:
            allowed = not self._required
            session = TlsSession(credentials.server, server=True, plain_allowed=allowed, refusal=_REFUSAL)
            self._known[number] = _Secure(session, "")
            self._post(event)
            return
        address = self._dialled.pop(number, "")
        if address in self._plain_at:
            del self._plain_at[address]  # the next connection tries TLS again
            self._post(event)
            return
        secure = self._known[number] = _Secure(TlsSession(credentials.client, server=False), address)
        self._send(number, secure, secure.session.start())

    def _on_bytes(self, secure: _Secure, event: BytesReceived) -> None:
        number = event.connection
        if secure.failed:
            return
        step = secure.session.receive(event.data)
        if step.send:
            self._send(number, secure, step.send)
        if step.names is not None:
            self._post(ConnectionSecured(number, step.names))
            if secure.address:
                self._post(ConnectionOpened(number, accepted=False))
        if step.plain:
            self._post(BytesReceived(number, step.plain))
        if step.failure is not None:
            secure.failed = True
            if secure.address and step.failure.reason is Drop.NOT_TLS and not self._required:
                self._dial_without_tls(number, secure.address)
            else:
                self._post(SecuringFailed(number, step.failure.reason, step.failure.text))
        elif step.ended:
            self._known.pop(number, None)
            self._sockets.disconnect(number)
            self._post(ConnectionClosed(number))

    def _dial_without_tls(self, number: ConnectionId, address: str) -> None:
        """Remember that the address has no TLS; the node dials again after its back-off."""
        self._remember_plain(address)
        self._known.pop(number, None)
        self._sockets.disconnect(number)
        self._post(DialFailed(number, "the other side does not use TLS: it is dialled again without"))

    def _remember_plain(self, address: str) -> None:
        if len(self._plain_at) >= _MOST_PLAIN:
            self._plain_at.clear()
        self._plain_at[address] = None

    def _on_transmitted(self, event: Transmitted) -> None:
        number = event.connection
        secure = self._known.get(number)
        if secure is None:
            self._post(event)
            return
        secure.busy = False
        if secure.waiting:
            data = b"".join(secure.waiting)
            secure.waiting.clear()
            self._send(number, secure, data)
        if secure.busy:
            return
        if secure.given_up:
            self.disconnect(number)
        elif secure.node_waits:
            secure.node_waits = False
            self._post(event)

    def _on_closed(self, secure: _Secure, event: ConnectionClosed) -> None:
        number = event.connection
        del self._known[number]
        if secure.failed:
            if not secure.given_up:
                self._post(event)
            return
        failure = secure.session.lost()
        if failure is None or not secure.address:
            self._post(event)
            return
        if not self._required and not secure.session.heard:  # closed without an answer: perhaps it has no TLS
            self._remember_plain(secure.address)
        self._post(DialFailed(number, failure.text))

    def _send(self, number: ConnectionId, secure: _Secure, data: bytes) -> None:
        """Send the bytes after all earlier ones: at most one transmission is under way."""
        if secure.busy:
            secure.waiting.append(data)
        elif data:
            secure.busy = not self._sockets.transmit(number, data)
