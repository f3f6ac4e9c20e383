"""The turns in which the followers of a silent leader stand: `Server.timeout_after`."""

from __future__ import annotations

import attrs
import msgspec

from raft_core.entries import MEMBERS, Entry
from raft_core.ids import NodeId
from raft_core.membership import Members
from raft_core.roles.follower import Follower
from raft_core.settings import Settings
from tests.core.helpers import append, core, heartbeat, step

T = Settings().election_ticks


def drawn(me: int, *, count: int = 4, leases: bool = False) -> set[int]:
    """All timeouts that this node draws once it has heard node 1."""
    settings = Settings(lease_reads=leases)
    raft = core(me, members=Members.initial(range(1, count + 1), leases=leases), settings=settings)
    return {raft.server.timeout_after(NodeId(1)) for _ in range(200)}


def test_voters_stand_in_the_order_of_their_ids_a_tenth_of_the_timeout_apart() -> None:
    assert [drawn(me) for me in (2, 3, 4)] == [{51, 52}, {56, 57}, {61, 62}]


def test_lease_binds_two_ticks_longer() -> None:
    assert [drawn(me, leases=True) for me in (2, 3)] == [{53, 54}, {58, 59}]


def test_voter_late_in_a_long_line_draws_at_random_behind_all_others() -> None:
    assert max(drawn(11, count=15)) < 2 * T
    assert drawn(12, count=15) <= set(range(2 * T, 3 * T))
    assert len(drawn(12, count=15)) > T // 2


def test_turn_comes_sooner_once_a_voter_before_it_is_removed() -> None:
    settings = Settings()
    raft = core(3, count=3, settings=settings)
    step(raft, heartbeat(1, 1, (1, 1)))
    follower = raft.role
    assert isinstance(follower, Follower)
    assert follower.timeout in {56, 57}

    fewer = attrs.evolve(raft.members, voters=tuple(node for node in raft.members.voters if node != 2))
    removed = Entry.make(2, 1, fewer.encode(), MEMBERS)
    step(raft, msgspec.structs.replace(append(1, 1, (1, 1)), entries=(removed,)))
    step(raft, heartbeat(1, 1, (2, 1)))
    assert follower.timeout in {51, 52}
