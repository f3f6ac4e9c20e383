"""The stories of `raft-kv demo`: the order of events, their words, and the summary."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Final, final

import attrs

from raft_core.errors import CallerError
from raft_kv.demo import guard as guard_program
from raft_kv.demo.admin import Operator
from raft_kv.demo.board import CURVE_WIDTH, Board, Row
from raft_kv.demo.cluster import Cluster, NodeDied
from raft_kv.demo.display import Display, choose
from raft_kv.demo.load import Load, Lost, check
from raft_kv.demo.picture import check_writable, write_picture
from raft_kv.log_output import print_line
from raft_kv.node_client import Address, Failed
from raft_kv.stopping import stop_signals
from raft_storage.location import parse_location, store_class

__all__ = ["DemoOptions", "demo_location", "run_demo"]

_LEAST_NODES: Final = 3
_PAUSE: Final = 0.2
_NEXT: Final = {
    "failover": "raft-kv demo --story membership",
    "membership": "raft-kv demo --keep",
}
_PATIENCE: Final = 60.0
_STARTING: Final = 10.0
"""Seconds for a process to start answering."""


@final
@attrs.frozen(kw_only=True)
class DemoOptions:
    """The options of the command line."""

    nodes: int = 3
    seconds: float = 20.0
    clients: int = 16
    directory: Path | None = None
    keep: bool = False
    loop: str = "trio"
    store: str = "file"
    story: str = "failover"
    record: Path | None = None
    """Where to write a picture of the run."""


def demo_location(text: str) -> tuple[str, Path | None]:
    """Return the kind of store and the directory for all nodes; None for a temporary one.

    Raise `SettingsError` if there is no such store, or its package is missing.
    """
    kind, colon, directory = text.partition(":")
    if colon and not directory:
        text = f"{kind}:unnamed"
    location = parse_location(text or "unnamed")
    store_class(location)
    return location.kind, Path(location.directory) if text and not (colon and not directory) else None


def run_demo(options: DemoOptions) -> int:
    """Run the story; return the exit status.

    0 if nothing was lost; 1 if something was, or a node died by itself; 128 and the number of the signal that
    interrupted it, as shells count (130 after Ctrl-C).
    """
    if options.nodes < _LEAST_NODES:
        raise CallerError(f"the demo needs at least {_LEAST_NODES} nodes: fewer do not survive the death of one")
    if options.directory is not None and options.directory.exists() and any(options.directory.iterdir()):
        raise CallerError(f"{options.directory} is not empty; the demo founds a new cluster: name a new directory")
    if options.record is not None:
        check_writable(options.record)
    before = {number: signal.signal(number, _interrupt) for number in stop_signals() if number != signal.SIGINT}
    try:
        if options.directory is not None:
            return _tell(options, options.directory, None)
        with _temporary() as (directory, guard):
            return _tell(options, directory, guard)
    except (NodeDied, TimeoutError, Failed) as failure:
        print_line(f"raft-kv demo: {failure}")
        return 1
    except KeyboardInterrupt as interruption:
        print_line("interrupted; all nodes are stopped")  # not by print: its terminal may be gone
        return 128 + (interruption.args[0] if interruption.args else signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(options: DemoOptions, directory: Path, guard: IO[bytes] | None) -> int:
    try:
        with Cluster(directory, options.loop, options.store, held=None if guard is None else guard.fileno()) as cluster:
            story = _Story(options, cluster)
            try:
                return story.run()
            except KeyboardInterrupt:
                story.record("interrupted")
                raise
    finally:
        if options.keep and guard is not None:
            guard.write(b"keep\n")
            guard.flush()


@contextmanager
def _temporary() -> Iterator[tuple[Path, IO[bytes]]]:
    """Make a directory which is removed afterwards, even if this process is killed; and the pipe to its guard."""
    directory = Path(tempfile.mkdtemp(prefix="raft-kv-demo-"))
    command = [sys.executable, "-I", guard_program.__file__, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as guard:
        assert guard.stdin is not None
        yield directory, guard.stdin


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """End the demo as Ctrl-C does, so that no node outlives it; a closed terminal may send its signal twice."""
    for each in stop_signals():
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


@final
@attrs.define(eq=False)
class _Story:
    """One telling."""

    options: DemoOptions
    cluster: Cluster
    display: Display = attrs.field(factory=choose)
    load: Load = attrs.field(init=False)
    board: Board = attrs.field(init=False)
    addresses: list[tuple[str, int]] = attrs.field(factory=list)
    lost: int = 0
    _started: float = 0.0

    def __attrs_post_init__(self) -> None:
        options = self.options
        self.load = Load(self.addresses, options.clients)
        self.board = Board(f"{options.nodes} nodes on {options.loop}, store {options.store}, {options.clients} clients")

    def run(self) -> int:
        with self.display, self._watching():
            self._begin()
            if self.options.story == "membership":
                self._membership()
            else:
                self._failover()
            self._watch_until(self.options.seconds)
            self.board.elapsed = time.monotonic() - self._started
            self.load.stop()
            self.board.acknowledged = self.load.acknowledged
            self.board.rate = None
            self._check("after the story")
            self._stop_and_start_all()
            self._check("after the restart")
            self.board.lost = self.lost
            self.board.try_next = "" if self.options.keep else _NEXT[self.options.story]
        self.display.end(self.board)
        self.record()
        if self.options.keep:
            self._keep()
        return 1 if self.lost else 0

    def record(self, end: str = "") -> None:
        """Write the picture if it was asked for; `end` tells why the story ends early."""
        if self.options.record is None:
            return
        if end:
            self.board.told.append((time.monotonic() - self.board.started, end))
        write_picture(self.board, self.options.record)
        print_line(f"picture              {self.options.record}")

    def _begin(self) -> None:
        options = self.options
        self._tell(f"starting {options.nodes} nodes in {self.cluster.directory} on {options.loop}")
        self.cluster.found(options.nodes)
        self.cluster.wait_ready(list(self.cluster.members))
        leader = self.cluster.wait_leader()
        self._tell(f"node {leader} was elected; {options.clients} clients write, each as fast as it is answered")
        self.addresses[:] = self.cluster.addresses
        self.load.start()
        self._started = time.monotonic()

    # Failover.

    def _failover(self) -> None:
        third = self.options.seconds / 3
        self._watch_until(third)
        dead = self.cluster.wait_leader()
        before = self.load.acknowledged
        self.load.mark()
        self.cluster.kill(dead)
        self._mark("kill -9 of the leader")
        self._tell(f"SIGKILL to node {dead}, the leader, after {before} acknowledged writes")
        self._await_service(dead)
        self._watch_until(2 * third, without=dead)
        self._tell(f"node {dead} is started again")
        self._bring_back(dead)

    def _await_service(self, dead: int) -> None:
        """Wait for the first acknowledged write sent after the failure."""
        deadline = time.monotonic() + _PATIENCE
        while (gap := self.load.since_mark()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError("no write was acknowledged after the leader's death")
            time.sleep(0.001)
        self.board.pause = gap
        leader = self.cluster.wait_leader()
        self._tell(f"{gap * 1000:.0f} ms later the next write was acknowledged; node {leader} leads")

    def _bring_back(self, node: int) -> None:
        began = time.monotonic()
        target = max(self._number(status, "commit") for _, status in self.cluster.statuses())
        self.cluster.start(node)
        member = self.cluster.members[node]
        while self._number(member.status(), "applied") < target:
            if time.monotonic() > began + _PATIENCE:
                raise TimeoutError(f"node {node} did not catch up; its log ends:\n{member.last_words()}")
            self._pause()
        took = time.monotonic() - began
        self._tell(f"node {node} has caught up to entry {target}, {took:.1f} s after its start")

    @staticmethod
    def _number(status: dict[str, object] | None, name: str) -> int:
        value = 0 if status is None else status[name]
        return value if isinstance(value, int) else 0

    # Membership.

    def _membership(self) -> None:
        """Grow by two nodes, replace the leader, shrink to the former size."""
        nodes, step = self.options.nodes, self.options.seconds / 5
        operator = Operator(self.cluster, self._tell, self._pause)
        for place, node in enumerate((nodes + 1, nodes + 2)):
            self._watch_until(step * (place + 1) / 1.5)
            operator.add(node)
            self.addresses[:] = self.cluster.addresses
        self._watch_until(step * 2)
        leader = self.cluster.wait_leader()
        operator.add(nodes + 3)
        self.addresses[:] = self.cluster.addresses
        self.load.mark()
        self._mark("the leader is removed")
        self._remove(operator, leader)
        replacement = self.cluster.wait_leader()
        self._tell(f"node {replacement} leads in place of node {leader}, without which the cluster goes on")
        self._watch_until(step * 3)
        self.board.pause_of = "the longest pause between two acknowledged writes, while the leader was replaced"
        self.board.pause = self.load.longest_pause()
        for _ in range(2):
            self._remove(operator, min(set(self.cluster.members) - {self.cluster.wait_leader()}))
        self._tell(f"the members are now {', '.join(map(str, sorted(self.cluster.members)))}")

    def _remove(self, operator: Operator, node: int) -> None:
        operator.remove(node)
        self.cluster.forget(node)
        self.addresses[:] = self.cluster.addresses

    # Showing.

    def _watch_until(self, moment: float, without: int = 0) -> None:
        """Show the nodes until `moment` seconds of the scenario have passed."""
        while time.monotonic() - self._started < moment:
            self._pause(without)

    def _pause(self, without: int = 0) -> None:
        """Wait a little. Raise `NodeDied` if a node other than this one has ended."""
        self.cluster.check_alive([node for node in self.cluster.members if node != without])
        time.sleep(_PAUSE)

    def _tell(self, sentence: str) -> None:
        self.board.told.append((time.monotonic() - self.board.started, sentence))
        self.display.tell(self.board)

    def _mark(self, words: str) -> None:
        self.board.marks.append((time.monotonic() - self._started, words))

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Show the nodes all the time, whatever the story waits for."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        self._look()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(_PAUSE):
            try:
                self._look()
            except OSError:
                return  # the terminal was closed, and a signal ends the story

    def _look(self) -> None:
        """Bring the board up to date, and show it."""
        board = self.board
        board.rows = [self._row(member.node, member.status()) for member in list(self.cluster.members.values())]
        if self._started and not board.elapsed:
            whole = max(self.options.seconds, time.monotonic() - self._started)
            board.part = max(0.1, whole / CURVE_WIDTH)
            board.curve = self.load.curve(CURVE_WIDTH, board.part)
            board.rate = self.load.rate()
            board.acknowledged = self.load.acknowledged
        board.not_acknowledged = f"{self.load.refused} refused, {self.load.unknown} of unknown outcome"
        self.display.show(board)

    def _row(self, node: int, status: dict[str, object] | None) -> Row:
        member = self.cluster.members.get(node)
        if member is None:  # it has just been removed
            return Row(node, "", "down")
        address = f"{member.address[0]}:{member.port}"
        if status is None and member.running:
            starting = time.monotonic() - member.since < _STARTING
            return Row(node, address, "starting" if starting else "no answer")
        if status is None:
            return Row(node, address, "down")
        numbers = [self._number(status, name) for name in ("term", "commit", "applied", "keys")]
        if not self._number(status, "applied"):  # it has not restored anything yet: its numbers mean nothing
            return Row(node, address, "starting")
        return Row(node, address, str(status["role"]), *numbers)

    # The end.

    def _check(self, when: str) -> None:
        """Look up every acknowledged write on every node."""
        written = list(self.load.written())
        began = time.monotonic()
        for member in self.cluster.members.values():
            found: Lost = check(member.node, member.address, written, _PATIENCE)
            if found.keys:
                self.lost = max(self.lost, len(found.keys))
                names = b", ".join(found.keys[:5]).decode()
                self._tell(f"LOST on node {member.node}: {len(found.keys)} writes, among them {names}")
        took = time.monotonic() - began
        nodes = ", ".join(map(str, sorted(self.cluster.members)))
        self._tell(f"{when}: {len(written):,} acknowledged writes looked up on nodes {nodes} in {took:.1f} s")

    def _stop_and_start_all(self) -> None:
        nodes: Sequence[int] = list(self.cluster.members)
        self.cluster.stop(nodes)
        self._tell("all nodes are stopped; they start again from their disks")
        for node in nodes:
            self.cluster.start(node)
        self.cluster.wait_ready(nodes)

    def _keep(self) -> None:
        self.cluster.keep()
        processes = " ".join(str(member.process.pid) for member in self.cluster.members.values() if member.process)
        print(
            f"\nThe cluster is running in {self.cluster.directory}. Talk to it with:\n"
            f"    {_redis_cli(self.cluster.addresses[0])}\nStop it with:\n    kill {processes}",
            flush=True,
        )


def _redis_cli(address: Address) -> str:
    """Return the command line to connect to this node."""
    return f"redis-cli -h {address[0]} -p {address[1]}"
