"""`HttpSession`: the HTTP side of one connection to the health port, without I/O. Bytes go in, requests come out.

It takes GET and HEAD without a body, one at a time, and keeps the connection open between them. Everything else gets
the status that HTTP has for it and ends the connection. A request's head is limited to `MOST_HEAD` bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, final
from urllib.parse import parse_qsl, urlsplit

import attrs
import h11

__all__ = ["MOST_HEAD", "HttpAnswer", "HttpRequest", "HttpSession"]

MOST_HEAD: Final = 8 * 1024
"""Bytes of a request line and its headers."""
_MOST_QUERY_FIELDS: Final = 16
_TOO_LARGE: Final = f"a request of more than {MOST_HEAD} bytes"
_ALLOWED: Final = ("GET", "HEAD")


@final
@attrs.frozen
class HttpRequest:
    """A request. Names of headers are in lower case; of several with one name the last one counts."""

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict)


@final
@attrs.frozen
class HttpAnswer:
    """An answer: status, body, content type, further headers."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def _plain(status: int) -> HttpAnswer:
    return HttpAnswer(status, f"{HTTPStatus(status).phrase}\n".encode())


@final
class HttpSession:
    """One connection. Give it received bytes, take `next_request`, and answer that before the next one.

    `output` collects bytes for the client; take them with `taken`. When `closed`, send them and close the connection;
    `problem` then says what is wrong with the client's bytes, if they were no request.
    """

    __slots__ = ("_connection", "_fails", "_head", "_output", "closed", "problem")

    def __init__(self) -> None:
        self._connection: Final = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        self._output = bytearray()
        self._head = False
        self._fails: HttpAnswer | None = None
        self.closed = False
        self.problem = ""

    def receive(self, data: bytes) -> None:
        """Take bytes from the client; b"" when it sends no more."""
        if not self.closed:
            try:
                self._connection.receive_data(data)
            except (h11.RemoteProtocolError, RuntimeError):  # bytes after the end
                self.closed = True

    @property
    def midway(self) -> bool:
        """True if a request has begun and is not complete."""
        return bool(self._connection.trailing_data[0]) or self._connection.their_state is h11.SEND_BODY

    def taken(self) -> bytes:
        """Return the bytes for the client since the last call."""
        data, self._output = bytes(self._output), bytearray()
        return data

    def next_request(self) -> HttpRequest | None:
        """Return the next complete request; None if more bytes are needed or the connection has ended."""
        if self.closed:
            return None
        try:
            return self._next()
        except h11.RemoteProtocolError as failure:
            self._refuse(failure.error_status_hint)
            return None

    def _next(self) -> HttpRequest | None:
        connection = self._connection
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
        found: HttpRequest | None = None
        while True:
            event = connection.next_event()
            if type(event) is h11.Request:
                found = self._head_of(event)
                if self._fails is not None:
                    self._answer_last(self._fails)
                    return None
            elif type(event) is h11.Data:
                self._answer_last(_plain(413))
                return None
            elif type(event) is h11.EndOfMessage:
                return found
            elif type(event) is h11.ConnectionClosed:
                self.closed = True
                return None
            else:  # NEED_DATA, or PAUSED until the answer to the request before
                return None

    def _head_of(self, event: h11.Request) -> HttpRequest:
        method = event.method.decode("ascii")
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
        self._head = method == "HEAD"
        self._fails = None
        if method not in _ALLOWED:
            self._fails = attrs.evolve(_plain(405), headers=(("Allow", ", ".join(_ALLOWED)),))
        elif len(event.target) + sum(len(name) + len(value) for name, value in event.headers) > MOST_HEAD:
            self.problem = _TOO_LARGE  # it came whole, so that h11 has not counted it
            self._fails = _plain(431)
        elif headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            self._fails = _plain(413)
        try:
            target = urlsplit(event.target.decode("ascii"))
            query = dict(parse_qsl(target.query, keep_blank_values=True, max_num_fields=_MOST_QUERY_FIELDS))
        except ValueError:  # no URL, or too many fields
            self._fails = _plain(400)
            return HttpRequest(method, "")
        return HttpRequest(method, target.path, query, headers)

    def answer(self, answer: HttpAnswer) -> None:
        """Answer the request returned last."""
        self._write(answer, closes=False)
        if self._connection.our_state is h11.MUST_CLOSE:
            self.closed = True

    def _answer_last(self, answer: HttpAnswer) -> None:
        self._write(answer, closes=True)
        self.closed = True

    def _refuse(self, status: int) -> None:
        """Answer bytes that are no request, and end the connection."""
        too_large = status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self.problem = _TOO_LARGE if too_large else "this is no HTTP request"
        if self._connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._head = False
            self._write(_plain(status), closes=True)
        self.closed = True

    def _write(self, answer: HttpAnswer, *, closes: bool) -> None:
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *answer.headers,
        ]
        if closes:
            headers.append(("Connection", "close"))
        send = self._connection.send
        self._output += (
            send(h11.Response(status_code=answer.status, reason=HTTPStatus(answer.status).phrase, headers=headers))
            or b""
        )
        if not self._head:
            self._output += send(h11.Data(data=answer.body)) or b""
        self._output += send(h11.EndOfMessage()) or b""
