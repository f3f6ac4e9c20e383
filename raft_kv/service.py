"""`Service`: the part of the server that needs no loop: limits, counters, connected clients, the server's status."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Final, Protocol, final

import attrs

from raft_core.effects import Alarm, RoleChanged
from raft_core.node.api import NodeApi
from raft_core.node.config import join_address, split_address
from raft_core.node.events import CertificateRead
from raft_core.node.meter import Histogram
from raft_core.node.outputs import Outputs
from raft_core.node.own_certificate import OwnCertificate
from raft_core.node.security import is_loopback
from raft_kv.admission import Admission
from raft_kv.client_session import Session
from raft_kv.client_session_values import SessionLimits
from raft_kv.clients import RequestBook
from raft_kv.config import ServeConfig
from raft_kv.effective import Effective, effective_settings
from raft_kv.features import FeatureGate
from raft_kv.garbage import leave_out
from raft_kv.health.history import History
from raft_kv.health.process import memory_in_use, memory_peak
from raft_kv.keyspace import Millis
from raft_kv.log_output import print_line
from raft_kv.node_log import NodeLog
from raft_kv.output_buffer import OutputBuffer
from raft_kv.refusals import AT_CLIENTS, BAD_REQUEST, Refusals
from raft_kv.resp_parser import RequestLimits
from raft_kv.scripts import Scripts
from raft_kv.sharing import SHARED_BYTES
from raft_kv.state_machine import KeyValueMachine
from raft_kv.status import ServerStatus, status_of_node
from raft_kv.supervisor import Supervisor
from raft_kv.users.access import Access
from raft_kv.users.table import UserTable
from raft_kv.version import version
from raft_tls import Failure

__all__ = [
    "ACCEPT_PAUSE",
    "DRAIN_SECONDS",
    "KEEPALIVE",
    "OBSERVE_SECONDS",
    "QUIET_LOOK",
    "READ_BYTES",
    "TOO_MANY",
    "Service",
    "cluster_clock",
]

READ_BYTES: Final = 128 * 1024
"""Bytes read from a client at once; together with the session's limits, they bound the memory for one client."""
TOO_MANY: Final = b"-ERR max number of clients reached\r\n"
ACCEPT_PAUSE: Final = 0.1
"""Seconds until accepting is tried again after it failed."""
DRAIN_SECONDS: Final = 1.0
"""Seconds a stopping server waits for the answers to open requests."""
QUIET_LOOK: Final = 0.01
"""Seconds between two checks for that."""
OBSERVE_SECONDS: Final = 1.0
"""Interval at which the node's status is compared with the one before, for the log."""


