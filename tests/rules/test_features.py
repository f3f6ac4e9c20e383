"""Rules of enabling features by an entry of the log, and what release 0.1.0 makes of such an entry."""

from __future__ import annotations

import msgspec
import pytest

from raft_core.describe import describe, describe_members
from raft_core.effects import Alarm, AlarmKind, Effect, Refusal, RefusalReason, Respond, Success
from raft_core.entries import MEMBERS, Entry, SnapshotMeta
from raft_core.errors import CallerError, FeatureUnknown, SettingsError
from raft_core.events import Proposed, Requested
from raft_core.features import LONGEST_FEATURE, MOST_FEATURES
from raft_core.ids import Index, MessageId, NodeId, RequestId, Term
from raft_core.membership import AddVoter, Change, ChangeError, ChangeMode, ChangeProblem, Level, Members
from raft_core.messages import AppendEntries, InstallSnapshot
from raft_core.quorum_loss import plan_quorum_loss_recovery
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered
from raft_core.requests import ChangeMembership
from raft_core.settings import Settings
from tests.core.cluster import SMALL, Cluster, with_settings
from tests.core.helpers import append, core, leader, only, step

NEW = with_settings(features=("red", "blue"))
MEMBERS_3 = Members.initial((1, 2, 3))


def enable(*features: str, changes: tuple[Change, ...] = ()) -> Requested:
    return Requested(RequestId(9), ChangeMembership(changes, features=features))


def reason(effects: list[Effect]) -> RefusalReason:
    (answer,) = [effect for effect in effects if isinstance(effect, Respond)]
    assert isinstance(answer.outcome, Refusal), answer
    assert answer.outcome.text
    return answer.outcome.reason


def enabled(*features: str) -> Members:
    members = MEMBERS_3.enabling(features)
    assert isinstance(members, Members)
    return members


def entry_append(members: Members, *, commit: int = 1) -> AppendEntries:
    """An append of the configuration at index 2, from the leader of term 2."""
    entry = Entry.make(2, 2, members.encode(), MEMBERS)
    return msgspec.structs.replace(append(2, 2, (1, 1), commit=commit), entries=(entry,))


# The configuration.


def test_a_configuration_without_features_has_the_bytes_of_release_0_1_0() -> None:
    names = ("voters", "outgoing", "learners", "learners_next", "promotable", "auto_leave", "incarnations")
    assert msgspec.msgpack.decode(MEMBERS_3.encode()) == {
        **{key: [] for key in names},
        "voters": [1, 2, 3],
        "auto_leave": False,
        "highest_id": 3,
        "leases": False,
    }


@pytest.mark.parametrize("leases", [False, True])
def test_a_configuration_with_features_is_one_that_release_0_1_0_cannot_read(leases: bool) -> None:
    """It expects a boolean in `leases`, and would otherwise write the next configuration without the features."""
    members = Members.initial((1, 2, 3), leases=leases).enabling(("red",))
    assert isinstance(members, Members)

    raw = msgspec.msgpack.decode(members.encode())

    assert raw["leases"] == [leases, ["red"]]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(raw["leases"], bool)
    assert Members.decode(members.encode()) == members
    assert bool(members.leases) is leases
    assert members.features == ("red",)


def test_features_are_kept_by_every_change_of_members() -> None:
    members = enabled("red")
    for change in (AddVoter(4), AddVoter(5)):
        changed = members.changed((change,), ChangeMode.JOINT)
        assert isinstance(changed, Members)
        assert changed.features == ("red",)
        left = changed.left()
        assert isinstance(left, Members)
        assert left.features == ("red",)
        members = left
    more = members.enabling(("blue", "red"))
    assert isinstance(more, Members)
    assert more.features == ("blue", "red")


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        ((), ChangeProblem.NO_CHANGE),
        (("red",), ChangeProblem.NO_CHANGE),
        (("Red",), ChangeProblem.CONTRADICTORY),
        (("",), ChangeProblem.CONTRADICTORY),
        (("r" * (LONGEST_FEATURE + 1),), ChangeProblem.CONTRADICTORY),
        (tuple(f"f{n}" for n in range(MOST_FEATURES)), ChangeProblem.CONTRADICTORY),
    ],
)
def test_a_configuration_enables_only_new_and_well_formed_names(
    features: tuple[str, ...], problem: ChangeProblem
) -> None:
    refused = enabled("red").enabling(features)
    assert isinstance(refused, ChangeError)
    assert refused.kind is problem


@pytest.mark.parametrize("level", [[False, []], [False, ["b", "a"]], [False, ["a", "a"]], [True, ["A"]], 1])
def test_a_configuration_with_a_wrong_level_does_not_decode(level: object) -> None:
    raw = {**msgspec.msgpack.decode(MEMBERS_3.encode()), "leases": level}
    with pytest.raises(ValueError, match=r".+"):
        Members.decode(msgspec.msgpack.encode(raw))


def test_wrong_names_in_settings_are_refused() -> None:
    with pytest.raises(SettingsError):
        Settings(features=("a b",))
    with pytest.raises(CallerError):
        Members.initial((1,), features=("a b",))
    assert Settings(features=("b", "a")).features == ("a", "b")


# Enabling, on the leader.


