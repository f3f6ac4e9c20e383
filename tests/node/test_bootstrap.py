"""How a node becomes part of a cluster, judged greeting by greeting."""

from __future__ import annotations

import msgspec
import pytest

from raft_core.entries import SnapshotMeta
from raft_core.errors import CallerError, SettingsError
from raft_core.ids import ClusterId, Incarnation, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.node import NodeLimits
from raft_core.node.bootstrap import Bootstrap, Judgement, Verdict
from raft_core.node.events import Run
from raft_core.node.jobs import FormCluster, Lane
from raft_core.node.outputs import Outputs
from raft_core.recovered import Identity, Recovered
from raft_core.settings import Settings
from raft_core.wire.payloads import WIRE_VERSION, Hello

FOUNDERS = (NodeId(1), NodeId(2), NodeId(3))
DISKS = {NodeId(1): Incarnation(11), NodeId(2): Incarnation(22), NodeId(3): Incarnation(33)}
MEMBERS = Members.initial(FOUNDERS, incarnations=DISKS)
FINE = Judgement(Verdict.FINE)
AGREE = Judgement(Verdict.AGREE)
PLAN = MEMBERS.encode()
"""What a founder says that knows every disk."""


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


def founder(*, founders: tuple[NodeId, ...] = FOUNDERS, leases: bool = False) -> tuple[Bootstrap, Outputs]:
    orders = Outputs()
    return Bootstrap(NodeLimits(founders=founders, leases=leases), Settings(), empty(), orders), orders


def jobs(orders: Outputs) -> list[tuple[Lane, object]]:
    return [(effect.lane, effect.job) for effect in orders.taken() if isinstance(effect, Run)]


def test_a_founder_writes_once_it_has_heard_the_complete_plan_from_all_others() -> None:
    forming, orders = founder()
    first = forming.founding
    forming.begin()
    assert forming.judge(greeting(2, 22, founding=first), [greeting(2, 22, founding=first)]) == FINE
    assert forming.founding == first == Members.initial(FOUNDERS).encode()
    standing = [greeting(2, 22, founding=first), greeting(3, 33, founding=first)]
    assert forming.judge(standing[1], standing) == AGREE
    assert forming.founding == PLAN, "to be told to every node"
    standing = [greeting(2, 22, founding=PLAN)]
    assert forming.judge(standing[0], standing) == FINE
    standing += [greeting(3, 33, founding=first), greeting(2, 22, founding=PLAN)]  # another line to node 2
    assert forming.judge(standing[1], standing) == FINE
    assert jobs(orders) == [], "node 3 has not said it yet"
    standing[1] = greeting(3, 33, founding=PLAN)
    assert forming.judge(standing[1], standing) == FINE
    assert forming.judge(standing[1], standing) == FINE

    assert jobs(orders) == [(Lane.WRITE, FormCluster(MEMBERS))]
    assert not forming.ready, "not before it is durable"
    forming.formed(Recovered.fresh(1, MEMBERS))
    assert forming.ready
    assert forming.founding == MEMBERS.encode()


def test_nobody_writes_on_what_others_said_before_its_own_plan_changed() -> None:
    """Two founders that crossed wrote different entries: each counted what the other had said before."""
    forming, orders = founder()
    standing = [greeting(2, 22, founding=PLAN), greeting(3, 33, founding=PLAN)]
    assert forming.judge(standing[0], standing[:1]) == FINE
    assert forming.judge(standing[1], standing) == AGREE, "all connections are opened anew"
    assert jobs(orders) == []
    assert forming.judge(standing[1], standing[1:]) == FINE
    assert forming.judge(standing[0], standing) == FINE

    assert jobs(orders) == [(Lane.WRITE, FormCluster(MEMBERS))]


def test_one_that_is_gone_does_not_count_as_having_said_the_plan() -> None:
    forming, orders = founder()
    forming.judge(greeting(2, 22, founding=PLAN), [greeting(2, 22, founding=PLAN)])
    forming.judge(greeting(3, 33, founding=PLAN), [greeting(3, 33, founding=PLAN)])

    assert jobs(orders) == []


