"""How a node becomes part of a cluster, judged greeting by greeting."""

from __future__ import annotations

import pytest

from raft_core.entries import SnapshotMeta
from raft_core.errors import CallerError
from raft_core.host import HostConfig
from raft_core.host.forming import Forming, Judgement, Verdict
from raft_core.host.jobs import FormCluster, Lane
from raft_core.host.orders import Orders
from raft_core.host.values import Run
from raft_core.ids import ClusterId, Incarnation, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.recovered import Identity, Recovered
from raft_core.wire.values import WIRE_VERSION, Hello

FOUNDERS = (NodeId(1), NodeId(2), NodeId(3))
DISKS = {NodeId(1): Incarnation(11), NodeId(2): Incarnation(22), NodeId(3): Incarnation(33)}
MEMBERS = Members.initial(FOUNDERS, incarnations=DISKS)
FINE = Judgement(Verdict.FINE)
OTHERS = (NodeId(2), NodeId(3))


def empty() -> Recovered:
    return Recovered(Identity(NodeId(1), ClusterId("c"), Incarnation(11)))


def greeting(
    node: int, disk: int, *, founders: tuple[NodeId, ...] = FOUNDERS, formed: bool = False, founding: bytes = b""
) -> Hello:
    return Hello(
        WIRE_VERSION,
        ClusterId("c"),
        NodeId(node),
        Incarnation(disk),
        formed=formed,
        founders=() if formed else founders,
        founding=founding,
    )


def founder(*, founders: tuple[NodeId, ...] = FOUNDERS, leases: bool = False) -> tuple[Forming, Orders]:
    orders = Orders()
    return Forming(HostConfig(founders=founders, leases=leases), empty(), orders), orders


def jobs(orders: Orders) -> list[tuple[Lane, object]]:
    return [(effect.lane, effect.job) for effect in orders.taken() if isinstance(effect, Run)]


def test_a_founder_writes_once_all_others_have_greeted() -> None:
    forming, orders = founder()
    forming.begin()
    assert forming.judge(greeting(2, 22), OTHERS) == FINE
    assert jobs(orders) == []
    assert forming.judge(greeting(3, 33), OTHERS) == FINE
    assert forming.judge(greeting(3, 33), OTHERS) == FINE

    assert jobs(orders) == [(Lane.WRITE, FormCluster(MEMBERS))]
    assert not forming.ready, "not before it is durable"
    forming.formed(Recovered.fresh(1, MEMBERS))
    assert forming.ready
    assert forming.founding == MEMBERS.encode()


def test_a_disk_that_was_replaced_while_founding_counts_as_it_greeted_last() -> None:
    forming, orders = founder()
    forming.judge(greeting(2, 99), OTHERS)
    forming.judge(greeting(2, 22), OTHERS)
    forming.judge(greeting(3, 33), OTHERS)

    assert jobs(orders) == [(Lane.WRITE, FormCluster(MEMBERS))]


def test_a_lone_founder_writes_at_once_and_says_whether_leases_are_allowed() -> None:
    forming, orders = founder(founders=(NodeId(1),), leases=True)
    forming.begin()

    members = Members.initial([1], incarnations={NodeId(1): Incarnation(11)}, leases=True)
    assert jobs(orders) == [(Lane.WRITE, FormCluster(members))]


def test_founders_that_name_others_are_refused_and_do_not_count() -> None:
    forming, orders = founder()
    for founders in ((NodeId(2), NodeId(3)), (), (*FOUNDERS, NodeId(4))):
        judgement = forming.judge(greeting(2, 22, founders=founders), OTHERS)
        assert judgement.verdict is Verdict.REFUSE
        assert "same list" in judgement.text
    forming.judge(greeting(3, 33), OTHERS)

    assert jobs(orders) == []


@pytest.mark.parametrize("leases", [True, False])
def test_founders_with_other_settings_are_refused_before_anything_is_written(leases: bool) -> None:
    forming, orders = founder(leases=leases)
    theirs = founder(leases=not leases)[0].founding
    assert forming.judge(greeting(2, 22, founding=forming.founding), OTHERS) == FINE
    judgement = forming.judge(greeting(3, 33, founding=theirs), OTHERS)

    assert judgement.verdict is Verdict.REFUSE
    assert f"with leases={str(not leases).lower()}, this node" in judgement.text
    assert jobs(orders) == []


