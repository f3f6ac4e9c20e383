"""`quiet_ticks`: how many coming ticks have nothing to do in a core, so that an idle node can sleep through them.

A node that slept through quiet ticks reports each of them as `Tick(1)` before anything else, as it would have done
awake. So sleeping changes when the node wakes, and nothing that the core sees. The answer may be too small, never too
large: a tick that is wrongly called quiet would come late, and a leader's heartbeat with it.
"""

from __future__ import annotations

from raft_core.progress import ProgressState
from raft_core.roles.candidate import Candidate, PreCandidate
from raft_core.roles.follower import Follower
from raft_core.roles.leader import Leader
from raft_core.server import Server

__all__ = ["quiet_ticks"]


def quiet_ticks(server: Server, role: Follower | PreCandidate | Candidate | Leader) -> int:
    """Return how many of the next ticks cause nothing, provided that no other event comes before them."""
    if server.outbox.issued_at:  # the age of a write is watched
        return 0
    if type(role) is Follower:
        quiet = _of_follower(role)
    elif type(role) is Leader:
        quiet = _of_leader(role)
    else:
        return 0
    if server.give_up_at >= 0:
        quiet = min(quiet, server.give_up_at - server.now - 1)
    return max(0, quiet)


def _of_follower(role: Follower) -> int:
    if role.reads:  # they are asked for again
        return 0
    return role.timeout - role.elapsed - 1


def _of_leader(role: Leader) -> int:
    replication, settings = role.replication, role.server.settings
    if role.succession.handover is not None or replication.departing or role.server.stopping:
        return 0
    members = role.server.members
    if members.outgoing or members.promotable:
        return 0
    for peer in replication.progress.values():
        if peer.state is ProgressState.SNAPSHOT:
            return 0
    return min(settings.heartbeat_ticks - role.beat_ticks, settings.election_ticks - role.quorum_ticks) - 1
