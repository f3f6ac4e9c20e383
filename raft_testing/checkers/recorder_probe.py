"""Some nodes run with a recorder. Their recordings, replayed, must lead to the same effects and the same state."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, final

import msgspec

from raft_core.effects import Effect
from raft_core.errors import CallerError
from raft_core.events import Event
from raft_core.ids import NodeId
from raft_core.raft import Raft
from raft_core.recorder import EVENT_OVERHEAD, Recorder
from raft_testing.rng import Rng
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.world import World
from raft_testing.trace.replay import replay

__all__ = ["RecorderProbe"]

RECORDED_SEEDS: Final = 0.1
"""Share of seeds in which nodes record."""
_REPLAYED_EVENTS: Final = 3000
"""Events that are replayed per seed at most."""


@final
class RecorderProbe:
    """Nodes with a recorder. `kept`: by node, the effects of every step of this life."""

    def __init__(self, world: World, rng: Rng) -> None:
        self._world = world
        self._rng = rng
        self._takes_part = rng.chance(RECORDED_SEEDS)
        self._left = _REPLAYED_EVENTS
        self._recorders: dict[NodeId, tuple[Recorder, int, int]] = {}
        self.kept: dict[NodeId, list[list[Effect]]] = {}

    def recorder_for(self, node: SimulatedNode, step: Callable[[Raft, Event | None], list[Effect]]) -> Recorder | None:
        """Record some nodes of some seeds, within bounds that are sometimes tiny."""
        self.kept.pop(node.id, None)
        if not self._takes_part or not self._rng.chance(0.5):
            return None
        self.kept[node.id] = []
        events, size = self._rng.choice(((2, 1000), (100, 20_000), (100, 2), (20_000, 30_000), (1000, 1 << 23)))
        recorder = Recorder(max_events=events, max_bytes=size, step=step)
        self._recorders[node.id] = (recorder, events, size)
        return recorder

    def look(self, node: SimulatedNode, share: float) -> None:
        """Replay the node's recording, with this probability, and compare it with the node's behaviour."""
        if node.host is None or self._left <= 0 or not self._takes_part or not self._rng.chance(share):
            return
        wrong = self._wrong(node)
        if wrong is not None:
            self._world.fail(f"the recording of node {node.id}: {wrong}")

    def _wrong(self, node: SimulatedNode) -> str | None:
        host, raft, kept = node.host, node.last_raft, self.kept.get(node.id)
        assert host is not None
        try:
            dump = host.recording()
        except CallerError:
            return "nothing was recorded" if kept else None
        if not kept or raft is None:
            return "something was recorded before the first step"
        try:
            replayed = replay(dump)
        except Exception as failure:
            return f"it cannot be replayed: {type(failure).__name__}: {failure}"
        count = len(replayed.events)
        self._left -= count
        self._world.seen["probes: recordings replayed"] += 1
        self._world.seen["probes: steps replayed from recordings"] += count
        if not replayed.faithful or replayed.fingerprint != raft.fingerprint() or replayed.end != raft.status:
            return f"its {count} events lead to another state"
        if count > len(kept) or list(replayed.effects) != [tuple(effects) for effects in kept[-count:]]:
            return f"its {count} events have other effects than {len(kept)} steps had"
        if replayed.failure:
            return f"it raised {replayed.failure}"
        recorder, most_events, most_bytes = self._recorders[node.id]
        if count > max(2, most_events) and not raft.stopped:
            return f"it holds {count} events, {most_events} are allowed"
        charged = recorder.kept_bytes if recorder.kept_events == count else -1
        largest = EVENT_OVERHEAD + max([len(msgspec.msgpack.encode(event)) for event in replayed.events])
        if not count * EVENT_OVERHEAD <= charged <= most_bytes + 2 * largest and not raft.stopped:  # one of each half
            return f"it says {recorder.kept_events} events of {charged} bytes, {most_bytes} are allowed"
        return self._damaged(dump)

    def _damaged(self, dump: bytes) -> str | None:
        """Return a violation if a dump with a flipped bit or a cut end is accepted."""
        place = self._rng.below(len(dump))
        flipped = bytes((dump[place] ^ 1 << self._rng.below(8),))
        strange = b"raft recording 1\n" + zlib.crc32(flipped).to_bytes(4, "little") + flipped
        for bad in (dump[:place] + flipped + dump[place + 1 :], dump[:place], strange):
            try:
                replay(bad)
            except CallerError:
                continue
            return f"it is replayed although byte {place} is not what was dumped"
        return None
