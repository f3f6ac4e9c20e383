"""A large state on its way to a new node, between real processes, while the cluster serves.

One node holds the state; a second, empty one is added. Measured are the memory of both (`RssAnon` of the
kernel), the longest pause of a client that writes and reads without pause, and the duration. With `interrupt`, one of
the two processes is killed in the middle of the transfer and started again: the transfer must go on where it was.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from raft_core.wal.layout import snapshot_position
from raft_kv.demo.cluster import Cluster, Member
from raft_kv.node_client import Failed, NodeConnection
from raft_storage.location import parse_location

__all__ = ["NotResumed", "measure", "size_of"]

_VALUE_BYTES = 32 * 1024
_CLIENTS = 16
_PATIENCE = 240.0
_MIB = 2**20
_SUFFIXES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class NotResumed(Exception):  # named for what happened, as the library's errors are
    """An interrupted transfer began anew, or never ended."""


def size_of(text: str) -> int:
    """Return the bytes that a size such as 1GiB names."""
    for suffix, unit in _SUFFIXES.items():
        if text.endswith(suffix):
            return int(float(text.removesuffix(suffix)) * unit)
    return int(text)


def _value(number: int) -> bytes:
    return (b"%016d" % number) * (_VALUE_BYTES // 16)


class _Memory:
    """The most anonymous memory of a member's processes, sampled until it is stopped."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._stopping = threading.Event()
        self.most = self.now()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def now(self) -> int:
        """Return the bytes of this moment, 0 if the process does not run."""
        process = self._member.process
        with suppress(OSError):
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if process is not None else ():
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
        return 0

    def _sample(self) -> None:
        while not self._stopping.wait(0.02):
            self.most = max(self.most, self.now())

    def stop(self) -> int:
        """Return the most."""
        self._stopping.set()
        self._thread.join()
        return self.most


