"""The bare core in a loop of your own: `selectors`, sockets and files, one thread, no node and no adapter.

    python examples/bare_core.py  # the whole story, with four processes
    python examples/bare_core.py format --node 1 --data node-1  # prints the disk's incarnation
    python examples/bare_core.py run --node 1 --data node-1 --peers 1=localhost:7101,… --clients 7201 --found 1=INC,…
    python examples/bare_core.py ask 7201 put apples 3

`Raft.step` is the only call into the protocol. Everything else in this file is what an embedder writes: time, sockets,
the disk, the state machine, and the way of snapshots from disk to disk. docs/embedding.md goes through it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from raft_core import (
    AddVoter,
    Alarm,
    Applied,
    Apply,
    ChangeMembership,
    Effect,
    Event,
    Indeterminate,
    Members,
    Outcome,
    PeerConnected,
    PeerUnreachable,
    Persist,
    Persisted,
    Proposed,
    Raft,
    Read,
    ReadReady,
    ReceiveSnapshot,
    Refusal,
    Requested,
    Respond,
    Restore,
    Restored,
    RoleChanged,
    Send,
    Settings,
    SnapshotFailed,
    SnapshotProgress,
    SnapshotReceived,
    SnapshotRejected,
    SnapshotTaken,
    Stop,
    StopRequested,
    StorageFailed,
    Success,
    TakeSnapshot,
    Tick,
)
from raft_core.effects import RefusalReason
from raft_core.entries import SnapshotMeta
from raft_core.errors import DiskError
from raft_core.ids import NO_NODE, ClusterId, Incarnation, NodeId
from raft_core.store import SnapshotWriter, Store
from raft_core.wire.codec import encode_message, encode_payload
from raft_core.wire.handshake import Greeted, Link, LinkBroken, MessageReceived, PayloadReceived
from raft_core.wire.payloads import WIRE_VERSION, Chunk, Hello, Pull
from raft_storage import FileStore

CLUSTER: Final = ClusterId("bare")
SETTINGS: Final = Settings(snapshot_entries=20, keep_entries=5)  # so small only to show snapshots
TICK: Final = SETTINGS.tick_nanoseconds / 1e9
REDIAL, PULL_AGAIN = 0.2, 1.0
CHUNK: Final = 64 * 1024
MOST_WAITING: Final = 8 * 1024 * 1024
"""Bytes waiting for one slow peer, beyond which its connection is dropped. The core repeats what was lost."""


class Stock:
    """The state machine: how much there is of what."""

    def __init__(self) -> None:
        self.amounts: dict[str, int] = {}

    def apply(self, command: bytes) -> bytes:
        """Store an amount. A command that cannot be understood has an error as its result: never raise here."""
        name, _, amount = command.partition(b" ")
        try:
            self.amounts[name.decode()] = int(amount)
        except ValueError:
            return b"not a number"
        return b"stored"


# Connections: bytes in both directions, and a Link, which knows the greetings and frames of one of them.


class Connection:
    """A socket that does not block, and what waits to be written to it."""

    def __init__(self, loop: Loop, connected: socket.socket, on_bytes: Callable[[Connection, bytes], None]) -> None:
        self.socket, self.on_bytes = connected, on_bytes
        self.link: Link | None = None
        self.waiting = bytearray()
        self._loop = loop
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.open.add(self)
        loop.selector.register(connected, selectors.EVENT_READ | selectors.EVENT_WRITE, self._ready)

    def send(self, data: bytes) -> None:
        self.waiting += data
        if self.socket.fileno() != -1:
            self._loop.selector.modify(self.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self._ready)

    def _ready(self, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                del self.waiting[: self.socket.send(self.waiting)]
                if not self.waiting:
                    self._loop.selector.modify(self.socket, selectors.EVENT_READ, self._ready)
            if events & selectors.EVENT_READ:
                data = self.socket.recv(1 << 16)
                if not data:
                    raise ConnectionError("the other side closed")
                self.on_bytes(self, data)
        except BlockingIOError:
            return
        except OSError:
            self._loop.lost(self)

    def close(self) -> None:
        if self.socket.fileno() != -1:
            self._loop.open.discard(self)
            self._loop.selector.unregister(self.socket)
            self.socket.close()


# The loop.


class Loop:
    """One node: the core, and everything that carries out its effects."""

    def __init__(self, store: Store, peers: dict[NodeId, tuple[str, int]], clients: int, founders: Members) -> None:
        recovered = store.recover()
        if not recovered.formed and not founders.empty:
            recovered = store.form(founders)  # every founder writes the same first entry, once in the disk's life
        self.store, self.identity, self.peers = store, recovered.identity, peers
        self.core = Raft.open(recovered, seed=secrets.randbits(64), settings=SETTINGS)
        self.machine = Stock()
        self.inbox: deque[Event] = deque()
        self.writes: list[Persist] = []
        self.open: set[Connection] = set()
        self.askers: dict[int, Connection] = {}  # who waits for which request
        self.requests = 0
        self.incoming: tuple[NodeId, SnapshotMeta, SnapshotWriter] | None = None
        self.pulled_at = 0.0
        self.outgoing: dict[NodeId, Connection] = {}  # dialled; we send on these, and receive on accepted ones
        self.dialled_at: dict[NodeId, float] = {}
        self.stop_asked = self.stopped = False
        self.selector = selectors.DefaultSelector()
        self._listen(peers[self.identity.node], self._accept_peer)
        self._listen(("127.0.0.1", clients), self._accept_client)

    def run(self) -> None:
        """Run until the core stops. Signals only set `stop_asked`."""
        self._carry_out_all(self.core.step())  # the start: restore the snapshot, apply what is committed
        ticked = time.monotonic()
        while not self.stopped:
            for key, events in self.selector.select(max(0.0, ticked + TICK - time.monotonic())):
                key.data(events)
            elapsed = int((time.monotonic() - ticked) / TICK)
            if elapsed:
                ticked += elapsed * TICK
                self.inbox.append(Tick(elapsed))
                self._dial_all()
                self._pull_again()
            if self.stop_asked:
                self.stop_asked = False
                self.inbox.append(StopRequested())
            self._turn()
        self._flush()
        self.store.close()

    def _turn(self) -> None:
        """Step every event, then write once for all of them: more events per sync the more there is to do."""
        while self.inbox or self.writes:
            while self.inbox and not self.stopped:
                self._carry_out_all(self.core.step(self.inbox.popleft()))
            if self.stopped:
                return
            batch, self.writes = self.writes, []
            if batch:
                try:
                    self.store.write(batch)
                except DiskError as failure:
                    self.inbox.append(StorageFailed(str(failure)))
                else:
                    self.inbox.append(Persisted(batch[-1].write))

    def _carry_out_all(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                self._send(to, encode_message(message))
            case Persist():
                self.writes.append(effect)
            case Apply(upto, commands):
                self.inbox.append(Applied(upto, tuple(self.machine.apply(command) for _, command in commands)))
            case Respond(request, outcome):
                self._answer(request, outcome)
            case TakeSnapshot(meta):
                self._take_snapshot(meta)
            case Restore(meta):
                reader = self.store.open_snapshot(meta)
                self.machine.amounts = json.loads(b"".join(reader.chunks()))
                reader.close()
                self.inbox.append(Restored(meta.index))
            case ReceiveSnapshot(sender, meta):
                self._receive_snapshot(sender, meta)
            case RoleChanged(role, term, leader):
                self._say(f"{role} in term {term}, leader {leader}")
            case Alarm(kind, peer, text):
                self._say(f"alarm {kind} {peer or ''}: {text}")
            case Stop(reason, text):
                self._say(f"stopped: {reason} {text}".rstrip())
                self.stopped = True

    def _say(self, text: str) -> None:
        print(f"node {self.identity.node}: {text}", file=sys.stderr, flush=True)

    # Snapshots: the machine's bytes go to our store, and from there to others on their pull.

    def _take_snapshot(self, meta: SnapshotMeta) -> None:
        try:
            writer = self.store.create_snapshot(meta)
            writer.write(json.dumps(self.machine.amounts).encode())
            writer.finish()
        except DiskError as failure:
            self.inbox.append(SnapshotFailed(meta.index, str(failure)))
        else:
            self._say(f"took a snapshot at {meta.index}")
            self.inbox.append(SnapshotTaken(meta))

    def _receive_snapshot(self, sender: NodeId, meta: SnapshotMeta) -> None:
        if self.incoming is None or self.incoming[:2] != (sender, meta):
            self.incoming = (sender, meta, self.store.resume_snapshot(meta, str(sender)))
            self._pull()

    def _pull(self) -> None:
        if self.incoming is not None:
            sender, meta, writer = self.incoming
            self._send(sender, encode_payload(Pull(meta.index, meta.term, writer.offset, CHUNK)))
            self.pulled_at = time.monotonic()

    def _pull_again(self) -> None:
        if self.incoming is not None and time.monotonic() > self.pulled_at + PULL_AGAIN:
            self._pull()

    def _on_pull(self, peer: NodeId, pull: Pull) -> None:
        """Answer a member with bytes of a snapshot. There is no state about transfers, so nothing can be left over."""
        if not self.core.status.members.is_member(peer):
            return
        try:
            reader = self.store.open_snapshot(SnapshotMeta(pull.index, pull.term, Members()))
            data = reader.read(pull.offset, max(0, min(pull.length, CHUNK)))
            chunk = Chunk(pull.index, pull.term, pull.offset, reader.size, data)
            reader.close()
        except DiskError:
            chunk = Chunk(pull.index, pull.term, pull.offset, 0, b"", gone=True)
        self._send(peer, encode_payload(chunk))
        self.inbox.append(SnapshotProgress(peer))

    def _on_chunk(self, peer: NodeId, chunk: Chunk) -> None:
        if self.incoming is None:
            return
        sender, meta, writer = self.incoming
        if peer != sender or (chunk.index, chunk.term) != (meta.index, meta.term):
            return
        if chunk.gone:
            self.incoming = None
            self.inbox.append(SnapshotRejected(meta.index))
        elif chunk.offset == writer.offset:
            writer.write(chunk.data)
            if writer.offset < chunk.size:
                self._pull()
                return
            writer.finish()  # checked and synced; it counts once a `Persist` switches to it
            self.incoming = None
            self._say(f"received the snapshot at {meta.index}")
            self.inbox.append(SnapshotReceived(meta))

    # Peers.

    def _hello(self) -> Hello:
        return Hello(WIRE_VERSION, CLUSTER, self.identity.node, self.identity.incarnation)

    def _link(self, peer: NodeId = NO_NODE) -> Link:
        disks = dict(self.core.status.members.incarnations)
        return Link(self._hello(), dialer=peer != NO_NODE, peer=peer, incarnations=disks)

    def _dial_all(self) -> None:
        for peer, address in self.peers.items():
            now = time.monotonic()
            if peer == self.identity.node or peer in self.outgoing or now < self.dialled_at.get(peer, 0.0) + REDIAL:
                continue
            self.dialled_at[peer] = now
            dialling = socket.socket()
            dialling.setblocking(False)
            dialling.connect_ex(address)  # a failure is reported by the first read or write
            self.outgoing[peer] = connection = Connection(self, dialling, self._on_peer_bytes)
            connection.link = self._link(peer)
            connection.send(connection.link.hello())

    def _send(self, to: NodeId, data: bytes) -> None:
        """Send to a greeted peer, or drop: the core repeats what matters."""
        connection = self.outgoing.get(to)
        if connection is None or connection.link is None or connection.link.greeting is None:
            return
        if len(connection.waiting) > MOST_WAITING:
            self.lost(connection)
        else:
            connection.send(data)

    def _on_peer_bytes(self, connection: Connection, data: bytes) -> None:
        """Step what the peer sent. `Link` lets through nothing but checked messages in the peer's own name."""
        link = connection.link
        assert link is not None
        for event in link.receive(data):
            if isinstance(event, MessageReceived):
                self.inbox.append(event.message)
            elif isinstance(event, PayloadReceived):
                if isinstance(event.payload, Pull):
                    self._on_pull(link.peer, event.payload)
                elif isinstance(event.payload, Chunk):
                    self._on_chunk(link.peer, event.payload)
            elif isinstance(event, Greeted):
                if link.dialer:
                    self.inbox.append(PeerConnected(link.peer))
                    self._pull()
                else:
                    connection.send(link.hello())
            elif isinstance(event, LinkBroken):
                self._say(f"refused a connection: {event.text}")
                self.lost(connection)

    def lost(self, connection: Connection) -> None:
        """Close a connection that failed, and tell the core if we sent on it."""
        connection.close()
        for peer, known in list(self.outgoing.items()):
            if known is connection:
                del self.outgoing[peer]
                self.inbox.append(PeerUnreachable(peer))

    # Listening, and clients.

    def _listen(self, address: tuple[str, int], accepted: Callable[[socket.socket], None]) -> None:
        listener = socket.create_server(address)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, lambda _: accepted(listener.accept()[0]))

    def _accept_peer(self, accepted: socket.socket) -> None:
        Connection(self, accepted, self._on_peer_bytes).link = self._link()

    def _accept_client(self, accepted: socket.socket) -> None:
        Connection(self, accepted, self._on_client_bytes)

    def _on_client_bytes(self, connection: Connection, data: bytes) -> None:
        """Make each line a request. A client sends a line at a time, so that it arrives as a whole (a sketch)."""
        for line in data.splitlines():
            self.requests += 1
            self.askers[self.requests] = connection
            match line.split():
                case [b"put", name, amount]:
                    self.inbox.append(Proposed(self.requests, (name + b" " + amount,)))
                case [b"total"]:
                    self.inbox.append(Requested(self.requests, Read()))
                case [b"add", node, incarnation] if node.isdigit() and incarnation.isdigit():
                    change = AddVoter(int(node), int(incarnation))
                    self.inbox.append(Requested(self.requests, ChangeMembership((change,))))
                case _:
                    del self.askers[self.requests]
                    connection.send(b"what?\n")

    def _answer(self, request: int, outcome: Outcome) -> None:
        """Answer with one of three outcomes: done, certainly not done, or nobody knows yet."""
        connection = self.askers.pop(request, None)
        if connection is None:
            return
        match outcome:
            case Success(_, results):
                text = results[0].decode() if results else f"members {self.core.status.members.voters}"
            case ReadReady():
                text = f"total {sum(self.machine.amounts.values())}"
            case Refusal(RefusalReason.NO_CHANGE):  # a repetition
                text = f"members {self.core.status.members.voters}"
            case Refusal(reason, leader):
                text = f"refused {reason} {leader}"
            case Indeterminate(reason):
                text = f"unknown {reason} 0"
        connection.send(text.encode() + b"\n")

    def _flush(self) -> None:
        """Write what still waits for peers and clients, for a second at most."""
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline and any(connection.waiting for connection in self.open):
            for key, events in self.selector.select(0.05):
                key.data(events)


