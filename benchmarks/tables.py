"""The tables of docs/performance.md in Markdown: ratios to etcd beside the goals, from measurements of `compare`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["markdown"]

_GOALS = {  # shape: figure, the goal, whether less is better
    "SET in sequence": ("p50_ms", "uvloop ≤ 0.8x, trio ≤ 1.2x", True),
    "SET, 64 clients": ("per_second", "≥ 2x", False),
    "SET, 1000 clients": ("per_second", "uvloop ≥ 2.5x, trio ≥ 1.3x", False),
    "SET, 32 pipelines of 31": ("per_second", "≥ 8x", False),
    "GET in sequence": ("p50_ms", "", True),
    "GET, 64 clients": ("per_second", "", False),
    "GET, 1000 clients": ("per_second", "", False),
    "GET, 32 pipelines of 31": ("per_second", "", False),
}
_ORDER = ("uvloop", "trio", "asyncio", "uvloop-compiled", "trio-compiled")
_Run = Mapping[str, Any]


def _found(runs: Sequence[_Run], shape: str, system: str, figure: str) -> dict[int, float]:
    return {
        int(run["repetition"]): float(run["figures"][figure])
        for run in runs
        if run["shape"] == shape and run["system"] == system and run["figures"].get(figure)
    }


def _ratios(runs: Sequence[_Run], shape: str, system: str, figure: str) -> list[float]:
    """Return the ratios to etcd, one for each repetition that measured both."""
    base = _found(runs, shape, "etcd", figure)
    return [value / base[number] for number, value in _found(runs, shape, system, figure).items() if number in base]


def _reads(runs: Sequence[_Run], reads: str, writes: str, system: str) -> list[float]:
    """Return the ratios of a system's GETs to its SETs, one for each repetition."""
    base = _found(runs, writes, system, _GOALS[writes][0])
    found = _found(runs, reads, system, _GOALS[reads][0])
    return [value / base[number] for number, value in found.items() if number in base]


def _cell(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    return f"{_figure(statistics.median(ratios))}x ({_figure(min(ratios))} to {_figure(max(ratios))})"


def _figure(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"


def _place(system: str) -> int:
    return _ORDER.index(system) if system in _ORDER else len(_ORDER)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown(runs: Sequence[_Run]) -> str:
    """Return three tables: ratios to etcd, GETs against SETs, and the servers' processor time per operation."""
    systems = sorted({str(run["system"]) for run in runs} - {"etcd"}, key=lambda name: (_place(name), name))
    shapes = [shape for shape in _GOALS if any(run["shape"] == shape for run in runs)]
    titles = [name.replace("-", ", ") for name in systems]
    lines = [_row(["", "goal", *titles]), _row(["---", "---", *["---:" for _ in systems]])]
    for shape in shapes:
        figure, goal, less = _GOALS[shape]
        title = f"{shape}, p50 (less is better)" if less else shape
        lines.append(_row([title, goal, *(_cell(_ratios(runs, shape, system, figure)) for system in systems)]))
    pairs = [
        (f"SET{end}", f"GET{end}") for end in (shape.removeprefix("SET") for shape in shapes) if f"GET{end}" in shapes
    ]
    lines += ["", _row(["GETs against SETs", "goal", *titles]), _row(["---", "---", *["---:" for _ in systems]])]
    for writes, reads in pairs:
        title = f"{reads.removeprefix('GET').lstrip(', ')}{', p50 (less is better)' if _GOALS[reads][2] else ''}"
        goal = "≤ 0.67x" if _GOALS[reads][2] else "≥ 1.5x"
        lines.append(_row([title, goal, *(_cell(_reads(runs, reads, writes, system)) for system in systems)]))
    lines += ["", _row(["processor time per operation, µs", "etcd", *titles])]
    lines.append(_row(["---", *["---:" for _ in range(len(systems) + 1)]]))
    for shape in shapes:
        found = [_found(runs, shape, system, "processor_us").values() for system in ("etcd", *systems)]
        lines.append(_row([shape, *(f"{statistics.median(each):,.0f}" if each else "" for each in found)]))
    return "\n".join(lines)
