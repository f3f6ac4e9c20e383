"""Reports of simulated seeds: faults injected, events seen, checks made, violations.

`SeedReport` of one run, `Report` of many, and their text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar, final

import attrs

from raft_core.node.limits import SECOND
from raft_testing.checkers.safety import CHECKS
from raft_testing.faults.catalogue import Fault
from raft_testing.linearizability.checker import Decision
from raft_testing.trace.html import draw
from raft_testing.trace.records import TraceRecord
from raft_testing.workloads.drawn import SUBJECTS

__all__ = ["MUST_BE_SEEN", "UNDECIDED", "Report", "SeedReport", "explain"]

_Key = TypeVar("_Key")

MUST_BE_SEEN: Final = (
    "uncommitted tail overwritten by a new leader",
    "commit while joint",
    "snapshot restored from a leader",
    "crash between persist and send",
    "pre-vote refused",
    "read postponed until the first commit of a term",
    "retry answered from its session",
    "damage detected on opening",
    "node ended: LogLost",
    "leadership transferred",
    "membership changed",
)
"""Occurrences required of a run of many seeds: without them it has proved less than it seems."""

UNDECIDED: Final = f"history {Decision.UNDECIDED.value}"
"""Counted as seen where the checker of histories gave up."""

_SHOWN: Final = 2000
"""Records of a trace on a page: the last ones, up to the violation."""
_SHOWN_AFTER: Final = 10
"""Records after the violation, where the run went on."""


@final
@attrs.frozen
class SeedReport:
    """One run. `violation` is empty if there was none; `moment` and `virtual` are virtual nanoseconds.

    `faults` counts injected faults, `seen` noteworthy occurrences, `met` pairs of event and role. `chosen` are the
    kinds of fault of this seed. `digest` is equal for equal runs, `trace` is present if it was requested.

    `options` and `subject` are the arguments of the command for the same run: numbers, and the names of machine,
    workload and store; `subject` is None if one of them has no importable name. `drawn` is the machine drawn by the
    seed, empty if the caller named one.
    """

    seed: int
    violation: str
    moment: int
    chosen: tuple[Fault, ...]
    operations: int
    answered: int
    steps: int
    virtual: int
    committed: int
    faults: Counter[Fault]
    seen: Counter[str]
    met: Counter[str]
    digest: str = ""
    trace: tuple[TraceRecord, ...] = ()
    options: str = ""
    subject: str | None = ""
    drawn: str = ""

    @property
    def failed(self) -> bool:
        """True if something was violated."""
        return bool(self.violation)

    @property
    def command(self) -> str:
        """The command for the same run; the call from Python if there is no such command."""
        if self.subject is None:
            faults = ", ".join(f"Fault.{fault.name}" for fault in self.chosen)
            chosen = f"frozenset({{{faults}}})" if faults else "frozenset()"
            return f"run_seed({self.seed}, faults={chosen}, ...)  # and your own arguments in place of the dots"
        names = ",".join(fault.name.lower() for fault in self.chosen) or "none"
        whole = f"python -m raft_testing simulate --seed {self.seed} --seeds 1 --faults {names}"
        return " ".join(part for part in (whole, self.options, self.subject) if part)

    def page(self) -> str:
        """Return a self-contained HTML page of the last 2,000 events up to the violation, or of the run."""
        end = next((at for at, record in enumerate(self.trace, 1) if record.violation), len(self.trace))
        shown = self.trace[max(0, end - _SHOWN) : end + _SHOWN_AFTER]
        return draw(shown, f"seed {self.seed}", self.command)


@final
@attrs.frozen
class Report:
    """Many runs."""

    seeds: tuple[SeedReport, ...]

    @property
    def failures(self) -> tuple[SeedReport, ...]:
        """The seeds with a violation."""
        return tuple(seed for seed in self.seeds if seed.failed)

    @property
    def undecided(self) -> tuple[SeedReport, ...]:
        """Seeds whose history is too large for the linearizability checker to decide."""
        return tuple(seed for seed in self.seeds if seed.seen[UNDECIDED] and not seed.failed)

    @property
    def hours(self) -> float:
        """Virtual hours of whole clusters."""
        return sum(seed.virtual for seed in self.seeds) / SECOND / 3600

    @property
    def faults(self) -> Counter[Fault]:
        """The number of faults of each kind."""
        return _total(seed.faults for seed in self.seeds)

    @property
    def seen(self) -> Counter[str]:
        """The number of times each notable event was seen."""
        drawn = Counter(_run_with(seed.drawn) for seed in self.seeds if seed.drawn)
        return _total([*(seed.seen for seed in self.seeds), drawn])

    @property
    def met(self) -> Counter[str]:
        """The number of times each message met each role."""
        return _total(seed.met for seed in self.seeds)

    @property
    def steps(self) -> int:
        """Steps of cores, each followed by every check."""
        return sum(seed.steps for seed in self.seeds)

    @property
    def never_seen(self) -> tuple[str, ...]:
        """Required occurrences missing from this run."""
        seen = self.seen
        if not any(seed.drawn for seed in self.seeds):
            return tuple(what for what in MUST_BE_SEEN if not seen[what])
        drawn = tuple(_run_with(subject.name) for subject in SUBJECTS)
        return tuple(what for what in (*MUST_BE_SEEN, *drawn) if not seen[what])

    def __add__(self, other: Report) -> Report:
        return Report((*self.seeds, *other.seeds))

    def table(self) -> str:
        """Return a table of the faults injected, the events seen, the checks made, and the failures."""
        lines = [
            *_section("injected", {fault.value: count for fault, count in self.faults.items()}),
            *_section("seen", self.seen),
            *_section("events by role, and effects", self.met),
            "checked, after every step or at the end of every seed",
            *[f"  {check}" for check in CHECKS],
            "",
            self._size,
        ]
        if self.never_seen:
            lines.append(f"never seen: {', '.join(self.never_seen)}")
        lines += [explain(seed) for seed in self.failures]
        return "\n".join([*lines, self.verdict])

    def summary(self) -> str:
        """Return a few lines: how much was run, what was injected most and least often, failed seeds, the verdict."""
        faults, seen = self.faults, self.seen
        lines = [
            self._size,
            f"injected  {sum(faults.values()):,} faults of {len(faults)} kinds: "
            + _ends({fault.value: count for fault, count in faults.items()}),
            f"seen      {len(seen)} kinds of noteworthy occurrence; "
            + (f"not yet: {', '.join(self.never_seen)}" if self.never_seen else "all that a long run must see"),
            f"checked   {len(CHECKS)} properties, after every step or at the end of every seed",
        ]
        if self.failures:
            lines.append(f"violated  seeds {', '.join(str(seed.seed) for seed in self.failures)}")
        return "\n".join([*lines, self.verdict])

    @property
    def _size(self) -> str:
        """How much was run, in a line."""
        operations = [seed.operations for seed in self.seeds] or [0]
        return (
            f"{len(self.seeds)} seeds, {self.hours:.2f} cluster-hours, {self.steps} steps of cores, "
            f"{sum(operations)} client operations (at least {min(operations)} per seed)"
        )

    @property
    def verdict(self) -> str:
        """How many seeds were violated, and how many could not be judged to the end, in a line."""
        violations = f"{len(self.failures)} violations"
        if not self.undecided:
            return violations
        numbers = ", ".join(str(seed.seed) for seed in self.undecided[:5]) + ("" if len(self.undecided) <= 5 else ", …")
        return (
            f"{violations}; UNDECIDED: the histories of {len(self.undecided)} of {len(self.seeds)} seeds ({numbers}) "
            "are too large to tell whether they are linearizable: take fewer clients or operations, or more keys"
        )


def explain(seed: SeedReport) -> str:
    """Return a failed seed in a few lines."""
    lines = [f"seed {seed.seed}, at {seed.moment / SECOND:.3f} s: {seed.violation}", f"  again: {seed.command}"]
    if seed.drawn:
        lines.insert(1, f"  machine: {seed.drawn}, which the seed draws again")
    return "\n".join(lines)


def _run_with(subject: str) -> str:
    """Return the name under which a run with a drawn machine is counted."""
    return f"run with {subject}"


def _ends(counts: dict[str, int]) -> str:
    """Return the most and the least frequent ones."""
    names = sorted(counts, key=lambda name: (-counts[name], name))
    shown = [f"{name} {counts[name]:,}" for name in names]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:4], "…", *shown[-2:]])


def _total(counters: Iterable[Counter[_Key]]) -> Counter[_Key]:
    total: Counter[_Key] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _section(title: str, counts: dict[str, int] | Counter[str]) -> Sequence[str]:
    rows = [f"  {counts[what]:>9}  {what}" for what in sorted(counts)]
    return [title, *rows, ""]