class _Client:
    """Writes and reads one key at a member without pause, and notes how long the longest answer took."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.took: list[float] = []
        self._since = time.perf_counter()
        self._thread.start()

    def _run(self) -> None:
        connection: NodeConnection | None = None
        self._since = time.perf_counter()
        number = 0
        while not self._stopping.is_set():
            try:
                connection = connection or NodeConnection(self._member.address, 10.0)
                number += 1
                if (
                    connection.say("SET", "serving", number) == b"OK"
                    and connection.say("GET", "serving") == b"%d" % number
                ):
                    now = time.perf_counter()
                    self.took.append(now - self._since)
                    self._since = now
            except Failed:
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.005)
        if connection is not None:
            connection.close()

    def stop(self) -> tuple[float, float]:
        """Return the longest and the middle time between two answered pairs of requests, in milliseconds."""
        self._stopping.set()
        self._thread.join()
        took = sorted([*self.took, time.perf_counter() - self._since])
        return took[-1] * 1e3, took[len(took) // 2] * 1e3


def _until(true: Callable[[], bool], what: str, every: float = 0.05) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise NotResumed(f"not within {_PATIENCE:.0f} s: {what}")
        time.sleep(every)


def _fill(member: Member, count: int) -> None:
    """Write the state, from several clients."""
    failures: list[BaseException] = []

    def write(first: int) -> None:
        try:
            connection = NodeConnection(member.address, 60.0)
            for number in range(first, count, _CLIENTS):
                reply = connection.say("SET", f"value:{number}", _value(number))
                if reply != b"OK":
                    raise RuntimeError(f"the node answered {reply!r}")
            connection.close()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=write, args=(first,)) for first in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _part(member: Member) -> int:
    """Return the bytes of the snapshot that the member is receiving, 0 if there is none."""
    with suppress(OSError):
        return max((path.stat().st_size for path in member.directory.glob("snapshot-*-from-*.part")), default=0)
    return 0


def _keys(member: Member) -> int:
    status = member.status()
    return int(str(status["keys"])) if status is not None else 0


def _interrupt(cluster: Cluster, victim: Member, receiver: Member, size: int) -> None:
    """Kill the victim in the middle, start it again, and check that the transfer goes on where it was."""
    _until(lambda: _part(receiver) > size // 2, "half of the snapshot has arrived", every=0.002)
    cluster.kill(victim.node)
    reached = _part(receiver)
    if reached == 0:
        raise NotResumed("the transfer was over before the process was killed: take a larger size")
    cluster.start(victim.node)
    begun = time.monotonic()
    while (there := _part(receiver)) and there < size and time.monotonic() < begun + _PATIENCE:
        if there < reached:
            raise NotResumed(f"{reached:,} bytes had arrived, now there are {there:,}")
        if there > reached + size // 8:
            break
        time.sleep(0.002)


def measure(
    quick: bool = False, size: str = "", data: str = "file:", interrupt: str = "", loop: str = "trio"
) -> dict[str, float]:
    """Figures by name; the unit is the end of the name.

    `size`: bytes of the state, with KiB, MiB or GiB; by default 1GiB, or 64MiB if `quick`. `data`: the kind of store
    with a colon, and a directory if it shall not be a temporary one. `interrupt`: "sender" or "receiver".

    Raise `NotResumed`.
    """
    whole = size_of(size or ("64MiB" if quick else "1GiB"))
    count = whole // _VALUE_BYTES
    location = parse_location(data if data.partition(":")[2] else f"{data.rstrip(':')}:.")
    given = data.partition(":")[2]
    with tempfile.TemporaryDirectory(dir=given or os.environ.get("BENCHMARK_DIR")) as directory:
        filling = [f"snapshot_bytes={max(whole // 4, 1)}", f"log_max_bytes={2 * whole}", "keep_entries=0"]
        cluster = Cluster(Path(directory), loop, store=location.kind, overrides=filling)
        with cluster:
            return _measure(cluster, whole, count, interrupt)


def _measure(cluster: Cluster, whole: int, count: int, interrupt: str) -> dict[str, float]:
    cluster.found(1)
    sender = cluster.members[1]
    cluster.wait_ready([1])
    begun = time.monotonic()
    _fill(sender, count)
    figures = {"fill_s": time.monotonic() - begun}
    last = _last_index(sender)
    _restart(cluster, [f"snapshot_entries={_CLIENTS}", "keep_entries=0"])
    _until(lambda: _all_in_snapshot(sender, last), "a snapshot of everything")
    _restart(cluster, [])
    before = _Client(sender)
    time.sleep(3.0)
    figures["longest_pause_before_ms"], figures["middle_answer_before_ms"] = before.stop()

    receiver = cluster.join(2)
    _until(lambda: receiver.status() is not None, "the new node answers")
    sending, receiving = _Memory(sender), _Memory(receiver)
    sender_before, receiver_before = sending.now(), receiving.now()
    client = _Client(sender)
    begun = time.monotonic()
    _said(sender, "RAFT", "ADD", 2, receiver.peer_address, "LEARNER")
    if interrupt:
        _interrupt(cluster, sender if interrupt == "sender" else receiver, receiver, whole)
    _until(lambda: _part(receiver) == 0 and bool(list(receiver.directory.glob("snapshot-*"))), "the snapshot arrived")
    figures["transfer_s"] = time.monotonic() - begun
    _until(lambda: _keys(receiver) > count, "the new node has all keys")
    cluster.wait_ready([2], _PATIENCE)
    figures["until_serving_s"] = time.monotonic() - begun
    figures["longest_pause_ms"], figures["middle_answer_ms"] = client.stop()
    figures["sender_more_memory_mib"] = (sending.stop() - sender_before) / _MIB
    most = receiving.stop()
    figures["receiver_more_memory_mib"] = (most - receiver_before) / _MIB
    figures["receiver_more_than_state_mib"] = (most - receiver_before - whole) / _MIB
    _check(receiver, count)
    return figures


def _said(member: Member, *words: str | int) -> None:
    connection = NodeConnection(member.address, 30.0)
    reply = connection.say(*words)
    connection.close()
    if reply != b"OK":
        raise RuntimeError(f"the node answered {reply!r}")


def _restart(cluster: Cluster, overrides: list[str]) -> None:
    cluster.stop([1])
    cluster.overrides = overrides
    cluster.start(1)
    cluster.wait_ready([1], _PATIENCE)


def _last_index(member: Member) -> int:
    status = member.status()
    return int(str(status["last_index"])) if status is not None else 0


def _all_in_snapshot(member: Member, last: int) -> bool:
    """Write a little. Return whether a snapshot holds the log up to `last`, and no other one is being written."""
    _said(member, "SET", "last", 1)
    names = [path.name for path in member.directory.glob("snapshot-*")]
    position = snapshot_position(names[0]) if len(names) == 1 else None
    return position is not None and position.index >= last > 0


def _check(member: Member, count: int) -> None:
    """The new node answers from its own state."""
    connection = NodeConnection(member.address, 30.0)
    for number in range(0, count, max(1, count // 200)):
        if connection.say("GET", f"value:{number}") != _value(number):
            raise RuntimeError(f"value {number} is not what was written")
    connection.close()
