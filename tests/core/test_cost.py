"""How many Python functions the core calls per entry: exact where a clock is not, so that a loss is noticed."""

from __future__ import annotations

import sys
import tracemalloc
from types import FrameType

from benchmarks.core import Trio
from raft_core.entries import seal_commands
from raft_core.events import Proposed
from raft_core.ids import Term
from raft_core.log import Log

COUNT = 20


def calls_of_proposals(batch: int, held: int = 0) -> float:
    """Return the functions of raft_core called per proposal, on all three nodes, until it is applied everywhere.

    The logs hold `held` entries before.
    """
    trio, calls = Trio(encoded=False), 0
    leader, commands = trio.nodes[1], (b"x" * 64,) * batch
    for _ in range(held // 1000):
        trio.give(leader, Proposed(0, (b"x",) * 1000))
    trio.give(leader, Proposed(0, (b"x",) * (held % 1000) + commands))

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if event == "call" and "raft_core" in frame.f_code.co_filename:
            calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for number in range(COUNT):
            trio.give(leader, Proposed(1 + number, commands))
    finally:
        sys.setprofile(before)
    return calls / COUNT


def test_entry_alone_takes_few_calls() -> None:
    """13 steps of three cores. It was 305 before each event was handled in one pass."""
    assert calls_of_proposals(1) <= 137


def test_batch_takes_no_call_per_entry() -> None:
    assert calls_of_proposals(1000) <= 190


def test_cost_of_an_entry_does_not_grow_with_the_log() -> None:
    """The bytecodes are the same but for what depends on an entry's place between two totals of the log."""
    assert calls_of_proposals(1, held=100_000) == calls_of_proposals(1, held=100)
    assert calls_of_proposals(100, held=100_000) <= calls_of_proposals(100, held=100) * 1.02


def test_entry_takes_little_memory_besides_its_data() -> None:
    """Less than 1.3 times its bytes and 100 bytes, from 256 bytes of data on; it was 464."""
    count, size = 10_000, 256
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        log = Log()
        for first in range(1, count, 100):
            log.append(seal_commands(first, Term(1), [bytes([first % 251]) * size for _ in range(100)]))
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held / count <= 1.3 * size + 100
