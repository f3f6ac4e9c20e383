"""The commands of `python -m raft_testing`.

They are `simulate`, `determinism`, `explore`, `crash-disk` and `draw`. Only this module of the package starts
processes, writes files and prints. `cli` parses the arguments. The shipped file store is tested by default;
`--machine`, `--workload` and `--store` name others.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import hashlib
import importlib
import multiprocessing
import operator
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from raft_core.errors import CallerError
from raft_core.ids import Incarnation, NodeId
from raft_core.node.limits import SECOND
from raft_core.store import Store
from raft_core.wal.filesystem import Files
from raft_storage import FileStore, Survivor, recover_from_quorum_loss
from raft_testing.checkers.recovery_probe import RecoveredDisk
from raft_testing.cli import parser
from raft_testing.disk.crash_check import CHECKED
from raft_testing.disk.crash_disk import CrashDisk
from raft_testing.disk.store_conformance import CrashReport, StoreViolation, crash_disk_check
from raft_testing.faults.catalogue import Profile
from raft_testing.sim.report import Report, SeedReport, explain
from raft_testing.sim.runner import run_seed, shrink
from raft_testing.trace.html import draw
from raft_testing.trace.records import decode_trace, encode_trace
from raft_testing.trace.replay import trace_of

if TYPE_CHECKING:
    from raft_testing.model_checker.search import Spread

__all__ = ["main", "open_file_store", "recover_file_store"]

_SEGMENT_BYTES: Final = 16 * 1024
_MERGE_BYTES: Final = 4 * 1024
_PACE: Final = 5.0
"""Seconds between two lines that tell how far a long part is."""
_MANY: Final = 200
"""Number of seeds from which on a run fails if a required occurrence is missing."""


def open_file_store(disk: CrashDisk, node: NodeId, incarnation: Incarnation) -> Store:
    """Open the shipped store, with segments so small as to change often."""
    return FileStore.open(
        f"node {node}",
        node=node,
        cluster="simulated",
        files=disk,
        incarnation=incarnation,
        segment_bytes=_SEGMENT_BYTES,
        merge_bytes=_MERGE_BYTES,
    )


def recover_file_store(disk: CrashDisk, target: CrashDisk) -> RecoveredDisk:
    """Make a new cluster from a simulated disk of the shipped store.

    As `raft-kv recover-from-quorum-loss` does.
    """
    survivor = Survivor("lost", "simulated", files=disk)
    try:
        recovered = survivor.recovered
        store = _open_recovered(target, recovered.identity.node)
        statement = recover_from_quorum_loss(survivor, store)
        store.close()
    finally:
        survivor.close()
    found = _open_recovered(target, recovered.identity.node)
    founded = found.recover()
    snapshot = None
    if founded.snapshot is not None:
        reader = found.open_snapshot(founded.snapshot)
        snapshot = b"".join(reader.chunks())
        reader.close()
    return RecoveredDisk(recovered, statement, founded, snapshot)


def _open_recovered(disk: CrashDisk, node: NodeId) -> Store:
    return FileStore.open(
        "new", node=node, cluster="recovered", files=disk, incarnation=1, segment_bytes=_SEGMENT_BYTES
    )


def open_for_crash_check(files: Files) -> Store:
    """Open the shipped store, with very small segments: a short log has merged, kept and dropped ones."""
    return FileStore.open("disk", node=1, cluster="c", files=files, incarnation=7, segment_bytes=4096, merge_bytes=2048)


# simulate


def _named(name: str) -> Any:
    """Return the object named by `package.module:attribute`; the user chose it, so it may have any type."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise CallerError(f"{name!r} names nothing: write package.module:attribute")
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))
    except (ImportError, AttributeError) as failure:
        raise CallerError(f"{name!r} names nothing: {failure}") from failure


