"""`AddressBook`: addresses of peers, learned from greetings. `Backoff`: the wait before dialling again.

An identity is not an address. Both classes are bounded, whatever unknown nodes claim.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, final

import msgspec

from raft_core.ids import Incarnation, NodeId
from raft_core.membership import AddLearner, AddVoter, Change, Members
from raft_core.node.limits import NodeLimits
from raft_core.wire.metadata import Metadata
from raft_core.wire.payloads import Hello

__all__ = ["AddressBook", "Backoff", "is_everywhere"]

_MOST_LEARNED: Final = 1000
_MOST_TOLD: Final = 100
_MOST_TELLERS: Final = 8
"""Nodes whose statements on another node's address are kept."""
_LONGEST: Final = 300


def is_everywhere(address: str) -> bool:
    """Return whether the address is a wildcard, such as 0.0.0.0:7400 or [::]:7400.

    One listens there; dialling it reaches the dialling machine itself.
    """
    return not (address.rpartition(":")[0] or address).strip("[]0.:")


@final
class AddressBook:
    """Addresses of each node: its own statement, the configured one, and other nodes' statements.

    All are tried in turn, in that order, starting with the last one that worked. A new statement of the node itself is
    tried first.
    """

    __slots__ = ("_at", "_configured", "_failures", "_from_itself", "_hearsay", "_me", "_mine", "disks", "metadata")

    def __init__(self, config: NodeLimits, me: NodeId) -> None:
        self._me = me
        self._mine = config.address
        self._configured = dict(config.peers)
        self._from_itself: dict[NodeId, str] = {}
        self._hearsay: dict[NodeId, dict[NodeId, str]] = {}  # node -> source -> address
        self._at: dict[NodeId, str] = {}  # the address to dial next
        self._failures: dict[NodeId, dict[str, str]] = {}  # since the last success: the error at each address
        self.disks: dict[NodeId, int] = {}
        """The incarnation in each node's last greeting."""
        self.metadata: dict[NodeId, Metadata] = {}
        """What each node said about itself in its last greeting."""

    def of(self, node: NodeId) -> str:
        """Return the address to dial now, "" if none is known."""
        known = self._sources(node)
        at = self._at.get(node, "")
        return at if at in known else next(iter(known), "")

    def _sources(self, node: NodeId) -> dict[str, str]:
        """Return each known address of the node with its source, in the order of trial."""
        known: dict[str, str] = {}
        if said := self._from_itself.get(node):
            known[said] = "as it says itself"
        if configured := self._configured.get(node):
            known.setdefault(configured, "as configured")
        for teller, address in self._hearsay.get(node, {}).items():
            known.setdefault(address, f"as node {teller} says")
        return known

    def failed(self, node: NodeId, address: str, why: str) -> bool:
        """Record that dialling failed; advance to the next address. Return whether all have been tried."""
        known = self._sources(node)
        failures = self._failures.setdefault(node, {})
        for gone in [place for place in failures if place not in known]:
            del failures[gone]
        if address not in known:
            return False
        failures[address] = why[:_LONGEST]
        places = list(known)
        self._at[node] = places[(places.index(address) + 1) % len(places)]
        return self._at[node] == places[0] and len(failures) == len(known)

    def reached(self, node: NodeId) -> None:
        """Record that the node was reached at its current address."""
        self._failures.pop(node, None)
        self._at[node] = self.of(node)

    def complaint(self, node: NodeId) -> str:
        """Return a text for operators: the addresses tried and the errors."""
        failures = self._failures.get(node, {})
        known = self._sources(node).items()
        places = [f"at {at} ({source}): {failures.get(at, 'not tried yet')}" for at, source in known]
        return "; ".join(places) or "no address of it is known"

    def forget(self, node: NodeId) -> None:
        """Forget the node's learned addresses and its statements on others; keep the configured address."""
        for table in (self._from_itself, self._hearsay, self._failures, self._at, self.disks, self.metadata):
            table.pop(node, None)
        for told in self._hearsay.values():
            told.pop(node, None)

    def learn(self, hello: Hello, *, hearsay: bool = True) -> tuple[NodeId, ...]:
        """Record the sender's address and, if its `hearsay` is accepted, the addresses it knows.

        Return the nodes with a new address. The caller bounds the number of unknown senders, and forgets them.
        """
        sender = hello.sender
        self.disks[sender] = hello.incarnation
        self.metadata[sender] = hello.metadata
        if _can_be_dialled(hello.address) and hello.address != self._from_itself.get(sender):
            self._from_itself[sender] = self._at[sender] = hello.address
            self._failures.pop(sender, None)
        if not hearsay:
            return ()
        return tuple(node for node, address in hello.known if self._hear(node, address, sender))

    def _hear(self, node: NodeId, address: str, teller: NodeId) -> bool:
        """Record one node's statement on another's address. Return whether it is new."""
        if node in (self._me, teller) or not _can_be_dialled(address):
            return False
        if node not in self._hearsay and len(self._hearsay) >= _MOST_LEARNED:
            return False
        new = address not in self._sources(node)
        told = self._hearsay.setdefault(node, {})
        told.pop(teller, None)
        told[teller] = address
        if len(told) > _MOST_TELLERS:
            del told[next(iter(told))]
        return new

    def known(self) -> tuple[tuple[NodeId, str], ...]:
        """Return every node with an address, sorted."""
        nodes = sorted({*self._from_itself, *self._configured, *self._hearsay} - {self._me})
        return tuple((node, self.of(node)) for node in nodes)

    def in_greeting(self, introduction: Hello, told: Callable[[NodeId], bool] | None = None) -> Hello:
        """Return the greeting with our own address and some of the known ones, of nodes accepted by `told`."""
        known = tuple(item for item in self.known() if told is None or told(item[0]))
        return msgspec.structs.replace(introduction, address=self._mine, known=known[:_MOST_TOLD])

    def with_disks(self, changes: tuple[Change, ...], members: Members) -> tuple[Change, ...] | str:
        """Return the changes, with new members' incarnations from their greetings; a text if one never greeted.

        If the members' incarnations are recorded, a new one's must be too, or a wiped disk could vote under its id.
        """
        if not members.incarnations:
            return changes
        filled: list[Change] = []
        for change in changes:
            nameless = isinstance(change, AddVoter | AddLearner) and not change.incarnation
            if nameless and not members.is_member(NodeId(change.node)):
                disk = self.disks.get(NodeId(change.node), 0)
                if not disk:
                    return (
                        f"node {change.node} has not been heard from, so its disk is not known: start it with this "
                        "cluster's name and addresses, and ask again; or name its incarnation"
                    )
                change = msgspec.structs.replace(change, incarnation=Incarnation(disk))
            filled.append(change)
        return tuple(filled)


