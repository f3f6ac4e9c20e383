"""What the write-ahead log costs: encoding, recovering, and one durable write on this machine's disk.

What lives here: `measure`, which returns figures and prints nothing. A batch is one `Persist`, as a core makes it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from raft_core.effects import Persist
from raft_core.entries import Entry
from raft_core.ids import WriteId
from raft_core.wal.blocks import NOWHERE, Position, frame_batch
from raft_core.wal.log_state import LogIndex
from raft_core.wal.records import encode
from raft_storage import FileStore

__all__ = ["measure"]

_ENTRY_BYTES = 256


def _entries(first: int, count: int) -> tuple[Entry, ...]:
    data = bytes(range(256))[:_ENTRY_BYTES]
    return tuple(Entry.make(index, 1, data) for index in range(first, first + count))


def _batches(total: int, each: int) -> list[Persist]:
    return [Persist(WriteId(1 + first), entries=_entries(first, each)) for first in range(1, total + 1, each)]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _encode(batches: list[Persist]) -> None:
    outline, at = LogIndex(), Position(1, 0)
    for persist in batches:
        frame_batch(encode([outline.change(persist)]), at, NOWHERE)


def _encoded_per_second(total: int, each: int) -> float:
    batches = _batches(total, each)
    return total / min(_timed(lambda: _encode(batches)) for _ in range(3))


def _recover_seconds(directory: Path, total: int) -> float:
    store = FileStore.open(directory, node=1)
    for persist in _batches(total, 1000):
        store.write([persist])
    store.close()
    start = time.perf_counter()
    store = FileStore.open(directory, node=1)
    recovered = store.recover()
    seconds = time.perf_counter() - start
    store.close()
    assert len(recovered.entries) == total
    return seconds


def _write_microseconds(directory: Path, writes: int, each: int) -> float:
    """The middle time of one write with its sync."""
    store = FileStore.open(directory, node=1)
    seconds = [_timed(partial(store.write, [persist])) for persist in _batches(writes * each, each)]
    store.close()
    return statistics.median(seconds) * 1e6


def measure(quick: bool = False) -> dict[str, float]:
    """Figures by name; the unit is the end of the name."""
    scale = 10 if quick else 1
    recovered = 100_000 // scale
    with tempfile.TemporaryDirectory() as path:
        directory = Path(path)
        return {
            "encode_in_batches_of_1_entries_per_s": _encoded_per_second(20_000 // scale, 1),
            "encode_in_batches_of_100_entries_per_s": _encoded_per_second(100_000 // scale, 100),
            "encode_in_batches_of_1000_entries_per_s": _encoded_per_second(100_000 // scale, 1000),
            f"recover_{recovered}_entries_s": _recover_seconds(directory / "recover", recovered),
            "write_and_sync_1_entry_p50_us": _write_microseconds(directory / "one", 2000 // scale, 1),
            "write_and_sync_100_entries_p50_us": _write_microseconds(directory / "hundred", 500 // scale, 100),
        }