def _subject(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `run_seed` common to all seeds."""
    subject: dict[str, Any] = {"open_store": _named(arguments.store) if arguments.store else open_file_store}
    if not arguments.store:
        subject["recover"] = recover_file_store
    if arguments.machine:
        subject["machine"] = _named(arguments.machine)
    if arguments.workload:
        subject["workload"] = _named(arguments.workload)
    return subject


def _profile(arguments: argparse.Namespace) -> Profile:
    """How hard and how long each seed is."""
    profile = Profile()
    return attrs.evolve(
        profile,
        chaos=profile.chaos if arguments.seconds is None else arguments.seconds * SECOND,
        clients=arguments.clients,
        operations=arguments.operations,
        mean_interval=profile.mean_interval if arguments.interval is None else arguments.interval * SECOND,
        fault_chance=arguments.fault_chance,
        purity=arguments.purity,
        leases=arguments.leases,
    )


def _given(arguments: argparse.Namespace) -> str:
    """Machine, workload and store as they were named on this command line."""
    names = [(name, getattr(arguments, name)) for name in ("machine", "workload", "store")]
    return " ".join(f"--{name} {given}" for name, given in names if given)


def _one(seed: int, arguments: argparse.Namespace, *, trace: bool = False) -> SeedReport:
    report = run_seed(seed, faults=arguments.faults, profile=_profile(arguments), trace=trace, **_subject(arguments))
    return attrs.evolve(report, subject=_given(arguments))


def _simulate(arguments: argparse.Namespace) -> int:
    _subject(arguments)  # names that name nothing are refused before anything is run
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    begun = time.monotonic()
    report = Report(tuple(_all_seeds(list(seeds), arguments, begun)))
    seconds = time.monotonic() - begun
    print(report.table() if arguments.details else report.summary())
    rate = f"{report.steps / seconds:,.0f} steps/s, {report.hours / seconds * 3600:,.0f} simulated hours per hour"
    print(f"{seconds:.0f} s with {arguments.workers} workers: {rate}; {report.verdict}")
    for failed in report.failures[:1]:
        _write_failure(failed, arguments)
    if arguments.trace and not report.failures:
        _write_trace(arguments.trace, _one(seeds[0], arguments, trace=True))
    vacuous = arguments.seeds >= _MANY and arguments.faults is None and bool(report.never_seen)
    return 1 if report.failures or vacuous else 0


def _all_seeds(seeds: list[int], arguments: argparse.Namespace, begun: float) -> list[SeedReport]:
    here = importlib.import_module("raft_testing.__main__")  # a worker can find it by this name only
    work: Callable[[int], SeedReport] = functools.partial(here._one, arguments=arguments)
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
    _tell_count(len(reports), count, begun)


def _tell_count(done: int, count: int, begun: float) -> None:
    """Print a line now and then, with the time left at this pace."""
    if done % (25 if count < 2500 else 250) == 0 or done == count:
        seconds = time.monotonic() - begun
        left = seconds / done * (count - done)
        print(f"{done} of {count} seeds, {seconds:.0f} s, about {left:.0f} s to go", file=sys.stderr, flush=True)


def _write_failure(failed: SeedReport, arguments: argparse.Namespace) -> None:
    """Print the first failure, reduced, and write its page."""
    tries = 0 if arguments.no_shrink else 60
    told = f"making seed {failed.seed} smaller" if tries else f"running seed {failed.seed} again for its page"
    print(f"{told} …", file=sys.stderr, flush=True)
    small = shrink(failed, tries=tries, profile=_profile(arguments), **_subject(arguments))
    small = attrs.evolve(small, subject=_given(arguments))
    print(explain(small))
    _write_page(arguments.page or f"raft-seed-{failed.seed}.html", small.page)
    if arguments.trace:
        _write_trace(arguments.trace, small)


def _write_trace(name: str, report: SeedReport) -> None:
    """Write the trace of a seed as JSON, for `draw`."""
    try:
        pathlib.Path(name).write_bytes(encode_trace(report.trace))
    except OSError as failure:
        raise CallerError(f"no trace was written: {failure}") from failure
    print(f"  trace of seed {report.seed}: {name}; as a page: python -m raft_testing draw {name}")


def _write_page(name: str, page: Callable[[], str]) -> None:
    """Write the page of a finding; a failure to draw it changes neither report nor status."""
    path = pathlib.Path(name)
    try:
        path.write_text(page(), encoding="utf-8")
    except OSError as failure:
        print(f"  no picture: {failure}", file=sys.stderr)
        return
    print(f"  picture: {path}")


# determinism


def _digest(seed: int, arguments: argparse.Namespace) -> SeedReport:
    return attrs.evolve(run_seed(seed, digest=True, **_subject(arguments)), subject=_given(arguments))


def _run_twice(seeds: Sequence[int], arguments: argparse.Namespace) -> Iterator[tuple[SeedReport, SeedReport]]:
    """For each seed its two runs."""
    here = importlib.import_module("raft_testing.__main__")
    work: Callable[[int], SeedReport] = functools.partial(here._digest, arguments=arguments)
    before = {name: value for name, value in os.environ.items() if name == "PYTHONHASHSEED"}
    with contextlib.ExitStack() as stack:
        runs: list[Iterator[SeedReport]] = []
        for number in ("1", "2"):
            os.environ["PYTHONHASHSEED"] = number  # read by the processes that are started now
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(max(1, arguments.workers // 2)))
            runs.append(pool.imap(work, seeds, chunksize=1))
        del os.environ["PYTHONHASHSEED"]
        os.environ.update(before)
        yield from zip(runs[0], runs[1], strict=True)


def _determinism(arguments: argparse.Namespace) -> int:
    """Run every seed in two processes with different hashes of strings, to find orders that depend on them."""
    _subject(arguments)
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    begun = time.monotonic()
    different: list[int] = []
    violated: list[SeedReport] = []
    found: list[str] = []
    for seed, (one, other) in zip(seeds, _run_twice(seeds, arguments), strict=True):
        found.append(one.digest)
        if one.digest != other.digest:
            different.append(seed)
            print(f"seed {seed} was not the same run twice", file=sys.stderr, flush=True)
        violated += [report for report in (one, other) if report.failed]
        _tell_count(len(found), len(seeds), begun)
    print("injected: the faults of each seed; and two processes that hash texts differently")
    print(f"seen: {len(set(found))} different runs of {len(found)} seeds, {len(different)} not the same twice")
    print("checked: all events and effects of all steps of all cores, with their times, byte for byte;")
    print("         and the state of every machine, at every snapshot and in the end")
    digest = hashlib.blake2b("".join(found).encode(), digest_size=8).hexdigest()
    print(f"{time.monotonic() - begun:.0f} s; to compare with other machines, the digest of all is {digest}")
    for seed in different[:1]:
        again = f"python -m raft_testing simulate --seed {seed} --seeds 1 {_given(arguments)}".rstrip()
        if violated:  # machines of one process cannot differ by their hashes
            print("machines differ within one process, too: a clock or a random number in `apply` is the likely reason")
        else:
            print("an order or a result that depends on hashes is the likely reason: sets, hash()")
        print(f"to look for it: PYTHONHASHSEED=1 (and 2) {again}")
    for report in violated:
        print(explain(report))
    return 1 if different or violated else 0


# explore, crash-disk, draw


def _explore(arguments: argparse.Namespace) -> int:
    from raft_testing.model_checker import search as explorer  # large, and needed only here

    bounds = explorer.SMALL_BOUNDS if arguments.bounds == "small" else explorer.SECOND_BOUNDS
    if arguments.states:
        bounds = attrs.evolve(bounds, states=arguments.states)
    begun = time.monotonic()

    def progress(depth: int, states: int, frontier: int) -> None:
        print(f"depth {depth}: {states:,} states, {frontier:,} to go on from", file=sys.stderr, flush=True)

    gc.disable()  # a search makes millions of values and no cycles
    report = explorer.explore(bounds, progress, _forked(arguments.workers) if arguments.workers > 1 else None)
    seconds = time.monotonic() - begun
    print(report.table())
    if report.counterexample is not None:
        found = report.counterexample
        _write_page(
            arguments.page,
            lambda: draw(found.trace, "model checker", f"python -m raft_testing explore --bounds {arguments.bounds}"),
        )
    print(f"{seconds:.1f} s, {report.states / seconds:,.0f} states/s")
    return 0 if report.counterexample is None else 1


_adopted: Callable[[int], bytes] | None = None
"""In a process forked to share the work of a search: its part."""


def _forked(workers: int) -> Spread:
    """Share the work of a search among processes, forked for each level with everything known so far."""

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


class _Pace:
    """Tells of a part of the work: its beginning, and now and then how much is done and how long the rest takes."""

    def __init__(self) -> None:
        self._name = ""
        self._begun = self._told = 0.0

    def begin(self, name: str) -> None:
        self._name, self._begun = name, time.monotonic()
        self._told = self._begun
        print(name, file=sys.stderr, flush=True)

    def at(self, done: float) -> None:
        now = time.monotonic()
        if now - self._told < _PACE or not 0 < done <= 1:
            return
        self._told = now
        left = (now - self._begun) * (1 - done) / done
        print(f"{self._name}: {done:.0%}, about {left:.0f} s to go", file=sys.stderr, flush=True)


def _crash_one(number: int, store: str | None) -> CrashReport | str:
    """One script; the text of a violation, where there is one."""
    pace = _Pace()
    open_store: Callable[[Files], Store] = _named(store) if store else open_for_crash_check
    try:
        return crash_disk_check(open_store, script_seed=number, progress=pace.begin, portion=pace.at)
    except StoreViolation as violation:
        told = [f"violation: {violation}"]
        if violation.__cause__ is not None:
            told.append("".join(traceback.format_exception(violation.__cause__)).rstrip())
        again = f"python -m raft_testing crash-disk --seed {number}" + (f" --store {store}" if store else "")
        return "\n".join([*told, f"  again: {again}"])


def _crash_disk(arguments: argparse.Namespace) -> int:
    begun = time.monotonic()
    if arguments.store:
        _named(arguments.store)  # a name that is wrong is told here, and not by every process
    here = importlib.import_module("raft_testing.__main__")
    work: Callable[[int], CrashReport | str] = functools.partial(here._crash_one, store=arguments.store)
    numbers = range(arguments.seed, arguments.seed + arguments.scripts)
    total, violations = CrashReport({}), 0
    with contextlib.ExitStack() as stack:
        reports: Iterable[CrashReport | str] = map(work, numbers)
        if min(arguments.workers, arguments.scripts) > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(arguments.workers))
            reports = pool.imap(work, numbers, chunksize=1)
        for done, report in enumerate(reports, 1):
            if isinstance(report, str):
                violations += 1
                print(report, flush=True)
            else:
                total += report
            seconds = time.monotonic() - begun
            left = seconds / done * (len(numbers) - done)
            told = f"{done} of {len(numbers)} scripts, {seconds:.0f} s, about {left:.0f} s to go"
            print(told, file=sys.stderr, flush=True)
    print(f"injected, and what came of it\n{total.table()}\n")
    print("\n".join(["checked, after each", *[f"  {check}" for check in CHECKED], ""]))
    print(f"{time.monotonic() - begun:.1f} s, {violations or 'no'} violation{'s' if violations > 1 else ''}")
    vacuous = not arguments.store and total.never_seen
    return 1 if violations or vacuous else 0


def _draw(arguments: argparse.Namespace) -> int:
    source = pathlib.Path(arguments.trace)
    path = pathlib.Path(arguments.output or f"{source.stem}.html")
    try:
        data = source.read_bytes()
        trace = trace_of(data) if data[:1] not in (b"{", b"[") else decode_trace(data)
        path.write_text(draw(trace, source.name), encoding="utf-8")
    except OSError as failure:
        raise CallerError(f"nothing was drawn: {failure}") from failure
    print(path)
    return 0


_COMMANDS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "simulate": _simulate,
    "determinism": _determinism,
    "explore": _explore,
    "crash-disk": _crash_disk,
    "draw": _draw,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return the exit status."""
    parsed = parser().parse_args(arguments)
    try:
        return _COMMANDS[parsed.command](parsed)
    except CallerError as failure:
        print(failure, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
