"""A snapshot of the same index is another one where its term, its configuration or that one's place differs."""

from __future__ import annotations

import msgspec
import pytest

from raft_core.entries import SnapshotMeta
from raft_core.events import SnapshotReceived
from raft_core.ids import Index, Term
from raft_core.membership import Members
from raft_core.node.events import ChunkStored
from tests.node.test_snapshot_transfer import META, SENDER, Desk


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(META, term=Term(META.term + 1)),
        msgspec.structs.replace(META, members=Members.initial([1, 2, 3, 4, 5])),
        msgspec.structs.replace(META, members_index=Index(META.index - 1)),
    ],
)
def test_host_takes_no_other_snapshot_for_the_one_it_receives(other: SnapshotMeta) -> None:
    desk = Desk()
    desk.connect()
    desk.receiving.begin(SENDER, META)
    desk.sent()

    desk.receiving.on_stored(ChunkStored(other, 10))
    desk.receiving.on_complete(other)
    assert list(desk.orders.events) == []
    assert desk.sent() == []

    desk.receiving.on_complete(META)
    assert list(desk.orders.events) == [SnapshotReceived(META)]
