"""Bare cores under random fire: loss, doubles, disorder, crashes, slow disks, changes of members, transfers, snapshots.

The safety properties of figure 3 are checked over all nodes and their whole lives after every step. The full simulator
(`raft_testing`) goes further; this is the fast one that needs nothing but the core.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from raft_core.effects import Persist, RoleName, Send
from raft_core.entries import MEMBERS
from raft_core.events import CampaignRequested, Event, PeerUnreachable, Requested, Tick
from raft_core.ids import Index, NodeId, RequestId
from raft_core.membership import AddLearner, AddVoter, Change, ChangeMode, RemoveNode
from raft_core.messages import VoteReply
from raft_core.requests import ChangeMembership, Read, TransferLeadership
from tests.core.cluster import Cluster, Node, with_settings


class Watch:
    """Figure 3, over the whole run."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        self.votes: dict[tuple[int, int], int] = {}
        self.committed: dict[int, tuple[int, bytes]] = {}
        self.seen: Counter[str] = Counter()

    def look(self, node: Node) -> None:
        raft = node.raft
        server = raft.server
        if raft.role.name is RoleName.LEADER:
            known = self.leaders.setdefault(server.term, node.id)
            assert known == node.id, f"two leaders in term {server.term}"
        for effect in node.effects:
            if isinstance(effect, Send) and isinstance(effect.message, VoteReply):
                reply = effect.message
                if reply.granted and reply.kind != 1:
                    first = self.votes.setdefault((node.id, reply.term), effect.to)
                    assert first == effect.to, f"node {node.id} voted twice in term {reply.term}"
            if isinstance(effect, Persist) and effect.truncate_from:
                self.seen["truncated"] += 1
        for at in range(max(server.log.base.index, 0) + 1, server.commit + 1):
            entry = server.log.entry(Index(at))
            known_entry = self.committed.setdefault(at, (entry.term, entry.data))
            assert known_entry == (entry.term, entry.data), f"two entries are committed at {at}"

    def finish(self, cluster: Cluster) -> None:
        for node in cluster.nodes.values():
            assert all(command == self.committed[index][1] for index, command in node.machine)


CHANGES: tuple[tuple[type, ...], ...] = ((AddLearner,), (AddVoter,), (RemoveNode,), (AddVoter, RemoveNode))


def propose_change(rng: random.Random, cluster: Cluster, node: Node, fresh: list[int]) -> None:
    members = node.raft.members
    kinds = rng.choice(CHANGES)
    changes: list[Change] = []
    for kind in kinds:
        if kind is RemoveNode:
            if len(members.voters) < 2:
                continue
            changes.append(RemoveNode(rng.choice(members.nodes)))
        elif members.learners and rng.random() < 0.5:
            changes.append(kind(rng.choice(members.learners)))
        elif len(members.nodes) < 6:
            new = max(*cluster.nodes, *fresh, 0) + 1
            fresh.append(new)
            cluster.joiner(new)
            changes.append(kind(NodeId(new)))
    if changes:
        mode = rng.choice([ChangeMode.AUTO, ChangeMode.AUTO, ChangeMode.JOINT])
        node.step(Requested(RequestId(7), ChangeMembership(tuple(changes), mode)))


