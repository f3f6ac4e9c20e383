"""HTTP on the health port: GET and HEAD, one request at a time; everything else is refused within bounds."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_kv.health.http_session import MOST_HEAD, HttpAnswer, HttpRequest, HttpSession

OK = HttpAnswer(200, b"body\n")
HOST = b"Host: here\r\n\r\n"


def replies(data: bytes, *methods: str) -> list[tuple[int, bytes]]:
    """Status and body of each reply, as an HTTP client reads them."""
    client, body = h11.Connection(h11.CLIENT), b""
    found: list[tuple[int, bytes]] = []
    for method in methods:
        client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        if not found:
            client.receive_data(data)
        while type(event := client.next_event()) is not h11.EndOfMessage:
            if isinstance(event, h11.Response):
                found.append((event.status_code, b""))
            elif isinstance(event, h11.Data):
                body += event.data
        found[-1] = (found[-1][0], body)
        body = b""
        if client.their_state is h11.DONE and client.our_state is h11.DONE:
            client.start_next_cycle()
    return found


def refused(data: bytes) -> int:
    """The status with which these bytes are refused; the connection is at its end."""
    session = HttpSession()
    session.receive(data)
    assert session.next_request() is None
    assert session.closed
    sent = session.taken()
    assert b"connection: close" in sent.lower()
    return int(sent.split()[1])


def test_request_is_read_byte_by_byte() -> None:
    session = HttpSession()
    data = b"GET /readyz?verbose&timeout=0.5 HTTP/1.1\r\nHost: here\r\nX-Thing: 1\r\n\r\n"
    for byte in data[:-1]:
        session.receive(bytes([byte]))
        assert session.next_request() is None
    session.receive(data[-1:])
    headers = {"host": "here", "x-thing": "1"}
    assert session.next_request() == HttpRequest("GET", "/readyz", {"verbose": "", "timeout": "0.5"}, headers)
    session.answer(OK)
    assert replies(session.taken(), "GET") == [(200, b"body\n")]
    assert not session.closed


def test_requests_sent_together_are_answered_in_order() -> None:
    session = HttpSession()
    session.receive(b"GET /a HTTP/1.1\r\n" + HOST + b"GET /b HTTP/1.1\r\n" + HOST)
    for path in ("/a", "/b"):
        request = session.next_request()
        assert request is not None
        assert request.path == path
        session.answer(HttpAnswer(200, path.encode()))
    assert session.next_request() is None
    assert replies(session.taken(), "GET", "GET") == [(200, b"/a"), (200, b"/b")]


def test_head_gets_headers_only() -> None:
    session = HttpSession()
    session.receive(b"HEAD / HTTP/1.1\r\n" + HOST)
    assert session.next_request() is not None
    session.answer(OK)
    sent = session.taken()
    assert sent.endswith(b"\r\n\r\n")
    assert b"content-length: 5" in sent.lower()
    session.receive(b"GET / HTTP/1.1\r\n" + HOST)
    assert session.next_request() is not None


def test_connection_close_is_obeyed() -> None:
    session = HttpSession()
    session.receive(b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST)
    assert session.next_request() is not None
    session.answer(OK)
    assert session.closed


def test_old_clients_get_an_answer_and_the_end() -> None:
    session = HttpSession()
    session.receive(b"GET /livez HTTP/1.0\r\n\r\n")
    assert session.next_request() == HttpRequest("GET", "/livez")
    session.answer(OK)
    assert session.closed
    assert session.taken().endswith(b"body\n")


@pytest.mark.parametrize(("data", "status"), [
    (b"POST / HTTP/1.1\r\n" + HOST, 405),
    (b"DELETE /status.json HTTP/1.1\r\n" + HOST, 405),
    (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n" + HOST, 413),
    (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST, 413),
    (b"GET / HTTP/1.1\r\nContent-Length: x\r\n" + HOST, 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),  # without Host
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /?" + b"&".join(b"a%d" % n for n in range(100)) + b" HTTP/1.1\r\n" + HOST, 400),
    (b"GET http://[ HTTP/1.1\r\n" + HOST, 400),
    (b"*1\r\n$4\r\nPING\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    (b"GET /" + b"a" * MOST_HEAD, 431),
    (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * MOST_HEAD, 431),
    (b"GET / HTTP/1.1\r\nX: " + b"y" * MOST_HEAD + b"\r\n" + HOST, 431),  # at once, whole
])  # fmt: skip
def test_everything_else_is_refused(data: bytes, status: int) -> None:
    assert refused(data) == status


def test_end_of_input_ends_connection() -> None:
    for data in (b"", b"GET / HT"):
        session = HttpSession()
        session.receive(data)
        session.receive(b"") if data else None
        session.next_request()
        assert session.closed
        session.receive(b"more")
        assert session.next_request() is None


@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([b"GET / HTTP/1.1\r\n", HOST, b"\r\n", b"X:", b"HEAD ", b""]))
)
def test_no_bytes_make_it_raise_or_grow(pieces: list[bytes]) -> None:
    session = HttpSession()
    for piece in pieces:
        session.receive(piece)
        while (request := session.next_request()) is not None:
            assert request.method in {"GET", "HEAD"}
            session.answer(OK)
        assert len(session.taken()) < 4000 + 300 * 40
        if session.closed:
            break
