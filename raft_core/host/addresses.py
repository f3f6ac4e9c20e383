"""Where peers can be dialled, and when to try again.

What lives here: `Addresses`, learned from greetings, because an identity is not an address; and `Redial`, the
back-off after failures. Both are bounded, whatever strangers claim.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, final

import msgspec

from raft_core.host.config import HostConfig
from raft_core.ids import Incarnation, NodeId
from raft_core.membership import AddLearner, AddVoter, Change, Members
from raft_core.wire.values import Hello

__all__ = ["Addresses", "Redial", "is_everywhere"]

_MOST_LEARNED: Final = 1000
_MOST_TOLD: Final = 100
_LONGEST: Final = 300


def is_everywhere(address: str) -> bool:
    """It means every interface, as 0.0.0.0:7400 and [::]:7400 do. One listens there, and whoever dials it reaches
    itself."""
    return not (address.rpartition(":")[0] or address).strip("[]0.:")


@final
class Addresses:
    """The address book. What a node says about itself wins over what was configured, until it cannot be reached there;
    then the two take turns. What others say is only believed where neither is known."""

    __slots__ = ("_configured", "_failures", "_from_itself", "_hearsay", "_me", "_mine", "disks")

    def __init__(self, config: HostConfig, me: NodeId) -> None:
        self._me = me
        self._mine = config.address
        self._configured = dict(config.peers)
        self._from_itself: dict[NodeId, str] = {}
        self._hearsay: dict[NodeId, str] = {}
        self._failures: dict[NodeId, int] = {}
        self.disks: dict[NodeId, int] = {}
        """The incarnation that each node last greeted with."""

    def of(self, node: NodeId) -> str:
        """Where to dial the node, "" where nobody knows."""
        said, configured = self._from_itself.get(node, ""), self._configured.get(node, "")
        if said and configured:
            return configured if self._failures.get(node, 0) % 2 else said
        return said or configured or self._hearsay.get(node, "")

    def failed(self, node: NodeId) -> None:
        """Nobody who is that node answered where it was dialled."""
        self._failures[node] = self._failures.get(node, 0) + 1

    def forget(self, node: NodeId) -> None:
        """Nothing is known of the node but what we were configured with."""
        for table in (self._from_itself, self._hearsay, self._failures, self.disks):
            table.pop(node, None)

    def learn(self, hello: Hello, *, hearsay: bool = True) -> None:
        """The greeting's sender can be dialled, and where its `hearsay` is believed, whom it knows. Whoever calls
        bounds the number of strangers that greet, and forgets them."""
        self.disks[hello.sender] = hello.incarnation
        if _can_be_dialled(hello.address) and hello.address != self._from_itself.get(hello.sender):
            self._from_itself[hello.sender] = hello.address
            self._failures.pop(hello.sender, None)
        for node, address in hello.known if hearsay else ():
            if node == self._me or not _can_be_dialled(address):
                continue
            if node in self._hearsay or len(self._hearsay) < _MOST_LEARNED:
                self._hearsay[node] = address

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
class Redial:
    """When each peer may be dialled again. The wait doubles with each failure up to a limit; half of it is chance, so
    that nodes that lost each other do not meet in the same instant again and again."""

    __slots__ = ("_config", "_dice", "_failures", "_not_before")

    def __init__(self, config: HostConfig, dice: random.Random) -> None:
        self._config = config
        self._dice = dice
        self._failures: dict[NodeId, int] = {}
        self._not_before: dict[NodeId, int] = {}

    def due(self, peer: NodeId, now: int) -> bool:
        """The back-off has passed, or there was none."""
        return now >= self._not_before.get(peer, now)

    def now(self, peer: NodeId) -> None:
        """There is reason to believe that the peer can be reached."""
        self._failures.pop(peer, None)
        self._not_before.pop(peer, None)

    def later(self, peer: NodeId, now: int, lasted: int) -> None:
        """A connection failed, or ended after `lasted` nanoseconds. One that lasted starts the back-off anew."""
        if lasted >= self._config.dial_delay_max:
            self._failures.pop(peer, None)
        failures = self._failures.get(peer, 0)
        self._failures[peer] = failures + 1
        delay = min(self._config.dial_delay << min(failures, 20), self._config.dial_delay_max)
        self._not_before[peer] = now + delay // 2 + int(self._dice.random() * (delay // 2))
