"""How many Python functions the write lane's thread calls for a write that is alone: exact where a clock is not."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

import pytest

from raft_core.effects import Persist
from raft_core.ids import WriteId
from raft_core.node.events import NodeEvent
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Lane
from raft_storage.file_store import FileStore
from raft_storage.workers import Workers
from tests.core.helpers import entries

from ..node.cluster import LogMachine

pytestmark = pytest.mark.interpreted

WRITES = 20


def test_write_alone_takes_few_calls_in_its_thread(tmp_path: Path) -> None:
    """It was 46 with a context manager around each write and the end of its queue found by an exception."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            calls[frame.f_code.co_qualname] += 1

    store = FileStore.open(tmp_path, node=1)
    store.recover()
    lanes = Workers(store, JobRunner(store, LogMachine()), "test")
    reports: SimpleQueue[list[NodeEvent]] = SimpleQueue()
    lanes.start(reports.put)
    before = threading.getprofile()
    threading.setprofile(count)  # of threads that start from now on
    try:
        for number in range(1, WRITES + 2):
            lanes.put(Lane.WRITE, Persist(WriteId(number), entries=entries((number, 1))))
            reports.get(timeout=10)
            if number == 1:
                calls.clear()  # the thread has begun
    finally:
        threading.setprofile(before)
        lanes.close(10)
    calls = Counter({name: number for name, number in calls.items() if number >= WRITES - 1})
    assert calls.total() / WRITES <= 38, calls