def test_a_disk_that_was_replaced_while_founders_meet_counts_as_it_greeted_last_and_never_again() -> None:
    forming, orders = founder()
    old = Members.initial(FOUNDERS, incarnations={**DISKS, NodeId(2): Incarnation(99)}).encode()
    both = [greeting(2, 99, founding=old), greeting(3, 33)]
    assert forming.judge(both[0], both) == FINE
    assert forming.judge(both[1], both) == AGREE
    assert forming.founding == old
    assert forming.judge(greeting(2, 22), [greeting(2, 22), greeting(3, 33, founding=old)]) == AGREE
    assert forming.founding == PLAN
    judgement = forming.judge(both[0], [both[0], greeting(3, 33, founding=old)])
    assert judgement.verdict is Verdict.REFUSE
    assert "restart this node" in judgement.text
    assert forming.founding == PLAN
    assert jobs(orders) == []

    forming.judge(greeting(3, 33, founding=PLAN), [greeting(2, 22, founding=PLAN), greeting(3, 33, founding=PLAN)])
    assert jobs(orders) == [(Lane.WRITE, FormCluster(MEMBERS))]


def test_who_writes_plans_nothing_else() -> None:
    forming, orders = founder()
    standing = [greeting(2, 22, founding=PLAN), greeting(3, 33, founding=PLAN)]
    for hello in standing * 2:
        forming.judge(hello, standing)
    assert len(jobs(orders)) == 1
    assert forming.judge(greeting(2, 99), [greeting(2, 99), standing[1]]) == FINE

    assert forming.founding == PLAN
    assert jobs(orders) == []


def test_disks_are_not_replaced_for_ever_while_founders_meet() -> None:
    forming, _ = founder()
    verdicts = {forming.judge(greeting(2, disk), ()).verdict for disk in range(100, 201)}
    assert verdicts == {Verdict.FINE}
    assert forming.judge(greeting(2, 500), ()).verdict is Verdict.REFUSE
    assert forming.judge(greeting(2, 200), ()) == FINE, "the newest that was let in"
    assert forming.judge(greeting(3, 33), ()) == AGREE, "who has kept its disk is not to blame"


def test_one_that_is_no_founder_does_not_stand_for_one() -> None:
    forming, orders = founder()
    standing = [greeting(2, 22), greeting(4, 44)]
    for hello in standing:
        assert forming.judge(hello, standing) == FINE

    assert forming.founding == Members.initial(FOUNDERS).encode()
    assert jobs(orders) == []


def test_a_lone_founder_writes_at_once_and_says_whether_leases_are_allowed() -> None:
    forming, orders = founder(founders=(NodeId(1),), leases=True)
    forming.begin()

    members = Members.initial([1], incarnations={NodeId(1): Incarnation(11)}, leases=True)
    assert jobs(orders) == [(Lane.WRITE, FormCluster(members))]


def test_founders_that_name_others_are_refused_and_do_not_count() -> None:
    forming, orders = founder()
    for founders in ((NodeId(2), NodeId(3)), (), (*FOUNDERS, NodeId(4))):
        judgement = forming.judge(greeting(2, 22, founders=founders), ())
        assert judgement.verdict is Verdict.REFUSE
        assert "same list" in judgement.text
    forming.judge(greeting(3, 33), ())

    assert jobs(orders) == []


@pytest.mark.parametrize("leases", [True, False])
def test_founders_with_other_settings_are_refused_before_anything_is_written(leases: bool) -> None:
    forming, orders = founder(leases=leases)
    theirs = founder(leases=not leases)[0].founding
    assert forming.judge(greeting(2, 22, founding=forming.founding), ()) == FINE
    judgement = forming.judge(greeting(3, 33, founding=theirs), ())

    assert judgement.verdict is Verdict.REFUSE
    assert f"with leases={str(not leases).lower()}, this node" in judgement.text
    assert jobs(orders) == []


def test_a_founder_that_is_writing_talks_to_nobody_who_was_founded_differently() -> None:
    forming, orders = founder()
    others = Members.initial(FOUNDERS, incarnations={**DISKS, NodeId(2): Incarnation(99)}).encode()
    standing = [greeting(2, 99, founding=others), greeting(3, 33, founding=others)]
    for hello in standing * 2:
        forming.judge(hello, standing)
    (written,) = [job.members for _, job in jobs(orders) if isinstance(job, FormCluster)]

    assert forming.judge(greeting(2, 22, formed=True, founding=MEMBERS.encode()), ()).verdict is Verdict.REFUSE
    assert forming.judge(greeting(2, 99, formed=True, founding=written.encode()), ()) == FINE
    assert forming.judge(greeting(2, 99, formed=True), ()) == FINE, "there is nothing to compare"
    assert jobs(orders) == []


def test_a_founder_that_missed_the_moment_writes_what_the_others_wrote() -> None:
    forming, orders = founder()
    assert forming.judge(greeting(2, 22, formed=True, founding=MEMBERS.encode()), ()) == FINE
    assert forming.judge(greeting(3, 33, formed=True, founding=MEMBERS.encode()), ()) == FINE

    assert jobs(orders) == [(Lane.WRITE, FormCluster(MEMBERS))]


