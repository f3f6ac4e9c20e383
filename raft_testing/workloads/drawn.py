"""The machines and workloads that a seed draws from where its caller names neither.

`SUBJECTS` is the table, `draw_subject` draws. The choice depends on the seed alone, so the command that repeats a seed
need not name it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import attrs

from raft_core.state_machine import StateMachine
from raft_testing.rng import Rng
from raft_testing.workloads.leases import LeaseMachine, LeaseWorkload
from raft_testing.workloads.mass_expiry import ExpiringMachine, ExpiringWorkload
from raft_testing.workloads.registers import RegisterMachine, RegisterWorkload, Workload
from raft_testing.workloads.typed_registers import TypedRegisterWorkload, new_typed_registers

__all__ = ["REGISTERS", "SUBJECTS", "Subject", "draw_subject"]


@final
@attrs.frozen
class Subject:
    """A machine with its workload. `share`: of the seeds, those that draw it."""

    name: str
    share: float
    machine: Callable[[], StateMachine]
    workload: Callable[[], Workload]


REGISTERS: Final = Subject("registers", 0.5, RegisterMachine, RegisterWorkload)
"""What stands in for the half that a caller does not name, too."""

SUBJECTS: Final = (
    Subject("typed registers", 0.2, new_typed_registers, TypedRegisterWorkload),
    Subject("leases", 0.15, LeaseMachine, LeaseWorkload),
    Subject("mass expiry and huge results", 0.15, ExpiringMachine, ExpiringWorkload),
    REGISTERS,
)
"""All of them; the shares add up to 1."""


def draw_subject(seed: int) -> Subject:
    """Return the subject of the seed, the same each time."""
    left = Rng(seed).fork("machine").random.random()
    for subject in SUBJECTS:
        if left < subject.share:
            return subject
        left -= subject.share
    return REGISTERS  # the shares may add up to a little less than 1
