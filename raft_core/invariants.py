"""`check`, which verifies the invariants of one core after a step; all our tests call it.

Properties of several nodes (election safety, log matching, leader completeness) are checked by the simulator and the
explorer.
"""

from __future__ import annotations

from functools import lru_cache

from raft_core.errors import invariant
from raft_core.ids import NO_NODE
from raft_core.membership import Members
from raft_core.outbox import MOST_HELD
from raft_core.progress import Progress, ProgressState
from raft_core.raft import Raft
from raft_core.roles.candidate import Candidate
from raft_core.roles.follower import Follower
from raft_core.roles.leader import Leader
from raft_core.server import Server

__all__ = ["check"]


def check(raft: Raft) -> None:
    """Raise `InvariantBroken` for a broken invariant. The time is linear in the windows, not in the log."""
    server, role = raft.server, raft.role
    _positions(server)
    _outbox(server)
    _members(server)
    if isinstance(role, Leader):
        _leader(server, role)
    elif isinstance(role, Follower):
        invariant(role.leader != server.me, "a follower never follows itself")
        invariant(role.verified <= server.log.last_index, "no more is verified than the log holds")
        invariant(not role.reads or role.leader != NO_NODE, "reads wait only at a known leader")
        invariant(len(role.reads) <= server.settings.max_waiting_reads, "reads asked of a leader are bounded")
    elif isinstance(role, Candidate):
        invariant(server.vote == server.me, "a candidate has voted for itself")
        own = role.campaign.votes.get(server.me)
        durable = server.outbox.durable >= role.own_write
        invariant(own is None or durable, "a candidate's own vote counts only once it is durable")


def _positions(server: Server) -> None:
    log = server.log
    snapshot = server.snapshots.newest.index if server.snapshots.newest else 0
    invariant(log.base_index <= log.last_index, "the base is not behind the end")
    invariant(log.last_term <= server.term, "no entry is of a term that was not entered")
    invariant(log.base_index <= max(snapshot, 0), "what left the log is in the snapshot")
    invariant(server.pipeline.applied <= server.pipeline.applying, "applied does not exceed what was ordered")
    invariant(server.pipeline.applying <= server.commit, "only committed entries are applied")
    invariant(server.commit <= log.last_index, "only what the log holds is committed")
    invariant(snapshot <= server.commit, "a snapshot is of what is committed")
    invariant(
        snapshot <= server.pipeline.applied or server.snapshots.restoring,
        "a snapshot is of what is applied, or being restored",
    )
    if server.pipeline.pages and not server.pipeline.pages[-1].restore:
        invariant(server.pipeline.applying == server.pipeline.pages[-1].last, "the last page ends at what was ordered")
    invariant(len(server.pipeline.pages) <= 3, "few pages are on their way to the machine")
    waiting = server.requests.waiting()
    if waiting:
        invariant(waiting[0].last > server.pipeline.applied, "a request that is applied has been answered")
        invariant(waiting[-1].last <= log.last_index, "a request waits only for entries that the log holds")
    for index, _ in server.pipeline.reads:
        invariant(index > server.pipeline.applied, "a read that may be done has been answered")
    invariant(len(server.pipeline.reads) <= 2 * server.settings.max_waiting_reads, "waiting reads are bounded")


def _outbox(server: Server) -> None:
    outbox = server.outbox
    invariant(outbox.durable <= outbox.issued, "only what was ordered is durable")
    invariant(outbox.durable_index <= server.log.last_index, "no more is durable than the log holds")
    invariant(outbox.written_last <= server.log.last_index, "no more is written than the log holds")
    invariant(outbox.durable_index <= outbox.written_last, "no more is durable than was written")
    invariant(len(outbox.held) <= MOST_HELD, "promises that wait for the disk are bounded")
    for rests_on, _ in outbox.held:
        invariant(rests_on > outbox.durable, "no promise is held longer than it must be")
        invariant(rests_on <= outbox.issued + 1, "every promise rests on a write that was or will be ordered")


def _members(server: Server) -> None:
    held = server.configurations.held()
    invariant(server.configurations.index <= server.log.last_index, "the configuration in force is in the log")
    invariant(held[-1][1] == server.members, "the last configuration is in force")
    places = [place for place, _ in held]
    invariant(places == sorted(places), "configurations are remembered in order")
    invariant(_problem(server.members) is None, "the configuration in force keeps its own rules")
    lacking = not set(server.members.features).issubset(server.settings.features)
    invariant(not lacking, "a node is in no configuration with a feature that it lacks (rule 9.14)")


@lru_cache(maxsize=64)
def _problem(members: Members) -> str | None:
    """Return `members.problem()`, computed once per configuration instead of once per step."""
    return members.problem()


def _leader(server: Server, role: Leader) -> None:
    progress = role.replication.progress
    expected = [node for node in server.members.nodes if node != server.me]
    everybody = sorted({*expected, *role.replication.departing})
    invariant(list(progress) == everybody, "there is a progress for every other member, in order")
    invariant(server.outbox.failed or server.vote in (server.me, NO_NODE), "a leader has voted for itself")
    invariant(len(role.reading.queue) <= server.settings.max_waiting_reads, "reads that wait for a round are bounded")
    if role.settled:  # before, and on a follower, the commit index may lag behind
        pending = [place for place, _ in server.configurations.held() if place > server.commit]
        invariant(len(pending) <= 1, "configurations change one at a time")
    if not role.settled:
        last = server.log.term_at(server.commit)
        invariant(last is None or last < server.term or server.commit == 0, "a leader knows when it is settled")
    for peer in progress.values():
        _progress(server, peer)


def _progress(server: Server, peer: Progress) -> None:
    invariant(peer.match < peer.next, "next is above match")
    invariant(peer.match <= server.log.last_index, "no follower matches more than the log holds")
    invariant(peer.next <= server.log.last_index + 1, "next is at most one behind the end")
    invariant(len(peer.inflight) <= peer.max_messages, "the window is bounded in messages")
    invariant(sum([size for _, size in peer.inflight]) == peer.inflight_bytes, "the window's bytes are counted right")
    if len(peer.inflight) > 1:  # a single message may be larger (rule 5.4)
        invariant(peer.inflight_bytes - peer.inflight[-1][1] < peer.max_bytes, "the window is bounded in bytes")
    if peer.state is not ProgressState.REPLICATE:
        invariant(not peer.inflight, "only a replicating follower has a window")
    if peer.state is ProgressState.SNAPSHOT:
        invariant(peer.pending > 0, "a snapshot is under way")
    for earlier, later in zip(peer.inflight, list(peer.inflight)[1:], strict=False):
        invariant(earlier[0] < later[0], "the window is in order")
