"""Mistakes that the simulator found in the core, each told once more in the smallest way."""

from __future__ import annotations

import random

from raft_core.effects import Apply, Persist
from raft_core.entries import Entry, HardState
from raft_core.events import Persisted, Started
from raft_core.ids import Index, MessageId, NodeId, ReadId, Term, WriteId
from raft_core.membership import Members
from raft_core.messages import DATA, AppendEntries
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered, formation
from tests.core_cluster import SMALL


def test_an_entry_that_replaces_a_durable_one_is_applied_only_once_it_is_durable_itself() -> None:
    # given a node whose disk holds an uncommitted entry at index 2
    _, founding = formation(Members.initial([1, 2, 3]))
    recovered = Recovered(
        Identity(NodeId(1)), HardState(Term(2), commit=Index(1)), entries=(founding, Entry.make(2, 2, b"old"))
    )
    raft = Raft(SMALL, recovered, random.Random(1))
    raft.step(Started())

    # when a new leader replaces it by one that is committed already
    new = Entry.make(2, 3, b"new")
    effects = raft.step(
        AppendEntries(Term(3), NodeId(2), MessageId(1), DATA, Index(1), Term(1), Index(2), ReadId(0), entries=(new,))
    )

    # then it is applied after the write, not with it
    assert [effect.write for effect in effects if isinstance(effect, Persist)] == [1]
    assert not [effect for effect in effects if isinstance(effect, Apply) and new in effect.entries]
    assert Apply((new,)) in raft.step(Persisted(WriteId(1)))
