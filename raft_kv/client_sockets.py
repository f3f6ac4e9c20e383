"""The sockets of all clients, watched by the loop as one descriptor.

A selector's own descriptor is readable when one of its sockets is ready (epoll and kqueue). So the loop, whichever it
is, watches one descriptor, and one call serves everything that is ready: no task, no stream and no event for a client.
The same code runs on trio, asyncio and uvloop.

Everything is tried first: bytes are sent at once, and only what the system does not take waits until the socket is
writable. A socket whose connection is busy is not read: the system's buffer fills, and the client has to wait.
"""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Final, final

from raft_core.node.status import Drop
from raft_kv.client_connection import ClientConnection, Transport, Turns
from raft_kv.output_buffer import OutputBuffer
from raft_kv.service import ACCEPT_PAUSE, KEEPALIVE, READ_BYTES, TOO_MANY
from raft_tls import Credentials, Failure, TlsFailed, TlsSession, TlsSocket

__all__ = ["ClientSockets"]

_HANDSHAKE_SECONDS: Final = 10.0
"""Time for a client's TLS handshake."""
_MOST_HANDSHAKES: Final = 1000
"""Clients in their TLS handshake at any time; for a further one the oldest is closed."""
_NO_TLS: Final = b"-ERR this port takes nothing but TLS: connect with TLS (redis-cli --tls)\r\n"
_ACCEPTS: Final = 64
"""Connections accepted in one pass of the loop: two or three milliseconds."""
_PIECES: Final = 8
"""Pieces written for one client before the others have their turn."""
_TOO_SLOW: Final = Failure(Drop.TLS_FAILED, f"the TLS handshake was not done after {_HANDSHAKE_SECONDS:g} s")
_TOO_MANY_HANDSHAKES: Final = Failure(Drop.TLS_FAILED, f"more than {_MOST_HANDSHAKES} clients are in their handshake")
_READ: Final = selectors.EVENT_READ
_WRITE: Final = selectors.EVENT_WRITE
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@final
class ClientSockets:
    """Listening sockets, and the sockets of their clients.

    `admit` returns the connection for a new client, or None above the limit. `later` has a function called after so
    many seconds. `refused` takes note of a client whose TLS failed. With `credentials` clients use TLS.
    """

    def __init__(
        self,
        turns: Turns,
        admit: Callable[[socket.socket], OutputBuffer | None],
        connect: Callable[[OutputBuffer, Transport], ClientConnection],
        later: Callable[[float, Callable[[], None]], object],
        refused: Callable[[OutputBuffer, Failure], None],
        credentials: Credentials | None = None,
    ) -> None:
        self.turns: Final = turns
        self.refused: Final = refused
        self._credentials: Final = credentials
        self.handshakes: Final[dict[_SocketTransport, float]] = {}
        self._admit: Final = admit
        self._connect: Final = connect
        self._later: Final = later
        self.selector: Final = selectors.DefaultSelector()
        self.buffer: Final = memoryview(bytearray(READ_BYTES))
        self._listeners: Final[list[socket.socket]] = []

    def fileno(self) -> int:
        """Return the descriptor to be watched: call `serve` when it is readable."""
        fileno: Callable[[], int] | None = getattr(self.selector, "fileno", None)
        if fileno is None:
            raise OSError("this system has neither epoll nor kqueue, which the server needs")
        return fileno()

    def listen(self, listeners: Iterable[socket.socket]) -> None:
        """Accept clients from these sockets, which are listening already and stay the caller's."""
        for listener in listeners:
            listener.setblocking(False)
            self._listeners.append(listener)
            self._accept_from(listener)

    def stop_listening(self) -> None:
        """Accept no more clients."""
        while self._listeners:
            with suppress(KeyError):
                self.selector.unregister(self._listeners.pop())

    def close(self) -> None:
        """Let go of everything. The connections must be closed already."""
        self.stop_listening()
        self.selector.close()

    def serve(self) -> int:
        """Serve all sockets that are ready, without waiting; return how many are."""
        self.turns.begin()
        ready = self.selector.select(0)
        for key, events in ready:
            key.data(events)
        self.turns.end()
        return len(ready)

    def _accept_from(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self.selector.register(listener, _READ, partial(self._accept, listener))

    def _accept(self, listener: socket.socket, events: int) -> None:
        for _ in range(_ACCEPTS):
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as failure:
                if failure.errno not in _EXHAUSTED:  # the client was gone before it was accepted
                    continue
                with suppress(KeyError):
                    self.selector.unregister(listener)
                self._later(ACCEPT_PAUSE, partial(self._accept_from, listener))
                return
            accepted.setblocking(False)
            output = self._admit(accepted)
            if output is None:
                with accepted, suppress(OSError):
                    accepted.send(TOO_MANY)
                continue
            _set_options(accepted)
            if self._credentials is None:
                _SocketTransport(self, accepted, output, self._connect)
            else:
                self._shake_hands(self._credentials, accepted, output)

    def _shake_hands(self, credentials: Credentials, accepted: socket.socket, output: OutputBuffer) -> None:
        """Serve the client with TLS. A handshake is bounded in time, and all together in number."""
        allowed = not credentials.tls.required
        session = TlsSession(credentials.server, server=True, plain_allowed=allowed, refusal=_NO_TLS)
        if len(self.handshakes) >= _MOST_HANDSHAKES:
            next(iter(self.handshakes)).give_up(_TOO_MANY_HANDSHAKES)
        transport = _SocketTransport(self, TlsSocket(accepted, session), output, self._connect)
        self.handshakes[transport] = monotonic()

    def look_after_handshakes(self) -> None:
        """Close the connections whose handshake takes too long; to be called every few seconds."""
        late = monotonic() - _HANDSHAKE_SECONDS
        for transport in [each for each, since in self.handshakes.items() if since < late]:
            transport.give_up(_TOO_SLOW)


def _set_options(accepted: socket.socket) -> None:
    with suppress(OSError):  # the client is gone already
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in KEEPALIVE:
            accepted.setsockopt(*option)


@final
class _SocketTransport:
    """One client's socket."""

    __slots__ = (
        "_closed", "_connection", "_finishing", "_interest", "_output", "_piece", "_rest", "_socket", "_sockets",
    )  # fmt: skip

    def __init__(
        self,
        sockets: ClientSockets,
        accepted: socket.socket | TlsSocket,
        output: OutputBuffer,
        connect: Callable[[OutputBuffer, Transport], ClientConnection],
    ) -> None:
        self._sockets: Final = sockets
        self._socket: Final[socket.socket | TlsSocket] = accepted
        self._output: Final = output
        self._piece = b""  # being written
        self._rest = memoryview(b"")  # of it
        self._finishing = False
        self._closed = False
        self._interest = 0
        self._connection: Final = connect(output, self)
        self._watch(_READ)

    def _watch(self, events: int) -> None:
        """Be called when one of these is possible."""
        if events == self._interest:
            return
        selector = self._sockets.selector
        if not events:
            selector.unregister(self._socket)
        elif not self._interest:
            selector.register(self._socket, events, self._ready)
        else:
            selector.modify(self._socket, events, self._ready)
        self._interest = events

    def _ready(self, events: int) -> None:
        if events & _WRITE and not self._closed:
            self._flush()
        if events & _READ and not self._closed:
            if self._sockets.handshakes and self._shakes_hands and self._sockets.turns.crowded:
                self._watch(self._interest & ~_READ)
                self._sockets.turns.later(self._shake_hands)
            else:
                self._receive()

    @property
    def _shakes_hands(self) -> bool:
        return type(self._socket) is TlsSocket and not self._socket.settled

    def _shake_hands(self) -> None:
        """Take a step of the TLS handshake, half a millisecond, in its turn: hundreds may come in one moment."""
        if self._interest & _READ or self._closed or self._finishing:
            return
        self._receive()
        if not self._connection.busy:
            self.read()

    def _receive(self) -> None:
        connection = self._connection
        if connection.busy:
            self._watch(self._interest & ~_READ)
            return
        buffer = self._sockets.buffer
        try:
            size = self._socket.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            self._look_at_handshake()
            return
        except TlsFailed as failed:
            self.give_up(failed.failure)
            return
        except OSError:
            self._lost()
            return
        if self._sockets.handshakes:
            self._look_at_handshake()
        if size:
            connection.received(buffer[:size].tobytes())
        else:
            connection.input_ended()

    def _look_at_handshake(self) -> None:
        handshakes = self._sockets.handshakes
        if handshakes and not self._shakes_hands:
            handshakes.pop(self, None)

    def give_up(self, failure: Failure) -> None:
        """Close the connection, because its TLS failed."""
        self._sockets.refused(self._output, failure)
        self._lost()

    def _flush(self) -> None:
        """Write as much as the system takes now."""
        output = self._output
        for _ in range(_PIECES):
            if not self._rest:
                piece = output.next_piece()
                if not piece:
                    self._watch(self._interest & ~_WRITE)
                    if self._finishing:
                        self._end()
                    else:
                        self._connection.drained()
                    return
                self._piece, self._rest = piece, memoryview(piece)
            try:
                sent = self._socket.send(self._rest)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self._lost()
                return
            self._rest = self._rest[sent:]
            if self._rest:
                break
            output.wrote(self._piece)
        self._watch(self._interest | _WRITE)
        self._connection.drained()

    def _end(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._lost()

    def _lost(self) -> None:
        self.abort()
        self._connection.lost()

    # For the connection.

    def write(self) -> None:
        """Send what waits; while the system takes nothing more, it waits until the socket is writable."""
        if not self._interest & _WRITE and not self._closed:
            self._flush()

    def send(self, data: bytes) -> None:
        """Send bytes before which nothing waits."""
        if self._closed:
            return
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._lost()
            return
        if sent < len(data):
            self._output.put(data[sent:])
            self.write()

    def read(self) -> None:
        """Watch for input again."""
        if not self._interest & _READ and not self._closed and not self._finishing:
            self._watch(self._interest | _READ)

    def poll(self) -> None:
        """Hand in the bytes that have arrived."""
        if not self._closed:
            self._receive()

    def finish(self) -> None:
        """Write everything, then close."""
        self._finishing = True
        if self._closed:
            return
        self._watch(self._interest & ~_READ)
        self.write()

    def abort(self) -> None:
        """Close the socket."""
        if not self._closed:
            self._closed = True
            self._sockets.handshakes.pop(self, None)
            self._watch(0)
            self._socket.close()