def test_a_founder_that_the_cluster_knows_with_another_disk_is_lost() -> None:
    forming, orders = founder()
    others = Members.initial(FOUNDERS, incarnations={**DISKS, NodeId(1): Incarnation(99)})
    judgement = forming.judge(greeting(2, 22, formed=True, founding=others.encode()), ())

    assert judgement.verdict is Verdict.LOST
    assert "above every id ever used" in judgement.text
    assert jobs(orders) == []


@pytest.mark.parametrize("founding", [b"", Members.initial([2, 3]).encode()])
def test_a_founder_that_finds_a_cluster_which_it_did_not_found_joins_it(founding: bytes) -> None:
    forming, orders = founder()
    assert forming.judge(greeting(2, 22, formed=True, founding=founding), ()).verdict is Verdict.JOIN

    assert forming.ready
    assert forming.founding == b""
    assert jobs(orders) == []


def test_nodes_founded_differently_do_not_talk() -> None:
    forming = Bootstrap(NodeLimits(founders=FOUNDERS), Settings(), Recovered.fresh(1, MEMBERS), Outputs())
    others = Members.initial(FOUNDERS, incarnations={**DISKS, NodeId(3): Incarnation(99)})

    assert forming.ready
    assert forming.judge(greeting(2, 22, formed=True, founding=MEMBERS.encode()), ()) == FINE
    assert forming.judge(greeting(2, 22, formed=True), ()) == FINE
    assert forming.judge(greeting(2, 22), ()) == FINE, "it will hear from us how we were founded"
    plan = Members.initial(FOUNDERS).encode()
    assert forming.judge(greeting(2, 22, founding=plan), ()) == FINE, "a plan names no disks"
    assert forming.judge(greeting(2, 22, formed=True, founding=others.encode()), ()).verdict is Verdict.REFUSE


def test_the_founding_is_not_known_when_the_first_entry_is_compacted() -> None:
    meta = SnapshotMeta(Index(5), Term(1), MEMBERS, Index(1))
    recovered = Recovered(Identity(NodeId(1)), snapshot=meta)

    assert Bootstrap(NodeLimits(), Settings(), recovered, Outputs()).founding == b""


def test_a_joiner_is_ready_and_a_part_of_a_cluster_stays_one() -> None:
    assert Bootstrap(NodeLimits(), Settings(), empty(), Outputs()).ready
    recovered = Recovered.fresh(1, MEMBERS)
    assert Bootstrap(NodeLimits(founders=(NodeId(7),)), Settings(), recovered, Outputs()).ready, (
        "founders are looked at once"
    )


def test_founders_without_this_node_are_a_mistake() -> None:
    with pytest.raises(CallerError, match="node 1"):
        Bootstrap(NodeLimits(founders=(NodeId(2),)), Settings(), empty(), Outputs())


UNFIT = [
    (Settings(check_quorum=False), True, "needs check_quorum and pre_vote"),
    (Settings(lease_reads=True), False, "formed with leases=True"),
]


@pytest.mark.parametrize(("settings", "leases", "says"), UNFIT)
def test_a_plan_that_does_not_go_with_the_settings_is_a_mistake(settings: Settings, leases: bool, says: str) -> None:
    """It was noticed after the cluster had formed, and raised in the loop."""
    with pytest.raises(SettingsError, match=says):
        Bootstrap(NodeLimits(founders=FOUNDERS, leases=leases), settings, empty(), Outputs())


@pytest.mark.parametrize(("settings", "leases", "says"), UNFIT)
def test_who_finds_a_cluster_that_does_not_go_with_its_settings_writes_nothing(
    settings: Settings, leases: bool, says: str
) -> None:
    orders = Outputs()
    forming = Bootstrap(NodeLimits(founders=FOUNDERS, leases=not leases), settings, empty(), orders)
    others = Members.initial(FOUNDERS, incarnations=DISKS, leases=leases)
    judgement = forming.judge(greeting(2, 22, formed=True, founding=others.encode()), ())

    assert judgement.verdict is Verdict.UNFIT
    assert says in judgement.text
    assert not forming.ready
    assert jobs(orders) == []


