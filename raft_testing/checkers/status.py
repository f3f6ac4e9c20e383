"""The truth of a node's status and explanations.

The functions yield, as sentences, the errors in a status or in explanations. They compare with the checkers' own models
(`Watched`) and with the core's parts; `probes` decides when to ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from raft_core.effects import RoleName
from raft_core.explain import Explanation, Reason
from raft_core.ids import NO_NODE, NodeId
from raft_core.node.status import NodeStatus
from raft_core.raft import Raft
from raft_core.status import PeerStatus, Status
from raft_testing.checkers.safety import Watched

__all__ = ["host_contradictions", "said_wrongly", "status_contradictions", "wrong_answers", "wrong_overview"]

_ABOUT_LEADER: Final = frozenset(
    {
        Reason.STOPPED,
        Reason.NOT_A_MEMBER,
        Reason.LEARNER,
        Reason.SNAPSHOT_PENDING,
        Reason.FOLLOWS_LEADER,
        Reason.WAITS_FOR_TIMEOUT,
        Reason.VOTES_MISSING,
        Reason.OWN_VOTE_NOT_DURABLE,
    }
)
_SOMEBODY_IS_MISSING: Final = frozenset(
    {
        Reason.FOLLOWS_LEADER,
        Reason.VOTES_MISSING,
        Reason.OWN_VOTE_NOT_DURABLE,
        Reason.QUORUM_MISSING,
        Reason.ROUND_UNANSWERED,
        Reason.LEADER_UNANSWERED,
        Reason.PROBE_UNANSWERED,
        Reason.WINDOW_FULL,
        Reason.SNAPSHOT_UNDER_WAY,
    }
)
"""Reasons with at least one node."""


def status_contradictions(status: Status, watched: Watched) -> Iterator[str]:
    """Yield differences between the status of a living core and its observed steps."""
    log, told = watched.log, watched.told
    pairs: tuple[tuple[str, object, object], ...] = (
        ("node", status.node, watched.node),
        ("term", status.term, watched.term),
        ("leading in term", status.term if status.leads else 0, watched.leads),
        ("commit", status.commit, watched.commit),
        ("first index", status.first_index, log.base + 1),
        ("last index", status.last_index, log.last),
        ("last term", status.last_term, log.term_at(log.last)),
        ("members", status.members, watched.members),
        ("writes under way", status.writes_under_way, len(told.pending)),
    )
    for name, said, known in pairs:
        if said != known:
            yield f"its status says {name} {said}, it is {known}"
    if log.configurations and status.members_index != log.configurations[-1]:
        yield f"its status says members of {status.members_index}, the last are of {log.configurations[-1]}"
    if not told.pending and (told.hard.term, told.hard.vote) != (status.term, status.vote):
        yield f"its status says term {status.term}, vote {status.vote}, its idle disk holds {told.hard}"
    if status.durable_index > told.last:
        yield f"its status says {status.durable_index} is durable, its disk was reported to end at {told.last}"
    if status.applied > watched.applied:
        yield f"its status says {status.applied} is applied, it was ordered up to {watched.applied}"


def said_wrongly(status: Status) -> Iterator[str]:
    """Where a status contradicts itself."""
    order = (0, status.applied, status.commit, status.last_index)
    if list(order) != sorted(order):
        yield f"positions out of order: applied {status.applied}, commit {status.commit}, last {status.last_index}"
    if not status.first_index - 1 <= status.snapshot_index <= status.last_index:
        yield f"the log begins at {status.first_index}, ends at {status.last_index}, snapshot {status.snapshot_index}"
    if status.durable_index > status.last_index or status.last_term > status.term:
        yield f"durable {status.durable_index} of {status.last_index}, last term {status.last_term} of {status.term}"
    if min(status.waiting_requests, status.waiting_reads, status.log_bytes, status.writes_under_way) < 0:
        yield "something is counted below nothing"
    if not status.leads:
        if status.peers or status.transfer_to:
            yield f"a {status.role.value} has peers {status.peers} and hands over to {status.transfer_to}"
        return
    if status.leader != status.node:
        yield f"it leads, and names {status.leader} as leader"
    nodes = [peer.node for peer in status.peers]
    if not {*status.members.nodes} - {status.node} <= {*nodes} or status.node in nodes:  # the removed get the last word
        yield f"it sends to {nodes}, the members are {status.members.nodes}"
    for peer in status.peers:
        yield from _peer_wrongly(status, peer)


def _peer_wrongly(status: Status, peer: PeerStatus) -> Iterator[str]:
    if not peer.match < peer.next <= status.last_index + 1:
        yield f"of node {peer.node}: match {peer.match}, next {peer.next}, the log ends at {status.last_index}"
    if bool(peer.pending_snapshot) != (peer.state == "snapshot"):
        yield f"of node {peer.node}: state {peer.state}, snapshot {peer.pending_snapshot}"
    if peer.in_flight_bytes < 0 or (peer.in_flight_bytes and not peer.in_flight):
        yield f"of node {peer.node}: {peer.in_flight_bytes} bytes in {peer.in_flight} messages"
    if peer.learner != (peer.node in status.members.learners):
        yield f"of node {peer.node}: learner {peer.learner}, the members are {status.members}"


def host_contradictions(host: NodeStatus, core: Status | None) -> Iterator[str]:
    """Yield differences between a node's status and that of its core, or within itself."""
    if host.core != core:
        yield "the status of the node holds another status of its core"
    if core is not None and (host.role, host.term, host.leader) != (core.role, core.term, core.leader):
        yield (
            f"the node says {host.role.value} in term {host.term} under {host.leader}, its core {core.role.value} in "
            f"term {core.term} under {core.leader}"
        )
    if host.node != host.identity.node:
        yield f"the node is {host.node}, its identity {host.identity}"
    if min(host.waiting_clients, host.waiting_bytes, host.forwarded, *[peer.queued_bytes for peer in host.peers], 0):
        yield f"something is counted below nothing: {host}"
    if any(count < 1 for _, count in host.drops):
        yield f"drops that are none: {host.drops}"


