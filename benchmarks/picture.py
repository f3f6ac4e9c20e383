"""The picture for the README: ratios to etcd as bars, drawn as SVG from the measurements of `compare`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["picture"]

_SHAPES = {  # shape: title, figure, whether its inverse is shown, so that longer is always better
    "SET in sequence": ("SET in sequence", "p50_ms", True),
    "SET, 64 clients": ("SET, 64 clients", "per_second", False),
    "SET, 1000 clients": ("SET, 1000 clients", "per_second", False),
    "SET, 32 pipelines of 31": ("SET, 32 pipelines of 31", "per_second", False),
    "GET, 1000 clients": ("GET, 1000 clients", "per_second", False),
}
_COLOURS = {  # each is told from its neighbours and from the page, light or dark
    "etcd": "#8b949e", "trio": "#7fb3d5", "asyncio": "#56a0d3", "uvloop": "#2f81c7",
    "trio-compiled": "#6cc3a0", "uvloop-compiled": "#2da271", "pysyncobj": "#d9a441",
}  # fmt: skip
_NAMES = {
    "trio": "trio", "asyncio": "asyncio", "uvloop": "uvloop", "pysyncobj": "PySyncObj",
    "trio-compiled": "trio, compiled", "uvloop-compiled": "uvloop, compiled",
}  # fmt: skip
_WIDTH, _LEFT, _RIGHT, _BAR, _GAP, _TOP = 760, 190, 70, 15, 16, 64


def _ratio(runs: Sequence[Mapping[str, Any]], shape: str, system: str) -> float | None:
    """Return the median over the repetitions of this system's speed, etcd's being 1."""
    _, unit, inverse = _SHAPES[shape]
    values = {
        (run["repetition"], run["system"]): float(run["figures"][unit])
        for run in runs
        if run["shape"] == shape and run["figures"].get(unit)
    }
    found = [
        values[number, "etcd"] / value if inverse else value / values[number, "etcd"]
        for (number, name), value in values.items()
        if name == system and (number, "etcd") in values
    ]
    return statistics.median(found) if found else None


def picture(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the SVG text. `runs` are the measurements in the file that `compare --json` writes."""
    measured = {str(run["system"]) for run in runs}
    systems = [system for system in _COLOURS if system in measured]
    ratios = {shape: {system: _ratio(runs, shape, system) for system in systems} for shape in _SHAPES}
    ratios = {shape: found for shape, found in ratios.items() if any(value is not None for value in found.values())}
    most = max((value or 0.0 for found in ratios.values() for value in found.values()), default=1.0)
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    parts: list[str] = []
    y = _TOP
    for shape, found in ratios.items():
        drawn = [(system, value) for system, value in found.items() if value is not None]
        middle = y + len(drawn) * _BAR / 2
        parts.append(
            f'<text x="{_LEFT - 12}" y="{middle + 4:.0f}" text-anchor="end">{escape(_SHAPES[shape][0])}</text>'
        )
        for system, value in drawn:
            length = max(1.0, value * scale)
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR - 2}" rx="2" fill="{_COLOURS[system]}"/>'
                f'<text class="n" x="{_LEFT + length + 5:.1f}" y="{y + _BAR - 4}">{value:.1f}x</text>'
            )
            y += _BAR
        y += _GAP
    legend, x = [], float(_LEFT)
    for system in systems:
        name = _NAMES.get(system, system)
        legend.append(
            f'<rect x="{x:.0f}" y="38" width="11" height="11" rx="2" fill="{_COLOURS[system]}"/>'
            f'<text class="n" x="{x + 16:.0f}" y="48">{escape(name)}</text>'
        )
        x += 34 + 6.6 * len(name)
    line = f'<path d="M{_LEFT + scale:.1f} {_TOP - 6}V{y - _GAP + 4}" stroke="#888" stroke-dasharray="3 3"/>'
    title = '<text class="t" x="20" y="24">raft-kv, three durable nodes: speed, etcd = 1 (longer is faster)</text>'
    style = (
        "text{font:13px system-ui,sans-serif;fill:#424a53}.t{font-size:15px;font-weight:600}.n{font-size:12px}"
        "@media(prefers-color-scheme:dark){text{fill:#c9d1d9}}"
    )
    body = "\n".join([title, *legend, line, *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}" role="img">'
        f"<style>{style}</style>\n{body}\n</svg>\n"
    )
