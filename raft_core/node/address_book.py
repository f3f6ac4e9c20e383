"""Where peers can be dialled, and when to try again.

`AddressBook`, learned from greetings, because an identity is not an address; and `Backoff`, the back-off after
failures. Both are bounded, whatever strangers claim.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, final

import msgspec

from raft_core.ids import Incarnation, NodeId
from raft_core.membership import AddLearner, AddVoter, Change, Members
from raft_core.node.limits import NodeLimits
from raft_core.wire.payloads import Hello

__all__ = ["AddressBook", "Backoff", "is_everywhere"]

_MOST_LEARNED: Final = 1000
_MOST_TOLD: Final = 100
_MOST_TELLERS: Final = 8
"""Nodes whose word on another's address is kept."""
_LONGEST: Final = 300


def is_everywhere(address: str) -> bool:
    """It means every interface, as 0.0.0.0:7400 and [::]:7400 do. One listens there, and whoever dials it reaches
    itself."""
    return not (address.rpartition(":")[0] or address).strip("[]0.:")


@final
class AddressBook:
    """The address book: of each node what it says itself, what was configured, and what others say of it.

    All of these are tried in turn, in that order, beginning where the node was found last. What a node says itself is
    believed first whenever it is new."""

    __slots__ = ("_at", "_configured", "_failures", "_from_itself", "_hearsay", "_me", "_mine", "disks")

    def __init__(self, config: NodeLimits, me: NodeId) -> None:
        self._me = me
        self._mine = config.address
        self._configured = dict(config.peers)
        self._from_itself: dict[NodeId, str] = {}
        self._hearsay: dict[NodeId, dict[NodeId, str]] = {}  # of whom, who says it
        self._at: dict[NodeId, str] = {}  # the address whose turn it is
        self._failures: dict[NodeId, dict[str, str]] = {}  # since it was reached last: why not, at each address
        self.disks: dict[NodeId, int] = {}
        """The incarnation that each node last greeted with."""

    def of(self, node: NodeId) -> str:
        """Where to dial the node now, "" where no address is known."""
        known = self._sources(node)
        at = self._at.get(node, "")
        return at if at in known else next(iter(known), "")

    def _sources(self, node: NodeId) -> dict[str, str]:
        """Each address that is known of the node, and where it is known from, in the order of turns."""
        known: dict[str, str] = {}
        if said := self._from_itself.get(node):
            known[said] = "as it says itself"
        if configured := self._configured.get(node):
            known.setdefault(configured, "as configured")
        for teller, address in self._hearsay.get(node, {}).items():
            known.setdefault(address, f"as node {teller} says")
        return known

    def failed(self, node: NodeId, address: str, why: str) -> bool:
        """The node was not found there; the next address has its turn. Return whether all have now had theirs."""
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
        """The node was found at the address whose turn it was."""
        self._failures.pop(node, None)
        self._at[node] = self.of(node)

    def complaint(self, node: NodeId) -> str:
        """Return, for people, where the node was looked for and why it was not found."""
        failures = self._failures.get(node, {})
        known = self._sources(node).items()
        places = [f"at {at} ({source}): {failures.get(at, 'not tried yet')}" for at, source in known]
        return "; ".join(places) or "no address of it is known"

    def forget(self, node: NodeId) -> None:
        """Nothing is known of the node but what this node was configured with; nor is its word on others."""
        for table in (self._from_itself, self._hearsay, self._failures, self._at, self.disks):
            table.pop(node, None)
        for told in self._hearsay.values():
            told.pop(node, None)

    def learn(self, hello: Hello, *, hearsay: bool = True) -> tuple[NodeId, ...]:
        """Take down where the greeting's sender can be dialled, and where its `hearsay` is believed, those it knows.

        Return of whom of those an address is new. Whoever calls bounds the number of strangers that greet, and forgets
        them."""
        sender = hello.sender
        self.disks[sender] = hello.incarnation
        if _can_be_dialled(hello.address) and hello.address != self._from_itself.get(sender):
            self._from_itself[sender] = self._at[sender] = hello.address
            self._failures.pop(sender, None)
        if not hearsay:
            return ()
        return tuple(node for node, address in hello.known if self._hear(node, address, sender))

    def _hear(self, node: NodeId, address: str, teller: NodeId) -> bool:
        """One node says where another can be dialled. Return whether that is new."""
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
        """Every node with an address, sorted."""
        nodes = sorted({*self._from_itself, *self._configured, *self._hearsay} - {self._me})
        return tuple((node, self.of(node)) for node in nodes)

    def in_greeting(self, introduction: Hello, told: Callable[[NodeId], bool] | None = None) -> Hello:
        """The introduction with our own address and some that we know, of the nodes that `told` lets pass."""
        known = tuple(item for item in self.known() if told is None or told(item[0]))
        return msgspec.structs.replace(introduction, address=self._mine, known=known[:_MOST_TOLD])

    def with_disks(self, changes: tuple[Change, ...], members: Members) -> tuple[Change, ...] | str:
        """The changes with the incarnations that new members greeted with; a text where one never greeted. Where the
        members' disks are known by number, a new one must be too, or a wiped disk could vote under its id."""
        if not members.incarnations:
            return changes
        filled: list[Change] = []
        for change in changes:
            nameless = isinstance(change, AddVoter | AddLearner) and not change.incarnation
            if nameless and not members.is_member(change.node):
                disk = self.disks.get(change.node, 0)
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
    """When each peer may be dialled again. The wait doubles with each failure up to a limit; half of it is chance, so
    that nodes that lost each other do not meet in the same instant again and again."""

    __slots__ = ("_config", "_failures", "_not_before", "_rng")

    def __init__(self, config: NodeLimits, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._failures: dict[NodeId, int] = {}
        self._not_before: dict[NodeId, int] = {}

    def due(self, peer: NodeId, now: int) -> bool:
        """The back-off has passed, or there was none."""
        return now >= self._not_before.get(peer, now)

    def now(self, peer: NodeId) -> None:
        """There is reason to believe that the peer can be reached."""
        self._failures.pop(peer, None)
        self._not_before.pop(peer, None)

    def later(self, peer: NodeId, now: int, lasted: int, *, elsewhere: bool = False) -> None:
        """A connection failed, or ended after `lasted` nanoseconds. One that lasted starts the back-off anew.

        `elsewhere`: the next attempt goes to an address that has not had its turn yet, and need not wait longer."""
        if lasted >= self._config.dial_delay_max:
            self._failures.pop(peer, None)
        failures = 0 if elsewhere else self._failures.get(peer, 0)
        if not elsewhere:
            self._failures[peer] = failures + 1
        delay = min(self._config.dial_delay << min(failures, 20), self._config.dial_delay_max)
        self._not_before[peer] = now + delay // 2 + int(self._rng.random() * (delay // 2))
