"""The checks of what disks say that their snapshots cover see what is wrong."""

from __future__ import annotations

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.ids import Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.recovered import Identity, Recovered
from raft_testing.checkers.reference_model import DiskModel, ModelMismatch
from raft_testing.disk.script import LogState
from tests.core.helpers import entries

META = SnapshotMeta(Index(4), Term(1), Members.initial([1, 2, 3]))
WRITTEN = entries(*[(index, 1) for index in range(1, 7)])
WRITES = (
    Persist(WriteId(1), HardState(Term(1)), entries=WRITTEN),
    Persist(WriteId(2), snapshot=META, drop_before=Index(3)),
)

WRONG = {
    "another term": entries((3, 1), (4, 2)),
    "other data": (WRITTEN[2], Entry.make(4, 1, b"other")),
    "not up to the snapshot": WRITTEN[2:3],
    "beyond the snapshot": WRITTEN[2:5],
}


def found(covered: tuple[Entry, ...]) -> Recovered:
    return Recovered(Identity(NodeId(1)), HardState(Term(1)), META, WRITTEN[4:], covered=covered)


def of_the_simulator(covered: tuple[Entry, ...]) -> bool:
    model = DiskModel()
    for write in WRITES:
        model.pending.append(write)
    try:
        return model.recovered(found(covered)) == len(WRITES)
    except ModelMismatch:
        return False


def of_the_crash_check(covered: tuple[Entry, ...]) -> bool:
    state = LogState()
    for write in WRITES:
        state = state.after(write)
    return state.agrees(found(covered))


@pytest.mark.parametrize("check", [of_the_simulator, of_the_crash_check])
def test_the_last_of_what_the_snapshot_covers_or_nothing_is_right(check: object) -> None:
    assert callable(check)
    for right in ((), WRITTEN[3:4], WRITTEN[2:4]):
        assert check(right)
    for wrong in WRONG.values():
        assert not check(wrong)
