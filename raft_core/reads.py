"""Linearizable reads on a leader (§8, thesis 6.4): rounds of confirmation, each shared by all reads that wait for it.

What lives here: which read waits for which round. Rules:

1. A read joins the next round to be sent, never one under way: the round must have begun after the read was asked.
2. Round numbers are made by the leader and only rise, so one answer confirms all earlier rounds, and a delayed or
   repeated answer confirms nothing that it should not (a client's own numbers once led to stale reads elsewhere).
3. A round's index is the commit index when it is sent, and no round is sent before the leader has committed an entry
   of its own term: only then does it know what is committed.
"""

from __future__ import annotations

from collections import deque
from typing import final

from raft_core.ids import Index, MessageId, NodeId, ReadId, RequestId
from raft_core.structs import Value

__all__ = ["ReadQueue", "ReadRound", "WaitingRead"]


@final
class WaitingRead(Value, frozen=True, array_like=True):
    """A read asked here (`origin` 0) or by another node under its own message id."""

    origin: NodeId
    request: RequestId
    message: MessageId = MessageId(0)


@final
class ReadRound(Value, frozen=True, array_like=True):
    """A round under way: confirmed, its reads may be done at `index`."""

    id: ReadId
    index: Index
    reads: tuple[WaitingRead, ...]


@final
class ReadQueue:
    """Reads that wait for the next round, and the one round under way."""

    __slots__ = ("last_round", "rounds", "waiting")

    def __init__(self) -> None:
        self.waiting: list[WaitingRead] = []
        self.rounds: deque[ReadRound] = deque()
        self.last_round = ReadId(0)  # goes out with every heartbeat

    def __len__(self) -> int:
        return len(self.waiting) + sum([len(sent.reads) for sent in self.rounds])

    def ask(self, read: WaitingRead) -> None:
        """`read` will be part of the next round."""
        self.waiting.append(read)

    @property
    def wants_round(self) -> bool:
        """Reads wait and no round is under way."""
        return bool(self.waiting) and not self.rounds

    def begin(self, index: Index) -> ReadId:
        """All waiting reads are part of a round that begins now."""
        self.last_round = ReadId(self.last_round + 1)
        self.rounds.append(ReadRound(self.last_round, index, tuple(self.waiting)))
        self.waiting.clear()
        return self.last_round

    def confirmed(self, upto: ReadId) -> list[ReadRound]:
        """The rounds up to `upto`; they are no longer under way."""
        done: list[ReadRound] = []
        while self.rounds and self.rounds[0].id <= upto:
            done.append(self.rounds.popleft())
        return done

    def drain(self) -> list[WaitingRead]:
        """Every read that waits, oldest first; none waits any more."""
        reads = [read for sent in self.rounds for read in sent.reads] + self.waiting
        self.rounds.clear()
        self.waiting = []
        return reads