def test_a_founder_that_is_gone_is_waited_for_because_it_may_have_formed_with_others_since() -> None:
    forming, orders = founder()
    forming.judge(greeting(3, 33), (NodeId(3),))
    forming.judge(greeting(2, 22), (NodeId(2),))
    assert jobs(orders) == []
    forming.judge(greeting(3, 33), OTHERS)

    assert jobs(orders) == [(Lane.WRITE, FormCluster(MEMBERS))]


def test_a_founder_that_is_writing_talks_to_nobody_who_was_founded_differently() -> None:
    forming, orders = founder()
    forming.judge(greeting(2, 99), OTHERS)
    forming.judge(greeting(3, 33), OTHERS)
    (written,) = [job.members for _, job in jobs(orders) if isinstance(job, FormCluster)]

    assert forming.judge(greeting(2, 22, formed=True, founding=MEMBERS.encode()), OTHERS).verdict is Verdict.REFUSE
    assert forming.judge(greeting(2, 99, formed=True, founding=written.encode()), OTHERS) == FINE
    assert forming.judge(greeting(2, 99, formed=True), OTHERS) == FINE, "there is nothing to compare"
    assert jobs(orders) == []


def test_a_founder_that_missed_the_moment_writes_what_the_others_wrote() -> None:
    forming, orders = founder()
    assert forming.judge(greeting(2, 22, formed=True, founding=MEMBERS.encode()), OTHERS) == FINE
    assert forming.judge(greeting(3, 33, formed=True, founding=MEMBERS.encode()), OTHERS) == FINE

    assert jobs(orders) == [(Lane.WRITE, FormCluster(MEMBERS))]


def test_a_founder_that_the_cluster_knows_with_another_disk_is_lost() -> None:
    forming, orders = founder()
    others = Members.initial(FOUNDERS, incarnations={**DISKS, NodeId(1): Incarnation(99)})
    judgement = forming.judge(greeting(2, 22, formed=True, founding=others.encode()), OTHERS)

    assert judgement.verdict is Verdict.LOST
    assert "never used" in judgement.text
    assert jobs(orders) == []


@pytest.mark.parametrize("founding", [b"", Members.initial([2, 3]).encode()])
def test_a_founder_that_finds_a_cluster_which_it_did_not_found_joins_it(founding: bytes) -> None:
    forming, orders = founder()
    assert forming.judge(greeting(2, 22, formed=True, founding=founding), OTHERS).verdict is Verdict.JOIN

    assert forming.ready
    assert forming.founding == b""
    assert jobs(orders) == []


def test_nodes_founded_differently_do_not_talk() -> None:
    forming = Forming(HostConfig(founders=FOUNDERS), Recovered.fresh(1, MEMBERS), Orders())
    others = Members.initial(FOUNDERS, incarnations={**DISKS, NodeId(3): Incarnation(99)})

    assert forming.ready
    assert forming.judge(greeting(2, 22, formed=True, founding=MEMBERS.encode()), OTHERS) == FINE
    assert forming.judge(greeting(2, 22, formed=True), OTHERS) == FINE
    assert forming.judge(greeting(2, 22), OTHERS) == FINE, "it will hear from us how we were founded"
    plan = Members.initial(FOUNDERS).encode()
    assert forming.judge(greeting(2, 22, founding=plan), OTHERS) == FINE, "a plan names no disks"
    assert forming.judge(greeting(2, 22, formed=True, founding=others.encode()), OTHERS).verdict is Verdict.REFUSE


def test_the_founding_is_not_known_when_the_first_entry_is_compacted() -> None:
    meta = SnapshotMeta(Index(5), Term(1), MEMBERS, Index(1))
    recovered = Recovered(Identity(NodeId(1)), snapshot=meta)

    assert Forming(HostConfig(), recovered, Orders()).founding == b""


def test_a_joiner_is_ready_and_a_part_of_a_cluster_stays_one() -> None:
    assert Forming(HostConfig(), empty(), Orders()).ready
    recovered = Recovered.fresh(1, MEMBERS)
    assert Forming(HostConfig(founders=(NodeId(7),)), recovered, Orders()).ready, "founders are looked at once"


def test_founders_without_this_node_are_a_mistake() -> None:
    with pytest.raises(CallerError, match="node 1 is not among the founders"):
        Forming(HostConfig(founders=(NodeId(2),)), empty(), Orders())
