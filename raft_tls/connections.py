"""`SecureConnections`: TLS between an adapter's connections and its node.

Towards the node it looks like the adapter's connections, towards these like the node: each side sees the events and
effects of `raft_core.node.events`, the node plain bytes and the adapter encrypted ones. It runs in the adapter's loop
and does not wait.

An accepted connection is reported at once, so that the node's limits of number and time hold for slow handshakes. A
dialled one is reported when its handshake is done. With the mode "accept" a peer that does not use TLS is dialled again
without.
"""

from __future__ import annotations

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


class Sockets(Protocol):
    """An adapter's connections."""

    def dial(self, number: ConnectionId, address: str) -> None: ...

    def transmit(self, number: ConnectionId, data: bytes) -> bool: ...

    def disconnect(self, number: ConnectionId) -> None: ...


S = TypeVar("S", bound=Sockets)


def with_tls(
    credentials: Credentials | None, post: Callable[[NodeEvent], None], make: Callable[[Callable[[NodeEvent], None]], S]
) -> tuple[S, S | SecureConnections]:
    """Return an adapter's connections, and what the node uses: the same, or with credentials TLS above them.

    `make` makes the connections, which report to its argument.
    """
    if credentials is None:
        sockets = make(post)
        return sockets, sockets
    secure = SecureConnections(post, credentials)
    sockets = make(secure.on_event)
    secure.use(sockets)
    return sockets, secure


@final
class _Secure:
    """One connection with TLS, or on the way to it."""

    __slots__ = ("address", "busy", "failed", "given_up", "node_waits", "session", "waiting")

    def __init__(self, session: TlsSession, address: str) -> None:
        self.session: Final = session
        self.address: Final = address  # the dialled one; "" if accepted
        self.busy = False  # a transmission is under way
        self.node_waits = False
        self.given_up = False  # by the node, while a transmission is under way
        self.failed = False  # its bytes are ignored until the node or the other side closes it
        self.waiting: list[bytes] = []


@final
class SecureConnections:
    """The connections of one node, with TLS. `post` takes the events for the node."""

    def __init__(self, post: Callable[[NodeEvent], None], credentials: Credentials) -> None:
        self._post: Final = post
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
        if type(event) is BytesReceived:
            self._on_bytes(event)
        elif type(event) is Transmitted:
            self._on_transmitted(event)
        elif type(event) is ConnectionOpened:
            self._on_opened(event)
        elif type(event) is ConnectionClosed:
            self._on_closed(event)
        else:
            if type(event) is DialFailed:
                self._dialled.pop(event.connection, None)
            self._post(event)

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

    def _on_bytes(self, event: BytesReceived) -> None:
        number = event.connection
        secure = self._known.get(number)
        if secure is None:
            self._post(event)
            return
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

    def _on_closed(self, event: ConnectionClosed) -> None:
        number = event.connection
        secure = self._known.pop(number, None)
        if secure is None or secure.failed:
            if secure is None or not secure.given_up:
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
