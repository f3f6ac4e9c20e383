"""Cost of each store, side by side: durable writes, bytes on disk, opening, and dropping a million entries.

The stores take turns within each figure, so that what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from raft_core.effects import Persist
from raft_core.entries import SnapshotMeta, seal_commands
from raft_core.ids import Index, Term, WriteId
from raft_core.membership import Members
from raft_core.store import Store
from raft_storage.location import Location, open_store

__all__ = ["measure"]

_DATA = bytes(range(256))
_PACKAGES = {"file": "zlib", "sqlite": "sqlite3", "rocksdb": "rocksdict", "mdbx": "mdbx"}


def _kinds() -> list[str]:
    return [kind for kind, package in _PACKAGES.items() if find_spec(package) is not None]


def _open(kind: str, directory: Path) -> Store:
    return open_store(Location(kind, str(directory)), node=1, cluster="c")


def _batch(first: int, count: int) -> Persist:
    return Persist(WriteId(1), entries=seal_commands(first, Term(1), [_DATA] * count))


def _write(store: Store, first: int, count: int) -> float:
    """Seconds for one write with its sync."""
    persist = _batch(first, count)
    start = time.perf_counter()
    store.write([persist])
    return time.perf_counter() - start


def _used(directory: Path) -> int:
    """Bytes that the directory takes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def _writes(root: Path, each: int, writes: int, figures: dict[str, float]) -> None:
    """Writes of `each` entries in turn to all stores."""
    stores = {kind: _open(kind, root / kind) for kind in _kinds()}
    seconds: dict[str, list[float]] = {kind: [] for kind in stores}
    for store in stores.values():
        store.recover()
    for number in range(writes):
        for kind, store in stores.items():
            seconds[kind].append(_write(store, 1 + number * each, each))
    for kind, store in stores.items():
        store.close()
        name = f"{kind}_batches_of_{each}"
        figures[f"{name}_writes_per_s"] = writes / sum(seconds[kind])
        figures[f"{name}_p50_us"] = statistics.median(seconds[kind]) * 1e6
        figures[f"{name}_p99_us"] = statistics.quantiles(seconds[kind], n=100)[98] * 1e6
        figures[f"{name}_bytes_per_entry"] = _used(root / kind) / (writes * each)


def _fill(kind: str, directory: Path, count: int, figures: dict[str, float]) -> None:
    """Fill a store, and note its longest write: one that begins a segment, or makes a checkpoint."""
    store = _open(kind, directory)
    store.recover()
    each, seconds = 256, []
    for first in range(1, count + 1, each):
        seconds.append(_write(store, first, min(each, count + 1 - first)))
    store.close()
    name = f"{kind}_{count}_entries"
    figures[f"{name}_p50_ms"] = statistics.median(seconds) * 1e3
    figures[f"{name}_longest_write_ms"] = max(seconds) * 1e3


def _compare_sizes(kind: str, directories: dict[int, Path], writes: int, figures: dict[str, float]) -> None:
    """Write 16 entries in turn to stores that hold few entries and many."""
    stores, following = {}, {}
    for count, directory in directories.items():
        stores[count] = _open(kind, directory)
        following[count] = len(stores[count].recover().entries) + 1
    seconds: dict[int, list[float]] = {count: [] for count in stores}
    for _ in range(writes):
        for count, store in stores.items():
            seconds[count].append(_write(store, following[count], 16))
            following[count] += 16
    for count, store in stores.items():
        store.close()
        figures[f"{kind}_write_after_{count}_entries_p50_us"] = statistics.median(seconds[count]) * 1e6
    few, many = min(stores), max(stores)
    figures[f"{kind}_write_ratio_{many}_to_{few}_entries"] = statistics.median(seconds[many]) / statistics.median(
        seconds[few]
    )


def _openings(root: Path, count: int, rounds: int, figures: dict[str, float]) -> None:
    """Open every store in turn: the middle time, and the middle processor time."""
    wall: dict[str, list[float]] = {kind: [] for kind in _kinds()}
    cpu: dict[str, list[float]] = {kind: [] for kind in _kinds()}
    for _ in range(rounds):
        for kind in wall:
            start, used = time.perf_counter(), time.process_time()
            store = _open(kind, root / f"{kind}-{count}")
            recovered = store.recover()
            wall[kind].append(time.perf_counter() - start)
            cpu[kind].append(time.process_time() - used)
            assert len(recovered.entries) >= count
            store.close()
    for kind in wall:
        figures[f"{kind}_{count}_entries_open_s"] = statistics.median(wall[kind])
        figures[f"{kind}_{count}_entries_open_processor_s"] = statistics.median(cpu[kind])


def _drop(kind: str, directory: Path, count: int, figures: dict[str, float]) -> None:
    name = f"{kind}_{count}_entries"
    store = _open(kind, directory)
    last = store.recover().entries[-1].index
    meta = SnapshotMeta(Index(last), Term(1), Members.initial([1, 2, 3]))
    writer = store.create_snapshot(meta)
    writer.write(b"state")
    writer.finish()
    start = time.perf_counter()
    store.write([Persist(WriteId(1), snapshot=meta, drop_before=Index(last + 1))])
    figures[f"{name}_drop_all_ms"] = (time.perf_counter() - start) * 1e3
    after = [_write(store, last + 1 + number, 1) for number in range(200)]
    figures[f"{name}_longest_write_after_drop_ms"] = max(after) * 1e3
    store.close()


def measure(quick: bool = False) -> dict[str, float]:
    """Figures by name; the unit is the end of the name."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_DIR")) as path:
        root = Path(path)
        for each, writes in ((1, 3000), (16, 2000), (256, 800)):
            _writes(root / str(each), each, writes // (20 if quick else 1), figures)
        counts = (10_000, 20_000) if quick else (10_000, 100_000, 1_000_000)
        for count in counts:
            for kind in _kinds():
                _fill(kind, root / f"{kind}-{count}", count, figures)
        for count in counts:
            _openings(root, count, 1 if quick else 5, figures)
        for kind in _kinds():
            _compare_sizes(kind, {count: root / f"{kind}-{count}" for count in counts}, 20 if quick else 400, figures)
        for count in counts:
            for kind in _kinds():
                _drop(kind, root / f"{kind}-{count}", count, figures)
    return figures
