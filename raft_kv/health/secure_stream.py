"""`SecureStream`: TLS on one connection to the health port. The protocol itself is `TlsSession`'s."""

from __future__ import annotations

from typing import Final, final

import anyio
from anyio.abc import ByteStream

from raft_tls import Credentials, TlsFailed, TlsSession

__all__ = ["SecureStream"]

_NO_TLS: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 56\r\n\r\n"
    b"this port takes nothing but TLS: name it with https://.\n"
)


@final
class SecureStream(ByteStream):
    """An accepted connection with TLS. It takes over `plain`. A failure of TLS raises `TlsFailed`."""

    def __init__(self, plain: ByteStream, credentials: Credentials) -> None:
        self._plain: Final = plain
        allowed = not credentials.tls.required
        self._session: Final = TlsSession(credentials.server, server=True, plain_allowed=allowed, refusal=_NO_TLS)
        self._received = b""
        self._ended = False

    @property
    def settled(self) -> bool:
        """True once the handshake is done, or the other side goes on without TLS."""
        return self._session.settled

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next plain bytes. The handshake is part of it."""
        while not self._received:
            if self._ended:
                raise anyio.EndOfStream
            await self._receive_more(max_bytes)
        data, self._received = self._received[:max_bytes], self._received[max_bytes:]
        return data

    async def _receive_more(self, size: int) -> None:
        try:
            data = await self._plain.receive(size)
        except anyio.EndOfStream:
            if (failure := self._session.lost()) is not None:
                raise TlsFailed(failure) from None
            raise
        step = self._session.receive(data)
        if step.send:
            await self._plain.send(step.send)
        if step.failure is not None:
            raise TlsFailed(step.failure)
        self._received, self._ended = step.plain, step.ended

    async def send(self, item: bytes) -> None:
        """Encrypt and send the bytes."""
        await self._plain.send(self._session.encrypt(item))

    async def send_eof(self) -> None:
        """Tell the other side that this one has ended cleanly."""
        if data := self._session.close():
            await self._plain.send(data)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._plain.aclose()
