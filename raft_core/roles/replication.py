"""A leader's sending: what each follower gets next, heartbeats, commit announcements, snapshot offers (§5.3, §7).

What lives here: one `Progress` per follower and the messages made from it. Whether an answer commits anything, is the
leader's to decide.
"""

from __future__ import annotations

from typing import final

from raft_core.effects import AlarmKind
from raft_core.entries import SnapshotMeta
from raft_core.ids import NO_INDEX, Index, MessageId, NodeId, ReadId, Term
from raft_core.messages import COMMIT_UPDATE, DATA, HEARTBEAT, AppendEntries, InstallSnapshot
from raft_core.progress import Progress, ProgressState
from raft_core.server import Server

__all__ = ["Replication"]


@final
class Replication:
    """Everybody who receives the log, in the order of their ids. `departing` are removed nodes that are still being
    told of it (rule 10.2): they count nowhere, until they have it or a few timeouts have passed."""

    __slots__ = ("_announcement", "_shared", "_shared_last", "departing", "offers_wait", "progress", "server")

    def __init__(self, server: Server) -> None:
        self.server = server
        self.progress: dict[NodeId, Progress] = {}
        self.departing: dict[NodeId, tuple[Index, int]] = {}  # (the configuration it has to learn, tick of patience)
        self._shared: AppendEntries | None = None  # the last append built: followers in the same place share it
        self._shared_last: Index = NO_INDEX
        self.offers_wait = False  # somebody needs a snapshot whose switch is not durable yet
        self._announcement: AppendEntries | None = None  # the last one built, shared likewise
        self.follow_members()

    def follow_members(self) -> None:
        """There is a `Progress` for every member in force but this node; removed ones become departing."""
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

    def drop_departed(self) -> None:
        """Removed nodes that know of it, or that never answer, are let go."""
        for node, (index, patience) in list(self.departing.items()):
            known = self.progress[node].match >= index and self.progress[node].commit_sent >= index
            if known or self.server.now >= patience:
                del self.departing[node]
                del self.progress[node]

    # Appends.

    def fill_all(self) -> None:
        """Everybody has been sent what their windows allow."""
        for peer in self.progress.values():
            self.fill(peer)

    def fill(self, peer: Progress) -> None:
        """`peer` has been sent everything that its window allows; a probe even if there is nothing new."""
        log = self.server.log
        while not peer.paused:
            probing = peer.state is ProgressState.PROBE
            if peer.next > log.last_index and not probing:
                return
            if peer.next <= log.base.index and log.term_at(Index(peer.next - 1)) is None:
                self.offer_snapshot(peer)
                return
            self._append(peer)

    def _append(self, peer: Progress) -> None:
        server, log = self.server, self.server.log
        prev = Index(peer.next - 1)
        message = self._shared
        if (
            message is None
            or message.prev_index != prev
            or self._shared_last != log.last_index
            or message.commit != server.commit
            or message.term != server.term
        ):
            message = self._build(prev)
            self._shared, self._shared_last = message, log.last_index
        entries = message.entries
        last = entries[-1].index if entries else prev
        server.outbox.send(peer.node, message)
        peer.sent(last, log.size_between(prev, last))
        peer.commit_sent = server.commit if server.commit < last else last

    def _build(self, prev: Index) -> AppendEntries:
        server, log = self.server, self.server.log
        term = log.term_at(prev)
        assert term is not None  # fill() offers a snapshot where the place is gone
        entries = log.slice(Index(prev + 1), log.last_index, server.settings.max_message_bytes)
        read = ReadId(0)
        return AppendEntries(
            server.term, server.me, server.next_message(), DATA, prev, term, server.commit, read, entries
        )

    def empty_append(self, peer: Progress) -> None:
        """An empty append behind everything sent: where a window was lost, the answer says so (rule 5.2)."""
        server = self.server
        prev = Index(peer.next - 1)
        term = server.log.term_at(prev)
        if term is None:
            self.offer_snapshot(peer)
            return
        server.outbox.send(
            peer.node,
            AppendEntries(server.term, server.me, server.next_message(), DATA, prev, term, server.commit, ReadId(0)),
        )

    def announce_all(self) -> None:
        """Everybody has been sent what is new, and told how far it is committed."""
        for peer in self.progress.values():
            self.fill(peer)
            self.announce(peer)

    def announce(self, peer: Progress) -> None:
        """`peer` has been told the commit index if that can move it (rule 5.6): with entries, or by a message of its
        own, which names the last place sent, travels behind it, and asks for no answer but where that is lost."""
        server = self.server
        commit = server.commit
        sent = Index(peer.next - 1)
        reach = commit if commit < sent else sent
        if peer.state is not ProgressState.REPLICATE or peer.commit_sent >= reach:
            return
        shared = self._announcement
        if shared is None or shared.prev_index != sent or shared.commit != commit or shared.term != server.term:
            term = server.log.term_at(sent)
            if term is None:
                return
            shared = AppendEntries(
                server.term, server.me, server.next_message(), COMMIT_UPDATE, sent, term, commit, ReadId(0)
            )
            self._announcement = shared
        server.outbox.send(peer.node, shared)
        peer.commit_sent = reach

    def heartbeat_all(self, read: ReadId) -> MessageId:
        """Everybody has a heartbeat that confirms the reads up to `read`; its message id is returned."""
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
                commit = server.commit if server.commit < match else match  # §5.3, rule 3.4: no more than it holds
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
        """A follower that has something under way and has not moved when it answers this beat, may have lost it."""
        for peer in self.progress.values():
            peer.match_at_beat = peer.match

    # Snapshots.

    def offer_snapshot(self, peer: Progress) -> None:
        """`peer` needs what the log no longer holds: the snapshot is offered, to those who are there (rule 6.1)."""
        server = self.server
        if peer.state is ProgressState.REPLICATE:
            peer.become_probe()
        lately, meta = peer.heard_within(server.settings.election_ticks, server.now), server.snapshot_to_offer
        if not lately or meta is None:
            peer.probe_sent = True  # its next heartbeat reply brings it back here
            self.offers_wait = self.offers_wait or (lately and server.snapshot is not None)
            return
        peer.become_snapshot(meta.index)
        self._send_offer(peer, meta)

    def offer_when_durable(self) -> None:
        """Those who wait only for the switch to our newest snapshot have been offered it, now that it is durable."""
        if not self.offers_wait or self.server.snapshot_to_offer is None:
            return
        self.offers_wait = False
        for peer in self.progress.values():
            if peer.state is ProgressState.PROBE and peer.next <= self.server.log.base.index:
                peer.probe_sent = False
                self.fill(peer)

    def repeat_offer(self, peer: Progress) -> None:
        """The newest snapshot has been offered again: a receiver that is at work on it goes on (rule 6.10)."""
        meta = self.server.snapshot_to_offer
        if meta is None:
            return
        if peer.pending != meta.index:
            peer.become_snapshot(meta.index)
        self._send_offer(peer, meta)

    def _send_offer(self, peer: Progress, meta: SnapshotMeta) -> None:
        server = self.server
        server.outbox.send(peer.node, InstallSnapshot(server.term, server.me, server.next_message(), meta))

    def tick_snapshots(self, elapsed: int) -> None:
        """A transfer without progress for too long has failed (rule 6.2): progress counts, not duration."""
        for peer in self.progress.values():
            if peer.state is not ProgressState.SNAPSHOT:
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
        """The oldest snapshot on its way to a follower; 0 where there is none. The log after it is kept for them."""
        pending = [peer.pending for peer in self.progress.values() if peer.state is ProgressState.SNAPSHOT]
        return min(pending, default=NO_INDEX)
