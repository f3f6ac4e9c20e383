"""`Load`: clients that write without pause and remember every acknowledged write; `check` looks them up on a node.

A write counts as acknowledged once its OK was received, and not after an error, a timeout or a closed connection. No
key is written twice, so a node's value cannot come from a later write.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final, final

import attrs
import hiredis

from raft_kv.node_client import Address, Failed, NodeConnection

__all__ = ["Load", "Lost", "check"]

_PAGE: Final = 500
_PAUSE: Final = 0.01
_SAMPLE: Final = 0.05
_PADDING: Final = b"x" * 64


def _key(client: int, number: int) -> bytes:
    return b"write:%d:%d" % (client, number)


def _value(client: int, number: int) -> bytes:
    return b"%d/%d/%b" % (client, number, _PADDING)


@final
@attrs.define(eq=False)
class _Writer:
    """One client's memory. Only its own thread writes to it."""

    number: int
    acknowledged: list[int] = attrs.field(factory=list)
    refused: int = 0
    unknown: int = 0


@final
@attrs.define(eq=False)
class Load:
    """Clients which write to the nodes at `addresses` until `stop`. The list may change meanwhile."""

    addresses: Sequence[Address]
    clients: int
    _writers: list[_Writer] = attrs.field(factory=list, init=False)
    _threads: list[threading.Thread] = attrs.field(factory=list, init=False)
    _stopping: threading.Event = attrs.field(factory=threading.Event, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _marked_at: float = attrs.field(default=0.0, init=False)
    _first_after: float | None = attrs.field(default=None, init=False)
    _latest: float = attrs.field(factory=time.monotonic, init=False)
    _longest: float = attrs.field(default=0.0, init=False)
    _samples: list[tuple[float, int]] = attrs.field(factory=list, init=False)

    def start(self) -> None:
        """Start the writing clients."""
        self._writers = [_Writer(number) for number in range(self.clients)]
        self._threads = [threading.Thread(target=self._run, args=(writer,), daemon=True) for writer in self._writers]
        self._threads.append(threading.Thread(target=self._sample, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop all clients, after their open requests."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def acknowledged(self) -> int:
        """The number of acknowledged writes."""
        return sum(len(writer.acknowledged) for writer in self._writers)

    @property
    def refused(self) -> int:
        """The number of refused writes."""
        return sum(writer.refused for writer in self._writers)

    @property
    def unknown(self) -> int:
        """The number of writes with an unknown outcome."""
        return sum(writer.unknown for writer in self._writers)

    def written(self) -> Iterator[tuple[bytes, bytes]]:
        """Every acknowledged key with its value."""
        for writer in self._writers:
            for number in list(writer.acknowledged):
                yield _key(writer.number, number), _value(writer.number, number)

    # The rate over time.

    def _sample(self) -> None:
        while True:
            self._samples.append((time.monotonic(), self.acknowledged))
            if self._stopping.wait(_SAMPLE):
                return

    def curve(self, parts: int, part: float) -> list[float]:
        """Return the writes per second in each `part` seconds from the start; only the last so many parts."""
        samples = self._samples[:]
        if len(samples) < 2:
            return []
        begin, end = samples[0][0], samples[-1][0]
        count = int((end - begin) / part)
        place, counts = 0, []
        for number in range(max(0, count - parts), count + 1):
            moment = begin + number * part
            while place < len(samples) - 2 and samples[place + 1][0] <= moment:
                place += 1
            (t1, n1), (t2, n2) = samples[place], samples[place + 1]
            counts.append(n1 + (n2 - n1) * min(1.0, (moment - t1) / max(1e-9, t2 - t1)))
        return [max(0.0, after - before) / part for before, after in itertools.pairwise(counts)]

    def rate(self) -> float:
        """Return the writes per second of the last half second."""
        last = self.curve(1, 0.5)
        return last[-1] if last else 0.0

    # The duration of an outage.

    def mark(self) -> None:
        """Something happens now: `since_mark` counts from here."""
        with self._lock:
            self._marked_at = self._latest = time.monotonic()
            self._longest = 0.0
            self._first_after = None

    def since_mark(self) -> float | None:
        """Return the seconds from the mark to the first acknowledgement of a later write; None if there is none."""
        with self._lock:
            return None if self._first_after is None else self._first_after - self._marked_at

    def longest_pause(self) -> float:
        """Return the longest time in seconds between two acknowledgements since the mark."""
        return max(self._longest, time.monotonic() - self._latest)

    # One client.

    def _run(self, writer: _Writer) -> None:
        connection: NodeConnection | None = None
        turn, number = writer.number, 0
        while not self._stopping.is_set():
            if connection is None:
                connection = self._connect(turn)
                turn += 1
                if connection is None:
                    time.sleep(_PAUSE * (0.5 + random.random()))
                    continue
            number += 1
            if not self._write(connection, writer, number):
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _connect(self, turn: int) -> NodeConnection | None:
        addresses = list(self.addresses)
        try:
            return NodeConnection(addresses[turn % len(addresses)])
        except Failed:
            return None

    def _write(self, connection: NodeConnection, writer: _Writer, number: int) -> bool:
        """One write; whether the connection is worth keeping."""
        sent = time.monotonic()
        try:
            reply = connection.say(b"SET", _key(writer.number, number), _value(writer.number, number))
        except Failed:
            writer.unknown += 1
            return False
        if reply == b"OK":
            now = time.monotonic()
            self._longest, self._latest = max(self._longest, now - self._latest), now
            writer.acknowledged.append(number)
            if self._first_after is None and sent > self._marked_at:
                self._acknowledge(sent)
            return True
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("UNKNOWN"):
            writer.unknown += 1
        else:
            writer.refused += 1
        time.sleep(_PAUSE * (0.5 + random.random()))
        return False

    def _acknowledge(self, sent: float) -> None:
        now = time.monotonic()
        with self._lock:
            if self._first_after is None and sent > self._marked_at:
                self._first_after = now


@final
@attrs.frozen
class Lost:
    """Acknowledged writes missing on a node."""

    node: int
    keys: tuple[bytes, ...]


def check(node: int, address: Address, written: Sequence[tuple[bytes, bytes]], patience: float = 30.0) -> Lost:
    """Return the acknowledged writes missing on this node. Raise `Failed` if it does not answer in time."""
    deadline = time.monotonic() + patience
    missing: list[bytes] = []
    for place in range(0, len(written), _PAGE):
        page = written[place : place + _PAGE]
        values = _ask(address, [key for key, _ in page], deadline)
        missing += [key for (key, value), found in zip(page, values, strict=True) if found != value]
    return Lost(node, tuple(missing))


def _ask(address: Address, keys: list[bytes], deadline: float) -> list[object]:
    """Return the node's values; ask again while it cannot answer, as after a restart."""
    problem = ""
    while time.monotonic() < deadline:
        try:
            connection = NodeConnection(address, 5.0)
            try:
                reply = connection.say(b"MGET", *keys)
            finally:
                connection.close()
        except Failed as failure:
            problem = str(failure)
        else:
            if isinstance(reply, list):
                return reply
            problem = str(reply)
        time.sleep(_PAUSE)
    raise Failed(f"the node at {address[0]}:{address[1]} could not be asked: {problem}")
