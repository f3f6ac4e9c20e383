"""`ClientConnection`: one client, between its transport, its session and the node.

No I/O, no awaiting, no task: a transport hands in the bytes of the client, the node hands in the outcome of a request,
and both calls return at once. The connection is itself the ticket of its request at the node, so nothing is made for a
request but the request.

While a request is open, nothing more is taken from the client. While too much waits to be written, no further command
is begun (see `OutputBuffer`).

The work for all clients in one pass of the loop is bounded by `PASS_SECONDS`: what is left waits in `Turns`, in order,
while the loop does everything else that is ready.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Final, Protocol, final

from raft_core import requests
from raft_core.effects import Success
from raft_core.errors import OutcomeUnknown, Refused
from raft_core.ids import Index
from raft_core.node.api import NodeApi
from raft_core.node.events import Answered
from raft_kv.client_session_values import (
    BackUp,
    ChangeMembers,
    Disconnect,
    Inspect,
    LeaveJoint,
    OffLoop,
    Pause,
    Propose,
    Read,
    SessionEffect,
    Share,
    ShareRead,
    TransferLeadership,
    Wait,
)
from raft_kv.keyspace import Millis
from raft_kv.output_buffer import OutputBuffer
from raft_kv.service import Service, cluster_clock
from raft_kv.shared_entries import SharedEntry
from raft_kv.shared_reads import SharedRead
from raft_kv.sharing import SharedRequest, Sharing

__all__ = ["PASS_SECONDS", "ClientConnection", "ClientTable", "Threads", "Transport", "Turns"]

PASS_SECONDS: Final = 0.005
"""Work for clients in one pass of the loop; one client's turn, some two milliseconds, may exceed it."""
_SNAPSHOT_SECONDS: Final = 900.0
"""Time for a snapshot of the whole state, taken for a backup."""
_CLOCK_SECONDS: Final = 0.001
"""Cluster time is asked for again after this time."""


class Transport(Protocol):
    """The way of one client's bytes. Nothing here waits.

    A transport calls `ClientConnection.received` only while it is not `busy`, `input_ended` once, `drained` whenever
    bytes were written, and `lost` once the client is gone.
    """

    def write(self) -> None:
        """Write what the output buffer holds: now what the system takes, and the rest when it takes it."""
        ...

    def send(self, data: bytes) -> None:
        """Write these bytes, before which nothing waits; the same as to put them into the output buffer and `write`."""
        ...

    def read(self) -> None:
        """Read on: the connection is not busy any more."""
        ...

    def poll(self) -> None:
        """Hand in the bytes that have arrived, if there are some."""
        ...

    def finish(self) -> None:
        """Read no more, write everything, then close and call `lost`."""
        ...

    def abort(self) -> None:
        """Close at once, without calling `lost`."""
        ...


@final
class Turns:
    """The work for clients that waits for another pass of the loop. `soon` has a function called in the next one."""

    __slots__ = ("_asked", "_last", "_passing", "_queue", "_soon", "_until")

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        self._soon: Final = soon
        self._queue: Final[deque[Callable[[], None]]] = deque()
        self._last: list[Callable[[], None]] = []
        self._asked = False
        self._passing = False
        self._until = 0.0

    def begin(self) -> None:
        """Begin a pass: from here on, `PASS_SECONDS` may be spent. `end` ends it."""
        self._until = monotonic() + PASS_SECONDS
        self._passing = True

    def end(self) -> None:
        """End the pass: do what was kept for its end."""
        self._passing = False
        if self._last:
            last, self._last = self._last, []
            for work in last:
                work()

    def last(self, work: Callable[[], None]) -> None:
        """Do this work at the end of the present pass, or soon if there is none."""
        self._last.append(work)
        if not self._passing and len(self._last) == 1:
            self._soon(self.end)

    @property
    def crowded(self) -> bool:
        """Return whether more work has to wait for its turn."""
        return bool(self._queue) or monotonic() > self._until

    def later(self, work: Callable[[], None]) -> None:
        """Do this work in its turn, after everything else that is ready."""
        self._queue.append(work)
        if not self._asked:
            self._asked = True
            self._soon(self._pass)

    def _pass(self) -> None:
        self._asked = False
        self.begin()
        queue = self._queue
        while queue:
            queue.popleft()()
            if queue and monotonic() > self._until:
                self._asked = True
                self._soon(self._pass)
                break
        self.end()