# The commands, and the story.


def peers_of(text: str) -> dict[NodeId, tuple[str, int]]:
    found = {}
    for part in text.split(","):
        node, _, address = part.partition("=")
        host, _, port = address.rpartition(":")
        found[NodeId(int(node))] = (host, int(port))
    return found


def founders_of(text: str) -> Members:
    if not text:
        return Members()
    disks = dict(part.split("=") for part in text.split(","))
    incarnations = {NodeId(int(node)): Incarnation(int(disk)) for node, disk in disks.items()}
    return Members.initial(incarnations, incarnations=incarnations)


def run(given: argparse.Namespace) -> None:
    store = FileStore.open(given.data, node=given.node, cluster=CLUSTER)
    loop = Loop(store, peers_of(given.peers), given.clients, founders_of(given.found))

    def stop(*_: object) -> None:
        loop.stop_asked = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    loop.run()


def format_disk(given: argparse.Namespace) -> None:
    store = FileStore.open(given.data, node=given.node, cluster=CLUSTER)
    print(store.identity.incarnation)
    store.close()


def ask(port: int, line: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(line.encode() + b"\n")
        return connection.makefile().readline().strip()


class Story:
    """Four processes: three found a cluster, one is killed and comes back, a fourth one is added."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
        ports = [listener.getsockname()[1] for listener in listeners]
        for listener in listeners:
            listener.close()
        self.peers = ",".join(f"{node}=127.0.0.1:{ports[node]}" for node in range(4)).replace("0=", "4=")
        self.clients = {node: ports[3 + node] for node in range(1, 5)}
        self.nodes: dict[int, subprocess.Popen[bytes]] = {}
        self.answered = 1

    def format(self, node: int) -> int:
        """Format a disk, as the command `format` does; return its incarnation."""
        store = FileStore.open(f"{self.directory}/{node}", node=node, cluster=CLUSTER)
        store.close()
        return store.identity.incarnation

    def start(self, node: int, found: str = "") -> None:
        options = {"node": node, "data": f"{self.directory}/{node}", "peers": self.peers, "clients": self.clients[node]}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.nodes[node] = subprocess.Popen([sys.executable, __file__, "run", *words, "--found", found])

    def ask(self, line: str, node: int, *, follow: bool = True) -> str:
        """Ask until there is an answer: this node, or those that refusals name. Every request may be repeated."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                answer = ask(self.clients[node], line)
            except OSError:
                answer = ""
            if answer and not answer.startswith(("refused", "unknown")):
                self.answered = node
                return answer
            time.sleep(0.05)
            if follow:
                node = (int(answer.split()[2]) if answer else 0) or node % 3 + 1
        raise TimeoutError(line)

    @contextmanager
    def ending(self) -> Iterator[None]:
        try:
            yield
            for process in self.nodes.values():
                process.terminate()
            print("ended with", sorted({process.wait(20) for process in self.nodes.values()}))
        finally:
            for process in self.nodes.values():
                process.kill()
                process.wait()


def story(_: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        tale = Story(directory)
        disks = ",".join(f"{node}={tale.format(node)}" for node in (1, 2, 3))
        with tale.ending():
            for node in (1, 2, 3):
                tale.start(node, disks)
            for number in range(1, 31):
                answer = tale.ask(f"put box-{number} {number}", tale.answered)
            leader = tale.answered
            print("thirty boxes:", answer, tale.ask("total", 1))
            tale.nodes[leader].kill()
            tale.nodes[leader].wait()
            other = leader % 3 + 1
            print("the leader was killed:", tale.ask("put late 100", other), tale.ask("total", other))
            tale.start(leader)
            fourth = tale.format(4)
            tale.start(4)
            print("a fourth node:", tale.ask(f"add 4 {fourth}", other))
            print("asked on each:", [tale.ask("total", node, follow=False) for node in (1, 2, 3, 4)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The bare core in a loop of your own.")
    parser.set_defaults(do=story)
    commands = parser.add_subparsers()
    for name, do in (("format", format_disk), ("run", run)):
        command = commands.add_parser(name)
        command.set_defaults(do=do)
        command.add_argument("--node", type=int, required=True)
        command.add_argument("--data", required=True)
    command.add_argument("--peers", required=True)
    command.add_argument("--clients", type=int, required=True)
    command.add_argument("--found", default="", help="incarnations of all founders: 1=INC,2=INC,3=INC")
    command = commands.add_parser("ask")
    command.set_defaults(do=lambda given: print(ask(given.port, " ".join(given.words))))
    command.add_argument("port", type=int)
    command.add_argument("words", nargs="+")
    given = parser.parse_args()
    given.do(given)