def test_features_are_enabled_by_an_entry_and_used_once_it_is_committed() -> None:
    cluster = Cluster(3, settings=NEW)
    cluster.elect(1)
    cluster.cut = {(1, 2), (1, 3)}
    boss = cluster[1].raft

    cluster[1].step(enable("red"))

    assert boss.members.features == ("red",), "in force for changes of members once appended"
    assert boss.features == (), "commands that need it wait for its commit"
    cluster.cut = set()
    cluster.tick(3)
    assert [cluster[node].raft.features for node in (1, 2, 3)] == [("red",)] * 3
    assert [type(answer.outcome) for answer in cluster[1].answers] == [Success]


def test_a_truncated_entry_enables_nothing() -> None:
    cluster = Cluster(3, settings=NEW)
    cluster.elect(1)
    cluster.cut = {(1, 2), (1, 3)}
    cluster[1].step(enable("red"))
    cluster.tick(30, nodes=(2, 3))
    assert cluster[2].raft.status.leads or cluster[3].raft.status.leads

    cluster.cut = set()
    cluster.tick(12)

    assert cluster[1].raft.members.features == ()
    assert cluster[1].raft.features == ()


def test_features_survive_snapshot_and_restart() -> None:
    cluster = Cluster(3, settings=with_settings(features=("red", "blue"), snapshot_entries=3, keep_entries=0))
    cluster.elect(1)
    cluster[1].step(enable("red"))
    for number in range(12):
        cluster[1].step(Proposed(RequestId(20 + number), (b"x",)))
        cluster.tick()
    node = cluster[3]
    assert node.disk.snapshot is not None
    assert node.disk.snapshot.members.features == ("red",)
    node.crash()
    node.restart()

    assert node.raft.members.features == ("red",)
    assert node.raft.features == ("red",)
    assert node.disk.recover().members.features == ("red",)


def test_each_refusal_to_enable_is_typed_and_appends_nothing() -> None:
    raft = leader(core(settings=NEW), settled=True)
    last = raft.log.last_index

    assert reason(step(raft, enable("green"))) is RefusalReason.UNKNOWN_FEATURE
    assert reason(step(raft, enable("red", changes=(AddVoter(4),)))) is RefusalReason.CONTRADICTORY_CHANGE
    assert raft.log.last_index == last
    step(raft, enable("red"))
    assert reason(step(raft, enable("blue"))) is RefusalReason.CHANGE_PENDING
    assert raft.log.last_index == last + 1
    unsettled = leader(core(settings=NEW))
    assert reason(step(unsettled, enable("red"))) is RefusalReason.NO_COMMIT_IN_TERM


def test_what_is_enabled_already_is_refused_as_no_change() -> None:
    cluster = Cluster(3, settings=NEW)
    cluster.elect(1)
    cluster[1].step(enable("red"))
    cluster.deliver()

    assert reason(cluster[1].step(enable("red"))) is RefusalReason.NO_CHANGE


# A node that lacks a feature.


def test_a_node_takes_no_configuration_with_a_feature_that_it_lacks() -> None:
    """It could not apply the entries after it. The leader's node refuses it before; this is for all other ways in."""
    raft = core(settings=SMALL)
    effects = step(raft, entry_append(enabled("red")))

    (alarm,) = only(Alarm, effects)
    assert isinstance(alarm, Alarm)
    assert alarm.kind is AlarmKind.FEATURE_MISSING
    assert effects == [alarm], "no acknowledgement, so no majority counts this node"
    assert raft.log.last_index == 1
    assert raft.members == MEMBERS_3


def test_a_node_takes_a_configuration_with_features_that_it_has() -> None:
    raft = core(settings=NEW)
    effects = step(raft, entry_append(enabled("red")))

    assert only(Alarm, effects) == []
    assert raft.members.features == ("red",)


def test_a_node_takes_no_snapshot_with_a_feature_that_it_lacks() -> None:
    raft = core(settings=SMALL)
    meta = SnapshotMeta(Index(50), Term(2), enabled("red"), Index(40))

    effects = step(raft, InstallSnapshot(Term(2), NodeId(2), MessageId(7), meta))

    (alarm,) = effects
    assert isinstance(alarm, Alarm)
    assert alarm.kind is AlarmKind.FEATURE_MISSING


@pytest.mark.parametrize("in_snapshot", [False, True])
def test_a_node_does_not_start_on_a_disk_with_a_feature_that_it_lacks(in_snapshot: bool) -> None:
    members = enabled("red")
    recovered = Recovered.fresh(1, members)
    if in_snapshot:
        recovered = Recovered(Identity(NodeId(1)), snapshot=SnapshotMeta(Index(9), Term(1), members, Index(5)))

    with pytest.raises(FeatureUnknown, match=r"red"):
        Raft.open(recovered, seed=1, settings=SMALL)
    assert Raft.open(recovered, seed=1, settings=NEW).members == members


def test_recovery_from_quorum_loss_keeps_the_features() -> None:
    survivor = Recovered.fresh(1, Members.initial((1, 2, 3), leases=True, features=("red",)))
    plan = plan_quorum_loss_recovery(survivor, Identity(NodeId(7), cluster=type(survivor.identity.cluster)("new")))

    founding = Members.decode(plan.writes[-1].entries[-1].data)
    assert founding.leases == Level(leases=True, features=("red",))


def test_a_trace_names_the_features() -> None:
    assert describe_members(enabled("red", "blue")) == "voters 1 2 3, features blue red"
    assert "enable blue red" in describe(enable("blue", "red"))