class Threads(Protocol):
    """The way to work that takes long, and to later."""

    def do(self, work: Callable[[], bytes], done: Callable[[bytes], None]) -> None:
        """Do the work in a thread; call `done` in the loop with its result, b"" if it raised."""
        ...

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Call `work` in the loop after so many seconds."""
        ...


@final
class ClientTable:
    """All connections of one server by the numbers of their sessions, and what they share."""

    def __init__(self, node: NodeApi, service: Service, turns: Turns, threads: Threads) -> None:
        self.node: Final = node
        self.threads: Final = threads
        self.service: Final = service
        self.turns: Final = turns
        self.timeout: Final = service.config.request_timeout
        self.connections: Final[dict[int, ClientConnection]] = {}
        settle = self._settle
        self._shared: Final = {  # by protocol; 0 for writes, whose replies are the same in both
            0: Sharing(partial(SharedEntry, settle), self._submit),
            2: Sharing(partial(SharedRead, settle, 2, self.clock), self._submit),
            3: Sharing(partial(SharedRead, settle, 3, self.clock), self._submit),
        }
        self._clock_at = 0.0
        self._clock: Millis = 0

    def clock(self) -> Millis:
        """Return cluster time, at most a millisecond old."""
        if (now := monotonic()) > self._clock_at:
            self._clock_at = now + _CLOCK_SECONDS
            self._clock = cluster_clock(self.node)
        return self._clock

    def share(self, connection: ClientConnection, calls: list[list[bytes]], size: int, protocol: int) -> None:
        """Have the commands carried out in one request with those of the other clients of this pass.

        `protocol`: of the replies to reads, 2 or 3; 0: these are writes.
        """
        shared = self._shared[protocol]
        if shared.add(connection, calls, size):
            self.turns.last(shared.flush)

    def _submit(self, shared: SharedRequest) -> Refused | None:
        try:
            self.node.submit(shared.request(), shared, timeout=self.timeout)
        except Refused as failure:
            return failure
        return None

    def _settle(self, shared: SharedRequest, outcome: Answered) -> None:
        """Answer the clients in a pass of their own, since there may be hundreds."""
        self.turns.begin()
        shared.settle(outcome)
        self.turns.end()

    def disconnect(self, clients: Sequence[int]) -> None:
        """Close the connections of these clients at once."""
        for number in clients:
            if (connection := self.connections.get(number)) is not None:
                connection.abort()

    def leave(self) -> None:
        """End every connection once its client has the answers to all that was read."""
        for connection in list(self.connections.values()):
            connection.leave()

    def close(self) -> None:
        """Close all connections at once."""
        for connection in list(self.connections.values()):
            connection.abort()

    def look_after(self) -> None:
        """Close the connections of clients that have stopped reading; to be called every `CHECK_INTERVAL`."""
        for connection in list(self.connections.values()):
            if connection.output.stalled():
                connection.abort()


@final
class ClientConnection:
    """One client. `busy`: it takes no input now; `Transport.read` says when it does again."""

    __slots__ = ("_asking", "_blocked", "_gone", "_held", "_session", "_table", "_transport", "busy", "output")

    def __init__(self, table: ClientTable, output: OutputBuffer, transport: Transport) -> None:
        self.output: Final = output
        self.busy = False
        self._table: Final = table
        self._session: Final = output.session
        self._transport: Final = transport
        self._asking = False  # the node has a request of this connection
        self._blocked = False  # too much waits to be written
        self._held: SessionEffect | None = None  # the next order, while blocked
        self._gone = False
        table.connections[output.session.number] = self

    # For the transport.

    def received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._table.turns.crowded:
            self.busy = True
            self._table.turns.later(partial(self._receive, data))
        else:
            self._receive(data)

    def input_ended(self) -> None:
        """Take note that the client sends no more: close once everything is written."""
        self.busy = True
        self._transport.finish()

    def drained(self) -> None:
        """Go on if too much waited to be written, and does not any more."""
        if not self._blocked or self.output.over_limit:
            return
        self._blocked = False
        held, self._held = self._held, None
        if held is None:
            self._rest()
        else:
            self._guarded(lambda: self._begin(held))

    def lost(self) -> None:
        """Take note that the client is gone."""
        if self._gone:
            return
        self._gone = self.busy = True
        if self._asking:
            self._table.node.withdraw(self)
        self._table.connections.pop(self._session.number, None)
        self._table.service.leave(self.output)

    # For the node.

    def deliver(self, outcome: Answered) -> None:
        """Take the outcome of the open request. Only the first one counts."""
        if not self._asking:
            return
        self._asking = False
        if self._table.turns.crowded:
            self._table.turns.later(partial(self._take, outcome))
        else:
            self._take(outcome)

    # For a shared request.

    def share_answered(self, replies: bytes) -> None:
        """Take the replies to its commands."""
        if self._table.turns.crowded:
            self._table.turns.later(partial(self._replied, replies))
        else:
            self._replied(replies)

    def share_declined(self) -> None:
        """Make a request of its own, in its turn."""
        self._table.turns.later(self._declined)

    def share_failed(self, outcome: Answered | Refused) -> None:
        """Take note that the request was not carried out, or that its outcome is unknown."""
        if isinstance(outcome, Refused):
            failure = outcome
            self._guarded(lambda: self._session.failed(failure, self._table.clock()))
        else:
            self._guarded(partial(self._other_outcome, outcome))

    def share_damaged(self) -> None:
        """End this connection: the replies to its commands are not known."""
        if not self._gone:
            self._defect()

    # For the server.

    def abort(self) -> None:
        """Close the connection at once."""
        self.lost()
        self._transport.abort()

    def leave(self) -> None:
        """Take no input but what has arrived; close once it is answered, and the answers are written."""
        if not self.busy:
            self._transport.poll()
        if not self.busy:
            self.busy = True
            self._transport.finish()

    # One step of the session.

    def _receive(self, data: bytes) -> None:
        if self._gone:
            return
        try:
            short = self._session.short_calls(data)
            if short is not None:
                self.busy = self.output.open = True
                self._table.share(self, short[0], len(data), short[1])
                return
            self._go_on(self._session.receive(data, self._table.clock()))
        except Exception:
            self._defect()

    def _replied(self, replies: bytes) -> None:
        if self._gone:
            return
        try:
            if not self.output.unsent and self._session.short_answered():
                self.output.open = False
                self._transport.send(replies)
                if not self._gone:
                    self._rest()
                return
            self._go_on(self._session.answered(replies, self._table.clock()))
        except Exception:
            self._defect()

    def _take(self, outcome: Answered) -> None:
        if self._gone:
            return
        try:
            if type(outcome) is Success:
                data = outcome.results[0] if outcome.results else b""
                self._go_on(self._session.answered(data, self._table.clock()))
            else:
                self._go_on(self._other_outcome(outcome))
        except Exception:
            self._defect()

    def _other_outcome(self, outcome: Answered) -> list[SessionEffect]:
        now = self._table.clock()
        try:
            data = self._table.node.result(outcome)
        except (Refused, OutcomeUnknown) as failure:
            return self._session.failed(failure, now)
        return self._session.answered(data, now)

    def _declined(self) -> None:
        self._guarded(lambda: self._session.declined(self._table.clock()))

    def _resume(self) -> None:
        self._guarded(lambda: self._session.resume(self._table.clock()))

    def _inspect(self) -> None:
        table = self._table
        self._guarded(lambda: self._session.inspected(table.service.status(table.node), table.clock()))

    def _worked(self, data: bytes) -> None:
        self._guarded(lambda: self._session.answered(data, self._table.clock()))

    def _guarded(self, step: Callable[[], list[SessionEffect] | None]) -> None:
        """Do a step that is rare, and what follows from it."""
        if self._gone:
            return
        try:
            self._go_on(step())
        except Exception:
            self._defect()

    def _defect(self) -> None:
        """End this connection, and not the node, for a defect which its client met."""
        self._table.service.log.client_defect(self._session.number)
        self.abort()

    def _go_on(self, effects: list[SessionEffect] | None) -> None:
        """Write what the session sends, and begin its order, until an order has to be waited for."""
        output = self.output
        while effects is not None:
            order = output.take(effects)
            if output.unsent:
                self._transport.write()
                if self._gone:
                    return
                if output.over_limit:
                    self.busy = self._blocked = True
                    self._held = order
                    return
            if order is None:
                self._rest()
                return
            self.busy = True
            effects = self._begin(order)

    def _rest(self) -> None:
        """Take input again, unless this was the last answer."""
        if self.output.closed or self._table.service.leaving:
            self.busy = True
            self._transport.finish()
        elif self.busy:
            self.busy = False
            self._transport.read()

    def _begin(self, order: SessionEffect) -> list[SessionEffect] | None:
        """Begin an order of the session. Return its effects if it is done at once."""
        if type(order) is Share:
            self._table.share(self, order.calls, order.size, 0)
            return None
        if type(order) is ShareRead:
            self._table.share(self, order.calls, order.size, order.protocol)
            return None
        if type(order) is Propose:
            return self._ask(requests.Propose(order.command))
        if type(order) is Read:
            return self._ask(requests.Read(query=order.query))
        if type(order) is Pause:
            self._table.turns.later(self._resume)
            return None
        if type(order) is Inspect:
            self._table.turns.later(self._inspect)
            return None
        if type(order) is OffLoop:
            self._table.threads.do(order.work, self._worked)
            return None
        if type(order) is Wait:
            self._table.threads.later(order.seconds, partial(self._worked, b""))
            return None
        if type(order) is Disconnect:
            self._table.disconnect(order.clients)
            return self._session.answered(b"", self._table.clock())
        if type(order) is ChangeMembers:
            expected = Index(order.expected)
            return self._ask(requests.ChangeMembership(order.changes, expected=expected, features=order.features))
        if type(order) is LeaveJoint:
            return self._ask(requests.LeaveJoint())
        if type(order) is TransferLeadership:
            return self._ask(requests.TransferLeadership(order.to))
        if type(order) is BackUp:
            if type(order.request) is requests.OpenBackup:
                return self._ask(order.request, _SNAPSHOT_SECONDS)
            return self._ask(order.request)
        raise AssertionError(f"{order} is no effect for the server")

    def _ask(self, request: requests.NodeRequest, least: float = 0.0) -> list[SessionEffect] | None:
        """Make a request with the server's timeout, or `least` seconds."""
        table = self._table
        try:
            table.node.submit(request, self, timeout=max(table.timeout, least))
        except Refused as failure:
            return self._session.failed(failure, table.clock())
        self._asking = True
        return None