def run(seed: int, steps: int = 1500) -> Watch:
    rng = random.Random(seed)
    settings = with_settings(
        pre_vote=rng.random() < 0.8,
        check_quorum=rng.random() < 0.8,
        max_inflight_messages=rng.choice([1, 3, 100]),
        max_message_bytes=rng.choice([1, 80, 10_000]),
        snapshot_entries=rng.choice([1, 5, 1000]),
        keep_entries=rng.choice([0, 3]),
        max_apply_bytes=rng.choice([1, 1000]),
        max_persist_bytes=rng.choice([1, 100, 10_000]),
        snapshot_ticks=20,
        stall_ticks=rng.choice([0, 15]),
    )
    watch = Watch()
    cluster = Cluster(rng.choice([1, 2, 3, 3, 5]), settings=settings, seed=seed, on_step=watch.look)
    slow = rng.random() < 0.7
    reorder, loss, double = rng.random() < 0.5, rng.choice([0, 0.05, 0.3]), rng.choice([0, 0.1])
    fresh: list[int] = []
    count = 0
    for node in cluster.nodes.values():
        node.auto_persist = not slow
    for _ in range(steps):
        roll = rng.random()
        nodes = list(cluster.nodes.values())
        node = rng.choice(nodes)
        if roll < 0.55 and cluster.network:
            place = rng.randrange(len(cluster.network)) if reorder else 0
            sender, to, message = cluster.network.pop(place)
            if rng.random() < double:
                cluster.network.append((sender, to, message))
            target = cluster.nodes.get(to)
            if target is not None and target.alive and (sender, to) not in cluster.cut and rng.random() >= loss:
                target.step(message)
                watch.seen[type(message).__name__] += 1
        elif roll < 0.75 and node.alive:
            node.step(Tick(rng.choice([1, 1, 1, 4])))
        elif roll < 0.85:
            node.persist(rng.choice([1, 1, -1]))
        elif roll < 0.90:
            cluster.local()
        elif roll < 0.95 and node.alive:
            count += 1
            cluster.propose(node.id, *[b"%d.%d" % (count, i) for i in range(rng.choice([1, 1, 4]))])
        elif roll < 0.955:
            node.crash()
            watch.seen["crash"] += 1
        elif roll < 0.97 and not node.alive:
            node.restart()
            node.auto_persist = not slow
        elif roll < 0.975:
            cluster.isolate(node.id) if rng.random() < 0.4 else cluster.heal()
        elif roll < 0.985 and node.alive:
            propose_change(rng, cluster, node, fresh)
            for other in cluster.nodes.values():
                other.auto_persist = not slow
        elif node.alive:
            wishes: list[Event] = [
                CampaignRequested(),
                Requested(RequestId(8), TransferLeadership()),
                Requested(RequestId(9), Read()),
                PeerUnreachable(NodeId(rng.choice(list(cluster.nodes)))),
            ]
            node.step(rng.choice(wishes))
    calm(cluster, watch)
    return watch


def calm(cluster: Cluster, watch: Watch) -> None:
    """Faults stop: within a bound there is one leader, and all its members have the same log and machine."""
    cluster.heal()
    cluster.cut.clear()
    for node in cluster.nodes.values():
        node.auto_persist = True
        if not node.alive:
            node.restart()
        node.persist()
    for _ in range(40):
        cluster.tick(5)
        leaders = [n for n in cluster.nodes.values() if n.raft.status.leads]
        if leaders:
            leader = max(leaders, key=lambda n: n.raft.status.term)
            cluster.propose(leader.id, b"last", request=99)
            cluster.deliver()
            members = leader.raft.members
            if not members.joint and all(
                cluster[n].machine and cluster[n].data[-1:] == [b"last"] and cluster[n].data == leader.data
                for n in members.nodes
            ):
                break
    else:
        states = [(n.id, n.raft.status) for n in cluster.nodes.values()]
        raise AssertionError(f"no agreement after the faults stopped: {states}")
    watch.finish(cluster)
    watch.seen["changes"] += sum(MEMBERS is e.kind for e in leader.raft.log.entries())


@pytest.mark.parametrize("block", range(6))
def test_cores_stay_safe_and_come_to_agree_under_random_fire(block: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(block * 26, block * 26 + 26):
        try:
            seen += run(seed).seen
        except BaseException:
            print(f"failing seed: {seed}")
            raise
    for what in ("truncated", "crash", "InstallSnapshot", "TimeoutNow", "ReadIndex", "AppendEntries", "changes"):
        assert seen[what], f"the run never saw {what}: {seen}"
