"""The core's speed: three nodes in one process, no disk, no bytes: what the protocol itself costs per entry.

What lives here: a driver that is as thin as it can be, and the figures it takes. Unit: microseconds of processor time
per entry, from its proposal until all three machines have applied it and the client has its answer.
"""

from __future__ import annotations

import gc
import random
import time
from collections import deque

from raft_core.effects import Apply, Persist, Respond, Send
from raft_core.events import Applied, CampaignRequested, Event, Persisted, Proposed
from raft_core.ids import RequestId
from raft_core.membership import Members
from raft_core.messages import Message
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.settings import Settings
from raft_core.wire import Frame, FrameReader, decode, encode_message

__all__ = ["measure"]

_DATA = b"x" * 64
_SETTINGS = Settings(snapshot_entries=10**9, snapshot_bytes=10**12, log_max_bytes=10**12, max_message_bytes=10**7)


class _Trio:
    """Three cores whose effects are carried out at once: writes are durable, machines answer with nothing."""

    def __init__(self, *, encoded: bool) -> None:
        members = Members.initial([1, 2, 3])
        self.nodes = {n: Raft(_SETTINGS, Recovered.fresh(n, members), random.Random(n)) for n in (1, 2, 3)}
        self.queue: deque[tuple[Raft, Event]] = deque()
        self.applied = 0
        self.answered = 0
        self.encoded = encoded
        self.reader = FrameReader(max_first=2**26, max_later=2**26)
        self.last_sent: Message | None = None
        self.last_frame = b""
        for node in self.nodes.values():
            node.step()
        self.give(self.nodes[1], CampaignRequested())
        assert self.nodes[1].status.leads

    def give(self, node: Raft, event: Event) -> None:
        queue = self.queue
        queue.append((node, event))
        nodes = self.nodes
        while queue:
            node, event = queue.popleft()
            for effect in node.step(event):
                kind = type(effect)
                if kind is Send:
                    message = effect.message  # type: ignore[union-attr]
                    if self.encoded:
                        message = self._over_the_wire(message)
                    queue.append((nodes[effect.to], message))  # type: ignore[union-attr]
                elif kind is Persist:
                    queue.append((node, Persisted(effect.write)))  # type: ignore[union-attr]
                elif kind is Apply:
                    count = len(effect.commands)  # type: ignore[union-attr]
                    self.applied += count
                    queue.append((node, Applied(effect.upto, (b"",) * count)))  # type: ignore[union-attr]
                elif kind is Respond:
                    self.answered += effect.count  # type: ignore[union-attr]

    def _over_the_wire(self, message: Message) -> Message:
        """What arrives when `message` is framed, unframed, decoded and checked; encoded once for all in one place."""
        if message is not self.last_sent:
            self.last_sent, self.last_frame = message, encode_message(message)
        (frame,) = self.reader.feed(self.last_frame)
        assert isinstance(frame, Frame)
        return decode(frame)  # type: ignore[return-value]

    def run(self, count: int, batch: int) -> float:
        """Microseconds per entry."""
        leader, commands = self.nodes[1], (_DATA,) * batch
        applied, answered = self.applied, self.answered
        gc.collect()
        begin = time.process_time()
        for number in range(count // batch):
            self.give(leader, Proposed(RequestId(number), commands))
        spent = time.process_time() - begin
        done = count // batch * batch
        assert self.applied - applied == 3 * done, "every node has applied every entry"
        assert self.answered - answered == done, "every client has its answer"
        return spent / done * 1e6


def _median(count: int, batch: int, rounds: int, *, encoded: bool = False) -> float:
    return sorted(_Trio(encoded=encoded).run(count, batch) for _ in range(rounds))[rounds // 2]


def measure(quick: bool = False) -> dict[str, float]:
    """Medians of several runs, each on a fresh cluster."""
    scale, rounds = (10, 3) if quick else (1, 5)
    return {
        "closed loop, µs per entry": _median(5_000 // scale, 1, rounds),
        "batches of 100, µs per entry": _median(50_000 // scale, 100, rounds),
        "batches of 1000, µs per entry": _median(100_000 // scale, 1000, rounds),
        "closed loop with encoding, µs per entry": _median(5_000 // scale, 1, rounds, encoded=True),
        "batches of 100 with encoding, µs per entry": _median(50_000 // scale, 100, rounds, encoded=True),
    }
