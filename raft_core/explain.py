"""Explanations of a core's waits and refusals: a reason, and one sentence for the operator.

`Raft.explain` uses them. They are derived from the core's state and change nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import final

import attrs

from raft_core.ids import NO_INDEX, NO_NODE, Index, NodeId
from raft_core.progress import ProgressState
from raft_core.quorum import committed_index, quorum_reached
from raft_core.roles.candidate import Candidate, PreCandidate
from raft_core.roles.follower import Follower
from raft_core.roles.leader import Leader
from raft_core.server import Server

__all__ = ["Explainer", "Explanation", "Reason"]


class Reason(StrEnum):
    """The cause of a wait."""

    NOTHING = "nothing"
    STOPPED = "stopped"
    NOT_A_MEMBER = "not_a_member"
    LEARNER = "learner"
    SNAPSHOT_PENDING = "snapshot_pending"
    FOLLOWS_LEADER = "follows_leader"
    WAITS_FOR_TIMEOUT = "waits_for_timeout"
    VOTES_MISSING = "votes_missing"
    OWN_VOTE_NOT_DURABLE = "own_vote_not_durable"
    NOT_IN_LOG = "not_in_log"
    ONLY_LEADER_COUNTS = "only_leader_counts"
    QUORUM_MISSING = "quorum_missing"
    OLD_TERM = "old_term"
    NOT_COMMITTED = "not_committed"
    NOT_DURABLE = "not_durable"
    MACHINE_BUSY = "machine_busy"
    PROBE_UNANSWERED = "probe_unanswered"
    WINDOW_FULL = "window_full"
    SNAPSHOT_UNDER_WAY = "snapshot_under_way"
    NO_COMMIT_IN_TERM = "no_commit_in_term"
    ROUND_UNANSWERED = "round_unanswered"
    LEADER_UNANSWERED = "leader_unanswered"


@final
@attrs.frozen
class Explanation:
    """One explanation. `about`: its subject; `nodes`: the nodes waited for; `text`: one sentence for the operator."""

    about: str
    reason: Reason
    text: str
    nodes: tuple[NodeId, ...] = ()
    index: Index = NO_INDEX


@final
class Explainer:
    """Explains the core with this server and role. `stopped`: it takes no further event."""

    def __init__(self, server: Server, role: Follower | PreCandidate | Candidate | Leader, *, stopped: bool) -> None:
        self.server = server
        self.role = role
        self.stopped = stopped

    def everything(self) -> tuple[Explanation, ...]:
        """Explain all present waits, first why the node does not lead, if so."""
        server, role = self.server, self.role
        found = [self.why_not_leader()]
        if server.commit < server.log.last_index:
            found.append(self.why_not_committed(Index(server.commit + 1)))
        if server.pipeline.applied < server.commit:
            found.append(self.why_not_applied(Index(server.pipeline.applied + 1)))
        if isinstance(role, Leader):
            found.extend(self.why_paused(node) for node in role.replication.progress)
        found.append(self.why_reads_wait())
        return tuple(each for each in found if each.reason is not Reason.NOTHING)

    def why_not_leader(self) -> Explanation:
        """Explain why this node does not lead."""
        role, server, members = self.role, self.server, self.server.members
        about = "leader"
        if self.stopped:
            return Explanation(about, Reason.STOPPED, "this core has been stopped")
        if isinstance(role, Leader):
            return Explanation(about, Reason.NOTHING, "this node leads")
        if isinstance(role, PreCandidate | Candidate):
            if isinstance(role, Candidate) and server.me not in role.campaign.votes:
                text = "its own vote is not durable yet: the disk has to answer first"
                return Explanation(about, Reason.OWN_VOTE_NOT_DURABLE, text, (server.me,))
            silent = tuple(n for n in members.all_voters if role.campaign.votes.get(n) is not True)
            return Explanation(about, Reason.VOTES_MISSING, f"no vote yet from {_list(silent)}", silent)
        if role.leader != NO_NODE:
            text = f"node {role.leader} leads, heard {role.elapsed} ticks ago"
            return Explanation(about, Reason.FOLLOWS_LEADER, text, (role.leader,))
        if not members.is_member(server.me):
            return Explanation(about, Reason.NOT_A_MEMBER, "this node is not (yet, or no longer) a member")
        if not members.is_voter(server.me):
            return Explanation(about, Reason.LEARNER, "this node is a learner, and only voters lead")
        if server.snapshots.installing is not None:
            return Explanation(about, Reason.SNAPSHOT_PENDING, "a snapshot from the leader is being installed")
        text = f"no leader is known; it stands in {max(0, role.timeout - role.elapsed)} ticks"
        return Explanation(about, Reason.WAITS_FOR_TIMEOUT, text)

    def why_not_committed(self, index: Index) -> Explanation:
        """Explain why the entry at `index` is not known to be committed here."""
        server, role, members = self.server, self.role, self.server.members
        about = f"commit of {index}"
        if index <= server.commit:
            return Explanation(about, Reason.NOTHING, f"{index} is committed", index=index)
        if index > server.log.last_index:
            return Explanation(about, Reason.NOT_IN_LOG, f"the log ends at {server.log.last_index}", index=index)
        if not isinstance(role, Leader):
            text = "only a leader counts acknowledgements; it tells the others"
            nodes = (role.leader,) if role.leader else ()
            return Explanation(about, Reason.ONLY_LEADER_COUNTS, text, nodes, index)
        if committed_index(members, role.acked) >= index:
            text = (
                f"a majority holds it, but it is of an older term: an entry of term {server.term} must follow (§5.4.2)"
            )
            return Explanation(about, Reason.OLD_TERM, text, index=index)
        behind = tuple(node for node in members.all_voters if role.acked(node) < index)
        own = " (its own disk included)" if server.me in behind else ""
        text = f"no majority holds it durably: {_list(behind)} have not acknowledged it{own}"
        return Explanation(about, Reason.QUORUM_MISSING, text, behind, index)

    def why_not_applied(self, index: Index) -> Explanation:
        """Explain why the entry at `index` is not applied."""
        server = self.server
        about = f"applying of {index}"
        if index <= server.pipeline.applied:
            return Explanation(about, Reason.NOTHING, f"{index} is applied", index=index)
        if index > server.commit:
            return Explanation(about, Reason.NOT_COMMITTED, f"only {server.commit} is committed", index=index)
        if server.snapshots.installing is not None:
            return Explanation(about, Reason.SNAPSHOT_PENDING, "a snapshot must be switched to first", index=index)
        if index > server.outbox.durable_index:
            text = f"it is committed, but this disk has confirmed only {server.outbox.durable_index}"
            return Explanation(about, Reason.NOT_DURABLE, text, index=index)
        text = f"the machine has {len(server.pipeline.pages)} orders before it that it has not reported"
        return Explanation(about, Reason.MACHINE_BUSY, text, index=index)

    def why_paused(self, node: NodeId) -> Explanation:
        """Explain why the leader sends only heartbeats to `node`."""
        about, role = f"sending to {node}", self.role
        peer = role.replication.progress.get(node) if isinstance(role, Leader) else None
        if peer is None:
            return Explanation(about, Reason.NOTHING, "this node sends nothing to it: it does not lead it", (node,))
        if peer.state is ProgressState.SNAPSHOT:
            text = f"it is fetching the snapshot at {peer.pending}; no progress for {peer.idle_ticks} ticks"
            return Explanation(about, Reason.SNAPSHOT_UNDER_WAY, text, (node,), peer.pending)
        if peer.state is ProgressState.PROBE and peer.probe_sent:
            text = f"it has not answered the question whether it holds {peer.next - 1}"
            return Explanation(about, Reason.PROBE_UNANSWERED, text, (node,), Index(peer.next - 1))
        if peer.full:
            text = f"{len(peer.inflight)} appends with {peer.inflight_bytes} bytes are unacknowledged"
            return Explanation(about, Reason.WINDOW_FULL, text, (node,), peer.match)
        return Explanation(about, Reason.NOTHING, "appends are sent as they come", (node,))

    def why_reads_wait(self) -> Explanation:
        """Explain why the oldest waiting read is not answered."""
        server, role = self.server, self.role
        about = "reads"
        if isinstance(role, Leader) and len(role.reading.queue):
            if not role.settled:
                text = "no entry of this term is committed yet, so nobody knows what is (§8)"
                return Explanation(about, Reason.NO_COMMIT_IN_TERM, text)
            wanted, progress = role.reading.queue.last_round, role.replication.progress
            silent = tuple(
                n for n in self.server.members.all_voters if n in progress and progress[n].read_acked < wanted
            )
            if not quorum_reached(self.server.members, lambda n: n not in silent):
                text = f"the confirming round has not been answered by {_list(silent)}"
                return Explanation(about, Reason.ROUND_UNANSWERED, text, silent)
        if isinstance(role, Follower) and role.reads:
            text = f"leader {role.leader} has not said from which index on"
            return Explanation(about, Reason.LEADER_UNANSWERED, text, (role.leader,))
        if server.pipeline.reads:
            index = server.pipeline.reads[0][0]
            return attrs.evolve(self.why_not_applied(index), about=about)
        return Explanation(about, Reason.NOTHING, "no read waits")


def _list(nodes: tuple[NodeId, ...]) -> str:
    return ", ".join(str(node) for node in nodes) if nodes else "nobody"
