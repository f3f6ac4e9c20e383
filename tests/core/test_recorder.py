"""A recording says everything that a core did: same effects, same final state, on any machine; and it is bounded."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raft_core import COMPILED
from raft_core.effects import Effect, RoleName
from raft_core.errors import CallerError, SettingsError
from raft_core.events import CampaignRequested, Event, Persisted, Proposed, Requested, StopRequested, Tick
from raft_core.ids import NodeId, RequestId, WriteId
from raft_core.membership import AddLearner, ChangeMode, Members, RemoveNode
from raft_core.node import NodeCore, NodeLimits
from raft_core.raft import Raft
from raft_core.recorder import EVENT_OVERHEAD, Recorder, decode_recording, freeze, thaw
from raft_core.recovered import Recovered
from raft_core.requests import ChangeMembership, Read, TransferLeadership
from raft_core.settings import Settings
from raft_testing.trace.records import RecordKind
from raft_testing.trace.replay import replay, trace_of
from tests.core.cluster import SMALL, Cluster, Node, with_settings
from tests.node import cluster as host_cluster


class RecordedNode:
    """A node of the test cluster whose every event goes through a recorder."""

    def __init__(self, node: Node, *, max_events: int = 20_000, max_bytes: int = 1 << 23) -> None:
        self.effects: list[tuple[Effect, ...]] = []
        self.recorder = Recorder(max_events=max_events, max_bytes=max_bytes)
        self.raft = node.raft
        node.raft = self  # type: ignore[assignment]

    def step(self, event: Event) -> list[Effect]:
        effects = self.recorder.step(self.raft, event)
        self.effects.append(tuple(effects))
        return effects

    def __getattr__(self, name: str) -> object:
        return getattr(self.raft, name)


def recorded_life(seed: int, **limits: int) -> tuple[Cluster, list[RecordedNode]]:
    """A cluster goes through elections, writes, reads, changes of members, snapshots, losses and a transfer."""
    if COMPILED:
        pytest.skip("compiled modules take no double of a core")
    rng = random.Random(seed)
    cluster = Cluster(3, settings=with_settings(snapshot_entries=4, keep_entries=1), seed=seed)
    nodes = [RecordedNode(node, **limits) for node in cluster.nodes.values()]
    cluster.elect(1)
    for count in range(60):
        node = cluster[rng.choice((1, 2, 3))]
        what = rng.random()
        if what < 0.4:
            cluster.propose(node.id, b"%d" % count, b"more")
        elif what < 0.5:
            node.step(Requested(RequestId(count), Read()))
        elif what < 0.6:
            node.step(CampaignRequested())
        elif what < 0.65:
            node.step(Requested(RequestId(count), TransferLeadership()))
        elif what < 0.7:
            change = AddLearner(NodeId(4)) if rng.random() < 0.5 else RemoveNode(NodeId(4))
            node.step(Requested(RequestId(count), ChangeMembership((change,), ChangeMode.AUTO)))
        elif what < 0.9:
            cluster.tick(rng.choice((1, 3, 12)), nodes=[node.id])
        if rng.random() < 0.8:
            cluster.deliver(keep=lambda *_: rng.random() < 0.9)
    return cluster, nodes


@pytest.mark.parametrize("seed", range(8))
def test_a_recording_replays_to_the_same_effects_and_the_same_state(seed: int) -> None:
    _, nodes = recorded_life(seed)
    for node in nodes:
        found = replay(node.recorder.dump())
        assert found.effects == tuple(node.effects)
        assert found.fingerprint == node.raft.fingerprint()
        assert found.faithful
        assert found.end == node.raft.status
        assert found.failure == ""


def test_a_recording_that_has_lost_its_beginning_replays_the_rest() -> None:
    _, nodes = recorded_life(3, max_events=40)
    for node in nodes:
        found = replay(node.recorder.dump())
        assert len(found.events) < len(node.effects)
        assert found.effects == tuple(node.effects)[-len(found.effects) :]
        assert found.faithful


def test_a_recorder_keeps_no_more_events_and_bytes_than_it_may_and_at_least_half() -> None:
    raft = Raft(SMALL, Recovered.fresh(1, Members.initial([1])), random.Random(1))
    recorder = Recorder(max_events=100, max_bytes=20 * (EVENT_OVERHEAD + 1000))
    recorder.step(raft)
    for count in range(1000):
        if count % 2:
            recorder.step(raft, Tick())
        else:
            recorder.step(raft, Proposed(RequestId(count), (bytes(2000),)))
        assert recorder.kept_events <= 100
        assert recorder.kept_bytes <= 20 * (EVENT_OVERHEAD + 1000)
        assert count < 40 or recorder.kept_bytes >= 20 * (EVENT_OVERHEAD + 1000) // 2 - 2 * 2200


def test_one_event_larger_than_the_whole_allowance_is_kept_alone() -> None:
    raft = Raft(SMALL, Recovered.fresh(1, Members.initial([1])), random.Random(1))
    recorder = Recorder(max_bytes=1000)
    recorder.step(raft)
    recorder.step(raft, Proposed(RequestId(1), (bytes(5000),)))
    assert Proposed(RequestId(1), (bytes(5000),)) in decode_recording(recorder.dump()).events
    assert replay(recorder.dump()).faithful


def test_a_recording_holds_the_event_that_made_the_core_raise() -> None:
    raft = Raft(SMALL, Recovered.fresh(1, Members.initial([1])), random.Random(1))
    recorder = Recorder()
    recorder.step(raft)
    with pytest.raises(CallerError):
        recorder.step(raft, Persisted(WriteId(99)))
    found = replay(recorder.dump())
    assert found.events == (None, Persisted(WriteId(99)))
    assert found.failure.startswith("CallerError: Persisted(99)")
    assert found.faithful


def test_a_stopped_core_can_still_be_recorded_and_written_down() -> None:
    raft = Raft(SMALL, Recovered.fresh(1, Members.initial([1])), random.Random(1))
    recorder = Recorder(max_events=2)
    recorder.step(raft)
    recorder.step(raft, StopRequested())
    assert raft.stopped
    found = replay(recorder.dump())
    assert found.faithful
    assert found.raft.stopped


@pytest.mark.parametrize("role", list(RoleName))
def test_the_state_of_every_role_thaws_to_what_was_frozen(role: RoleName) -> None:
    cluster = Cluster(3, settings=with_settings(snapshot_entries=2))
    cluster.elect(1)
    cluster.propose(1, b"a", b"b", b"c")
    cluster.deliver()
    if role in (RoleName.PRE_CANDIDATE, RoleName.CANDIDATE):
        cluster[2].step(CampaignRequested())
    if role is RoleName.CANDIDATE:
        cluster[2].raft = Raft(with_settings(pre_vote=False), Recovered.fresh(2, Members.initial([1, 2, 3])), DICE)
        cluster[2].raft.step()
        cluster[2].raft.step(CampaignRequested())
    node = cluster[1 if role is RoleName.LEADER else 3 if role is RoleName.FOLLOWER else 2]
    node.raft.step(Requested(RequestId(5), Read()))
    assert node.raft.status.role is role

    twin = thaw(freeze(node.raft))

    assert twin.fingerprint() == node.raft.fingerprint()
    assert freeze(twin) == freeze(node.raft)
    for _ in range(50):
        assert twin.step(Tick()) == node.raft.step(Tick())
    assert twin.fingerprint() == node.raft.fingerprint()


DICE = random.Random(7)


def test_a_thawed_core_shares_nothing_with_the_frozen_one() -> None:
    raft = Raft(SMALL, Recovered.fresh(1, Members.initial([1])), random.Random(1))
    before = raft.fingerprint()
    twin = thaw(freeze(raft))
    twin.step()
    twin.step(CampaignRequested())
    assert raft.fingerprint() == before


SCRIPT = """
import sys
from raft_testing.trace.replay import replay
found = replay(open(sys.argv[1], "rb").read())
sys.stdout.buffer.write(found.fingerprint + found.effect_bytes)
"""


def test_two_processes_with_different_hash_seeds_replay_to_the_same_bytes(tmp_path: Path) -> None:
    _, nodes = recorded_life(5)
    dump = nodes[0].recorder.dump()
    file = tmp_path / "recording"
    file.write_bytes(dump)
    answers = []
    for hash_seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", SCRIPT, str(file)]
        answers.append(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    here = replay(dump)
    assert answers == [here.fingerprint + here.effect_bytes] * 2


def test_a_recording_becomes_a_trace_with_one_record_per_event() -> None:
    _, nodes = recorded_life(2)
    dump = nodes[0].recorder.dump()
    trace = trace_of(dump)
    found = replay(dump)
    assert len(trace) == len(found.events)
    assert all(record.kind is RecordKind.STEP and record.node == 1 for record in trace)
    assert trace[-1].picture is not None
    assert trace[-1].picture.commit == found.end.commit


def test_a_trace_of_a_core_that_raised_ends_with_the_violation() -> None:
    raft = Raft(SMALL, Recovered.fresh(1, Members.initial([1])), random.Random(1))
    recorder = Recorder()
    recorder.step(raft)
    with pytest.raises(CallerError):
        recorder.step(raft, Persisted(WriteId(99)))
    assert trace_of(recorder.dump())[-1].violation.startswith("CallerError")


def test_damaged_foreign_and_empty_recordings_are_refused_with_a_reason() -> None:
    recorder = Recorder()
    recorder.step(Raft(Settings(), Recovered.fresh(1), random.Random(1)))
    good = recorder.dump()
    with pytest.raises(CallerError):
        replay(b"")
    with pytest.raises(CallerError):
        replay(b"raft recording 9\n" + good)
    for place in range(20, len(good), 97):
        with pytest.raises(CallerError):
            replay(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    with pytest.raises(CallerError):
        thaw(b"\x01")
    with pytest.raises(CallerError):
        thaw(b"\x92\xa6object\xa4dict")


def test_a_recorder_without_room_for_two_events_is_refused() -> None:
    with pytest.raises(SettingsError):
        Recorder(max_events=1)


def test_nothing_can_be_written_down_before_the_first_step() -> None:
    with pytest.raises(CallerError):
        Recorder().dump()


def test_another_core_begins_another_recording() -> None:
    first, second = (Raft(SMALL, Recovered.fresh(node, Members.initial([1, 2])), random.Random(1)) for node in (1, 2))
    recorder = Recorder()
    recorder.step(first)
    recorder.step(second)
    found = replay(recorder.dump())
    assert found.end.node == 2
    assert found.events == (None,)


def test_a_host_that_is_recorded_replays_to_its_cores_state(monkeypatch: pytest.MonkeyPatch) -> None:
    recorders: list[Recorder] = []

    def recorded(
        config: NodeLimits,
        settings: Settings,
        recovered: Recovered,
        prepare: Callable[[bytes, int, int], bytes],
        core_rng: random.Random,
        rng: random.Random,
    ) -> NodeCore:
        recorders.append(Recorder(max_events=100))
        return NodeCore(config, settings, recovered, prepare, core_rng, rng, recorders[-1].step)

    monkeypatch.setattr(host_cluster, "NodeCore", recorded)
    cluster = host_cluster.Cluster(3)
    cluster.start()
    leader = cluster.elect()
    for command in (b"a", b"b", b"c"):
        cluster.wait(leader, leader.propose(command))

    assert len(recorders) == 3
    for node, recorder in zip(cluster.nodes.values(), recorders, strict=True):
        found = replay(recorder.dump())
        assert found.faithful
        assert found.end == node.host.status.core
        assert recorder.kept_events <= 100
