"""What of `raft_core` the simulator reaches by itself, without any other test: `python -m
tests.testing.simulated_coverage`.

A command that runs seeds of the simulator while `coverage` watches, each in a process that has
imported nothing of `raft_core` before, and that prints what was reached: lines and branches per module, which message
met which role, which events happened and which effects were ordered. `raft_testing` is the tool and not the
subject, so it is left out.

What cannot be reached is listed with its reason: `EXCLUDED`, patterns of lines; `OMITTED`, modules; `IMPOSSIBLE`,
pairs of message and role.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final, get_args

import attrs
import coverage

__all__ = ["EXCLUDED", "IMPOSSIBLE", "OMITTED", "Module", "Reached", "judge", "main", "measure"]

# Nothing of raft_core is imported at the top: a worker imports this module first, and lines that run while raft_core
# is being imported count only if coverage has begun before.

_ROOT: Final = Path(__file__).resolve().parents[2]

EXCLUDED: Final = {
    r"assert_never\(": "a type checker proves that nothing comes here",
    r"^class .*\(Protocol\):": "a protocol: nothing but declarations",
    r"raise AssertionError\(": "says that a closed union has another member than it has",
}
"""Lines that no run can come to: patterns, and why."""

OMITTED: Final = {
    "raft_core/node/home.py": "a simulation has one thread and no event loop, so that no call comes from another one",
    "raft_core/node/sync_patience.py": "a simulation has no thread that writes, so that no loop waits for one",
    "raft_core/node/loop.py": "the half of an adapter's loop that waits; the simulation has a loop of its own",
    "raft_core/node/opening.py": "opens objects for an adapter; the simulation opens its nodes itself",
    "raft_core/node/metrics.py": "collects numbers for a monitor, which a simulation does not have",
    "raft_core/node/prometheus.py": "writes numbers for a monitor",
    "raft_core/node/own_certificate.py": "simulated connections are not encrypted",
    "raft_core/node/security.py": "simulated connections are not encrypted",
    "raft_core/wire/certificates.py": "simulated connections are not encrypted",
    "raft_core/backup_format.py": "simulated clients ask for no backup",
    "raft_core/node/backup_pieces.py": "simulated clients ask for no backup",
    "raft_core/testing/*": "says where it went",
    "raft_core/host/*": "says where it went",
    "raft_core/machine.py": "says where it went",
    "raft_core/typed.py": "says where it went",
    "raft_core/storage.py": "says where it went",
    "raft_core/salvage.py": "says where it went",
    "raft_core/trace.py": "says where it went",
}
"""Modules that no run can reach, and why."""

IMPOSSIBLE: Final[Mapping[tuple[str, str], str]] = {}
"""Pairs of message and role that cannot happen, and why. Nothing stands here: whatever a core is told by the network
may be late, doubled or out of order, so that every message meets every role."""


@final
@attrs.frozen
class Module:
    """What was reached of one module. `branches`: ways on from a line that has two or more. `missing`: lines, and
    branches as `from->to`, never reached."""

    name: str
    statements: int
    statements_missed: int
    branches: int
    branches_missed: int
    missing: tuple[str, ...] = ()

    @property
    def percent(self) -> float:
        """Of statements and branches together."""
        return _percent(self.statements + self.branches, self.statements_missed + self.branches_missed)


@final
@attrs.frozen
class Reached:
    """What all seeds together reached. `met` counts "Message at role", "Event at role" and effects by their names."""

    modules: tuple[Module, ...]
    met: Counter[str]
    failures: tuple[str, ...] = ()

    @property
    def percent(self) -> float:
        """Of all statements and branches."""
        missed = sum(module.statements_missed + module.branches_missed for module in self.modules)
        return _percent(sum(module.statements + module.branches for module in self.modules), missed)

    @property
    def branch_percent(self) -> float:
        """Of all branches."""
        return _percent(
            sum(module.branches for module in self.modules), sum(module.branches_missed for module in self.modules)
        )


def _percent(count: int, missed: int) -> float:
    return 100.0 if not count else 100.0 * (count - missed) / count


# Workers.

_watching: coverage.Coverage | None = None
"""In a worker: what watches it."""


def _new_coverage(directory: str, suffix: str | bool) -> coverage.Coverage:
    watching = coverage.Coverage(
        data_file=os.path.join(directory, "data"),
        data_suffix=suffix,
        branch=True,
        config_file=False,
        source=[str(_ROOT / "raft_core")],
        omit=[str(_ROOT / path) for path in OMITTED],
        messages=False,
    )
    watching.set_option("report:exclude_lines", list(EXCLUDED))
    return watching


def _begin(directory: str) -> None:
    global _watching
    assert not any(name.startswith("raft_core") for name in sys.modules), "imported before coverage could watch it"
    _watching = _new_coverage(directory, f"worker{os.getpid()}")
    _watching.start()


def _run(seed: int) -> tuple[Counter[str], str]:
    """One seed; what it met, and how it failed if it did."""
    from raft_testing.__main__ import open_file_store, recover_file_store
    from raft_testing.sim.report import explain
    from raft_testing.sim.runner import run_seed

    report = run_seed(seed, open_store=open_file_store, recover=recover_file_store)
    assert _watching is not None
    _watching.save()
    return report.met, explain(report) if report.failed else ""


def measure(seeds: Sequence[int], workers: int) -> Reached:
    """What these seeds reach, in so many processes at a time."""
    met: Counter[str] = Counter()
    failures: list[str] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        with multiprocessing.get_context("spawn").Pool(workers, _begin, (directory,)) as pool:
            for done, (found, failure) in enumerate(pool.imap_unordered(_run, seeds, chunksize=1), 1):
                met.update(found)
                failures += [failure] if failure else []
                if done % 25 == 0 or done == len(seeds):
                    seconds = time.monotonic() - begun
                    print(f"{done} of {len(seeds)} seeds, {seconds:.0f} s", file=sys.stderr, flush=True)
        return Reached(_modules(directory), met, tuple(sorted(failures)))


def _modules(directory: str) -> tuple[Module, ...]:
    whole = _new_coverage(directory, suffix=False)
    whole.combine()
    path = Path(directory) / "report.json"
    whole.json_report(outfile=str(path))
    files: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["files"]
    return tuple(_module(name, files[name]) for name in sorted(files))


def _module(path: str, found: Mapping[str, Any]) -> Module:
    """From what coverage writes as JSON, which has no type of its own."""
    summary = found["summary"]
    branches = [f"{start}->{'exit' if end < 0 else end}" for start, end in found.get("missing_branches", [])]
    lines = [str(line) for line in found["missing_lines"]]
    return Module(
        name=str(Path(path).resolve().relative_to(_ROOT).with_suffix("")).replace(os.sep, "."),
        statements=summary["num_statements"],
        statements_missed=summary["missing_lines"],
        branches=summary["num_branches"],
        branches_missed=summary["missing_branches"],
        missing=tuple(sorted(lines + branches, key=lambda place: int(place.partition("->")[0]))),
    )


# What was met.


def _kinds() -> tuple[list[str], list[str], list[str], list[str]]:
    """Names of all messages, local events, effects, and roles, as the closed unions have them."""
    from raft_core.effects import Effect, RoleName
    from raft_core.events import LocalEvent
    from raft_core.messages import Message

    messages, events, effects = (
        sorted(kind.__name__ for kind in get_args(union)) for union in _unions(Message, LocalEvent, Effect)
    )
    return messages, events, effects, [role.value for role in RoleName]


def _unions(*unions: object) -> tuple[object, ...]:
    return unions


def judge(met: Mapping[str, int]) -> list[str]:
    """What was never met: pairs of message and role that can happen, events anywhere, effects."""
    messages, events, effects, roles = _kinds()
    missing = [
        f"{message} at {role}"
        for message in messages
        for role in roles
        if not met.get(f"{message} at {role}") and (message, role) not in IMPOSSIBLE
    ]
    missing += [event for event in events if not any(met.get(f"{event} at {role}") for role in roles)]
    return missing + [effect for effect in effects if not met.get(effect)]


# The report.


def _table(reached: Reached, *, missing: bool) -> list[str]:
    width = max((len(module.name) for module in reached.modules), default=10)
    head = f"{'module':<{width}}  statements  missed  branches  missed  reached"
    rows = [head]
    for module in reached.modules:
        rows.append(
            f"{module.name:<{width}}  {module.statements:>10}  {module.statements_missed:>6}  "
            f"{module.branches:>8}  {module.branches_missed:>6}  {module.percent:6.1f}%"
        )
        if missing and module.missing:
            rows.append(f"    never: {', '.join(module.missing)}")
    totals = f"all: {reached.percent:.2f}% of statements and branches, {reached.branch_percent:.2f}% of branches alone"
    return [*rows, totals, ""]


def _matrix(met: Mapping[str, int]) -> list[str]:
    messages, events, effects, roles = _kinds()
    width = max(map(len, (*messages, *events)))
    rows = [f"{'message met role':<{width}}" + "".join(f"  {role:>13}" for role in roles)]
    for name in messages:
        rows.append(f"{name:<{width}}" + "".join(f"  {_cell(met, name, role):>13}" for role in roles))
    rows += ["", f"{'event met role':<{width}}" + "".join(f"  {role:>13}" for role in roles)]
    for name in events:
        rows.append(f"{name:<{width}}" + "".join(f"  {met.get(f'{name} at {role}', 0):>13}" for role in roles))
    rows += ["", "effect ordered"]
    rows += [f"{name:<{width}}  {met.get(name, 0):>13}" for name in effects]
    return [*rows, ""]


def _cell(met: Mapping[str, int], message: str, role: str) -> str:
    count = met.get(f"{message} at {role}", 0)
    return "impossible" if not count and (message, role) in IMPOSSIBLE else str(count)


def _reasons() -> list[str]:
    rows = ["not counted, because no run can come there"]
    rows += [f"  {pattern:<24}  {reason}" for pattern, reason in (EXCLUDED | OMITTED).items()]
    rows += [f"  {message} at {role}: {reason}" for (message, role), reason in IMPOSSIBLE.items()]
    return [*rows, ""]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.testing.simulated_coverage",
        description="Runs seeds of the simulator under the package `coverage`, and says what of raft_core they reach "
        "without any other test: statements and branches of every module but those of raft_testing, every message "
        "at every role, every event and every effect. Watched code runs about four times slower.",
        epilog="Exit status: 0 where enough was reached and nothing was violated, 1 otherwise, 2 for wrong arguments.",
    )
    parser.add_argument("--seeds", type=int, default=25, metavar="N", help="how many seeds (25)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="the first seed (1)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes at a time (2)")
    parser.add_argument("--missing", action="store_true", help="also list the lines and branches never reached")
    parser.add_argument(
        "--least",
        type=float,
        default=0.0,
        metavar="PERCENT",
        help="fail where less of all statements and branches is reached (0)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; the exit status."""
    parser = _parser()
    wanted = parser.parse_args(arguments)
    if wanted.seeds < 1 or wanted.workers < 1:
        parser.error("at least one seed and one worker are needed")
    reached = measure(range(wanted.seed, wanted.seed + wanted.seeds), wanted.workers)
    never = judge(reached.met)
    print("\n".join([*_table(reached, missing=wanted.missing), *_matrix(reached.met), *_reasons()]))
    for failure in reached.failures:
        print(failure)
    if never:
        print(f"never met: {', '.join(never)}")
    enough = reached.percent >= wanted.least
    if not enough:
        print(f"less than {wanted.least:g}% reached")
    return 1 if reached.failures or never or not enough else 0


if __name__ == "__main__":
    sys.exit(main())