# Explanations.


def wrong_overview(raft: Raft, status: Status, found: tuple[Explanation, ...]) -> Iterator[str]:
    """Yield the errors in the answer to `raft.explain()`."""
    about = {explanation.about: explanation for explanation in found}
    if len(about) != len(found):
        yield "something is explained twice"
    lowest = {
        f"commit of {status.commit + 1}": status.commit < status.last_index,
        f"applying of {status.applied + 1}": status.applied < status.commit,
        "leader": raft.stopped or not status.leads,
        "reads": status.waiting_reads > 0,
    }
    for name, waits in lowest.items():
        if waits != (name in about):
            yield f"{name}: {'waits and is not explained' if waits else 'explained and does not wait'}"
    wrong = about.get("leader")
    if wrong is not None:
        yield from _leader_explained(raft, status, wrong)
    yield from _all_alike(status, found)


def _leader_explained(raft: Raft, status: Status, why: Explanation) -> Iterator[str]:
    if why.reason not in _ABOUT_LEADER or raft.stopped != (why.reason is Reason.STOPPED):
        yield f"why it does not lead: {why.reason.value}"
    if raft.stopped:
        return
    stands = status.role in (RoleName.PRE_CANDIDATE, RoleName.CANDIDATE)
    if stands != (why.reason in (Reason.VOTES_MISSING, Reason.OWN_VOTE_NOT_DURABLE)):
        yield f"a {status.role.value} does not lead because of {why.reason.value}"
    if (status.leader != NO_NODE) != (why.reason is Reason.FOLLOWS_LEADER):
        yield f"under leader {status.leader} it does not lead because of {why.reason.value}"


