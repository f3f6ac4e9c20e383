"""The core's speed: three nodes in one process, no disk: what the protocol itself costs per entry.

The driver is as thin as it can be. Unit: microseconds of processor time per entry, from its proposal until all three
machines have applied it and the client has its answer.
"""

from __future__ import annotations

import gc
import hashlib
import random
import time
from collections import deque

from raft_core.effects import Apply, Persist, Respond, Send
from raft_core.entries import COMMAND
from raft_core.events import Applied, CampaignRequested, Event, Persisted, Proposed
from raft_core.ids import RequestId
from raft_core.membership import Members
from raft_core.messages import Message
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.settings import Settings
from raft_core.wire import Frame, FrameReader, decode, encode_message

__all__ = ["SHAPES", "Trio", "entries_for", "measure"]

SHAPES = {
    "closed loop": (1, False),
    "batches of 100": (100, False),
    "batches of 1000": (1000, False),
    "closed loop with encoding": (1, True),
    "batches of 100 with encoding": (100, True),
}
"""Names of what is measured, with the commands of one proposal and whether messages go through the wire's bytes."""

_SIZE = 64
_SETTINGS = Settings(snapshot_entries=10**9, snapshot_bytes=10**12, log_max_bytes=10**12, max_message_bytes=10**7)


class Trio:
    """Three cores whose effects are carried out at once: writes are durable, machines answer with nothing."""

    def __init__(self, *, encoded: bool) -> None:
        members = Members.initial([1, 2, 3])
        self.nodes = {n: Raft(_SETTINGS, Recovered.fresh(n, members), random.Random(n)) for n in (1, 2, 3)}
        self.queue: deque[Send] = deque()  # messages under way, in order
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
        """Give `event` to `node` and carry out all that follows: reports at once, then messages in order."""
        nodes, queue, encoded = self.nodes, self.queue, self.encoded
        send, take = queue.append, queue.popleft
        reports: deque[Event] = deque()
        report, next_report = reports.append, reports.popleft
        applied = answered = 0
        while True:
            for effect in node.step(event):
                kind = type(effect)
                if kind is Send:
                    send(effect)  # type: ignore[arg-type]
                elif kind is Persist:
                    report(Persisted(effect.write))  # type: ignore[union-attr]
                elif kind is Apply:
                    count = len(effect.commands)  # type: ignore[union-attr]
                    applied += count
                    report(Applied(effect.upto, (b"",) * count))  # type: ignore[union-attr]
                elif kind is Respond:
                    answered += effect.count  # type: ignore[union-attr]
            if reports:
                event = next_report()
            elif queue:
                sent = take()
                node, event = nodes[sent.to], sent.message
                if encoded:
                    event = self._over_the_wire(event)
            else:
                break
        self.applied += applied
        self.answered += answered

    def _over_the_wire(self, message: Message) -> Message:
        """What arrives when `message` is framed, unframed, decoded and checked; encoded once for all in one place."""
        if message is not self.last_sent:
            self.last_sent, self.last_frame = message, encode_message(message)
        (frame,) = self.reader.feed(self.last_frame)
        assert isinstance(frame, Frame)
        return decode(frame)  # type: ignore[return-value]

    def run(self, count: int, batch: int) -> float:
        """Microseconds per entry. Each command begins with its number, so that logs can be compared."""
        leader = self.nodes[1]
        applied, answered = self.applied, self.answered
        padding = bytes(_SIZE - 8)
        proposals = [
            tuple([number.to_bytes(8, "little") + padding for number in range(first, first + batch)])
            for first in range(0, count // batch * batch, batch)
        ]
        gc.collect()
        begin = time.process_time()
        for number, commands in enumerate(proposals):
            self.give(leader, Proposed(RequestId(number), commands))
        spent = time.process_time() - begin
        done = count // batch * batch
        assert self.applied - applied == 3 * done, "every node has applied every entry"
        assert self.answered - answered == done, "every client has its answer"
        return spent / done * 1e6

    def log_sum(self) -> str:
        """Return the SHA-256 of all commands in the log, after checking that the three logs are equal."""
        one, two, three = [node.log.entries() for node in self.nodes.values()]
        assert one == two == three, "the three logs are equal"
        return hashlib.sha256(b"".join([entry.data for entry in one if entry.kind is COMMAND])).hexdigest()


def entries_for(batch: int, *, quick: bool) -> int:
    """Return how many entries to measure: about a second of them."""
    count = {1: 10_000, 100: 50_000}.get(batch, 100_000)
    return count // 10 if quick else count


def measure(quick: bool = False) -> dict[str, float]:
    """Medians of several runs, each on a fresh cluster."""
    rounds = 3 if quick else 5
    found: dict[str, float] = {}
    for name, (batch, encoded) in SHAPES.items():
        runs = [Trio(encoded=encoded).run(entries_for(batch, quick=quick), batch) for _ in range(rounds)]
        found[f"{name}, µs per entry"] = sorted(runs)[rounds // 2]
    return found
