"""What a running cluster does for its callers: start, propose, read, forward, refuse, change, stop."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest

from raft_core.backup_format import BackupReader
from raft_core.effects import RoleChanged, RoleName
from raft_core.errors import CallerError, MembershipRefused, NotLeader, OutcomeUnknown, Refused, RequestError
from raft_core.events import Proposed
from raft_core.ids import NodeId
from raft_core.membership import AddLearner, AddVoter, RemoveNode
from raft_core.node.limits import MILLISECOND
from raft_core.requests import ReadConsistency
from raft_testing.trace.replay import replay

from .kit import AnyNode, Cluster, Ledger, eventually


@pytest.mark.also_threads
async def test_a_cluster_of_one_elects_itself_and_answers(cluster: Cluster) -> None:
    await cluster.start_all(1)
    assert await cluster[1].propose(b"a") == b"1"
    assert await cluster[1].propose(b"a") == b"2"
    assert await cluster[1].read(b"a") == b"2"
    assert cluster[1].status.role is RoleName.LEADER


@pytest.mark.also_threads
async def test_three_nodes_agree_on_one_leader(cluster: Cluster) -> None:
    await cluster.start_all(3)
    leader = await cluster.leader()
    roles = [cluster[number].status.role for number in (1, 2, 3)]
    assert roles.count(RoleName.LEADER) == 1
    assert leader.status.role is RoleName.LEADER


@pytest.mark.also_threads
async def test_a_command_is_applied_once_on_every_node(cluster: Cluster) -> None:
    await cluster.start_all(3)
    await cluster.write(b"a")
    await cluster.agree(b"a")


@pytest.mark.also_threads
async def test_a_follower_passes_a_command_to_the_leader_and_the_result_back(cluster: Cluster) -> None:
    await cluster.start_all(3)
    for follower in await cluster.followers():
        assert int(await follower.propose(b"a", timeout=5.0)) in (1, 2)
    await cluster.agree(b"a", b"a")


@pytest.mark.also_threads
async def test_a_read_on_any_node_sees_the_write_that_was_just_acknowledged(cluster: Cluster) -> None:
    await cluster.start_all(3)
    for turn in range(1, 11):
        await cluster.write(b"a")
        for number in (1, 2, 3):
            assert await cluster[number].read(b"a", timeout=5.0) == b"%d" % turn


@pytest.mark.also_threads
async def test_reads_that_need_not_be_linearizable_are_answered_here(cluster: Cluster) -> None:
    await cluster.start_all(3)
    await cluster.write(b"a")
    await cluster.agree(b"a")
    follower = (await cluster.followers())[0]
    core = follower.status.core
    assert core is not None
    applied = core.applied
    assert await follower.read(b"a", consistency=ReadConsistency.MONOTONE, limit=applied, timeout=5.0) == b"1"
    assert await follower.read(b"a", consistency=ReadConsistency.STALE_BOUNDED, limit=1000, timeout=5.0) == b"1"


async def test_read_at_the_index_of_a_write_shows_it_on_every_node(cluster: Cluster) -> None:
    await cluster.start_all(3)
    leader = await cluster.leader()
    for turn, writer in enumerate([leader, *await cluster.followers()], 1):
        index, result = await writer.propose_with_index(b"a", timeout=5.0)
        assert result == b"%d" % turn
        assert index == applied_on(leader)
        for number in (1, 2, 3):
            node = cluster[number]
            while applied_on(node) < index:
                await anyio.sleep(0.001)
            assert await node.read(b"a", consistency=ReadConsistency.MONOTONE, limit=index, timeout=5.0) == result
    with pytest.raises(CallerError):
        await leader.propose_with_index("a")  # type: ignore[arg-type]


def applied_on(node: AnyNode) -> int:
    assert node.status.core is not None
    return node.status.core.applied


@pytest.mark.also_threads
async def test_a_command_that_is_too_large_is_refused(cluster: Cluster) -> None:
    cluster.settings = attrs.evolve(cluster.settings, max_entry_bytes=100)
    await cluster.start_all(1)
    await cluster.write(b"a")
    with pytest.raises(Refused):
        await cluster[1].propose(b"x" * 101)
    await cluster.agree(b"a")


@pytest.mark.also_threads
async def test_a_node_that_finds_no_leader_refuses_and_says_so(cluster: Cluster) -> None:
    cluster.host = attrs.evolve(cluster.host, leader_wait=50 * MILLISECOND)
    await cluster.start_all(3)
    await cluster.write(b"a")
    await cluster.stop(1)
    await cluster.stop(2)
    await eventually(lambda: cluster[3].status.leader == 0)
    with pytest.raises(NotLeader):
        await cluster[3].propose(b"b")
    with pytest.raises(Refused):
        await cluster[3].read(b"b")


@pytest.mark.also_threads
async def test_a_command_whose_quorum_is_gone_ends_as_unknown_when_its_time_is_over(cluster: Cluster) -> None:
    cluster.settings = attrs.evolve(cluster.settings, check_quorum=False)
    await cluster.start_all(3, gates=True)
    await cluster.write(b"a")
    leader = await cluster.leader()
    for number in (1, 2, 3):
        cluster.gates[number].hold()
    with pytest.raises(OutcomeUnknown):
        await leader.propose(b"b", timeout=0.1)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan")])
async def test_a_timeout_that_is_no_positive_number_is_the_callers_fault(cluster: Cluster, timeout: float) -> None:
    await cluster.start_all(1)
    with pytest.raises(CallerError):
        await cluster[1].propose(b"a", timeout=timeout)


async def test_a_thousand_callers_wait_at_once_and_each_gets_its_own_answer(cluster: Cluster) -> None:
    await cluster.start_all(3)
    leader = await cluster.leader()
    results: dict[int, int] = {}

    async def propose(number: int) -> None:
        results[number] = int(await leader.propose(b"%d" % number, timeout=15.0))

    async with anyio.create_task_group() as group:
        for number in range(1000):
            group.start_soon(propose, number)
    commands = cluster.running[cluster.number_of(leader)].machine.commands
    assert sorted(results) == list(range(1000))
    assert all(commands[place - 1] == b"%d" % number for number, place in results.items())


async def test_changes_tell_of_the_leader_and_end_with_the_node(cluster: Cluster) -> None:
    await cluster.start_all(1)
    seen: list[RoleChanged] = []

    async def listen() -> None:
        seen.extend([change async for change in cluster[1].changes()])

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await cluster.leader()
        await cluster[1].stop()
    assert any(change.role is RoleName.LEADER and change.leader == 1 for change in seen)


async def test_a_reader_of_changes_that_comes_late_hears_where_things_stand(cluster: Cluster) -> None:
    await cluster.start_all(3)
    leader = await cluster.leader()
    await eventually(lambda: cluster[1].status.leader == leader.status.node)  # it may not have heard the leader yet
    async for change in cluster[1].changes():
        assert change.leader == leader.status.node
        break


async def test_leadership_is_handed_to_the_node_that_is_named(cluster: Cluster) -> None:
    await cluster.start_all(3)
    await cluster.write(b"a")
    target = cluster.number_of((await cluster.followers())[0])
    await (await cluster.leader()).transfer(target, timeout=5.0)
    await eventually(lambda: cluster[target].status.role is RoleName.LEADER)


async def test_a_node_is_added_and_another_removed(cluster: Cluster) -> None:
    await cluster.start_all(3)
    await cluster.write(b"a")
    await cluster.start(4)
    leader = await cluster.leader()
    await eventually(lambda: 4 in dict(leader.status.addresses))
    await cluster.change(AddLearner(NodeId(4), promote_when_ready=True))

    def promoted() -> bool:
        core = cluster[4].status.core
        return core is not None and 4 in core.members.voters

    await eventually(promoted)
    await cluster.change(RemoveNode(NodeId(1)))
    await cluster.stop(1)
    await cluster.write(b"b")
    await cluster.agree(b"a", b"b")


async def test_a_change_that_breaks_a_rule_is_refused_with_its_reason(cluster: Cluster) -> None:
    await cluster.start_all(1)
    await cluster.write(b"a")
    with pytest.raises(MembershipRefused) as refusal:
        await cluster[1].change_members([RemoveNode(NodeId(7))])
    assert refusal.value.reason == "unknown_node"
    with pytest.raises(MembershipRefused):
        await cluster[1].change_members([AddVoter(NodeId(2)), RemoveNode(NodeId(2))])
    with pytest.raises(Refused):
        await cluster[1].leave_joint()


async def test_a_stopped_node_refuses_everything_and_says_that_it_ended(cluster: Cluster) -> None:
    await cluster.start_all(1)
    await cluster.write(b"a")
    node = cluster[1]
    await node.stop()
    await node.wait_finished()
    for call in (node.propose(b"b"), node.read(b"b"), node.transfer(), node.leave_joint()):
        with pytest.raises(Refused):
            await call
    await node.stop()


@pytest.mark.also_threads
@pytest.mark.parametrize("cancelled", [False, True], ids=["left", "cancelled"])
async def test_leaving_hands_leadership_over(cluster: Cluster, cancelled: bool) -> None:
    cluster.founders = (1, 2, 3)
    await cluster.start(1)
    cluster.settings = attrs.evolve(cluster.settings, election_ticks=100_000, short_ticks=100_000)
    await cluster.start(2)
    await cluster.start(3)
    await cluster.write(b"a")
    await cluster.stop(1, cancelled=cancelled)
    # The others never stand of their own accord, so one of them was asked to.
    assert await cluster.write(b"b") == b"2"


@pytest.mark.also_threads
async def test_stopping_under_load_answers_every_caller(cluster: Cluster) -> None:
    await cluster.start_all(3)
    leader = await cluster.leader()
    number = cluster.number_of(leader)
    outcomes: list[str] = []
    acknowledged: list[bytes] = []

    async def client(name: int) -> None:
        for turn in range(10_000):
            command = b"%d:%d" % (name, turn)
            try:
                await leader.propose(command)
            except RequestError as error:
                outcomes.append(type(error).__name__)
                return
            acknowledged.append(command)

    async with anyio.create_task_group() as group:
        for name in range(50):
            group.start_soon(client, name)
        await eventually(lambda: len(acknowledged) > 200)
        await cluster.stop(number)
    assert len(outcomes) == 50
    others = [running.machine.commands for running in cluster.running.values()]
    await eventually(lambda: all(set(acknowledged) <= set(commands) for commands in others))
    assert all(len(commands) == len(set(commands)) for commands in others)


async def test_a_running_node_tells_what_its_core_was_told_and_a_replay_agrees(cluster: Cluster) -> None:
    await cluster.start_all(1)
    await cluster[1].propose(b"a")
    told = replay(cluster[1].recording())
    assert told.faithful
    assert told.end.role is RoleName.LEADER
    assert any(isinstance(event, Proposed) for event in told.events)


async def test_backup_of_a_follower_has_what_was_just_acknowledged(cluster: Cluster) -> None:
    await cluster.start_all(3)
    await cluster.write(b"a")
    await cluster.write(b"b")
    follower: Any = (await cluster.followers())[0]
    reader, states = BackupReader(), list[bytes]()

    async for piece in follower.backup(label="test", timeout=10.0):
        states += reader.feed(piece)

    header = reader.close()
    assert (header.node, header.label) == (follower.status.node, "test")
    restored = Ledger()
    restored.restore(states)
    assert restored.commands == [b"a", b"b"]


async def test_metadata_of_every_member_is_known_to_all(cluster: Cluster) -> None:
    await cluster.start_all(2)
    for number, other in ((1, 2), (2, 1)):
        node = cluster[number]
        with anyio.fail_after(10.0):
            while not node.status.metadata_of(other):
                await anyio.sleep(0.01)
        assert node.status.metadata_of(other) == {"number": str(other)}
        assert node.status.metadata_of(number) == {"number": str(number)}
        assert node.status.metadata_of(9) == {}