def test_founders_that_meet_a_cluster_founded_by_one_of_them_alone_say_so_on_both_sides() -> None:
    """One was started without its peers by mistake, and then with them: there was no error."""
    alone = Members.initial(FOUNDERS[:1], incarnations={NodeId(1): Incarnation(11)})
    hello = greeting(1, 11, formed=True, founding=alone.encode())
    orders = Outputs()
    me = Recovered(Identity(NodeId(2), ClusterId("c"), Incarnation(22)))
    left_out = Bootstrap(NodeLimits(founders=FOUNDERS), Settings(), me, orders).judge(hello, [hello])
    assert left_out.verdict is Verdict.JOIN
    assert "node 1 alone" in left_out.text
    assert "nodes 1, 2, 3" in left_out.text

    formed, _ = founder()
    formed.formed(Recovered.fresh(1, alone))
    met = formed.judge(greeting(2, 22), [])
    assert met.verdict is Verdict.FINE
    assert "node 1 alone" in met.text
    assert "nodes 1, 2, 3" in met.text


def test_two_clusters_that_meet_are_both_named() -> None:
    alone = Members.initial(FOUNDERS[:1], incarnations={NodeId(1): Incarnation(11)})
    others = Members.initial(FOUNDERS[1:], incarnations={NodeId(2): Incarnation(22), NodeId(3): Incarnation(33)})
    formed, _ = founder()
    formed.formed(Recovered.fresh(1, alone))
    judgement = formed.judge(greeting(2, 22, formed=True, founding=others.encode()), [])

    assert judgement.verdict is Verdict.REFUSE
    assert "node 1 alone" in judgement.text
    assert "nodes 2, 3" in judgement.text


def test_founder_with_a_wiped_disk_is_nothing_strange_to_those_it_founded_with() -> None:
    formed, _ = founder()
    formed.formed(Recovered.fresh(1, MEMBERS))

    assert formed.judge(greeting(2, 99), []) == FINE


# Features.


def test_founders_enable_the_features_that_all_of_them_have() -> None:
    orders = Outputs()
    forming = Bootstrap(NodeLimits(founders=FOUNDERS), Settings(features=("a", "b", "c")), empty(), orders)
    second = msgspec.structs.replace(greeting(2, 22), features=("b", "c"))
    third = msgspec.structs.replace(greeting(3, 33), features=("a", "b"))
    plan = Members.initial(FOUNDERS, incarnations=DISKS, features=("b",))

    assert forming.founding == b"" or Members.decode(forming.founding).features == ()
    assert forming.judge(second, [second]) == FINE
    assert forming.judge(third, [second, third]) == AGREE

    assert Members.decode(forming.founding) == plan
    standing = [msgspec.structs.replace(hello, founding=plan.encode()) for hello in (second, third)]
    assert forming.judge(standing[0], standing[:1]) == FINE
    assert forming.judge(standing[1], standing) == FINE
    assert jobs(orders) == [(Lane.WRITE, FormCluster(plan))]


def test_a_founder_of_another_release_than_before_changes_the_plan_before_anything_is_written() -> None:
    orders = Outputs()
    forming = Bootstrap(NodeLimits(founders=FOUNDERS), Settings(features=("a",)), empty(), orders)
    standing = [msgspec.structs.replace(greeting(node, disk), features=("a",)) for node, disk in ((2, 22), (3, 33))]
    for hello in standing:
        forming.judge(hello, standing)
    assert Members.decode(forming.founding).features == ("a",)

    assert forming.judge(greeting(2, 22), standing) == AGREE

    assert forming.founding == PLAN, "as it is where a founder runs release 0.1.0"
    assert jobs(orders) == []


def test_a_founder_does_not_found_a_cluster_with_a_feature_that_it_lacks() -> None:
    forming, orders = founder()
    plan = Members.initial(FOUNDERS, incarnations=DISKS, features=("a",)).encode()

    judgement = forming.judge(greeting(2, 22, formed=True, founding=plan), ())

    assert judgement.verdict is Verdict.UNFIT
    assert jobs(orders) == []


def test_a_founder_that_does_not_know_all_disks_yet_agrees_with_one_whose_plan_has_features() -> None:
    orders = Outputs()
    forming = Bootstrap(NodeLimits(founders=FOUNDERS), Settings(features=("a",)), empty(), orders)
    plan = Members.initial(FOUNDERS, incarnations=DISKS, features=("a",)).encode()

    ahead = msgspec.structs.replace(greeting(2, 22, founding=plan), features=("a",))
    assert forming.judge(ahead, [ahead]) == FINE
    behind = msgspec.structs.replace(greeting(3, 33, founding=Members.initial(FOUNDERS).encode()), features=("a",))
    assert forming.judge(behind, [ahead, behind]) == AGREE
    assert forming.judge(behind, [ahead, behind]) == FINE
