"""What a node that is no member says of the time is not believed: it might use up all of it."""

from __future__ import annotations

from typing import Any

import pytest

from raft_core.ids import MAX_INT63, NO_NODE, Index, MessageId, NodeId, ReadId, Term
from raft_core.messages import HEARTBEAT, AppendEntries
from raft_core.node import SECOND
from tests.node.cluster import Cluster


@pytest.mark.parametrize(("sender", "believed"), [(99, False), (0, True)])
def test_time_is_believed_from_members_only(sender: int, believed: bool) -> None:
    cluster = Cluster(3)
    cluster.start()
    boss = cluster.elect()
    cluster.wait(boss, boss.propose(b"a"))
    cluster.run(SECOND)
    follower, other = cluster.followers()
    host: Any = follower.host
    term = Term(host._raft.server.term + 1)
    zero = Index(0)
    said = AppendEntries(
        term,
        NodeId(sender or other.id),
        MessageId(1),
        HEARTBEAT,
        zero,
        Term(0),
        zero,
        ReadId(0),
        time=MAX_INT63,
    )

    host._orders.events.append(said)
    host._settle()

    assert host._raft.role.leader == said.sender
    assert (host._time.read(cluster.now) == MAX_INT63) is believed


@pytest.mark.parametrize("leap", [-1, 1 << 40])
def test_time_of_another_term_is_not_believed(leap: int) -> None:
    """A late message of an earlier term, or one out of reach: after that, the leader's own word would be too old."""
    cluster = Cluster(3)
    cluster.start()
    boss = cluster.elect()
    cluster.run(SECOND)
    host: Any = cluster.followers()[0].host
    zero, term = Index(0), Term(host._raft.server.term + leap)
    host._orders.events.append(
        AppendEntries(term, boss.id, MessageId(1), HEARTBEAT, zero, Term(0), zero, ReadId(0), time=MAX_INT63)
    )
    host._settle()

    assert host._raft.role.leader == (boss.id if leap < 0 else NO_NODE)  # one leap towards the far term, no further
    assert 0 < host._time.read(cluster.now) < MAX_INT63
    cluster.run(3 * SECOND)
    assert host._raft.role.leader != NO_NODE
    assert host._time._term == host._raft.server.term
