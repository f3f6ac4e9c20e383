"""Cost of a `SET` by the number of keys; cost of a snapshot with a million keys and with five.

The first: processor time per `SET` in state machines that hold 10^4, 10^5 and 10^6 keys, in turns, so that the
machine's mood is the same for all. `any` key, drawn from all; one of a thousand `near` each other, which stay in the
processor's caches; a `new` key. Beside them `dict`: any key, in a plain dictionary of as many keys and values. What a
random place in memory costs grows with the memory, whatever the program.

The second: the pause, the longest step, the memory.

The snapshot is written by another thread, as in a node, into a file; meanwhile this thread applies entries. A step
is one entry of 16 `SET`s, some of new keys. Its processor time is what it does itself; its wall time includes waiting
for the interpreter's lock, which the writing thread gives up every 5 ms.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from raft_core.ids import Index
from raft_kv.garbage import leave_out
from raft_kv.log_format import Calls, encode_entry, stamp
from raft_kv.state_machine import KeyValueMachine

__all__ = ["measure"]

_VALUE = bytes(range(100))
_PER_ENTRY = 16


def _key(number: int) -> bytes:
    return b"user:%012d" % number


def _entry(keys: list[int], now: int) -> bytes:
    return stamp(encode_entry(Calls(2, [[b"set", _key(key), _VALUE] for key in keys])), now)


def _resident() -> int:
    """Bytes that this process occupies."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _filled(count: int) -> KeyValueMachine:
    machine = KeyValueMachine()
    for index, first in enumerate(range(0, count, 500), start=1):
        machine.apply(Index(index), _entry(list(range(first, min(count, first + 500))), index))
        leave_out(machine.keyspace)
    return machine


class _Writing:
    """A snapshot on its way into a file, in a thread."""

    def __init__(self, chunks: Iterator[bytes], path: Path) -> None:
        self.done = threading.Event()
        self.bytes = 0
        self._chunks = chunks
        self._path = path
        threading.Thread(target=self._write, daemon=True).start()

    def _write(self) -> None:
        with self._path.open("wb") as file:
            for chunk in self._chunks:
                self.bytes += len(chunk)
                file.write(chunk)
        self.done.set()


def _measure(count: int, path: Path, figures: dict[str, float]) -> None:
    machine, rng, name = _filled(count), random.Random(count), f"{count}_keys"
    gc.collect()
    gc.freeze()
    machine.keyspace.left_out = count
    index = count
    steps: list[tuple[float, float]] = []
    before = most = _resident()
    wall, cpu = time.perf_counter(), time.thread_time()
    chunks = machine.snapshot()
    figures[f"{name}_pause_processor_ms"] = (time.thread_time() - cpu) * 1e3
    figures[f"{name}_pause_ms"] = (time.perf_counter() - wall) * 1e3
    begun = time.perf_counter()
    writing = _Writing(chunks, path)
    del chunks
    while not writing.done.is_set():
        keys = [rng.randrange(count + count // 100) for _ in range(_PER_ENTRY)]
        index += 1
        entry = _entry(keys, index)
        wall, cpu = time.perf_counter(), time.thread_time()
        machine.apply(Index(index), entry)
        leave_out(machine.keyspace)
        steps.append((time.thread_time() - cpu, time.perf_counter() - wall))
        if not index % 64:
            most = max(most, _resident())
        time.sleep(0.0005)  # a busy server, but not one that does nothing else
    figures[f"{name}_of_1000_keys_processor_ms"] = _of_many_keys(machine, index + 1, rng, count)
    figures[f"{name}_longest_step_processor_ms"] = max(step[0] for step in steps) * 1e3
    figures[f"{name}_longest_step_ms"] = max(step[1] for step in steps) * 1e3
    figures[f"{name}_steps"] = len(steps)
    figures[f"{name}_snapshot_s"] = time.perf_counter() - begun
    figures[f"{name}_snapshot_mib"] = writing.bytes / 2**20
    figures[f"{name}_resident_mib"] = before / 2**20
    figures[f"{name}_more_memory_mib"] = (most - before) / 2**20


def _of_many_keys(machine: KeyValueMachine, index: int, rng: random.Random, count: int) -> float:
    """Return the processor time of the worst case: one entry that changes most shards just after a snapshot began."""
    chunks = machine.snapshot()
    next(chunks)
    entry = _entry([rng.randrange(count) for _ in range(1000)], index)
    cpu = time.thread_time()
    machine.apply(Index(index), entry)
    spent = (time.thread_time() - cpu) * 1e3
    for _ in chunks:
        pass
    return spent


_ROUNDS = 9
_ENTRIES_IN_ROUND = 400


def _flatness(counts: tuple[int, ...], figures: dict[str, float]) -> None:
    """Measure the cost per `SET` of machines with so many keys, one after the other, `_ROUNDS` times."""
    machines = {count: _filled(count) for count in counts}
    gc.collect()
    gc.freeze()
    rng = random.Random(1)
    kinds = ("any", "near", "new", "dict")
    plain = {count: {_key(number): bytes(bytearray(_VALUE)) for number in range(count)} for count in counts}
    took: dict[tuple[int, str], list[float]] = {(count, kind): [] for count in counts for kind in kinds}
    for _ in range(_ROUNDS):
        for kind in kinds:
            for count, machine in machines.items():
                space = machine.keyspace
                first = rng.randrange(space.size - 1000)
                picked = _ENTRIES_IN_ROUND * _PER_ENTRY
                numbers = {
                    "any": [rng.randrange(count) for _ in range(picked)],
                    "near": [first + rng.randrange(1000) for _ in range(picked)],
                    "new": list(range(space.keys_created, space.keys_created + picked)),
                    "dict": [rng.randrange(count) for _ in range(picked)],
                }[kind]
                if kind == "dict":
                    took[count, kind].append(_in_dictionary(plain[count], numbers))
                    continue
                entries = [_entry(numbers[at : at + _PER_ENTRY], space.time) for at in range(0, picked, _PER_ENTRY)]
                index = space.index
                cpu = time.thread_time()
                for place, entry in enumerate(entries, start=1):
                    machine.apply(Index(index + place), entry)
                took[count, kind].append((time.thread_time() - cpu) / picked * 1e6)
    for (count, kind), times in took.items():
        figures[f"{count}_keys_set_{kind}_us"] = statistics.median(times)
        if count != counts[0]:
            pairs = zip(times, took[counts[0], kind], strict=True)
            figures[f"{count}_keys_set_{kind}_ratio"] = statistics.median([one / other for one, other in pairs])


def _in_dictionary(plain: dict[bytes, bytes], numbers: list[int]) -> float:
    keys, values = [_key(number) for number in numbers], [bytes(bytearray(_VALUE)) for _ in numbers]
    cpu = time.thread_time()
    for key, value in zip(keys, values, strict=True):
        plain[key] = value
    return (time.thread_time() - cpu) / len(numbers) * 1e6


def measure(quick: bool = False) -> dict[str, float]:
    """Figures by name; the unit is the end of the name."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_DIR")) as directory:
        _flatness((10_000, 100_000) if quick else (10_000, 100_000, 1_000_000), figures)
        gc.unfreeze()
        gc.collect()
        for count in (100_000,) if quick else (1_000_000, 5_000_000):
            _measure(count, Path(directory) / "snapshot", figures)
            gc.unfreeze()
            gc.collect()
    return figures
