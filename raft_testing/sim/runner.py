"""The simulator's entry points: run seeds with your own machine and store, and read the report.

`run_seed`, `simulate` and `shrink`. `simulation` describes the course of a run.

    report = simulate(range(100), machine=MyMachine, workload=MyWorkload, open_store=open_my_store)
    assert not report.failures, report.table()
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from raft_core.node.limits import SECOND
from raft_core.state_machine import StateMachine
from raft_testing.checkers.recovery_probe import RecoverDisk, RecoveredDisk
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.sim.report import Report, SeedReport
from raft_testing.sim.simulation import OpenStore, Simulation
from raft_testing.trace.records import Tracer
from raft_testing.workloads.drawn import REGISTERS, draw_subject
from raft_testing.workloads.registers import Workload

__all__ = [
    "OpenStore",
    "Profile",
    "RecoverDisk",
    "RecoveredDisk",
    "Report",
    "SeedReport",
    "run_seed",
    "shrink",
    "simulate",
]

_STANDARD: Final = Profile()
_SHIPPED: Final = "raft_testing.__main__"
"""The module with the store and the recovery used by the command without arguments."""


def run_seed(
    seed: int,
    *,
    open_store: OpenStore,
    machine: Callable[[], StateMachine] | None = None,
    workload: Callable[[], Workload] | None = None,
    profile: Profile = _STANDARD,
    faults: frozenset[Fault] | None = None,
    recover: RecoverDisk | None = None,
    trace: bool = False,
    digest: bool = False,
) -> SeedReport:
    """Run one seed and return its report.

    `machine` makes the state machine of a node, which runs under `Sessions`. `workload` makes the operations of the
    clients of this run. Without both, the seed draws them from `raft_testing.workloads.drawn.SUBJECTS`; without one,
    registers take its place. `open_store` opens a node's store on its simulated disk. `recover`, if given, founds a new
    cluster on such a disk. `faults`: of the kinds chosen by the seed, only these take part.

    `trace`: record every step, for `SeedReport.page`. `digest`: compute a hash over all events and effects, equal in
    equal runs. An exception raised by the user's own parts is a violation, reported with its place.
    """
    tracer = Tracer() if trace else None
    subject = _subject(open_store, machine, workload, profile, recover)
    drawn = draw_subject(seed) if machine is None and workload is None else None
    stand_in = drawn or REGISTERS
    simulation = Simulation(
        seed,
        machine=machine or stand_in.machine,
        workload=(workload or stand_in.workload)(),
        open_store=open_store,
        profile=profile,
        only=faults,
        tracer=tracer,
        digest=digest,
        recover=recover,
    )
    violation = simulation.run()
    safety = simulation.safety
    seen: Counter[str] = Counter()
    for counter in (simulation.world.seen, safety.seen, simulation.world.replicas.seen, simulation.world.network.seen):
        seen.update(counter)
    return SeedReport(
        seed=seed,
        violation=violation.text if violation is not None else "",
        moment=violation.moment if violation is not None else 0,
        chosen=simulation.nemesis.chosen,
        operations=simulation.traffic.operations,
        answered=sum(client.answered for client in simulation.clients),
        steps=safety.steps,
        virtual=simulation.world.now,
        committed=safety.committed,
        faults=simulation.nemesis.counts,
        seen=seen,
        met=safety.met,
        digest=simulation.recording.digest,
        trace=tuple(tracer.records) if tracer is not None else (),
        options=_options(profile),
        subject=subject,
        drawn="" if drawn is None else drawn.name,
    )


def _options(profile: Profile) -> str:
    """How the command is told of this profile, as far as it can be."""
    options: list[str] = []
    for option, name in (("seconds", "chaos"), ("interval", "mean_interval")):
        if getattr(profile, name) != getattr(_STANDARD, name):
            options.append(f"--{option} {getattr(profile, name) // SECOND}")
    for name in ("clients", "operations", "fault_chance", "purity"):
        if getattr(profile, name) != getattr(_STANDARD, name):
            options.append(f"--{name.replace('_', '-')} {getattr(profile, name)}")
    if profile.leases:
        options.append("--leases")
    return " ".join(options)


def _subject(
    open_store: OpenStore,
    machine: Callable[[], StateMachine] | None,
    workload: Callable[[], Workload] | None,
    profile: Profile,
    recover: RecoverDisk | None,
) -> str | None:
    """Return the arguments of the command for the user's parts; None if one has no name."""
    if profile.liveness != _STANDARD.liveness or profile.tick != _STANDARD.tick:
        return None
    if profile.chaos % SECOND or profile.mean_interval % SECOND:
        return None
    options: list[str] = []
    for option, factory in (("machine", machine), ("workload", workload), ("store", open_store)):
        name = "" if factory is None else _name_of(factory)
        if name is None:
            return None
        if name and name != f"{_SHIPPED}:open_file_store":
            options.append(f"--{option} {name}")
    if recover is not None and (_name_of(open_store), _name_of(recover)) != (
        f"{_SHIPPED}:open_file_store",
        f"{_SHIPPED}:recover_file_store",
    ):
        return None
    return " ".join(options)


