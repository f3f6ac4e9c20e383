"""`TlsSession`: one end of one connection, without I/O: bytes of the network in, bytes for it and plain bytes out.

It is the `ssl` module's own protocol between two buffers, so it is the same on every event loop. An accepting end looks
at the first byte: a TLS handshake begins with 0x16, and neither a frame of a node nor a Redis command does. So one
port can take both while a cluster moves to TLS. No input raises.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from enum import Enum, auto
from typing import Final, final

from raft_core.structs import Value
from raft_tls.failures import ENDED_EARLY, Failure, failure_of, no_tls

__all__ = ["Failure", "Step", "TlsSession"]

_HANDSHAKE: Final = 0x16
"""First byte of a TLS handshake (RFC 8446, 5.1: the content type of a record)."""
_RECORDS: Final = frozenset({0x14, 0x15, 0x16, 0x17})
_READ: Final = 1 << 18


@final
class Step(Value, frozen=True):
    """What followed from the bytes received, in the order of the fields."""

    plain: bytes = b""
    """Bytes for the reader."""
    send: bytes = b""
    """Bytes for the network: of the handshake, or the reason for a failure."""
    names: tuple[str, ...] | None = None
    """Once, when the handshake is done: the URIs in the other side's certificate; none if it showed none."""
    failure: Failure | None = None
    """The connection is of no use any more: close it once `send` is sent."""
    ended: bool = False
    """The other side closed its direction."""


class _State(Enum):
    FIRST = auto()  # no byte was received yet
    HANDSHAKE = auto()
    OPEN = auto()
    PLAIN = auto()  # without TLS
    DEAD = auto()


_NOTHING: Final = Step()


@final
class TlsSession:
    """One end of one connection. `refusal` is sent to a client without TLS where `plain_allowed` is false."""

    __slots__ = ("_in", "_out", "_plain_allowed", "_refusal", "_server", "_state", "_tls")

    def __init__(
        self, context: ssl.SSLContext, *, server: bool, plain_allowed: bool = False, refusal: bytes = b""
    ) -> None:
        self._server = server
        self._plain_allowed = plain_allowed
        self._refusal = refusal
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server)
        self._state = _State.FIRST

    @property
    def secure(self) -> bool:
        """True if the handshake is done and the connection is in use."""
        return self._state is _State.OPEN

    @property
    def settled(self) -> bool:
        """True once plain bytes can be sent, with or without TLS."""
        return self._state in (_State.OPEN, _State.PLAIN)

    @property
    def heard(self) -> bool:
        """True once the other side has sent anything."""
        return self._state is not _State.FIRST

    def start(self) -> bytes:
        """Return the first bytes of a dialling end."""
        return self._shake().send

    def encrypt(self, data: bytes) -> bytes:
        """Return the bytes for the network that carry `data`; none after a failure."""
        if self._state is _State.PLAIN:
            return data
        if self._state is not _State.OPEN:
            return b""
        self._tls.write(data)
        return self._out.read()

    def close(self) -> bytes:
        """Return the bytes that tell the other side of a clean end."""
        if self._state is not _State.OPEN:
            return b""
        self._state = _State.DEAD
        with suppress(ssl.SSLError):  # the answer of the other side is not waited for
            self._tls.unwrap()
        return self._out.read()

    def receive(self, data: bytes) -> Step:
        """Take bytes of the network."""
        if self._state is _State.PLAIN:
            return Step(plain=data)
        if self._state is _State.DEAD or not data:
            return _NOTHING
        if self._state is _State.FIRST:
            expected = data[0] == _HANDSHAKE if self._server else data[0] in _RECORDS
            if not expected:
                return self._without_tls(data)
            self._state = _State.HANDSHAKE
        self._in.write(data)
        return self._shake() if self._state is _State.HANDSHAKE else self._read()

    def lost(self) -> Failure | None:
        """Return the failure of a connection that the other side closed before the handshake was done."""
        return ENDED_EARLY if self._state in (_State.FIRST, _State.HANDSHAKE) else None

    def _without_tls(self, data: bytes) -> Step:
        if self._plain_allowed:
            self._state = _State.PLAIN
            return Step(plain=data)
        self._state = _State.DEAD
        return Step(send=self._refusal if self._server else b"", failure=no_tls(data, dialled=not self._server))

    def _shake(self) -> Step:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return Step(send=self._out.read())
        except ssl.SSLError as error:
            return self._failed(error)
        self._state = _State.OPEN
        names = _uris(self._tls)
        rest = self._read()  # bytes that came with the last ones of the handshake
        return Step(rest.plain, rest.send, names, rest.failure, rest.ended)

    def _read(self) -> Step:
        parts: list[bytes] = []
        ended, rest = False, self._in
        try:
            while part := self._tls.read(_READ):
                parts.append(part)
                if not rest.pending:  # the usual case; another call would only raise, which costs as much as all this
                    break
            else:
                ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as error:
            failed = self._failed(error)
            return Step(b"".join(parts), failed.send, failure=failed.failure)
        plain = parts[0] if len(parts) == 1 else b"".join(parts)
        return Step(plain, self._out.read() if self._out.pending else b"", ended=ended)

    def _failed(self, error: ssl.SSLError) -> Step:
        self._state = _State.DEAD
        return Step(send=self._out.read(), failure=failure_of(error))


def _uris(tls: ssl.SSLObject) -> tuple[str, ...]:
    """Return the URIs in the other side's certificate; none if its names are not text."""
    try:
        names = (tls.getpeercert() or {}).get("subjectAltName", ())
    except ValueError:
        return ()
    return tuple(str(name[1]) for name in names if name[0] == "URI")
