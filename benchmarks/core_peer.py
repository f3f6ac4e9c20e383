"""`python -m benchmarks core --peer`: the core beside etcd/raft, which is written in Go, in one interleaved run.

Both run three nodes in one process without a disk, with the same commands, and end with equal logs, which is checked.
With encoding, ours frames each message with two checksums; etcd's are bare protocol buffers.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.core import SHAPES, Trio, entries_for
from benchmarks.load.build import etcd_core

__all__ = ["compare", "table"]

_MORE = 4  # etcd's runs are this many times longer, as its entries take less time


def compare(*, quick: bool = False) -> dict[str, list[tuple[float, float]]]:
    """Return microseconds per entry, ours and etcd's, of each repetition by shape. Raise `Missing` without etcd."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SHAPES}
    with tempfile.TemporaryDirectory() as directory:
        program = etcd_core(Path(directory))
        for _ in range(3 if quick else 7):
            for name, (batch, encoded) in SHAPES.items():
                count = entries_for(batch, quick=quick)
                trio = Trio(encoded=encoded)
                ours = trio.run(count, batch)
                assert _etcd(program, count, batch, encoded=encoded)["log"] == trio.log_sum(), "the logs are equal"
                del trio
                theirs = _etcd(program, count * _MORE, batch, encoded=encoded)["microseconds"]
                assert isinstance(theirs, float)
                found[name].append((ours, theirs))
    return found


def _etcd(program: str, count: int, batch: int, *, encoded: bool) -> dict[str, object]:
    arguments = [program, "-count", str(count), "-batch", str(batch), *(["-encoded"] if encoded else [])]
    answer = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    return json.loads(answer)  # type: ignore[no-any-return]


def table(found: dict[str, list[tuple[float, float]]]) -> str:
    """Return a line per shape: both medians, the median of the ratios and their range."""
    lines = [f"{'µs of processor time per entry':32}  {'raft_core':>9}  {'etcd/raft':>9}  ratio (range)"]
    for name, runs in found.items():
        ours, theirs = (statistics.median(times) for times in zip(*runs, strict=True))
        ratios = sorted([mine / other for mine, other in runs])
        spread = f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        lines.append(f"{name:32}  {ours:9.3f}  {theirs:9.3f}  {spread}")
    return "\n".join(lines)
