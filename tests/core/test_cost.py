"""How many Python functions the core calls per entry: exact where a clock is not, so that a loss is noticed."""

from __future__ import annotations

import sys
from types import FrameType

from benchmarks.core import Trio
from raft_core.events import Proposed

COUNT = 20


def calls_of_proposals(batch: int) -> float:
    """Return the functions of raft_core called per proposal, on all three nodes, until it is applied everywhere."""
    trio, calls = Trio(encoded=False), 0
    leader, commands = trio.nodes[1], (b"x" * 64,) * batch
    trio.give(leader, Proposed(0, commands))

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
    assert calls_of_proposals(1000) <= 160