def _name_of(factory: object) -> str | None:
    """Return `package.module:name`, or None if another process could not import it."""
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)
    owner = getattr(factory, "__self__", None)
    if isinstance(owner, type) and isinstance(name, str):  # a class method, perhaps of a base class
        module, name = owner.__module__, f"{owner.__qualname__}.{name.rpartition('.')[2]}"
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if module in ("__main__", "builtins") or "<" in name:
        return None  # of a script, of code that was made up on the way, or of a function's inside
    return f"{module}:{name}"


def simulate(
    seeds: Iterable[int],
    *,
    open_store: OpenStore,
    machine: Callable[[], StateMachine] | None = None,
    workload: Callable[[], Workload] | None = None,
    profile: Profile = _STANDARD,
    faults: frozenset[Fault] | None = None,
    recover: RecoverDisk | None = None,
    progress: Callable[[SeedReport], None] = lambda seed: None,
) -> Report:
    """Run all seeds, one after the other, and return the report. `progress` is called with each."""
    reports: list[SeedReport] = []
    for seed in seeds:
        report = run_seed(
            seed,
            open_store=open_store,
            machine=machine,
            workload=workload,
            profile=profile,
            faults=faults,
            recover=recover,
        )
        reports.append(report)
        progress(report)
    return Report(tuple(reports))


def shrink(
    failed: SeedReport,
    *,
    open_store: OpenStore,
    machine: Callable[[], StateMachine] | None = None,
    workload: Callable[[], Workload] | None = None,
    profile: Profile = _STANDARD,
    recover: RecoverDisk | None = None,
    tries: int = 60,
) -> SeedReport:
    """Return the same violation with fewer kinds of fault and fewer operations, within `tries` runs, with its trace.

    A run with fewer faults takes another course and may find another instance of the same mistake. It counts if its
    text is equal except for numbers.
    """
    wanted = _shape(failed.violation)
    left = [tries]

    def fails(faults: frozenset[Fault], operations: int) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        found = run_seed(
            failed.seed,
            open_store=open_store,
            machine=machine,
            workload=workload,
            profile=attrs.evolve(profile, operations=operations),
            faults=faults,
            recover=recover,
        )
        return _shape(found.violation) == wanted

    faults, operations = frozenset(failed.chosen), profile.operations
    if fails(frozenset(), operations):
        faults = frozenset()
    for fault in failed.chosen:
        if fault in faults and fails(faults - {fault}, operations):
            faults -= {fault}
    while operations > 10 and fails(faults, operations // 2):
        operations //= 2
    return run_seed(
        failed.seed,
        open_store=open_store,
        machine=machine,
        workload=workload,
        profile=attrs.evolve(profile, operations=operations),
        faults=faults,
        recover=recover,
        trace=True,
    )


def _shape(text: str) -> str:
    """Return the violation's first line without numbers and names."""
    return re.sub(r"[0-9]+", "#", text.partition("\n")[0])[:60]
