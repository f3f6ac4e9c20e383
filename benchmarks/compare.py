"""raft-kv beside etcd, PySyncObj and redis: `python -m benchmarks compare`.

All clusters live at the same time; those that are not measured are stopped. Each shape is measured on one system after
the other, then the next shape, then everything again, with a calibration loop before each shape: the machine changes
its speed, so only ratios within one repetition count. Reported are the median of the ratios and their range.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from benchmarks.load.build import Missing
from benchmarks.load.watchdog import end_by_signals
from benchmarks.peers import Figures, RaftKv, System, system_named
from benchmarks.picture import picture
from benchmarks.restart import restart_seconds
from benchmarks.tables import markdown

__all__ = ["SHAPES", "Run", "main", "ratios"]

SYSTEMS = ("etcd", "trio", "asyncio", "uvloop", "redis", "pysyncobj")
_BASE = "etcd"


@attrs.frozen
class Shape:
    """One kind of load. `unit`: the figure that counts; smaller is better if it is a time."""

    name: str
    connections: int
    depth: int = 1
    gets: bool = False
    unit: str = "per_second"


SHAPES = (
    Shape("SET in sequence", 1, unit="p50_ms"),
    Shape("SET, 64 clients", 64),
    Shape("SET, 1000 clients", 1000),
    Shape("SET, 32 pipelines of 31", 32, 31),
    Shape("GET in sequence", 1, gets=True, unit="p50_ms"),
    Shape("GET, 64 clients", 64, gets=True),
    Shape("GET, 1000 clients", 1000, gets=True),
    Shape("GET, 32 pipelines of 31", 32, 31, gets=True),
)
_FAILOVERS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}
EXTRAS = ("storm", "idle", "restart", *(f"failover-{name}" for name in _FAILOVERS))


@attrs.frozen
class Run:
    """One measurement."""

    repetition: int
    shape: str
    system: str
    calibration_ms: float
    figures: Figures


def calibration_ms() -> float:
    """Return the time of a fixed loop: the machine's speed at this moment."""
    took = []
    for _ in range(5):
        begin, total = time.perf_counter(), 0
        for number in range(200_000):
            total += number * number & 7
        took.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(took)


@contextmanager
def started(words: Sequence[str], directory: Path, tools: Path) -> Iterator[list[System]]:
    """Start all systems, and stop (SIGSTOP) all of them; name those that are missing."""
    systems: list[System] = []
    try:
        for word in words:
            try:
                systems.append(system_named(word, directory, tools))
            except Missing as missing:
                say(f"{word} is left out: {missing}")
            else:
                systems[-1].freeze()
        yield systems
    finally:
        for system in systems:
            for process in system.processes().values():
                os.kill(process, signal.SIGCONT)
            system.close()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure_shapes(systems: list[System], shapes: Sequence[Shape], first: int, count: int, seconds: float) -> list[Run]:
    """Measure all shapes on all systems, interleaved, `count` times."""
    runs: list[Run] = []
    order = list(systems)
    for repetition in range(first, first + count):
        for shape in shapes:
            random.shuffle(order)  # no system always follows the same one
            for system in order:
                if shape.gets and not system.reads:
                    continue
                speed = calibration_ms()
                system.thaw()
                figures = system.load(shape.connections, shape.depth, seconds, gets=shape.gets)
                system.freeze()
                runs.append(Run(repetition, shape.name, system.name, speed, figures))
                say(f"{repetition} {shape.name:24} {system.name:12} {speed:6.1f} {brief(figures)}")
    return runs


def brief(figures: Figures) -> str:
    return " ".join(f"{name}={value:,.4g}" for name, value in figures.items() if isinstance(value, int | float))


def measure_extra(system: System, extra: str, first: int, count: int, tools: Path) -> list[Run]:
    """Measure what is not a load: failovers, a storm of connections, an idle cluster, a restart."""
    runs: list[Run] = []

    def add(number: int, figures: Figures) -> None:
        runs.append(Run(number, extra, system.name, calibration_ms(), figures))
        say(f"{number} {extra:24} {system.name:12} {brief(figures)}")

    if extra.startswith("failover-"):
        for number in range(first, first + count):
            try:
                add(number, system.failover(_FAILOVERS[extra.removeprefix("failover-")]))
            except Missing:
                break
    elif isinstance(system, RaftKv):
        for number in range(first, first + count):
            if extra == "storm":
                add(number, system.storm(1000))
            elif extra == "idle":
                add(number, {"core_percent": 100 * system.idle(5.0)})
            elif extra == "restart":
                loop, python = system.cluster.loop, system.cluster.python
                for entries in (0, 1_000_000):
                    add(number, {"entries": entries, "first_read_s": restart_seconds(tools, entries, loop, python)})
    return runs


# The report.


def value_of(run: Run, unit: str) -> float:
    return float(run.figures[unit])


def ratios(runs: Sequence[Run], shape: str, system: str, base: str, unit: str) -> list[float]:
    """Return one ratio for each repetition that measured both: below 1 is faster for a time, above 1 for a rate."""
    found: dict[tuple[int, str], float] = {
        (run.repetition, run.system): value_of(run, unit) for run in runs if run.shape == shape
    }
    return [
        value / found[number, base]
        for (number, name), value in sorted(found.items())
        if name == system and found.get((number, base))
    ]


def report(runs: Sequence[Run]) -> str:
    """Return the tables."""
    lines: list[str] = []
    systems = list(dict.fromkeys(run.system for run in runs))
    base = _BASE if _BASE in systems else systems[0]
    for shape in SHAPES:
        here = [run for run in runs if run.shape == shape.name]
        if not here:
            continue
        what = "p50, less is better" if shape.unit == "p50_ms" else "per second, more is better"
        lines.append(f"\n{shape.name} ({what})")
        for system in systems:
            mine = [run for run in here if run.system == system]
            if mine:
                lines.append(_row(runs, mine, shape, base))
    for extra in EXTRAS:
        for system in systems:
            mine = [run for run in runs if run.shape == extra and run.system == system]
            if mine:
                lines.append(_extra_row(extra, system, mine))
    return "\n".join(lines)