def _can_be_dialled(address: str) -> bool:
    return len(address) <= _LONGEST and not is_everywhere(address)


@final
class Backoff:
    """The time at which each peer may be dialled again.

    The wait doubles with each failure up to a limit. Half of it is random, so that nodes that lost each other do not
    retry at the same instant again and again.
    """

    __slots__ = ("_config", "_failures", "_not_before", "_rng")

    def __init__(self, config: NodeLimits, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._failures: dict[NodeId, int] = {}
        self._not_before: dict[NodeId, int] = {}

    def due(self, peer: NodeId, now: int) -> bool:
        """Return whether the back-off has passed, or there was none."""
        return now >= self._not_before.get(peer, now)

    def now(self, peer: NodeId) -> None:
        """End the back-off: the peer can probably be reached."""
        self._failures.pop(peer, None)
        self._not_before.pop(peer, None)

    def later(self, peer: NodeId, now: int, lasted: int, *, elsewhere: bool = False) -> None:
        """Start the next wait: a connection failed, or ended after `lasted` nanoseconds.

        A long one resets the back-off.

        `elsewhere`: the next attempt uses an address not tried yet, and need not wait longer.
        """
        if lasted >= self._config.dial_delay_max:
            self._failures.pop(peer, None)
        failures = 0 if elsewhere else self._failures.get(peer, 0)
        if not elsewhere:
            self._failures[peer] = failures + 1
        delay = min(self._config.dial_delay << min(failures, 20), self._config.dial_delay_max)
        self._not_before[peer] = now + delay // 2 + int(self._rng.random() * (delay // 2))
