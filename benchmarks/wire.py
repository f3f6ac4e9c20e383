"""What it costs to put entries on the wire and to take them off again, checks included.

A measurement is one `AppendEntries` of 100 entries, encoded to a frame, or taken from the frame's bytes by a
greeted `Link` up to the checked message. The figure is the best of several rounds, in µs per entry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from raft_core.entries import Entry
from raft_core.ids import ClusterId, Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.messages import DATA, AppendEntries
from raft_core.wire import WIRE_VERSION, Hello, Link, encode_message

__all__ = ["measure"]

_ENTRIES = 100


def measure(quick: bool = False) -> dict[str, float]:
    """Each figure under its name, in µs per entry."""
    rounds, repeats = (3, 50) if quick else (7, 500)
    figures: dict[str, float] = {}
    for size in (64, 256):
        message = _append(size)
        frame = encode_message(message)
        link = _greeted_link()
        what = f"{_ENTRIES} x {size} B"
        figures[f"encode {what}, µs per entry"] = _best(partial(encode_message, message), rounds, repeats)
        figures[f"decode {what}, µs per entry"] = _best(partial(link.receive, frame), rounds, repeats)
    return figures


def _append(size: int) -> AppendEntries:
    entries = tuple(Entry.make(1000 + place, 7, bytes([place]) * size) for place in range(_ENTRIES))
    return AppendEntries(
        Term(7), NodeId(1), MessageId(12345), DATA, Index(999), Term(7), Index(998), ReadId(0), entries
    )


def _greeted_link() -> Link:
    first = Link(Hello(WIRE_VERSION, ClusterId("bench"), NodeId(1), Incarnation(1)), dialer=True)
    second = Link(Hello(WIRE_VERSION, ClusterId("bench"), NodeId(2), Incarnation(2)), dialer=False)
    second.receive(first.hello())
    return second


def _best(action: Callable[[], object], rounds: int, repeats: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            action()
        best = min(best, time.perf_counter() - start)
    return best / repeats / _ENTRIES * 1e6
