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
    "GET, 64 clients": ("per_second", "1.5 times our SETs", False),
    "GET, 1000 clients": ("per_second", "1.5 times our SETs", False),
    "GET, 32 pipelines of 31": ("per_second", "1.5 times our SETs", False),
}
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


def _cell(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    return f"{statistics.median(ratios):.3g}x ({min(ratios):.3g} to {max(ratios):.3g})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown(runs: Sequence[_Run]) -> str:
    """Return two tables: ratios to etcd with their range, and the servers' processor time per operation."""
    systems = [name for name in dict.fromkeys(str(run["system"]) for run in runs) if name != "etcd"]
    shapes = [shape for shape in _GOALS if any(run["shape"] == shape for run in runs)]
    lines = [_row(["", "goal", *systems]), _row(["---", "---", *["---:" for _ in systems]])]
    for shape in shapes:
        figure, goal, less = _GOALS[shape]
        title = f"{shape}, p50 (less is better)" if less else shape
        lines.append(_row([title, goal, *(_cell(_ratios(runs, shape, system, figure)) for system in systems)]))
    lines += ["", _row(["processor time per operation, µs", "etcd", *systems])]
    lines.append(_row(["---", *["---:" for _ in range(len(systems) + 1)]]))
    for shape in shapes:
        found = [_found(runs, shape, system, "processor_us").values() for system in ("etcd", *systems)]
        lines.append(_row([shape, *(f"{statistics.median(each):,.0f}" if each else "" for each in found)]))
    return "\n".join(lines)
