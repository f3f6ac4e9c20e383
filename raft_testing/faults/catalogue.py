"""All kinds of fault of the simulator, and a seed's choice among them.

`Fault` is the catalogue; `Profile` is the length and intensity of a run. `nemesis` decides when and where a fault
strikes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, final

import attrs

from raft_core.errors import SettingsError
from raft_core.node.limits import MILLISECOND, SECOND

__all__ = ["ENDS_PROCESSES", "EVERY_FAULT", "Fault", "Profile"]


class Fault(StrEnum):
    """A kind of fault, or of an order at a bad moment."""

    # The network.
    LOSS = "messages lost"
    DUPLICATION = "messages doubled"
    REORDERING = "messages out of order"
    DELAY = "delay spike"
    CLOG = "clog, then burst"
    ONE_WAY = "one-way partition"
    PARTITION = "symmetric partition"
    ISOLATE_LEADER = "leader isolated"
    BRIDGE = "bridge partition"
    OVERFLOW = "queue overflow"
    RESET = "connection reset"
    REPLAY = "old messages delivered again"
    STRANGERS = "strangers at the door"
    # Processes and clocks.
    POWER_LOSS = "power loss"
    KILL = "process killed"
    CRASH_IN_EFFECTS = "crash in the middle of effects"
    CRASH_IN_RECOVERY = "crash while recovering"
    STOP = "orderly stop"
    RESTART = "planned restart"
    FORMING = "trouble while the cluster forms"
    MACHINE = "state machine raises"
    OUTAGE = "long outage"
    PAUSE = "process paused"
    CLOCK_RATE = "clock too fast or slow"
    CLOCK_JUMP = "clock jump"
    WALL_CLOCK = "wall clock stepped"
    # Disks.
    SLOW_SYNC = "slow sync"
    LOST_SUFFIX = "unsynced suffix lost"
    TORN_WRITE = "torn write"
    BIT_FLIP = "bit flipped"
    DAMAGE = "file damaged"
    WRITE_ERROR = "write error"
    SYNC_ERROR = "sync error"
    READ_ERROR = "read error"
    NO_SPACE = "no space"
    SNAPSHOT_CUT = "snapshot write interrupted"
    WIPE = "disk wiped"
    # Operators and clients.
    GROW = "member added"
    SHRINK = "member removed"
    REPLACE = "member replaced"
    PROMOTE = "learner promoted"
    JOINT = "several members changed at once"
    EXPLICIT = "joint until told to leave"
    TRANSFER = "leadership transfer"
    FLOOD = "proposal flood"
    MISUSE = "requests that make no sense"
    MISCONFIGURED = "started with nonsense"
    NUDGE = "told to stand, or to forget its leader"
    RELEASES = "two releases, and a feature enabled"


EVERY_FAULT: Final = tuple(Fault)
ENDS_PROCESSES: Final = frozenset(
    {
        Fault.POWER_LOSS,
        Fault.KILL,
        Fault.CRASH_IN_EFFECTS,
        Fault.CRASH_IN_RECOVERY,
        Fault.STOP,
        Fault.FORMING,
        Fault.MACHINE,
        Fault.OUTAGE,
        Fault.LOST_SUFFIX,
        Fault.TORN_WRITE,
        Fault.BIT_FLIP,
        Fault.DAMAGE,
        Fault.WRITE_ERROR,
        Fault.SYNC_ERROR,
        Fault.READ_ERROR,
        Fault.NO_SPACE,
        Fault.SNAPSHOT_CUT,
        Fault.WIPE,
        Fault.REPLACE,
        Fault.MISCONFIGURED,
        Fault.RELEASES,
    }
)
"""After which a node may have to begin without an idea of the time."""


@final
@attrs.frozen
class Profile:
    """How long and how hard each seed is. Times are virtual nanoseconds. Raise `SettingsError` on nonsense."""

    chaos: int = 116 * SECOND
    """How long faults strike."""
    liveness: int = 60 * SECOND
    """Within so much time after the last fault everything must work again."""
    clients: int = 5
    """Simulated clients, each with one operation under way at a time."""
    operations: int = 260
    """Operations that the clients start in all."""
    mean_interval: int = 16 * SECOND
    """How long it is on average from one fault of a kind to the next; every seed varies it per kind."""
    fault_chance: float = 0.4
    """With which probability a kind of fault takes part in a seed."""
    purity: float = 0.01
    """Which share of the core's steps is done twice, on a copy, to see that equal steps have equal effects."""
    tick: int = 100 * MILLISECOND
    """How long the core's tick is."""
    leases: bool = False
    """Whether reads are answered from the leader's lease. That is linearizable only while clocks run alike, so leave
    out `CLOCK_RATE` and `CLOCK_JUMP`."""

    def __attrs_post_init__(self) -> None:
        for name in ("chaos", "liveness", "clients", "operations", "mean_interval", "tick"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{name} must be positive")
        if not (0 <= self.fault_chance <= 1 and 0 <= self.purity <= 1):
            raise SettingsError("a probability is between 0 and 1")
