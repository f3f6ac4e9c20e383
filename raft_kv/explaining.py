"""Why a node is not the leader, what is not committed or applied, why a peer lags: RAFT EXPLAIN.

What lives here: sentences made of a node's status, and nothing that the status does not say.
"""

from __future__ import annotations

from collections.abc import Iterator

from raft_core.effects import RoleName
from raft_core.host.status import HostStatus, Phase
from raft_core.status import PeerStatus, Status

__all__ = ["reasons"]


def reasons(status: HostStatus) -> tuple[str, ...]:
    """One sentence for each thing that is not as a person might wish; one at least."""
    found = [*_about_leadership(status), *_about_the_log(status), *_about_peers(status)]
    return tuple(found) or ("all is well: this node leads, everything is committed and applied, no peer lags",)


def _about_leadership(status: HostStatus) -> Iterator[str]:
    core = status.core
    if status.phase is Phase.FORMING or core is None:
        yield "this node is not part of a cluster yet: founders wait for each other, a joiner waits for RAFT ADD"
        return
    if status.phase is not Phase.RUNNING:
        yield f"this node is {status.phase.value}"
    if core.leads:
        if core.transfer_to:
            yield f"this node is handing over to node {core.transfer_to} and takes no writes meanwhile"
        return
    if not core.members.is_voter(status.node):
        what = "a learner" if core.members.is_member(status.node) else "not a member"
        yield f"this node does not stand for election: it is {what} in the configuration of index {core.members_index}"
    if core.leader:
        yield f"this node does not lead because it follows node {core.leader} in term {core.term}"
        return
    if core.role is RoleName.FOLLOWER:
        yield f"this node knows of no leader in term {core.term} and stands when its election timeout has passed"
        return
    reachable = sum(peer.connected for peer in status.peers if core.members.is_voter(peer.node))
    yield (
        f"this node stands for election in term {core.term} and waits for a majority of the voters "
        f"{', '.join(map(str, core.members.all_voters))}; it has a connection to {reachable} of the others"
    )


def _about_the_log(status: HostStatus) -> Iterator[str]:
    core = status.core
    if core is None:
        return
    if core.members.joint:
        yield "the members are changing: both majorities, of the old and of the new voters, have to agree"
    if core.commit < core.last_index:
        yield f"entries {core.commit + 1} to {core.last_index} wait for a majority{_who_is_missing(core)}"
    if core.applied < core.commit:
        yield f"entries {core.applied + 1} to {core.commit} are committed and wait for the state machine"
    if core.durable_index < core.last_index:
        yield f"entries {core.durable_index + 1} to {core.last_index} wait for this node's disk"
    if core.waiting_reads:
        yield f"{core.waiting_reads} reads wait for the leadership to be confirmed or for entries to be applied"


def _who_is_missing(core: Status) -> str:
    behind = [str(peer.node) for peer in core.peers if not peer.learner and peer.match < core.last_index]
    return f"; not yet on nodes {', '.join(behind)}" if behind else ""


def _about_peers(status: HostStatus) -> Iterator[str]:
    for link in status.peers:
        if not link.connected:
            error = f": {link.last_error}" if link.last_error else ""
            yield f"node {link.node} at {link.address or 'an unknown address'} cannot be reached{error}"
    core = status.core
    if core is None:
        return
    for peer in core.peers:
        if peer.node != status.node and (sentence := _about(peer, core)):
            yield sentence


def _about(peer: PeerStatus, core: Status) -> str:
    if not peer.recently_active:
        return f"node {peer.node} has not answered for an election timeout"
    if peer.state == "snapshot":
        return (
            f"node {peer.node} is too far behind for the log and is being sent the snapshot of {peer.pending_snapshot}"
        )
    if peer.state == "probe":
        return f"node {peer.node} is being asked where its log agrees with this one, from index {peer.next}"
    if peer.paused:
        return f"node {peer.node} has {peer.in_flight} messages unanswered, and gets the next when it answers one"
    if peer.match < core.commit:
        return f"node {peer.node} is {core.commit - peer.match} committed entries behind"
    return ""
