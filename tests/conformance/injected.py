"""Build a hand-made message from the fields that a scenario names.

A field that the scenario does not name has the value that a correct peer would send: the sender's own term, log and
configuration where the sender is on the stage, and otherwise what the receiver already knows of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, final

from raft_core.entries import MEMBERS, Entry, LogPosition, SnapshotMeta
from raft_core.ids import NO_INDEX, Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.membership import Change, ChangeMode, Members
from raft_core.messages import (
    DATA,
    HEARTBEAT,
    AppendEntries,
    AppendPurpose,
    AppendReply,
    InstallSnapshot,
    Message,
    RequestVote,
    TimeoutNow,
    VoteKind,
    VoteReply,
)
from raft_core.roles.candidate import Candidate, PreCandidate
from raft_core.roles.leader import Leader
from tests.conformance.stage import MODES, Node, Packet, change_of

__all__ = ["Injection"]

LETTERS: Final = {"v": "add_voter", "l": "add_learner", "r": "remove"}
ENTRY: Final = re.compile(r"(\d+)/(\d+)(?: (.*))?", re.DOTALL)
CHANGE: Final = re.compile(r"conf_v[12]\((?:(explicit|implicit): )?(.*)\)")


def _number(value: object) -> int:
    return int(str(value or 0))


@final
class Injection:
    """One message of a scenario. `started` maps the places (index, term) at which our clusters start with term 0."""

    def __init__(
        self, nodes: Mapping[int, Node], started: frozenset[tuple[int, int]], fields: Mapping[str, object]
    ) -> None:
        self.fields = fields
        self.started = started
        self.from_id = NodeId(_number(fields["from"]))
        self.to_id = NodeId(_number(fields["to"]))
        self.sender = nodes.get(self.from_id)
        self.receiver = nodes[self.to_id]
        self.nodes = nodes

    def packet(self) -> Packet:
        """Return the message, addressed. Raises `ValueError` for a type that no peer sends."""
        return Packet(self.from_id, self.to_id, self._message())

    def _message(self) -> Message:
        kind = str(self.fields["type"])
        if kind in ("vote", "prevote"):
            return self._vote(pre=kind == "prevote")
        if kind in ("vote_resp", "prevote_resp"):
            return self._vote_reply(pre=kind == "prevote_resp")
        if kind == "append":
            return self._append()
        if kind == "heartbeat":
            return self._heartbeat()
        if kind == "append_resp":
            return self._append_reply()
        if kind == "heartbeat_resp":
            return self._heartbeat_reply()
        if kind == "snapshot":
            return InstallSnapshot(self._term(self.own_term), self.from_id, self._next_id(), self.snapshot_meta())
        if kind == "timeout_now":
            return TimeoutNow(self._term(self.own_term), self.from_id, self._next_id())
        raise ValueError(f"no peer sends a message of type {kind!r}")

    # What the two nodes know.

    @property
    def own_term(self) -> int:
        """The sender's term; of a sender that is not on the stage, the receiver's."""
        return (self.sender or self.receiver).raft.server.term

    @property
    def answer_term(self) -> int:
        """The term of an answer: the answering node has taken over the term that it was asked in."""
        return max(self.own_term, self.receiver.raft.server.term)

    @property
    def incarnation(self) -> Incarnation:
        return self.receiver.raft.members.incarnation_of(self.from_id)

    def _next_id(self) -> MessageId:
        return self.sender.raft.server.next_message() if self.sender else MessageId(1)

    def _term(self, otherwise: int) -> Term:
        return Term(_number(self.fields["term"]) if "term" in self.fields else otherwise)

    def _index(self, name: str, otherwise: int) -> Index:
        return Index(_number(self.fields[name]) if name in self.fields else otherwise)

    def _place(self, value: object) -> tuple[Index, Term | None]:
        """A place in the log, written {term, index}, "term/index" or as an index alone."""
        if isinstance(value, Mapping):
            index, term = _number(value.get("index")), value.get("term")
        elif isinstance(value, str) and "/" in value:
            text, _, after = value.partition("/")
            index, term = int(after), int(text)
        else:
            index, term = _number(value), None
        if term is None:
            return Index(index), None
        return Index(index), Term(0 if (index, _number(term)) in self.started else _number(term))

    def _term_at(self, index: Index) -> Term:
        """The term of the entry at `index` in the sender's log, otherwise in the receiver's; 0 where neither has it."""
        for node in (self.sender, self.receiver):
            found = node.raft.log.term_at(index) if node is not None else None
            if found is not None:
                return found
        return Term(0)

    # Votes.

    def _vote(self, *, pre: bool) -> RequestVote:
        role = self.sender.raft.role if self.sender else None
        kind = VoteKind.PRE if pre else VoteKind.REAL
        term, message = self._term(self.own_term + 1), self._next_id()
        campaign = role.campaign if isinstance(role, Candidate | PreCandidate) else None
        if campaign is not None and pre == (campaign.kind is VoteKind.PRE):
            kind, term, message = campaign.kind, self._term(campaign.term), campaign.id
        last = (self.sender or self.receiver).raft.log.last
        if "last" in self.fields:
            index, named = self._place(self.fields["last"])
            last = LogPosition(index, self._term_at(index) if named is None else named)
        return RequestVote(term, self.from_id, message, kind, last)

    def _vote_reply(self, *, pre: bool) -> VoteReply:
        role = self.receiver.raft.role
        granted = not self.fields.get("reject")
        kind, message, asked = VoteKind.PRE if pre else VoteKind.REAL, MessageId(0), self.answer_term
        campaign = role.campaign if isinstance(role, Candidate | PreCandidate) else None
        if campaign is not None and pre == (campaign.kind is VoteKind.PRE):
            kind, message = campaign.kind, campaign.id
            asked = campaign.term if granted else self.answer_term
        return VoteReply(self._term(asked), self.from_id, self.incarnation, message, kind, granted)

    # Appends and heartbeats.

    def _append(self) -> AppendEntries:
        written = self.fields.get("entries") or []
        assert isinstance(written, list)
        first = self._entry_place(written[0])[0] if written else None
        if "prev" in self.fields:
            prev, named = self._place(self.fields["prev"])
        elif first is not None:
            prev, named = Index(first - 1), None
        else:
            prev, named = self._following(), None
        entries: list[Entry] = []
        for at, text in enumerate(written, prev + 1):
            entries.append(self._entry(text, Index(at), entries))
        return AppendEntries(
            self._term(self.own_term),
            self.from_id,
            self._next_id(),
            DATA,
            prev,
            self._term_at(prev) if named is None else named,
            self._index("commit", (self.sender or self.receiver).raft.server.commit),
            ReadId(0),
            tuple(entries),
        )

    def _following(self) -> Index:
        """The place behind which a leader sends next."""
        role = self.sender.raft.role if self.sender else None
        peer = role.replication.progress.get(self.to_id) if isinstance(role, Leader) else None
        return Index(peer.next - 1) if peer is not None else self.receiver.raft.log.last_index

    def _heartbeat(self) -> AppendEntries:
        """A leader's heartbeat names the place that the receiver has acknowledged, and commits nothing beyond it."""
        role = self.sender.raft.role if self.sender else None
        peer = role.replication.progress.get(self.to_id) if isinstance(role, Leader) else None
        match = peer.match if peer is not None else NO_INDEX
        known = min((self.sender or self.receiver).raft.server.commit, match)
        commit = self._index("commit", known)
        prev, named = Index(max(match, commit)), None
        if "prev" in self.fields:
            prev, named = self._place(self.fields["prev"])
        term = self._term_at(prev) if named is None else named
        return AppendEntries(
            self._term(self.own_term),
            self.from_id,
            self._next_id(),
            HEARTBEAT,
            prev,
            term,
            commit,
            ReadId(0),
            (),
            Index(max(commit, self.sender.raft.server.commit if self.sender else 0)),
        )

    def _append_reply(self) -> AppendReply:
        if self.fields.get("reject"):
            return self._rejection()
        return self._reply(DATA, self._index("index", self._agreed()), MessageId(0))

    def _rejection(self) -> AppendReply:
        role = self.receiver.raft.role
        peer = role.replication.progress.get(self.from_id) if isinstance(role, Leader) else None
        rejected = self._index("index", peer.next - 1 if peer is not None else self.receiver.raft.log.last_index)
        log = (self.sender or self.receiver).raft.log
        hint, hinted = log.last_at_most(rejected, self._term_at(rejected)), None
        index = hint.index
        if "reject_hint" in self.fields:
            index, hinted = self._place(self.fields["reject_hint"])
        if "log_term" in self.fields:
            hinted = Term(_number(self.fields["log_term"]))
        term = self._term_at(index) if hinted is None else hinted
        reply = self._reply(DATA, NO_INDEX, MessageId(0))
        return AppendReply(
            reply.term,
            reply.sender,
            reply.incarnation,
            reply.id,
            DATA,
            ReadId(0),
            NO_INDEX,
            rejected,
            index,
            term,
            False,
        )

    def _heartbeat_reply(self) -> AppendReply:
        role = self.receiver.raft.role
        if not isinstance(role, Leader):
            return self._reply(HEARTBEAT, NO_INDEX, MessageId(0))
        peer = role.replication.progress.get(self.from_id)
        beats = role.reading.beats
        known = peer.match if peer is not None else NO_INDEX
        return self._reply(HEARTBEAT, self._index("index", known), beats[-1][0] if beats else MessageId(0))

    def _reply(self, purpose: AppendPurpose, match: Index, message: MessageId) -> AppendReply:
        term = self._term(self.answer_term)
        return AppendReply(term, self.from_id, self.incarnation, message, purpose, ReadId(0), match)

    def _agreed(self) -> Index:
        """Up to where the sender durably holds the receiver's log."""
        if self.sender is None:
            role = self.receiver.raft.role
            peer = role.replication.progress.get(self.from_id) if isinstance(role, Leader) else None
            return peer.match if peer is not None else NO_INDEX
        theirs, ours = self.sender.raft, self.receiver.raft.log
        index = min(theirs.server.outbox.durable_index, ours.last_index)
        while index > 0 and theirs.log.term_at(index) != ours.term_at(index):
            index = Index(index - 1)
        return index

    # Entries and snapshots.

    def _entry_place(self, written: object) -> tuple[int, int, str]:
        if isinstance(written, Mapping):
            return _number(written.get("index")), _number(written.get("term")), str(written.get("data") or "")
        found = ENTRY.fullmatch(str(written))
        if found is None:
            raise ValueError(f"no entry: {written!r}")
        return int(found[2]), int(found[1]), found[3] or ""

    def _entry(self, written: object, at: Index, before: list[Entry]) -> Entry:
        """A change of members that some node already holds is sent as it is, for it names the incarnations too."""
        index, term, text = self._entry_place(written)
        change = CHANGE.fullmatch(text)
        if change is None:
            return Entry.make(index or at, term, text.encode())
        for node in self.nodes.values():
            if index > node.raft.log.base.index and node.raft.log.term_at(Index(index)) == term:
                return node.raft.log.entry(Index(index))
        members = self._members(Index(at - 1))
        for entry in before:
            members = Members.decode(entry.data) if entry.kind is MEMBERS else members
        return Entry.make(index or at, term, _changed(members, change).encode(), MEMBERS)

    def _members(self, at: Index) -> Members:
        return (self.sender or self.receiver).raft.server.configurations.at(at)[1]

    def snapshot_meta(self) -> SnapshotMeta:
        """The snapshot that the message offers: the newest applied state unless the scenario names another one."""
        server = (self.sender or self.receiver).raft.server
        named = self.fields.get("snapshot")
        index, term = self._place(named) if named else (server.pipeline.applied, None)
        place, members = server.configurations.at(index)
        if isinstance(named, Mapping):
            config = named.get("config", named)
            if isinstance(config, Mapping) and config.get("voters"):
                members = Members.initial(
                    config["voters"], learners=config.get("learners") or (), leases=bool(members.leases)
                )
                place = index
        return SnapshotMeta(index, self._term_at(index) if term is None else term, members, place)

    def machine(self, meta: SnapshotMeta, kept: Mapping[tuple[int, int], list[str]]) -> list[str]:
        """The commands that the snapshot holds, as the node that has applied them knows them."""
        for node in filter(None, (self.sender, *self.nodes.values())):
            oldest = node.oldest_snapshot()
            start = oldest.index if oldest else 0
            if node.raft.server.pipeline.applied >= meta.index >= start and node.raft.log.base.index <= start:
                held = list(kept[start, oldest.term]) if oldest else []
                entries = [
                    e for e in node.raft.log.entries() if start < e.index <= meta.index and e.kind is not MEMBERS
                ]
                return held + [entry.data.decode() for entry in entries if entry.data]
        return []


def _changed(members: Members, change: re.Match[str]) -> Members:
    """The configuration after `change`, written as in the log of a scenario."""
    steps: tuple[Change, ...] = tuple(change_of(LETTERS[word[0]], int(word[1:])) for word in change[2].split())
    mode = MODES[change[1]] if change[1] else ChangeMode.AUTO
    after = members.changed(steps, mode) if steps else members.left()
    if not isinstance(after, Members):
        raise ValueError(f"{change[0]} cannot be applied to {members}: {after}")
    return after
