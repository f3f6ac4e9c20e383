"""Why a node is not the leader, what is not committed or applied, why a peer lags: RAFT EXPLAIN.

What lives here: the core's own explanations, and sentences about what the core does not know: links and the node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raft_core.explain import Explanation
from raft_core.node.status import NodeStatus, Phase

__all__ = ["reasons"]


def reasons(status: NodeStatus, explanations: Sequence[Explanation]) -> tuple[str, ...]:
    """One sentence for each thing that is not as a person might wish; one at least."""
    waits = [f"{each.about}: {each.text}" for each in explanations]
    found = [*_about_the_node(status), *waits, *_about_links(status)]
    return tuple(found) or ("all is well: this node leads, everything is committed and applied, no peer lags",)


def _about_the_node(status: NodeStatus) -> Iterator[str]:
    core = status.core
    if status.phase is Phase.FORMING or core is None:
        yield "this node is not part of a cluster yet: founders wait for each other, a joiner waits for RAFT ADD"
        return
    if status.phase is not Phase.RUNNING:
        yield f"this node is {status.phase.value}"
    if core.transfer_to:
        yield f"this node is handing over to node {core.transfer_to} and takes no writes meanwhile"
    if core.members.joint:
        yield "the members are changing: both majorities, of the old and of the new voters, have to agree"
    if core.durable_index < core.last_index:
        yield f"entries {core.durable_index + 1} to {core.last_index} wait for this node's disk"


def _about_links(status: NodeStatus) -> Iterator[str]:
    for link in status.peers:
        if not link.connected:
            error = f": {link.last_error}" if link.last_error else ""
            yield f"node {link.node} at {link.address or 'an unknown address'} cannot be reached{error}"
    for peer in status.core.peers if status.core is not None else ():
        if not peer.recently_active:
            yield f"node {peer.node} has not answered for an election timeout"
        elif status.core is not None and peer.match < status.core.commit:
            yield f"node {peer.node} is {status.core.commit - peer.match} committed entries behind"
