"""How fast clusters are simulated with faults on and every check after every step: `python -m benchmarks.simulator`.

What lives here: the measurement of the simulator alone, in one process.
"""

from __future__ import annotations

import time

from raft_testing.__main__ import open_file_store
from raft_testing.sim.runner import simulate

__all__ = ["measure"]


def measure(quick: bool = False) -> dict[str, float]:
    """Steps of cores per second, simulated cluster-hours per hour, and seeds per minute; higher is better."""
    seeds = range(500, 504 if quick else 530)
    begun = time.perf_counter()
    report = simulate(seeds, open_store=open_file_store)
    seconds = time.perf_counter() - begun
    if report.failures:
        raise RuntimeError(report.table())
    return {
        "simulator: steps per second": report.steps / seconds,
        "simulator: simulated hours per hour": report.hours / seconds * 3600,
        "simulator: seeds per minute": len(report.seeds) / seconds * 60,
    }


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:45} {value:12,.0f}")
