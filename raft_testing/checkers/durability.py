"""Durability: each promise of a message must rest on the disk.

`DurabilityChecker` checks every message that leaves a core: terms, votes, campaigns and acknowledgements, each against
the writes reported durable to the node. It remembers all votes for the whole life of every disk, and each leader's last
log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, final

from raft_core.effects import Send
from raft_core.ids import NodeId
from raft_core.messages import (
    AppendReply,
    Message,
    ReadIndex,
    RequestVote,
    SnapshotReply,
    TransferRefused,
    VoteKind,
    VoteReply,
)
from raft_testing.checkers.reference_model import LogMirror, Watched

__all__ = ["DurabilityChecker"]

_PROMISES_NOTHING: Final = (ReadIndex, TransferRefused)
"""Messages without any promise of their sender."""


@final
class DurabilityChecker:
    """The durability of acknowledged data over all nodes.

    `fail` is called with the text of a violation. `committed` follows the cluster's log as it grows: by index, the term
    and the chain of the committed entry.
    """

    def __init__(
        self, fail: Callable[[str], None], seen: Counter[str], committed: Sequence[tuple[int, bytes]] = ((0, b""),)
    ) -> None:
        self._fail = fail
        self._seen = seen
        self._committed = committed
        self._votes: dict[tuple[NodeId, int, int], NodeId] = {}
        self._grants: dict[tuple[int, NodeId], set[tuple[NodeId, int]]] = {}
        self._logs: dict[int, LogMirror] = {}  # by term: the log of its leader, to compare verified logs with
        self._newest = 0

    # Leaders.

    def took_office(self, term: int, log: LogMirror) -> None:
        """Note the log with which a leader of `term` starts."""
        self._logs[term] = log
        self._newest = max(self._newest, term)

    def resigned(self, term: int, log: LogMirror) -> None:
        """Note the end of a leader's office; `log` is its log until then."""
        self._logs[term] = log.copy()

    def later_leader_without(self, index: int, term: int, led: int) -> int:
        """Return the term of a leader elected after `led` whose log never held the entry; 0 if there is none."""
        if self._newest <= led:
            return 0
        for later, log in self._logs.items():
            if later > led and log.base < index and log.term_at(index) != term:
                return later
        return 0

    def verified(self, watched: Watched, place: int, term: int) -> None:
        """Check the follower's log, up to the index it holds for verified, against that of the leader of `term`."""
        log = self._logs.get(term)
        if log is None:
            return
        held, leads = watched.log.term_at(place), log.term_at(place)
        if place > log.last or (held is not None and leads is not None and held != leads):
            self._fail(f"node {watched.node} takes its log for verified up to {place} (term {held}), of term {leads}")

    def voters_for(self, candidate: NodeId, term: int) -> set[tuple[NodeId, int]]:
        """Whose votes left for the candidate: nodes and their disks."""
        return self._grants.get((term, candidate), set())

    # Messages.

    def sent(self, watched: Watched, effect: Send) -> None:
        """Check a message as it leaves."""
        message = effect.message
        kind = type(message)
        if kind is VoteReply:
            self._vote_sent(watched, effect.to, message)  # type: ignore[arg-type]
        elif kind is RequestVote:
            self._vote_asked(watched, message)  # type: ignore[arg-type]
        elif kind not in _PROMISES_NOTHING:
            self._term_promised(watched, message)
            if (kind is AppendReply or kind is SnapshotReply) and message.ok:  # type: ignore[union-attr]
                self._acknowledged(watched, message)  # type: ignore[arg-type]

    def _term_promised(self, watched: Watched, message: Message) -> None:
        durable = watched.told.hard.term
        if durable < message.term:
            self._fail(f"node {watched.node} promised term {message.term} with term {durable} on its disk")
        if message.term > watched.promised_term:
            watched.promised_term = message.term

    def _acknowledged(self, watched: Watched, reply: AppendReply | SnapshotReply) -> None:
        match, told = reply.match, watched.told
        if told.hard.term > reply.term:
            return  # released together with a later write, which may have replaced what this one rests on
        held = told.term_at(match)
        if held is None and not (told.snapshot is not None and told.snapshot.index >= match):
            self._fail(f"node {watched.node} acknowledged index {match}, its disk ends at {told.last}")
            return
        # The newest leader's log has all that is committed, below its base too, where it holds no entry to compare.
        if held is not None and reply.term >= self._newest and match < len(self._committed):
            wanted = self._committed[match][0]
            if wanted != held:
                self._fail(f"node {watched.node} acknowledged index {match} (term {held}), committed is term {wanted}")
                return
        log = self._logs.get(reply.term)
        if log is None or held is None:
            return
        leads = log.term_at(match)
        if match > log.last or (leads is not None and leads != held):
            self._fail(f"node {watched.node} acknowledged index {match} (term {held}), the leader holds term {leads}")

    def _vote_sent(self, watched: Watched, to: NodeId, reply: VoteReply) -> None:
        if reply.kind is VoteKind.PRE:
            if not reply.granted:
                self._seen["pre-vote refused"] += 1
                self._term_promised(watched, reply)
            return
        self._term_promised(watched, reply)
        if not reply.granted:
            return
        hard = watched.told.hard
        if not (hard.term > reply.term or (hard.term == reply.term and hard.vote == to)):
            self._fail(f"node {watched.node} voted for {to} in term {reply.term} with {hard} on its disk")
        self._note_vote(watched, reply.term, to)
        self._grants.setdefault((reply.term, to), set()).add((watched.node, watched.incarnation))

    def _vote_asked(self, watched: Watched, request: RequestVote) -> None:
        told = watched.told
        if request.kind is not VoteKind.PRE:
            self._term_promised(watched, request)
            self._note_vote(watched, request.term, watched.node)
        last = request.last
        if told.hard.term <= request.term and not told.held(last.index, last.term) and last.index:
            self._fail(f"node {watched.node} campaigned with a log end of {last} that is not on its disk")

    def _note_vote(self, watched: Watched, term: int, candidate: NodeId) -> None:
        first = self._votes.setdefault((watched.node, watched.incarnation, term), candidate)
        if first != candidate:
            self._fail(f"node {watched.node} voted for {first} and for {candidate} in term {term}")
