"""Clients of three nodes, which share log entries and queries, while nodes are cut off and crash: the history of all
they were told is linearizable. Real cores, wire bytes and sessions; network, disks and clock are simulated.
"""

from __future__ import annotations

import random

import attrs
import pytest

from raft_core import requests
from raft_core.effects import Indeterminate, Refusal, RefusalReason, Success, UnknownReason
from raft_core.errors import OutcomeUnknown, Refused, RequestError
from raft_core.ids import NO_INDEX, NodeId
from raft_core.node import MILLISECOND, SECOND
from raft_core.node.driver import Caller
from raft_core.node.events import Answered, Call
from raft_kv import client_connection
from raft_kv.client_connection import ClientConnection
from raft_kv.config import ServeConfig
from raft_kv.log_format import SHORT_READS
from raft_kv.service import Service
from raft_kv.state_machine import KeyValueMachine
from raft_testing.linearizability.checker import check
from raft_testing.linearizability.history import HistoryRecorder, OperationId
from raft_testing.linearizability.models import Register
from tests.kv.test_client_connection import Node as NodeFace
from tests.kv.test_client_connection import Wire, World
from tests.node import cluster as simulated

_CLIENTS = 8
"""On each node."""
_KEYS = 3


class _Face(NodeFace):
    """The API of a simulated node. Callers hear from it in `give`."""

    def __init__(self, node: simulated.Node) -> None:
        super().__init__()
        self.node = node
        self.waiting: dict[int, Caller] = {}

    @property
    def cluster_time(self) -> int:
        return self.node.cluster.now

    def submit(self, request: requests.NodeRequest, caller: Caller, *, timeout: float | None = None) -> None:
        assert isinstance(request, requests.Propose | requests.Read)
        self.asked.append(request)
        ticket = self.node.cluster.next_ticket()
        self.waiting[ticket] = caller
        self.node.tell(Call(ticket, request, self.node.cluster.now + int(SECOND * (timeout or 0))))

    def give(self) -> bool:
        """Give its answers to the callers. Return whether there were some."""
        ready = [ticket for ticket in self.waiting if ticket in self.node.answers]
        for ticket in ready:
            self.waiting.pop(ticket).deliver(_outcome(self.node.answers[ticket]))
        return bool(ready)


def _outcome(answer: bytes | RequestError) -> Answered:
    if isinstance(answer, bytes):
        return Success(NO_INDEX, (answer,))
    if isinstance(answer, OutcomeUnknown):
        return Indeterminate(UnknownReason(answer.reason))
    assert isinstance(answer, Refused)
    return Refusal(RefusalReason(answer.reason))


@attrs.define(eq=False)
class _Client:
    """Sends one command after the other, or a write with a read behind it, and notes what it is told."""

    number: int
    connection: ClientConnection
    wire: Wire
    open: list[OperationId] = attrs.field(factory=list)

    def send(self, rng: random.Random, recorder: HistoryRecorder, now: int) -> bytes:
        key = b"k%d" % rng.randrange(_KEYS)
        kinds = rng.choice([["read"], ["read"], ["write"], ["write", "read"], ["read", "read"]])
        data = b""
        for place, kind in enumerate(kinds):
            value = b"%d-%d-%d" % (self.number, now, place)
            argument = value if kind == "write" else None
            self.open.append(recorder.invoke(self.number, now, kind, key=key, argument=argument))
            words = [b"SET", key, value] if kind == "write" else [b"GET", key]
            data += b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
        return data

    def hear(self, recorder: HistoryRecorder, now: int) -> None:
        """Note the replies that have arrived."""
        replies = b"".join(self.wire.written)
        self.wire.written.clear()
        while replies:
            operation = self.open.pop(0)
            line, _, replies = replies.partition(b"\r\n")
            if line[:1] == b"$" and line != b"$-1":
                value, _, replies = replies.partition(b"\r\n")
                recorder.answered(operation, now, value)
            elif line[:1] != b"-":
                assert line in {b"$-1", b"+OK"}
                recorder.answered(operation, now, None)
            elif line.startswith(b"-UNKNOWN"):
                recorder.unknown(operation)
            else:
                recorder.refused(operation, now)


def _story(seed: int) -> tuple[HistoryRecorder, list[_Face]]:
    """Let the clients live for some seconds."""
    rng, recorder = random.Random(seed), HistoryRecorder()
    cluster = simulated.Cluster(3, seed=seed, new_machine=KeyValueMachine)  # type: ignore[arg-type]
    cluster.start()
    cluster.elect()
    config = ServeConfig(id=NodeId(1), max_clients=80, request_timeout=0.5)
    faces = [_Face(cluster[number]) for number in (1, 2, 3)]
    worlds = [World(face, Service(config, KeyValueMachine(), "127.0.0.1:1", "127.0.0.1:2")) for face in faces]
    clients = [[_Client(10 * node + n, *world.connect()) for n in range(_CLIENTS)] for node, world in enumerate(worlds)]
    for step in range(400):
        for world, face, some in zip(worlds, faces, clients, strict=True):
            if face.node.alive:
                idle = [client for client in some if not client.open and rng.random() < 0.7]
                world.receive(*((one.connection, one.send(rng, recorder, cluster.now)) for one in idle))
        cluster.run(MILLISECOND * rng.randrange(1, 4))
        for world, face, some in zip(worlds, faces, clients, strict=True):
            while face.give() or world.due:
                world.next_pass()
            for client in some:
                client.hear(recorder, cluster.now)
        if step % 50 == 20:
            cluster.isolate(rng.randrange(1, 4))
        elif step % 50 == 40:
            cluster.heal()
            cluster.run(300 * MILLISECOND)
        elif step == 210:
            leader = cluster.leader()
            victim = cluster[1] if leader is None else leader
            cluster.crash(victim.id)
            cluster.at(400 * MILLISECOND, None, victim.start)
    return recorder, faces


@pytest.mark.parametrize("seed", range(3))
def test_history_of_clients_that_share_requests_is_linearizable(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_connection, "PASS_SECONDS", 3600.0)

    recorder, faces = _story(seed)

    history = recorder.history()
    shared = [one for face in faces for one in face.asked if isinstance(one, requests.Read) and one.query is not None]
    assert sum(one.query[:1] == SHORT_READS for one in shared if one.query) > 100
    assert sum(operation.kind == "read" for operation in history) > 2 * len(shared)
    verdict = check(history, Register())
    assert verdict.linearizable, f"seed {seed}: {verdict}"
