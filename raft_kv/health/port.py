"""`HealthPort`: the tasks of the health port. It answers from before the node opens until after it has ended.

Bounded: 64 connections, of which the one that has been idle for longest is closed for a new one, so that slow clients
cannot keep a supervisor out; 8 KiB for a request's head; `PATIENCE` seconds for a whole head, and for the client to
take an answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from math import isnan
from typing import TYPE_CHECKING, Final, TypeAlias, final

import anyio
from anyio import abc
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream, TaskGroup
from anyio.streams.stapled import MultiListener

from raft_core.errors import OutcomeUnknown, Refused
from raft_core.node.config import join_address, split_address
from raft_core.node.metrics import metrics_of
from raft_core.node.reaching import listen_failure
from raft_core.node.security import is_loopback
from raft_core.node.status import Drop, Phase
from raft_kv.health.answers import (
    Check,
    history_answer,
    livez,
    metrics_answer,
    not_found,
    readyz,
    server_metrics,
    status_answer,
)
from raft_kv.health.http_session import HttpAnswer, HttpRequest, HttpSession
from raft_kv.health.page import page_answer
from raft_kv.health.process import process_figures, process_metrics
from raft_kv.health.secure_stream import SecureStream
from raft_kv.log_output import LOG
from raft_kv.refusals import AT_HEALTH, BAD_REQUEST, TOO_SLOW
from raft_tls import Credentials, TlsFailed

if TYPE_CHECKING:
    import raft_anyio
    import raft_trio
    from raft_kv.service import Service

    Node: TypeAlias = raft_trio.Node | raft_anyio.Node

__all__ = ["MOST_CONNECTIONS", "PATIENCE", "HealthPort", "health_port"]

MOST_CONNECTIONS: Final = 64
PATIENCE: Final = 5.0
"""Seconds for a client to send a request, or to take an answer."""
_IDLE: Final = 60.0
"""Seconds that a connection may stay open between two requests; Prometheus scrapes every 15 to 60."""
_READ_SECONDS: Final = 1.0
"""Seconds for the linearizable read of /readyz; another number with ?timeout=."""
_MOST_SECONDS: Final = 30.0
_PIECE: Final = 4096
ACCEPT_PAUSE: Final = 0.1
"""Seconds until accepting is tried again after it failed."""


def _no_certificates() -> Mapping[str, float]:
    return {}


@final
class HealthPort:
    """The health port of one server. `attach` gives it the node once that is open, `detach` takes it away again.

    `others`: base URLs of the health ports of other nodes, which the page shows too; their pages may read this one.
    `certificates` returns when each further certificate of the node expires, by its use, in seconds since 1970. With
    `credentials` the port speaks TLS.
    """

    def __init__(self, address: str, others: tuple[str, ...] = (), credentials: Credentials | None = None) -> None:
        self.address: Final = address
        self._credentials: Final = credentials
        self.certificates: Callable[[], Mapping[str, float]] = _no_certificates
        self._others: Final = others
        self._local: Final = is_loopback(split_address(address)[0])
        self._service: Service | None = None
        self._node: Node | None = None
        self._ended = ""
        self._reading: anyio.Lock = anyio.Lock()
        self._connections: Final[dict[int, anyio.CancelScope]] = {}  # idle longest first
        self._numbers = 0

    def attach(self, service: Service, node: Node) -> None:
        """Answer for this node from now on."""
        self._service, self._node = service, node

    def detach(self, ended: str = "") -> None:
        """Answer without the node from now on. `ended`: the reason, if the process is of no use without it."""
        self._service, self._node, self._ended = None, None, ended

    # Connections.

    async def serve(self, listener: MultiListener[SocketStream]) -> None:
        """Serve connections until cancelled."""
        async with listener, anyio.create_task_group() as group:
            for one in listener.listeners:
                group.start_soon(self._accept, one, group)

    async def _accept(self, listener: abc.Listener[SocketStream], group: TaskGroup) -> None:
        assert isinstance(listener, SocketListener)
        while True:
            try:
                stream = await listener.accept()
            except (OSError, anyio.BrokenResourceError):  # no file descriptor left, or gone before it was accepted
                await anyio.sleep(ACCEPT_PAUSE)
            else:
                group.start_soon(self._client, stream)

    async def _client(self, plain: ByteStream) -> None:
        stream = plain if self._credentials is None else SecureStream(plain, self._credentials)
        remote = plain.extra(SocketAttribute.remote_address, None)
        host = str(remote[0]) if isinstance(remote, tuple) else ""
        if len(self._connections) >= MOST_CONNECTIONS:
            self._connections.pop(next(iter(self._connections))).cancel()
        self._numbers += 1
        number = self._numbers
        try:
            with anyio.CancelScope() as scope:
                self._connections[number] = scope
                await self._converse(host, stream, number, scope)
                if isinstance(stream, SecureStream):
                    with anyio.move_on_after(PATIENCE):
                        await stream.send_eof()
        except TlsFailed as failed:
            self._refused(host, failed.failure.reason.value, failed.failure.text)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError):
            pass
        except Exception:  # a defect that one request meets must not end the node
            LOG.exception("a defect ended a connection to the health port; please report it")
        finally:
            self._connections.pop(number, None)
            await anyio.aclose_forcefully(stream)

    def _refused(self, host: str, reason: str, text: str) -> None:
        if self._service is not None:
            self._service.refusals.add(AT_HEALTH, host, reason, text)

    async def _converse(self, host: str, stream: ByteStream, number: int, scope: anyio.CancelScope) -> None:
        session = HttpSession()
        patience = PATIENCE
        while True:
            with anyio.move_on_after(patience) as waiting:
                request = await _next_request(stream, session)
            if waiting.cancelled_caught:
                if isinstance(stream, SecureStream) and not stream.settled:
                    self._refused(host, Drop.TLS_FAILED.value, f"the TLS handshake was not done after {PATIENCE:g} s")
                elif session.midway:
                    self._refused(host, TOO_SLOW, "a request was begun and not completed in time")
                return
            if request is not None:
                session.answer(await self.answer(request))
            data = session.taken()
            if data:
                with anyio.fail_after(PATIENCE):
                    await stream.send(data)
            if session.problem:
                self._refused(host, BAD_REQUEST, session.problem)
            if session.closed or request is None:
                return
            self._connections[number] = self._connections.pop(number, scope)
            patience = _IDLE

    # Answers.

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        """Answer one request."""
        if self._local and not _names_this_host(request.headers.get("host", "")):
            return HttpAnswer(421, b"this port is for this machine: name it by its address or as localhost\n")
        match request.path:
            case "/livez":
                return livez(self._ended)
            case "/readyz":
                return readyz(await self._checks(request.query), verbose="verbose" in request.query)
            case "/":
                return page_answer(self._others)
            case "/metrics" | "/status.json" | "/history.json":
                return self._state(request)
        return not_found()

    def _state(self, request: HttpRequest) -> HttpAnswer:
        service, node = self._service, self._node
        if service is None or node is None:
            return HttpAnswer(503, b"the node is not open yet\n" if not self._ended else b"the node has ended\n")
        expiry = self.certificates()
        if request.path == "/metrics":
            of_node = metrics_of(node.status, certificates=expiry)
            of_server = server_metrics(service.status(node), service.loop_delays.value, service.refusals.counts)
            return metrics_answer([*of_node, *of_server, *process_metrics(process_figures())])
        if request.path == "/history.json":
            answer = history_answer(service.history)
        else:
            status = service.status(node)
            peer = node.status.certificate_expires
            expiry = {**({"peer": float(peer)} if peer else {}), **expiry}
            answer = status_answer(status, node.status.measured, service.history, self._others, expiry)
        return self._shared(request, answer)

    def _shared(self, request: HttpRequest, answer: HttpAnswer) -> HttpAnswer:
        """Let the pages of the other nodes read the answer, and no other page."""
        origin = request.headers.get("origin", "")
        if origin not in self._others:
            return answer
        headers = (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))
        return HttpAnswer(answer.status, answer.body, answer.content_type, headers)

    async def _checks(self, query: Mapping[str, str]) -> list[Check]:
        node = self._node
        if node is None or self._service is None:
            return [Check("node", holds=False, text=self._ended or "not open yet")]
        status = node.status
        leaving = self._service.leaving or status.phase is Phase.STOPPING
        checks = [
            Check("node", holds=status.phase is Phase.RUNNING, text=status.phase.value),
            Check("leader", holds=bool(status.leader), text=f"node {status.leader}" if status.leader else "none known"),
            Check("stopping", holds=not leaving, text="the server is stopping" if leaving else ""),
        ]
        if not all(check.holds for check in checks):
            return [*checks, Check("read", holds=False, text="not tried")]
        return [*checks, await self._read(node, _seconds(query.get("timeout", "")))]

    async def _read(self, node: Node, seconds: float) -> Check:
        """Check that a linearizable read succeeds within its deadline; one at a time, however many ask."""
        began = anyio.current_time()
        with anyio.move_on_after(seconds):
            async with self._reading:
                left = seconds - (anyio.current_time() - began)
                try:
                    await node.ready(timeout=max(left, 0.001))
                except (Refused, OutcomeUnknown) as failure:
                    return Check("read", holds=False, text=str(failure))
            return Check("read", holds=True, text=f"{(anyio.current_time() - began) * 1000:.1f} ms")
        return Check("read", holds=False, text=f"no answer within {seconds:g} s")


async def _next_request(stream: ByteStream, session: HttpSession) -> HttpRequest | None:
    """Return the next request; None if the connection ends, perhaps with a last answer in the session."""
    while (request := session.next_request()) is None and not session.closed:
        try:
            session.receive(await stream.receive(_PIECE))
        except anyio.EndOfStream:
            session.receive(b"")
    return request


def _seconds(text: str) -> float:
    with suppress(ValueError):
        seconds = float(text)
        if not isnan(seconds):
            return min(max(seconds, 0.001), _MOST_SECONDS)
    return _READ_SECONDS


def _names_this_host(host: str) -> bool:
    """Return whether the header `Host` is an address or localhost: a page of another site cannot name us so.

    A site may let its own name point to this machine (DNS rebinding); its pages then ask us under that name.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]")
    if name.lower() == "localhost" or not name:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@asynccontextmanager
async def health_port(
    address: str, others: tuple[str, ...] = (), credentials: Credentials | None = None
) -> AsyncIterator[HealthPort | None]:
    """Serve the health port at `address` during the block, with credentials by TLS; without an address, yield None.

    Raise `ListenFailed` if the address cannot be used. The block's exception leaves unchanged, not in a group.
    """
    if not address:
        yield None
        return
    host, number = split_address(address)
    try:
        listener = await anyio.create_tcp_listener(local_host=host, local_port=number)
    except OSError as failure:
        raise listen_failure(address, failure) from failure
    bound = listener.extra(SocketAttribute.local_address)
    assert isinstance(bound, tuple)
    port = HealthPort(join_address(str(bound[0]), int(bound[1])), others, credentials)
    raised: BaseException | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(port.serve, listener)
        try:
            yield port
        except BaseException as failure:
            raised = failure
        group.cancel_scope.cancel()
    if raised is not None:
        raise raised
