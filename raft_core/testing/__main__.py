"""The tools of this package as a command: `python -m raft_core.testing simulate | explore | crash-disk | draw`.

What lives here: arguments, worker processes, files and printing. This module alone of `raft_core` may do such things.
The shipped file store is put under fire by default; `--machine`, `--workload` and `--store` name others.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import multiprocessing
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from raft_core.errors import CallerError
from raft_core.ids import Incarnation, NodeId
from raft_core.storage import Store
from raft_core.testing.crash_disk import CrashDisk
from raft_core.testing.drawing import draw
from raft_core.testing.faults import Fault, Profile
from raft_core.testing.report import Report, SeedReport, explain
from raft_core.testing.simulator import run_seed, shrink
from raft_core.testing.store_conformance import StoreViolation, crash_disk
from raft_core.testing.traces import decode_trace
from raft_core.wal.files import Files

if TYPE_CHECKING:
    from raft_core.testing.explorer import Spread

__all__ = ["main", "open_file_store"]

_SEGMENT_BYTES: Final = 16 * 1024
_MERGE_BYTES: Final = 4 * 1024
_MANY: Final = 200
"""With so many seeds or more, a run that has not seen what it must is a failure."""


def open_file_store(disk: CrashDisk, node: NodeId, incarnation: Incarnation) -> Store:
    """The shipped store, with segments so small that they are changed often."""
    store = importlib.import_module("raft_storage.file_store").FileStore
    opened: Store = store.open(
        f"node {node}",
        node=node,
        cluster="simulated",
        files=disk,
        incarnation=incarnation,
        segment_bytes=_SEGMENT_BYTES,
        merge_bytes=_MERGE_BYTES,
    )
    return opened


def _open_for_crash_check(files: Files) -> Store:
    store = importlib.import_module("raft_storage.file_store").FileStore
    opened: Store = store.open("disk", node=1, cluster="c", files=files, incarnation=7, segment_bytes=_SEGMENT_BYTES)
    return opened


# simulate


def _named(name: str) -> Any:
    """What `package.module:attribute` names; chosen by the person who typed it, so of any type."""
    module, _, attribute = name.partition(":")
    if not attribute:
        raise CallerError(f"{name!r} names nothing: write package.module:attribute")
    return getattr(importlib.import_module(module), attribute)


def _faults(text: str) -> frozenset[Fault]:
    if text in ("", "none"):
        return frozenset()
    known = {fault.name.lower(): fault for fault in Fault}
    unknown = [name for name in text.split(",") if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"no fault is called {unknown[0]!r}; there are: {', '.join(known)}")
    return frozenset(known[name] for name in text.split(","))


def _subject(arguments: argparse.Namespace) -> dict[str, Any]:
    """What is put under fire: the arguments of `run_seed` that are the same for all seeds."""
    subject: dict[str, Any] = {
        "open_store": _named(arguments.store) if arguments.store else open_file_store,
        "profile": attrs.evolve(Profile(), operations=arguments.operations, purity=arguments.purity),
    }
    if arguments.machine:
        subject["machine"] = _named(arguments.machine)
    if arguments.workload:
        subject["workload"] = _named(arguments.workload)
    return subject


def _one(seed: int, arguments: argparse.Namespace) -> SeedReport:
    return run_seed(seed, faults=arguments.faults, **_subject(arguments))


def _simulate(arguments: argparse.Namespace) -> int:
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    begun = time.monotonic()
    report = Report(tuple(_all_seeds(list(seeds), arguments, begun)))
    seconds = time.monotonic() - begun
    print(report.table())
    rate = f"{report.steps / seconds:,.0f} steps/s, {report.hours / seconds * 3600:,.0f} simulated hours per hour"
    print(f"{seconds:.0f} s with {arguments.workers} workers: {rate}")
    for failed in report.failures[:1]:
        _write_failure(failed, arguments)
    vacuous = arguments.seeds >= _MANY and arguments.faults is None and bool(report.never_seen)
    return 1 if report.failures or vacuous else 0


def _all_seeds(seeds: list[int], arguments: argparse.Namespace, begun: float) -> list[SeedReport]:
    plain = argparse.Namespace(**{name: value for name, value in vars(arguments).items() if name != "command"})
    here = importlib.import_module("raft_core.testing.__main__")  # a worker can find it by this name only
    work: Callable[[int], SeedReport] = functools.partial(here._one, arguments=plain)
    reports: list[SeedReport] = []
    if arguments.workers <= 1 or len(seeds) == 1:
        for seed in seeds:
            reports.append(work(seed))
            _tell(reports, len(seeds), begun)
        return reports
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        for report in pool.imap(work, seeds, chunksize=1):
            reports.append(report)
            _tell(reports, len(seeds), begun)
    return reports


def _tell(reports: list[SeedReport], count: int, begun: float) -> None:
    last = reports[-1]
    if last.failed:
        print(explain(last), file=sys.stderr, flush=True)
    if len(reports) % 25 == 0 or len(reports) == count:
        seconds = time.monotonic() - begun
        print(f"{len(reports)} of {count} seeds, {seconds:.0f} s", file=sys.stderr, flush=True)


def _write_failure(failed: SeedReport, arguments: argparse.Namespace) -> None:
    """The first failure, made smaller, with its picture."""
    print(f"making seed {failed.seed} smaller …", file=sys.stderr, flush=True)
    small = shrink(failed, tries=0 if arguments.no_shrink else 60, **_subject(arguments))
    path = pathlib.Path(arguments.page or f"raft-seed-{failed.seed}.html")
    path.write_text(small.page(), encoding="utf-8")
    print(f"{explain(small)}\n  picture: {path}")


# explore, crash-disk, draw


def _explore(arguments: argparse.Namespace) -> int:
    from raft_core.testing import explorer  # large, and needed only here

    bounds = explorer.SMALL_BOUNDS if arguments.bounds == "small" else explorer.SECOND_BOUNDS
    if arguments.states:
        bounds = attrs.evolve(bounds, states=arguments.states)
    begun = time.monotonic()

    def progress(depth: int, states: int, frontier: int) -> None:
        print(f"depth {depth}: {states:,} states, {frontier:,} to go on from", file=sys.stderr, flush=True)

    gc.disable()  # a search makes millions of values and no cycles
    report = explorer.explore(bounds, progress, _forked(arguments.workers) if arguments.workers > 1 else None)
    seconds = time.monotonic() - begun
    print(report)
    if report.counterexample is not None:
        path = pathlib.Path(arguments.page)
        path.write_text(draw(report.counterexample.trace, report.counterexample.violation), encoding="utf-8")
        print(f"picture: {path}")
    print(f"{seconds:.1f} s, {report.states / seconds:,.0f} states/s")
    print("checked in every state: the safety properties of figure 3, and every invariant of a single core")
    return 0 if report.counterexample is None else 1


_adopted: Callable[[int], bytes] | None = None
"""In a process that was forked to share the work of a search: what it has to do."""


def _forked(workers: int) -> Spread:
    """Shares work out to processes that are forked for each level of a search, so that they know all that is known."""

    def spread(work: Callable[[int], bytes], count: int) -> Iterable[bytes]:
        if count < 2 * workers:
            return map(work, range(count))  # not worth a fork
        with multiprocessing.get_context("fork").Pool(workers, _adopt, (work,)) as pool:
            return pool.map(_do_adopted, range(count), chunksize=1)

    return spread


def _adopt(work: Callable[[int], bytes]) -> None:
    global _adopted
    _adopted = work


def _do_adopted(number: int) -> bytes:
    assert _adopted is not None
    return _adopted(number)


def _crash_disk(arguments: argparse.Namespace) -> int:
    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    open_store: Callable[[Files], Store] = _named(arguments.store) if arguments.store else _open_for_crash_check
    begun = time.monotonic()
    try:
        report = crash_disk(open_store, scripts=arguments.scripts, seed=arguments.seed, progress=progress)
    except StoreViolation as violation:
        print(f"violation: {violation}")
        return 1
    print(report)
    print(f"{time.monotonic() - begun:.1f} s, no violation")
    return 0


def _draw(arguments: argparse.Namespace) -> int:
    source = pathlib.Path(arguments.trace)
    path = pathlib.Path(arguments.output or f"{source.stem}.html")
    path.write_text(draw(decode_trace(source.read_bytes()), source.name), encoding="utf-8")
    print(path)
    return 0


# The command line.


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m raft_core.testing",
        description="Puts a replicated state machine and its store under fire, deterministically.",
        epilog="Exit status: 0 where everything held, 1 where something was violated, 2 for wrong arguments.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    simulate = commands.add_parser(
        "simulate",
        help="whole clusters with faults, in virtual time",
        description="Runs seeds. Each is a cluster of real nodes with simulated network, disks, clocks and clients, "
        "about two minutes of virtual time; every step of every core is checked. The first seed that fails is made "
        "smaller and drawn as an HTML page.",
    )
    simulate.add_argument("--seeds", type=int, default=100, metavar="N", help="how many seeds (100)")
    simulate.add_argument("--seed", type=int, default=1, metavar="S", help="the first seed (1)")
    simulate.add_argument("--workers", type=int, default=2, metavar="N", help="processes at a time (2)")
    simulate.add_argument(
        "--faults", type=_faults, default=None, metavar="A,B", help="only these kinds take part: " + _fault_names()
    )
    simulate.add_argument(
        "--operations", type=int, default=Profile().operations, metavar="N", help="client operations per seed (260)"
    )
    simulate.add_argument(
        "--purity", type=float, default=Profile().purity, metavar="P", help="share of steps that are done twice (0.01)"
    )
    simulate.add_argument("--machine", metavar="M:NAME", help="package.module:factory of a state machine")
    simulate.add_argument("--workload", metavar="M:NAME", help="package.module:factory of what clients do to it")
    simulate.add_argument("--store", metavar="M:NAME", help="package.module:function(disk, node, incarnation) → store")
    simulate.add_argument("--page", metavar="FILE", help="where the picture of a failure goes (raft-seed-S.html)")
    simulate.add_argument("--no-shrink", action="store_true", help="draw a failure as it is")
    simulate.set_defaults(command=_simulate)

    explore = commands.add_parser(
        "explore", help="every interleaving of a small cluster", description="Searches all states within bounds."
    )
    explore.add_argument("--bounds", choices=("small", "second"), default="small", help="how far (small)")
    explore.add_argument("--states", type=int, default=0, metavar="N", help="stop after so many distinct states")
    explore.add_argument("--workers", type=int, default=1, metavar="N", help="processes at a time (1)")
    explore.add_argument("--page", default="raft-explored.html", metavar="FILE", help="picture of a violation")
    explore.set_defaults(command=_explore)

    crash = commands.add_parser(
        "crash-disk",
        help="a store under every crash and every flipped bit",
        description="Runs scripted histories against a store, with a power loss at every call and in every write, "
        "every call failing once, every bit of the log flipped, and records dropped, doubled and zeroed.",
    )
    crash.add_argument("--scripts", type=int, default=1, metavar="N", help="how many histories (1)")
    crash.add_argument("--seed", type=int, default=0, metavar="S", help="the first one (0)")
    crash.add_argument("--store", metavar="M:NAME", help="package.module:function(files) → store")
    crash.set_defaults(command=_crash_disk)

    drawing = commands.add_parser("draw", help="a recorded trace as a page", description="Makes an HTML page.")
    drawing.add_argument("trace", help="a trace in JSON: of the simulator, the explorer, or a node's recorder")
    drawing.add_argument("--output", metavar="FILE", help="where the page goes (the trace's name with .html)")
    drawing.set_defaults(command=_draw)
    return parser


def _fault_names() -> str:
    return ", ".join(fault.name.lower() for fault in Fault)


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        status: int = parsed.command(parsed)
    except CallerError as failure:
        print(failure, file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
