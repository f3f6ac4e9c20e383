"""Replication by a leader: appends, heartbeats, commit updates and snapshot offers (§5.3, §7).

It keeps one `Progress` per follower and builds the messages from it. Commit decisions are in `leader`.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.compiled import mypyc_attr
from raft_core.effects import AlarmKind, Send
from raft_core.entries import Entry, SnapshotMeta
from raft_core.ids import NO_INDEX, Index, MessageId, NodeId, ReadId, Term
from raft_core.messages import COMMIT_UPDATE, DATA, HEARTBEAT, AppendEntries, InstallSnapshot
from raft_core.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from raft_core.server import Server

__all__ = ["Replication"]

# Names of this module, which may be compiled: see `raft_core.compiled`.
_AppendEntries: Final = AppendEntries
_Send: Final = Send
_COMMIT_UPDATE: Final = COMMIT_UPDATE
_DATA: Final = DATA

NO_READ: Final = ReadId(0)
"""In appends: only a heartbeat's reply confirms reads."""


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Replication:
    """The followers in order of their ids, members and departing nodes.

    `departing` nodes are removed but still receive the log, up to the entry that removed them (rule 10.2); they count
    in no quorum. Example: A removes C at index 9. Without entry 9 C would campaign for ever, so A sends to C until C
    knows that 9 is committed, or for a few election timeouts if C is down.
    """

    __slots__ = (
        "_announced_commit",
        "_announced_sent",
        "_announcement",
        "_shared",
        "_shared_commit",
        "_shared_end",
        "_shared_last",
        "_shared_prev",
        "_shared_size",
        "departing",
        "joint",
        "leader_votes",
        "offers_wait",
        "progress",
        "server",
        "voting",
    )

    def __init__(self, server: Server) -> None:
        self.server = server
        self.progress: dict[NodeId, Progress] = {}
        self.voting: list[Progress] = []  # those of the incoming voters
        self.leader_votes = False  # this node is a voter, in either half
        self.joint = False  # the configuration in force has two halves
        self.departing: dict[NodeId, tuple[Index, int]] = {}  # (index of the removal, tick to stop at)
        self._shared: AppendEntries | None = None  # the last append built, shared by followers at one index
        self._shared_prev: Index = NO_INDEX  # its fields, and the end of the log when it was built
        self._shared_commit: Index = NO_INDEX
        self._shared_end: Index = NO_INDEX
        self._shared_last: Index = NO_INDEX
        self._shared_size = 0
        self.offers_wait = False  # a follower needs a snapshot whose switch is not durable
        self._announcement: AppendEntries | None = None  # the last commit update built, also shared
        self._announced_sent: Index = NO_INDEX  # its fields
        self._announced_commit: Index = NO_INDEX
        self.follow_members()

    def follow_members(self) -> None:
        """Create a `Progress` for each new member except this node; removed members become departing."""
        server = self.server
        members = server.members
        wanted = [node for node in members.nodes if node != server.me]
        patience = server.now + 4 * server.settings.election_ticks
        for node in self.progress:
            if not members.is_member(node) and node not in self.departing:
                self.departing[node] = (server.configurations.index, patience)
        for node in wanted:
            self.departing.pop(node, None)
            if node not in self.progress:
                self.progress[node] = Progress(
                    node,
                    members.incarnation_of(node),
                    Index(server.log.last_index + 1),
                    server.settings.max_inflight_messages,
                    server.settings.max_inflight_bytes,
                )
        kept = {*wanted, *self.departing}
        self.progress = {node: self.progress[node] for node in sorted(self.progress) if node in kept}
        self.voting = [self.progress[node] for node in members.voters if node != server.me]
        self.leader_votes = members.is_voter(server.me)
        self.joint = bool(members.outgoing)

    def drop_departed(self) -> None:
        """Forget departing nodes which know of their removal, or whose time is over."""
        for node, (index, patience) in list(self.departing.items()):
            known = self.progress[node].match >= index and self.progress[node].commit_sent >= index
            if known or self.server.now >= patience:
                del self.departing[node]
                del self.progress[node]

    # Appends.

    def fill_all(self) -> None:
        """Send to each follower as much as its window allows."""
        last = self.server.log.last_index
        for peer in self.progress.values():
            if peer.next <= last or peer.state is not REPLICATE:
                self.fill(peer)

    def fill(self, peer: Progress) -> None:
        """Send to `peer` as much as its window allows; a probe even without new entries."""
        log = self.server.log
        while True:
            if peer.state is REPLICATE:
                if peer.next > log.last_index or peer.full:
                    return
            elif peer.paused:
                return
            if peer.next <= log.base_index and log.term_at(Index(peer.next - 1)) is None:
                self.offer_snapshot(peer)
                return
            self._append(peer)

    def _append(self, peer: Progress) -> None:
        server, log = self.server, self.server.log
        prev = Index(peer.next - 1)
        message = self._shared
        if (
            message is None
            or self._shared_prev != prev
            or self._shared_last != log.last_index
            or self._shared_commit != server.commit
        ):
            message = self._build(prev)
            self._shared = message
        last = self._shared_end
        server.outbox.effects.append(_Send(peer.node, message))
        peer.sent(last, self._shared_size)
        peer.commit_sent = server.commit if server.commit < last else last

    def _build(self, prev: Index) -> AppendEntries:
        server, log = self.server, self.server.log
        term = log.term_at(prev)
        assert term is not None  # fill() offers a snapshot if `prev` is compacted
        entries: tuple[Entry, ...] = ()
        self._shared_size = 0
        if prev < log.last_index:
            entries, self._shared_size = log.page(prev, log.last_index, server.settings.max_message_bytes)
        self._shared_prev, self._shared_commit = prev, server.commit
        self._shared_end, self._shared_last = Index(prev + len(entries)), log.last_index
        return _AppendEntries(
            server.term, server.me, server.next_message(), _DATA, prev, term, server.commit, NO_READ, entries
        )

    def empty_append(self, peer: Progress) -> None:
        """Send an empty append at the end of the window: if the window is lost, the peer rejects it (rule 5.2)."""
        server = self.server
        prev = Index(peer.next - 1)
        term = server.log.term_at(prev)
        if term is None:
            self.offer_snapshot(peer)
            return
        server.outbox.send(
            peer.node,
            AppendEntries(server.term, server.me, server.next_message(), DATA, prev, term, server.commit, NO_READ),
        )

    def announce_all(self) -> None:
        """Send new entries and the commit index to each follower."""
        for peer in self.progress.values():
            self.follow_up(peer)

    def follow_up(self, peer: Progress) -> None:
        """Send new entries and the commit index to `peer`, if it lacks any."""
        server = self.server
        if peer.next <= server.log.last_index or peer.state is not REPLICATE:
            self.fill(peer)
        if peer.commit_sent < server.commit:
            self.announce(peer)

    def announce(self, peer: Progress) -> None:
        """Send the commit index to `peer` if it can advance there and was not sent with entries (rule 5.6).

        The commit update names the last index sent and follows it on the connection. It is answered only by a
        rejection, if entries before it are lost.
        """
        server = self.server
        commit = server.commit
        sent = Index(peer.next - 1)
        reach = commit if commit < sent else sent
        if peer.state is not REPLICATE or peer.commit_sent >= reach:
            return
        shared = self._announcement
        if shared is None or self._announced_sent != sent or self._announced_commit != commit:
            term = server.log.term_at(sent)
            if term is None:
                return
            shared = _AppendEntries(
                server.term, server.me, server.next_message(), _COMMIT_UPDATE, sent, term, commit, NO_READ
            )
            self._announcement, self._announced_sent, self._announced_commit = shared, sent, commit
        server.outbox.effects.append(_Send(peer.node, shared))
        peer.commit_sent = reach

    def heartbeat_all(self, read: ReadId) -> MessageId:
        """Send each follower a heartbeat for the read rounds up to `read`. Return its message id."""
        server, log = self.server, self.server.log
        message_id = server.next_message()
        shared: AppendEntries | None = None
        shared_match = NO_INDEX
        for peer in self.progress.values():
            match = peer.match
            if shared is None or shared_match != match:
                shared_match = match
                term = log.term_at(match)
                prev, prev_term = (match, term) if term is not None else (NO_INDEX, 0)
                commit = server.commit if server.commit < match else match  # §5.3, rule 3.4: not above its match
                shared = AppendEntries(
                    server.term,
                    server.me,
                    message_id,
                    HEARTBEAT,
                    prev,
                    Term(prev_term),
                    commit,
                    read,
                    (),
                    server.commit,
                )
            server.outbox.send(peer.node, shared)
            if peer.commit_sent < shared.commit:
                peer.commit_sent = shared.commit
        return message_id

    def mark_beat(self) -> None:
        """Note each match: a follower with the same match at its reply may have lost its window (rule 5.2)."""
        for peer in self.progress.values():
            peer.match_at_beat = peer.match

    # Snapshots.

    def offer_snapshot(self, peer: Progress) -> None:
        """Offer the snapshot to `peer`, which needs compacted entries, if it was heard lately (rule 6.1)."""
        server = self.server
        if peer.state is REPLICATE:
            peer.become_probe()
        lately, meta = peer.heard_within(server.settings.election_ticks, server.now), server.snapshots.to_offer
        if not lately or meta is None:
            peer.probe_sent = True  # try again at its next heartbeat reply
            self.offers_wait = self.offers_wait or (lately and server.snapshots.newest is not None)
            return
        peer.become_snapshot(meta.index)
        self._send_offer(peer, meta)

    def offer_when_durable(self) -> None:
        """Offer the newest snapshot to the followers which wait for its durability, once it is durable."""
        if not self.offers_wait or self.server.snapshots.to_offer is None:
            return
        self.offers_wait = False
        for peer in self.progress.values():
            if peer.state is PROBE and peer.next <= self.server.log.base_index:
                peer.probe_sent = False
                self.fill(peer)

    def repeat_offer(self, peer: Progress) -> None:
        """Offer the newest snapshot again; a receiver already fetching it continues (rule 6.10)."""
        meta = self.server.snapshots.to_offer
        if meta is None:
            return
        if peer.pending != meta.index:
            peer.become_snapshot(meta.index)
        self._send_offer(peer, meta)

    def _send_offer(self, peer: Progress, meta: SnapshotMeta) -> None:
        server = self.server
        server.outbox.send(peer.node, InstallSnapshot(server.term, server.me, server.next_message(), meta))

    def tick_snapshots(self, elapsed: int) -> None:
        """Fail transfers without progress for `snapshot_ticks`, whatever their duration (rule 6.2); repeat offers."""
        for peer in self.progress.values():
            if peer.state is not SNAPSHOT:
                continue
            before, peer.idle_ticks = peer.idle_ticks, peer.idle_ticks + elapsed
            patience = self.server.settings.election_ticks
            if peer.idle_ticks >= self.server.settings.snapshot_ticks:
                peer.snapshot_failed()
                text = "a snapshot transfer made no progress; it starts anew"
                self.server.alarm(AlarmKind.SNAPSHOT_STUCK, peer.node, text)
            elif before // patience != peer.idle_ticks // patience:
                self.repeat_offer(peer)

    @property
    def log_hold(self) -> Index:
        """The oldest snapshot being transferred, 0 if none. The log after it is kept for its receiver."""
        pending = [peer.pending for peer in self.progress.values() if peer.state is SNAPSHOT]
        return min(pending, default=NO_INDEX)
