"""A complete adapter for plain threads and blocking sockets, to show how little one is.

What lives here: `ThreadsNode`. The kinds of task are those of every adapter: the loop, which alone touches the host;
a worker per lane (`raft_storage.workers`); one reader and one writer per connection; a listener. They talk to the loop
through its inbox. `docs/adapters.md` goes through it step by step, and the conformance suite runs it.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from queue import Empty, Queue, SimpleQueue
from threading import Thread
from typing import Final, TypeAlias, assert_never, cast

from raft_core.effects import Alarm, RoleChanged
from raft_core.errors import RaftError, SettingsError
from raft_core.node import events as host
from raft_core.node.config import NodeConfig, deadline_after, join_address, split_address
from raft_core.node.driver import host_at
from raft_core.node.outcomes import ended, error_of, result_of
from raft_core.node.reaching import dial_failure, remote_address
from raft_core.node.status import NodeStatus
from raft_core.requests import Propose, Read, ReadConsistency, Request
from raft_core.state_machine import StateMachine
from raft_storage.open import open_disk


class ThreadsNode:
    """A running node, usable from any thread until `stop`. `heard` is told of changes and alarms, on the loop."""

    def __init__(
        self, config: NodeConfig, machine: StateMachine, heard: Callable[[RoleChanged | Alarm], object] = print
    ) -> None:
        recovered, self._lanes = open_disk(config, machine)
        try:
            self._listener: Final = socket.create_server(split_address(config.listening_address))
            self.address: Final = join_address(*self._listener.getsockname()[:2])
            self._host = host_at(self.address, config, recovered, machine, secrets.randbits(64))
        except BaseException:
            self._lanes.close(config.shutdown_timeout)
            raise
        self._config, self._heard = config, heard
        self._inbox: Final[Queue[host.NodeEvent]] = Queue(256)  # full: readers, callers and lanes wait, the loop never
        self._callers: Final[set[Future[host.Answered]]] = set()
        self._connections: Final[_Known] = {}
        self._wake_at = 0
        self._finished: Final[Future[RaftError | None]] = Future()
        self._lanes.start(lambda events: list(map(self._inbox.put, events)))
        Thread(target=self._loop, name=f"node {config.node} loop", daemon=True).start()
        Thread(target=self._accept, name=f"node {config.node} listener", daemon=True).start()

    @property
    def status(self) -> NodeStatus:
        """Taken while the loop may be at work: for people, not for decisions."""
        return self._host.status

    def propose(self, command: bytes, *, timeout: float | None = None) -> bytes:
        """The machine's result, once `command` is committed and applied. Raises `Refused` or `OutcomeUnknown`."""
        return self._ask(Propose(command), timeout)

    def read(self, query: bytes, consistency: ReadConsistency, limit: int = 0, timeout: float | None = None) -> bytes:
        return self._ask(Read(consistency, limit, query), timeout)

    def stop(self) -> None:
        """The node has handed over, answered everybody, ended and closed its disk. Raises what it failed with."""
        self._inbox.put(host.StopAsked())
        if (error := self._finished.result(2 * self._config.shutdown_timeout)) is not None:
            raise error

    def _ask(self, request: Request, timeout: float | None) -> bytes:
        caller: Future[host.Answered] = Future()
        self._callers.add(caller)
        self._inbox.put(host.Call(caller, request, deadline_after(time.monotonic_ns(), timeout)))
        if self._finished.done() and caller in self._callers:
            self._callers.discard(caller)
            raise error_of(ended(None))
        return result_of(caller.result(), self._host.address_of)

    def _loop(self) -> None:
        events: list[host.NodeEvent] = [host.TimerFired()]
        while not self._finished.done():
            for effect in self._host.handle(events, time.monotonic_ns(), time.time_ns()):
                self._do(effect)
            events = self._lanes.run_inline() or [self._next_event()]
            with suppress(Empty):
                while True:
                    events.append(self._inbox.get_nowait())
        for caller in list(self._callers):  # they asked too late for the host to hear of them
            self._do(host.Answer(caller, ended(None)))

    def _next_event(self) -> host.NodeEvent:
        try:
            return self._inbox.get(timeout=max(0, self._wake_at - time.monotonic_ns()) / 1e9)
        except Empty:
            return host.TimerFired()

    def _do(self, effect: host.NodeEffect) -> None:
        if type(effect) is host.Transmit:
            if (connection := self._connections.get(effect.connection)) is not None:
                connection.outgoing.put(effect.data)
        elif type(effect) is host.Answer:
            caller = cast(Future[host.Answered], effect.ticket)
            if caller in self._callers:
                self._callers.discard(caller)
                caller.set_result(effect.outcome)
        elif type(effect) is host.Run:
            self._lanes.put(effect.lane, effect.job)
        elif type(effect) is host.WakeAt:
            self._wake_at = effect.at
        elif type(effect) is host.Dial:
            connection = _Connection(effect.connection, self._inbox, self._connections)
            Thread(target=connection.dial, args=(effect.address,), daemon=True).start()
        elif type(effect) is host.Disconnect:
            if (connection := self._connections.pop(effect.connection, None)) is not None:
                connection.close()
        elif type(effect) is RoleChanged or type(effect) is Alarm:
            self._heard(effect)
        elif type(effect) is host.Finished:
            self._wake_at = 1 << 62
            Thread(target=self._close, args=(effect.error,)).start()  # while the loop goes on to empty the inbox
        else:
            assert_never(effect)

    def _close(self, error: RaftError | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        self._lanes.close(self._config.shutdown_timeout)
        self._finished.set_result(error)
        self._inbox.put(host.TimerFired())  # wakes the loop for the last time

    def _accept(self) -> None:
        for number in map(host.ConnectionId, count(1, 2)):  # odd; the host's own are even
            try:
                accepted, _ = self._listener.accept()
            except OSError:  # shut down at the end, or no file descriptor left
                if self._finished.done():
                    break
                time.sleep(0.1)
            else:
                connection = _Connection(number, self._inbox, self._connections)
                Thread(target=connection.serve, args=(accepted, True), daemon=True).start()
        self._listener.close()


class _Connection:
    """One connection: this thread reads, another one writes. Whoever takes it out of `known` has ended it."""

    def __init__(self, number: host.ConnectionId, inbox: Queue[host.NodeEvent], known: _Known) -> None:
        self._number, self._inbox, self._known = number, inbox, known
        self.outgoing: Final[SimpleQueue[bytes]] = SimpleQueue()
        self._socket: socket.socket | None = None
        known[number] = self

    def dial(self, address: str) -> None:
        try:
            self.serve(socket.create_connection(split_address(address), timeout=5.0), False)
        except (OSError, ValueError, SettingsError) as failure:
            if self._known.pop(self._number, None) is not None:
                self._inbox.put(host.DialFailed(self._number, dial_failure(failure)))

    def serve(self, connected: socket.socket, accepted: bool) -> None:
        with connected:
            connected.settimeout(None)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = connected
            if self._number not in self._known:  # given up while it was being made
                return
            address = remote_address(connected.getpeername) if accepted else ""
            self._inbox.put(host.ConnectionOpened(self._number, accepted, address))
            Thread(target=self._write, args=(connected,), daemon=True).start()
            with suppress(OSError):
                while data := connected.recv(1 << 18):
                    self._inbox.put(host.BytesReceived(self._number, data))
            self.outgoing.put(b"")
            if self._known.pop(self._number, None) is not None:
                self._inbox.put(host.ConnectionClosed(self._number))

    def _write(self, connected: socket.socket) -> None:
        with suppress(OSError):
            while data := self.outgoing.get():
                connected.sendall(data)
                self._inbox.put(host.Transmitted(self._number))
            connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the reader and a writer that is stuck


_Known: TypeAlias = dict[host.ConnectionId, _Connection]
