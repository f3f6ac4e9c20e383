"""A commit announcement whose place a follower lacks is rejected: what went before it is lost, and comes at once."""

from __future__ import annotations

import msgspec

from raft_core.effects import Send
from raft_core.events import Proposed
from raft_core.ids import NodeId, RequestId
from raft_core.messages import COMMIT_UPDATE, AppendEntries
from tests.core.helpers import accepted, append, core, leader, persist, rejected, sent, step


def test_announcement_of_a_place_that_is_lacking_is_rejected() -> None:
    raft = core()
    step(raft, append(1, 2, (1, 1)))

    effects = step(raft, append(1, 2, (4, 1), commit=4, purpose=COMMIT_UPDATE))

    assert effects == [Send(NodeId(2), msgspec.structs.replace(rejected(1, 1, 4, (1, 1)), purpose=COMMIT_UPDATE))]


def test_announcement_of_a_place_that_is_held_is_not_answered() -> None:
    raft = core(log=[1], applied=1)
    step(raft, append(1, 2, (2, 1)))

    assert sent(step(raft, append(1, 2, (2, 1), commit=2, purpose=COMMIT_UPDATE))) == []


def test_rejected_announcement_brings_what_was_lost() -> None:
    """Without waiting for a heartbeat."""
    raft = leader(core(), settled=True)
    step(raft, Proposed(RequestId(1), (b"x",)))
    persist(raft)
    (announcement,) = sent(step(raft, accepted(2, 3, 3)), to=2)
    assert isinstance(announcement, AppendEntries)
    assert (announcement.purpose, announcement.prev_index) == (COMMIT_UPDATE, 3)

    effects = step(raft, msgspec.structs.replace(rejected(2, 2, 3, (2, 2)), purpose=COMMIT_UPDATE))

    (again,) = sent(effects, to=2)
    assert isinstance(again, AppendEntries)
    assert again.entries == raft.log.entries()[-1:]
