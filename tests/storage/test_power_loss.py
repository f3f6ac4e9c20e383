"""Stores that call the operating system themselves, after power losses between and inside their recorded calls."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from random import Random

import attrs
import pytest

from raft_core.errors import DiskError
from tests.storage.engine_child import content_of, open_at
from tests.storage.syscalls import Machine, record, strace_works, survivors

PACKAGES = {"file": "zlib", "sqlite": "sqlite3", "rocksdb": "rocksdict", "mdbx": "mdbx"}
KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed"))
    for kind, package in PACKAGES.items()
]
WRITES = int(os.environ.get("WRITES", "40"))
POINTS = int(os.environ.get("POWER_LOSSES", "8"))
"""At about so many places of the recording the power goes; each time with four sets of surviving changes."""


pytestmark = pytest.mark.skipif(not strace_works(), reason="strace is not installed, or may not trace")


def power_losses(kind: str, root: Path, *, heed_syncs: bool = True) -> int:
    """Record one run, and let the power go at many places of it. Return how often."""
    original, left = root / "data", root / "left"
    calls = record(f"{kind}:{original}", original, seed=5, writes=WRITES, scratch=root)
    assert sum(call.operation == "acknowledged" for call in calls) == WRITES
    assert sum(call.operation == "sync" or call.durable for call in calls) >= WRITES
    rng, machine, tried = Random(POINTS), Machine(), 0
    chosen = set(rng.sample(range(len(calls)), min(POINTS, len(calls))))
    last = base = 0
    for number, call in enumerate(calls):
        if number in chosen:
            for keep in survivors(rng):
                machine.lose_power(keep, left)
                check(f"{kind}:{left}", last, base, f"power lost before call {number}: {call.operation} {call.path}")
                tried += 1
        if call.operation == "acknowledged":
            last, base = map(int, call.data.split())
        if heed_syncs or call.operation != "sync":
            machine.make(call if heed_syncs else attrs.evolve(call, durable=False))
    return tried


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_acknowledged_is_lost_when_the_power_goes(kind: str, tmp_path: Path) -> None:
    assert power_losses(kind, tmp_path) == 4 * POINTS


@pytest.mark.parametrize("kind", KINDS)
def test_disk_that_ignores_syncs_is_found(kind: str, tmp_path: Path) -> None:
    """The replay sees what a missing sync would cost."""
    with pytest.raises((AssertionError, DiskError)):
        power_losses(kind, tmp_path, heed_syncs=False)


def check(location: str, last: int, base: int, where: str) -> None:
    """The store opens, twice, and holds everything that was acknowledged."""
    found = []
    for _ in range(2):
        store = open_at(location)
        recovered = store.recover()
        start = recovered.snapshot.index if recovered.snapshot else 0
        assert start >= base, f"{where}: the snapshot at {base} is gone"
        assert start + len(recovered.entries) >= last - 3, f"{where}: {last} was acknowledged"
        assert all(entry.data == content_of(entry.index) for entry in recovered.entries), where
        found.append((recovered.hard, recovered.snapshot, recovered.entries))
        store.close()
    assert found[0] == found[1], where
