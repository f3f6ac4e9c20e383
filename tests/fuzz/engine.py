"""A fuzzer guided by coverage: inputs that reach new lines are kept and mutated further.

An input fails a target by an exception, by more than 20 ms of processor time (a step that would hold up a node's loop),
or by memory out of proportion to its size. Lines are seen by `sys.settrace`, so no package is needed and every Python
works; modules that are compiled show no lines, and are then fuzzed blindly. Time and memory are measured without it.
"""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

__all__ = ["MOST_SECONDS", "Failure", "Report", "Target", "fuzz", "mutated"]

MOST_SECONDS = 0.020
"""Processor time of one step."""
_SLOW_TRACED = 0.025
"""An input this slow with tracing is timed again without."""
_TRIES = 5
_MEMORY_EVERY = 97
_MOST_BYTES = 48 * 1024
_CORPUS = 400
_INTERESTING = (0, 1, 2, 7, 16, 31, 32, 63, 64, 100, 127, 128, 191, 192, 193, 204, 207, 220, 222, 254, 255)
_NUMBERS = (0, 1, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


@dataclass(frozen=True)
class Target:
    """What is fuzzed: `run` takes an input and raises only if there is a defect.

    `steps`: the calls that `run` makes of the code under test, at most; its time is that of all of them. `memory`:
    bytes that it may take besides 64 times its input.
    """

    name: str
    seeds: Sequence[bytes]
    run: Callable[[bytes], object]
    watched: tuple[str, ...]
    """Parts of the paths of modules whose lines count."""
    words: tuple[bytes, ...] = ()
    """Inserted as a whole."""
    seconds: float = MOST_SECONDS
    memory: int = 8 * 1024 * 1024


@dataclass(frozen=True)
class Failure:
    """An input that fails its target, and how."""

    target: str
    data: bytes
    problem: str


@dataclass
class Report:
    """What was done for one target."""

    target: str
    executions: int = 0
    lines: int = 0
    corpus: int = 0
    slowest: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    inputs: list[bytes] = field(default_factory=list)
    """The corpus: inputs that reached new lines."""


def mutated(data: bytes, others: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> bytes:
    """Return `data` with a few changes."""
    buffer = bytearray(data)
    for _ in range(1 << rng.randrange(4)):
        at = rng.randrange(len(buffer) + 1)
        end = min(len(buffer), at + 1 + (rng.randrange(8) if rng.random() < 0.7 else rng.randrange(512)))
        kind = rng.randrange(10)
        if kind == 0 and at < len(buffer):
            buffer[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(buffer):
            buffer[at] = rng.choice(_INTERESTING)
        elif kind == 2 and at < len(buffer):
            buffer[at] = (buffer[at] + rng.choice((-1, 1))) % 256
        elif kind == 3:
            del buffer[at:end]
        elif kind == 4:
            buffer[at:at] = buffer[at:end] * rng.choice((1, 2, 16))
        elif kind == 5:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(_NUMBERS) % (1 << 8 * size)
            buffer[at : at + size] = number.to_bytes(size, rng.choice(("big", "little")))
        elif kind == 6:
            buffer[at:end] = b"%d" % rng.choice((-1, *_NUMBERS))
        elif kind == 7 and words:
            buffer[at:at] = rng.choice(words)
        elif kind == 8:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            buffer[at:end] = other[start : start + rng.randrange(256)]
        else:
            buffer[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
    return bytes(buffer[:_MOST_BYTES])


class _Lines:
    """The lines of watched modules that were ever reached."""

    def __init__(self, watched: tuple[str, ...]) -> None:
        self.seen: set[tuple[Any, int]] = set()
        self._watched = watched
        self._counts: dict[Any, bool] = {}

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Any:
        code = frame.f_code
        counts = self._counts.get(code)
        if counts is None:
            counts = self._counts[code] = any(part in code.co_filename for part in self._watched)
        return self._line if counts else None

    def _line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            self.seen.add((frame.f_code, frame.f_lineno))
        return self._line


def _timed(target: Target, data: bytes) -> float:
    """Return the least processor time of a few runs, so that a disturbance is not taken for a slow input."""
    least = 1e9
    for _ in range(_TRIES):
        begun = time.thread_time()
        target.run(data)
        least = min(least, time.thread_time() - begun)
        if least <= target.seconds:
            break
    return least


def _memory(target: Target, data: bytes) -> int:
    tracemalloc.start()
    try:
        target.run(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def fuzz(
    target: Target, seconds: float, rng: random.Random, *, most: int = 1 << 62, known: Sequence[bytes] = ()
) -> Report:
    """Fuzz the target for this time, or for `most` executions, or until it has failed five times.

    `known`: the corpus of earlier runs, to begin with besides the seeds.
    """
    report, lines = Report(target.name), _Lines(target.watched)
    corpus: list[bytes] = []
    pending = [*known, *target.seeds]
    end = time.monotonic() + seconds
    while report.executions < most and len(report.failures) < 5 and (pending or time.monotonic() < end):
        data = (
            pending.pop()
            if pending
            else mutated(rng.choice(corpus or target.seeds), corpus or target.seeds, target.words, rng)
        )
        report.executions += 1
        before = len(lines.seen)
        problem = ""
        try:
            begun = time.thread_time()
            old = sys.gettrace()
            sys.settrace(lines)
            try:
                target.run(data)
            finally:
                sys.settrace(old)
            if time.thread_time() - begun > _SLOW_TRACED:
                took = _timed(target, data)
                report.slowest = max(report.slowest, took)
                if took > target.seconds:
                    problem = f"it takes {took * 1000:.0f} ms"
            if report.executions % _MEMORY_EVERY == 1:
                taken = _memory(target, data)
                if taken > target.memory + 64 * len(data):
                    problem = f"it takes {taken:,} bytes for {len(data):,}"
        except Exception as failure:
            problem = f"it raises {type(failure).__name__}: {failure}"
        if problem:
            report.failures.append(Failure(target.name, data, problem))
        elif len(lines.seen) > before or not corpus:
            corpus.append(data)
            if len(corpus) > _CORPUS:
                del corpus[rng.randrange(len(corpus))]
    report.lines, report.corpus, report.inputs = len(lines.seen), len(corpus), corpus
    return report
