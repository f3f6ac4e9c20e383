"""The queue of linearizable reads on a leader (§8, thesis 6.4): rounds of heartbeats, each shared by many reads.

Rules:

1. A read joins the next round, never one under way: the round must begin after the read was requested.
2. The leader numbers the rounds, always rising. So one reply confirms all earlier rounds, and a delayed or repeated
   reply confirms no later one (elsewhere, numbers chosen by clients once led to stale reads).
3. A round's index is the commit index at its sending. The leader sends none before it has committed an entry of its
   own term: its commit index may be too low until then.
"""

from __future__ import annotations

from collections import deque
from typing import final

from raft_core.ids import Index, MessageId, NodeId, ReadId, RequestId
from raft_core.structs import Value

__all__ = ["ReadQueue", "ReadRound", "WaitingRead"]


@final
class WaitingRead(Value, frozen=True, array_like=True):
    """A read requested here (`origin` 0) or by another node under its own message id."""

    origin: NodeId
    request: RequestId
    message: MessageId = MessageId(0)


@final
class ReadRound(Value, frozen=True, array_like=True):
    """A round under way. Once it is confirmed, its reads may be done at `index`."""

    id: ReadId
    index: Index
    reads: tuple[WaitingRead, ...]


@final
class ReadQueue:
    """The reads waiting for the next round, and the round under way."""

    __slots__ = ("last_round", "rounds", "waiting")

    def __init__(self) -> None:
        self.waiting: list[WaitingRead] = []
        self.rounds: deque[ReadRound] = deque()
        self.last_round = ReadId(0)  # sent with every heartbeat

    def __len__(self) -> int:
        return len(self.waiting) + sum([len(sent.reads) for sent in self.rounds])

    def ask(self, read: WaitingRead) -> None:
        """Add `read` to the next round."""
        self.waiting.append(read)

    @property
    def wants_round(self) -> bool:
        """True if reads wait and no round is under way."""
        return bool(self.waiting) and not self.rounds

    def begin(self, index: Index) -> ReadId:
        """Begin a round with all waiting reads. Return its number."""
        self.last_round = ReadId(self.last_round + 1)
        self.rounds.append(ReadRound(self.last_round, index, tuple(self.waiting)))
        self.waiting.clear()
        return self.last_round

    def confirmed(self, upto: ReadId) -> list[ReadRound]:
        """Remove and return the rounds up to `upto`."""
        done: list[ReadRound] = []
        while self.rounds and self.rounds[0].id <= upto:
            done.append(self.rounds.popleft())
        return done

    def drain(self) -> list[WaitingRead]:
        """Remove and return all reads, oldest first."""
        reads = [read for sent in self.rounds for read in sent.reads] + self.waiting
        self.rounds.clear()
        self.waiting = []
        return reads