def _keepalive() -> Iterator[tuple[int, int, int]]:
    yield socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
    for name, value in (("TCP_KEEPIDLE", 300), ("TCP_KEEPINTVL", 100), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            yield socket.IPPROTO_TCP, getattr(socket, name), value


KEEPALIVE: Final = tuple(_keepalive())
"""Socket options as in Redis: a client whose machine or network is gone is noticed after some ten minutes. An idle
client is never disconnected."""


class Ends(Protocol):
    """A connected socket."""

    def getpeername(self) -> object:
        """Return the other end's address."""

    def getsockname(self) -> object:
        """Return this end's address."""


def _ends_of(connection: Ends) -> tuple[bytes, bytes]:
    """Return the addresses of both ends; empty if the other one is gone."""
    ends = []
    for end in (connection.getpeername, connection.getsockname):
        try:
            address = end()
        except OSError:
            address = None
        text = join_address(str(address[0]), int(address[1])) if isinstance(address, tuple) else ""
        ends.append(text.encode("utf-8", "replace"))
    return ends[0], ends[1]


def _host_of(address: bytes) -> bytes:
    return address.rpartition(b":")[0]


def _local_clock() -> Millis:
    return time.monotonic_ns() // 1_000_000


def cluster_clock(node: NodeApi) -> Millis:
    """Return cluster time as the node knows it, in milliseconds; 0 if it does not know it yet."""
    return node.cluster_time // 1_000_000


@final
@attrs.define(eq=False)
class Service:
    """One server's facts and counters. `listen` and `peer_address` hold the actual ports."""

    config: ServeConfig
    machine: KeyValueMachine
    listen: str
    peer_address: str
    users: UserTable | None = None
    """The users of the file of `config`; None if they are kept in the log."""
    outputs: set[OutputBuffer] = attrs.field(factory=set)
    """One for each connection."""
    leaving: bool = False
    """The server stops: no further command is read."""
    health: str = ""
    """Address of the health port, empty without one."""
    history: History = attrs.field(factory=History)
    loop_delays: Histogram = attrs.field(factory=Histogram)
    supervisor: Supervisor = attrs.field(factory=Supervisor)
    received: int = 0
    refusals: Refusals = attrs.field(init=False)
    """Clients refused at this server's ports."""
    commands: int = 0
    log: NodeLog = attrs.field(init=False)
    access: Access = attrs.field(init=False)
    admission: Admission = attrs.field(init=False)
    gate: FeatureGate = attrs.field(factory=FeatureGate)
    """The features that the cluster uses. The server gives it the node."""
    _limits: SessionLimits = attrs.field(init=False)
    _scripts: Scripts = attrs.field(factory=Scripts)
    _clients: RequestBook = attrs.field(factory=lambda: RequestBook(_local_clock))
    _started: float = attrs.field(factory=time.monotonic)
    _alarms: Outputs = attrs.field(factory=Outputs)
    _certificate: OwnCertificate = attrs.field(init=False)
    _settings: Effective = attrs.field(init=False)
    _numbers: count[int] = attrs.field(factory=lambda: count(1))

    def __attrs_post_init__(self) -> None:
        self.log = NodeLog(self.config)
        self._settings = effective_settings(self.config)
        self._certificate = OwnCertificate(self._alarms)
        self.refusals = Refusals(self.log.refused)
        self.access = Access(self.machine, self.users)
        self.access.report = self.log.login_failed
        self.admission = Admission(self.config.max_clients_per_address, self.config.max_connection_rate)
        self.machine.max_memory = self.config.max_memory_bytes
        self.machine.gate = self.gate
        entry = self.config.settings.max_entry_bytes
        requests = RequestLimits(bulk_bytes=entry, request_bytes=max(RequestLimits().request_bytes, 2 * entry))
        batch = min(SessionLimits().batch_bytes, entry // 4)
        self._limits = SessionLimits(
            requests=requests, batch_bytes=batch, shared_bytes=min(SHARED_BYTES, batch), transaction_bytes=entry
        )

    def admit(self, connection: Ends) -> OutputBuffer | None:
        """Return the output buffer of a new connection, or None above the limit; `leave` ends it."""
        if len(self.outputs) >= self.config.max_clients:
            return None
        ends = _ends_of(connection)
        if not self.admission.enter(_host_of(ends[0])):
            return None
        self.received += 1
        session = Session(next(self._numbers), self._limits, self._scripts, self._clients, self.access, self.gate)
        client = session.client
        client.address, client.local_address = ends
        client.since = client.seen = self._clients.clock()
        self._clients.by_number[session.number] = client
        output = OutputBuffer(session)
        self.outputs.add(output)
        self.log.client_connected(session.number, client.address)
        return output

    def leave(self, output: OutputBuffer) -> None:
        """Note that the connection is gone; count and log it if what it sent was no request."""
        host = _host_of(output.session.client.address)
        if output in self.outputs:
            self.outputs.discard(output)
            self.admission.leave(host)
        if output.problem:
            self.refusals.add(AT_CLIENTS, host.decode(), BAD_REQUEST, output.problem)
        self.log.client_left(output.session.number)
        self._clients.by_number.pop(output.session.number, None)
        self.commands += output.session.client.commands

    def refuse(self, output: OutputBuffer, failure: Failure) -> None:
        """Count and log a client whose TLS failed; `leave` follows."""
        host = _host_of(output.session.client.address).decode()
        self.refusals.add(AT_CLIENTS, host, failure.reason.value, failure.text)

    def certificates(self) -> Mapping[str, float]:
        """Return when the certificate for clients expires, in seconds since 1970; nothing without one."""
        return {"client": float(self._certificate.expires)} if self._certificate.expires else {}

    def certificate_read(self, state: CertificateRead) -> None:
        """Note when the certificate for clients expires. A problem with its files becomes an alarm."""
        self._certificate.on_read(state)
        self.look_at_certificate()

    def look_at_certificate(self) -> None:
        """Log an alarm before the certificate for clients expires; to be called every few seconds.

        If peers see the same certificate, the node's own alarms are enough.
        """
        self._certificate.look(time.monotonic_ns(), time.time_ns())
        for alarm in self._alarms.taken():
            if isinstance(alarm, Alarm) and self.config.peer_tls() is None:
                self.log.alarm(alarm)

    def look_after_memory(self) -> None:
        """Keep garbage collections short; to be called every few seconds."""
        leave_out(self.machine.keyspace)

    @property
    def quiet(self) -> bool:
        """Return whether no request is open and no output waits."""
        return not any(output.busy for output in self.outputs)

    @property
    def all_commands(self) -> int:
        """The number of commands received."""
        return self.commands + sum(output.session.client.commands for output in self.outputs)

    def role_changed(self, change: RoleChanged, node: NodeApi) -> None:
        """Log and remember another role, term or leader."""
        self.log.role_changed(change)
        self.history.role_changed(time.time(), change)
        self.log.observe(node.status)

    def alarm(self, alarm: Alarm) -> None:
        """Log and remember an alarm."""
        self.log.alarm(alarm)
        self.history.alarm(time.time(), alarm)

    def observe(self, node: NodeApi, *, slept: float = 0.0) -> None:
        """Log and remember the node's state. `slept`: seconds since the last time, which was to be a second ago."""
        status = node.status
        self.log.observe(status)
        self.history.observe(time.time(), status, self.all_commands, memory_in_use())
        if slept:
            self.loop_delays.add(max(0, int((slept - OBSERVE_SECONDS) * 1e9)))

    def status(self, node: NodeApi) -> ServerStatus:
        """Return the whole node's state at this moment."""
        census = self.machine.census()
        seen = node.status
        return attrs.evolve(
            status_of_node(seen, node.explain()),
            version=version(),
            loop=self.config.loop,
            all_masters=self.config.redis_role == "master",
            listen=self.listen,
            peer_address=self.peer_address,
            process=os.getpid(),
            data=self.config.directory,
            settings=self._settings,
            wall=time.time_ns() // 1_000_000,
            uptime_seconds=int(time.monotonic() - self._started),
            connections=len(self.outputs),
            connections_received=self.received,
            commands=self.all_commands,
            max_clients=self.config.max_clients,
            clients_refused=self.admission.refused,
            logins_failed=self.access.failures,
            commands_denied=self.access.refusals,
            users=len(self.machine.users.grants),
            max_memory=self.config.max_memory_bytes,
            data_memory=self.machine.keyspace.held_bytes,
            memory=memory_in_use(),
            memory_peak=memory_peak(),
            refused=self.refusals.by_reason,
            certificate_expires=min(filter(None, (self._certificate.expires, seen.certificate_expires)), default=0),
            keys=census.keys,
            expiring=census.expiring,
        )

    def ready(self, node: NodeApi) -> None:
        """Log that clients can connect now. With a log of text, also print it to standard output."""
        self.log.started(self.listen, self.peer_address, self.health)
        tls = self.config.client_tls()
        if (tls is None or not tls.required) and not is_loopback(split_address(self.listen)[0]):
            self.log.insecure(self.listen)
        if self.health and not self.config.health_is_protected:
            self.log.insecure_health(self.health)
        self.log.observe(node.status)
        config = self.config
        if config.log_format == "text":
            print_line(
                f"raft-kv node {config.id} of cluster {config.cluster} is ready: clients at {self.listen}, "
                f"peers at {self.peer_address}, data in {config.directory}, loop {config.loop}"
            )