def _row(runs: Sequence[Run], mine: Sequence[Run], shape: Shape, base: str) -> str:
    system = mine[0].system
    absolute = statistics.median(value_of(run, shape.unit) for run in mine)
    compared = ratios(runs, shape.name, system, base, shape.unit)
    ratio = f"{statistics.median(compared):6.2f}x ({min(compared):.2f} to {max(compared):.2f})" if compared else ""
    processor = [run.figures["processor_us"] for run in mine if "processor_us" in run.figures]
    cost = f"{statistics.median(processor):8,.0f} µs of processor" if processor else ""
    errors = sum(run.figures.get("errors", 0) for run in mine)
    busiest = max(run.figures.get("client_processor", 0.0) for run in mine)
    note = f"  {errors} errors!" if errors else ""
    note += f"  the load client used {busiest:.0%} of a core" if busiest > 0.7 else ""
    return f"  {system:14} {absolute:12,.2f} {ratio:26} {cost}{note}"


def _extra_row(extra: str, system: str, mine: Sequence[Run]) -> str:
    unit = {"storm": "all_served_ms", "idle": "core_percent", "restart": "first_read_s"}.get(extra, "failover_ms")
    parts = []
    for entries in dict.fromkeys(run.figures.get("entries") for run in mine):
        found = [run for run in mine if run.figures.get("entries") == entries]
        values = [value for run in found if (value := run.figures[unit]) is not None]
        about = "" if entries is None else f", {entries:,} entries"
        never = f", {len(found) - len(values)} never" if len(values) < len(found) else ""
        errors = sum(run.figures.get("errors", 0) for run in found)
        parts.append(
            f"{extra:16} {system:14} {unit}{about}: median {statistics.median(values):,.2f}, "
            f"longest {max(values):,.2f} of {len(found)}{never}" + (f", {errors} errors" if errors else "")
        )
    return "\n".join(parts)


# The command.


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    names = ", ".join(f"'{shape.name}'" for shape in SHAPES)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare",
        description=__doc__,
        epilog=f"Shapes: {names}. Extras: {', '.join(EXTRAS)}.\n\n"
        "    python -m benchmarks compare --systems etcd,uvloop --repetitions 1     # a minute\n"
        "    python -m benchmarks compare --json compare.json --picture compare.svg\n\n"
        "All systems and shapes five times take ten to twenty minutes. It needs etcd, redis-server, PySyncObj and a C\n"
        "compiler for the load (Go for etcd's); what is missing is named and left out.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--systems", default=",".join(SYSTEMS), help="names with commas (all: %(default)s), LOOP-tls, LABEL=LOOP@PYTHON"
    )
    parser.add_argument("--shapes", default="all", help="parts of the names of shapes, with commas; or none")
    parser.add_argument("--extras", default="", help="what else to measure, with commas; or all")
    parser.add_argument(
        "--repetitions", type=int, default=5, help="how often (%(default)s); 0: only report on the measurements in FILE"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: 2)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all measurements to FILE")
    parser.add_argument("--append", action="store_true", help="add to those in FILE; report on all of them")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/performance.md")
    parser.add_argument("--picture", metavar="FILE.svg", type=Path, help="draw the ratios")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure, print the tables, and write what was asked for."""
    parser = command_line()
    chosen = parser.parse_args(arguments)
    goes_on = chosen.append or not chosen.repetitions
    runs = _read(chosen.json) if goes_on and chosen.json and chosen.json.exists() else []
    shapes = [s for s in SHAPES if chosen.shapes == "all" or any(p in s.name for p in chosen.shapes.split(","))]
    extras = EXTRAS if chosen.extras == "all" else [word for word in chosen.extras.split(",") if word]
    if unknown := sorted(set(extras) - set(EXTRAS)):
        parser.error(f"no such extra: {', '.join(unknown)}; there are {', '.join(EXTRAS)}")
    systems: list[str] = chosen.systems.split(",") if chosen.repetitions else []
    end_by_signals()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_DIR")) as directory:
        place = Path(directory)
        save: Callable[[], None] = lambda: _write(chosen.json, runs) if chosen.json else None  # noqa: E731
        if shapes and systems:
            with started(systems, place / "shapes", place) as running:
                first = 1 + max((run.repetition for run in runs if run.shape in {s.name for s in shapes}), default=0)
                for repetition in range(first, first + chosen.repetitions):
                    runs += measure_shapes(running, shapes, repetition, 1, chosen.seconds)
                    save()
        for word in systems if extras else ():
            with started([word], place / "extras", place) as running:
                for system in running:
                    system.thaw()
                    for extra in extras:
                        known = [run.repetition for run in runs if (run.shape, run.system) == (extra, system.name)]
                        runs += measure_extra(system, extra, 1 + max(known, default=0), chosen.repetitions, place)
                        save()
            shutil.rmtree(place / "extras", ignore_errors=True)
    plain = [attrs.asdict(run) for run in runs]
    print((markdown(plain) if chosen.markdown else report(runs)) if runs else "nothing was measured")
    if chosen.picture:
        chosen.picture.write_text(picture(plain), encoding="utf-8")
    return 0


def _read(path: Path) -> list[Run]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["runs"]
    return [Run(**run) for run in found]


def _write(path: Path, runs: Sequence[Run]) -> None:
    about = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
    text = json.dumps({"machine": about, "runs": [attrs.asdict(run) for run in runs]}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