def wrong_answers(
    raft: Raft, status: Status, index: int | None, peer: int | None, found: tuple[Explanation, ...]
) -> Iterator[str]:
    """Yield the errors in the answer to `raft.explain(index=index, peer=peer)`, at least one of them given."""
    about = {explanation.about: explanation for explanation in found}
    if index is not None:
        yield from _commit_explained(raft, status, index, about.pop(f"commit of {index}", None))
        yield from _applying_explained(raft, status, index, about.pop(f"applying of {index}", None))
    if peer is not None:
        yield from _peer_explained(status, peer, about.pop(f"sending to {peer}", None))
    if about:
        yield f"not asked about {', '.join(about)}"
    yield from _all_alike(status, found)


def _commit_explained(raft: Raft, status: Status, index: int, why: Explanation | None) -> Iterator[str]:
    reason = None if why is None else why.reason
    term = raft.log.term_at(index) if status.commit < index <= status.last_index else None  # type: ignore[arg-type]
    if (why is None) != (index <= status.commit):
        yield f"commit of {index}, {status.commit} is committed: {reason}"
    elif (reason is Reason.NOT_IN_LOG) != (index > status.last_index):
        yield f"commit of {index}, the log ends at {status.last_index}: {reason}"
    elif term is not None and (reason is Reason.ONLY_LEADER_COUNTS) == status.leads:
        yield f"commit of {index}, asked of a {status.role.value}: {reason}"
    elif reason is Reason.OLD_TERM and term == status.term:
        yield f"commit of {index}, of this very term: {reason}"
    elif why is not None and reason is Reason.QUORUM_MISSING:
        held = {peer.node: peer.match for peer in status.peers} | {status.node: status.durable_index}
        behind = tuple(node for node in status.members.all_voters if held.get(node, 0) < index)
        if why.nodes != behind:
            yield f"commit of {index} waits for {behind}, not for {why.nodes}"


def _applying_explained(raft: Raft, status: Status, index: int, why: Explanation | None) -> Iterator[str]:
    reason = None if why is None else why.reason
    if (why is None) != (index <= status.applied):
        yield f"applying of {index}, {status.applied} is applied: {reason}"
    elif (reason is Reason.NOT_COMMITTED) != (index > status.commit):
        yield f"applying of {index}, {status.commit} is committed: {reason}"
    elif reason is Reason.NOT_DURABLE and index <= status.durable_index:
        yield f"applying of {index}, {status.durable_index} is durable: {reason}"
    elif reason is Reason.MACHINE_BUSY and not raft.server.pipeline.pages:
        yield f"applying of {index} waits for a machine that has nothing to do"


def _peer_explained(status: Status, peer: int, why: Explanation | None) -> Iterator[str]:
    reason = None if why is None else why.reason
    known = next((each for each in status.peers if each.node == peer), None)
    if known is None:
        if why is not None:
            yield f"sending to {peer}, to whom nothing is sent: {reason}"
        return
    if (why is not None) != known.paused:
        yield f"sending to {peer}, paused {known.paused}: {reason}"
    if (reason is Reason.SNAPSHOT_UNDER_WAY) != (known.state == "snapshot"):
        yield f"sending to {peer} in state {known.state}: {reason}"
    if reason is Reason.PROBE_UNANSWERED and known.state != "probe":
        yield f"sending to {peer} in state {known.state}: {reason}"


def _all_alike(status: Status, found: tuple[Explanation, ...]) -> Iterator[str]:
    """Yield the errors possible in any explanation."""
    known: set[NodeId] = {status.node, status.leader, *status.members.nodes, *[peer.node for peer in status.peers]}
    for why in found:
        if why.reason is Reason.NOTHING or not why.text or not why.text.isprintable():
            yield f"{why.about}: no explanation is {why.reason.value} in the words {why.text!r}"
        if not set(why.nodes) <= known:
            yield f"{why.about} waits for nodes {why.nodes}, which are unknown"
        if not why.nodes and why.reason in _SOMEBODY_IS_MISSING:
            yield f"{why.about}: {why.reason.value}, but no node is named"
