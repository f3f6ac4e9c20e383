"""How a node becomes part of a cluster: by founding it with others, by being added to it, or because it is already.

What lives here: `Forming`, which judges greetings for as long as the disk is not part of a cluster, and afterwards
checks that others were founded as we were.

*Founding.* Every founder must write the same first entry, and that entry names every founder's disk. So a founder
waits until it is connected with all others, each having greeted it with the same plan (who founds, with or without
leases), and then writes. One that missed the moment finds the entry in the greeting of those who did not, and writes
the same, if it names its own disk.

*Two foundings.* Should a founder's disk be wiped while the others are meeting, two of them may write different
entries. Each node writes only one in its life, and nodes whose entries differ do not talk to one another; so at
most one of the two can ever gather a majority. What was said before the entry was written does not tell: therefore a
node that has formed closes all its connections and greets everybody anew, before its core says a word.

*A founder that finds a cluster whose first entry is compacted* starts empty, as a follower that never stands before
it has been told its cluster. That is safe if the configuration in force names its very disk: a disk is marked as part
of a cluster before anything is acknowledged from it, so this one has neither voted nor acknowledged anything, and an
entry 1 that is compacted has been with a majority long ago. It is safe if the cluster does not name it at all: then
it waits to be added, and disturbs nobody. And if the cluster names it with another disk, it is not greeted.

*A wiped disk.* If the cluster names this node with another disk, then what it acknowledged is lost. It must not
take part under its id, and ends with `LogLost`.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto
from typing import Final, final

from raft_core._value import Value
from raft_core.entries import MEMBERS
from raft_core.errors import CallerError
from raft_core.host.config import HostConfig
from raft_core.host.jobs import FormCluster, Lane
from raft_core.host.orders import Orders
from raft_core.ids import Incarnation, Index, NodeId
from raft_core.membership import Members
from raft_core.recovered import Recovered
from raft_core.wire.values import Hello

__all__ = ["Forming", "Judgement", "Verdict"]


class Verdict(Enum):
    """What a greeting means for us."""

    FINE = auto()
    REFUSE = auto()  # we must not talk to this peer
    JOIN = auto()  # there is a cluster already: start empty
    LOST = auto()  # there is a cluster already, and it knows us with another disk


@final
class Judgement(Value, frozen=True):
    """What to think of another node's hello, and why."""

    verdict: Verdict
    text: str = ""


_FINE: Final = Judgement(Verdict.FINE)


@final
class Forming:
    """One node's way into its cluster. `ready` once a core may be built; `founding` is the first entry's data, and
    before there is one, what a founder plans to write, without disks."""

    __slots__ = ("_config", "_disks", "_me", "_orders", "_writing", "founding", "ready")

    def __init__(self, config: HostConfig, recovered: Recovered, orders: Orders) -> None:
        self._config = config
        self._orders = orders
        self._me = recovered.identity
        self._writing: Members | None = None
        self._disks: dict[NodeId, Incarnation] = {self._me.node: self._me.incarnation}
        self.ready = recovered.formed or not config.founders
        self.founding = b""
        if recovered.formed:
            self.formed(recovered)
        elif config.founders and self._me.node not in config.founders:
            raise CallerError(
                f"node {self._me.node} is not among the founders {list(config.founders)}: name it there, or start it "
                "without founders, so that it waits to be added"
            )
        elif config.founders:
            self.founding = Members.initial(config.founders, leases=config.leases).encode()

    def formed(self, recovered: Recovered) -> None:
        """The disk is part of a cluster. Its founding is known while the first entry is there."""
        self.ready = True
        self.founding = b""
        first = recovered.entries[0] if recovered.entries else None
        if first is not None and first.index == Index(1) and first.kind is MEMBERS:
            self.founding = first.data

    def begin(self) -> None:
        """A founder without companions writes at once."""
        self._write_if_complete(())

    def judge(self, hello: Hello, connected: Collection[NodeId]) -> Judgement:
        """What this greeting means, and the next step of founding where it was the last one missing. `connected`: who
        has greeted us on a connection that stands. Founders that are gone may have formed with others since."""
        if self.ready:
            return self._compare(hello)
        if hello.formed:
            return self._meet_cluster(hello)
        if hello.founders != self._config.founders:
            theirs = f"node {hello.sender} says that {_named(hello.founders)} found the cluster"
            ours = f"this node says {_named(self._config.founders)}"
            return Judgement(Verdict.REFUSE, f"{theirs}, {ours}; give all founders the same list")
        if hello.founding and hello.founding != self.founding:
            theirs = _plan(Members.decode(hello.founding))  # the link has checked that it decodes
            ours = _plan(Members.decode(self.founding))
            text = f"node {hello.sender} would found the cluster {theirs}, this node {ours}"
            return Judgement(Verdict.REFUSE, f"{text}; nothing is written before all founders have the same settings")
        self._disks[hello.sender] = hello.incarnation
        self._write_if_complete(connected)
        return _FINE

    def _write_if_complete(self, connected: Collection[NodeId]) -> None:
        founders, me = self._config.founders, self._me.node
        if self._writing is not None or not all(n == me or (n in connected and n in self._disks) for n in founders):
            return
        disks = {node: self._disks[node] for node in founders if self._disks[node]}
        self._write(Members.initial(founders, incarnations=disks, leases=self._config.leases))

    def _write(self, members: Members) -> None:
        self._writing = members
        self._orders.run(Lane.WRITE, FormCluster(members))

    def _meet_cluster(self, hello: Hello) -> Judgement:
        me, founders = self._me, Members.decode(hello.founding) if hello.founding else None
        if self._writing is not None:
            return _FINE if founders in (None, self._writing) else _other_founding(hello.sender)
        if founders is not None:
            disk = founders.incarnation_of(me.node)
            if founders.is_member(me.node) and disk not in (0, me.incarnation):
                return Judgement(Verdict.LOST, lost_text(me.node))
            if founders.is_member(me.node):
                self._write(founders)
                return _FINE
        self.ready = True
        self.founding = b""
        return Judgement(Verdict.JOIN)

    def _compare(self, hello: Hello) -> Judgement:
        if not (hello.formed and self.founding and hello.founding) or self.founding == hello.founding:
            return _FINE  # one that has not formed will hear from us how we were founded
        return _other_founding(hello.sender)


def _other_founding(sender: NodeId) -> Judgement:
    text = (
        f"node {sender} was founded with other first members, disks or settings than this node, so they belong to two "
        "clusters of one name, of which at most one can have a majority. Where one has a leader, set the data "
        "directories of the other's nodes aside, and let them join under ids that were never used; where none has, "
        "nothing was ever acknowledged: give all founders the same settings and empty directories"
    )
    return Judgement(Verdict.REFUSE, text)


def _plan(members: Members) -> str:
    return f"of {_named(members.voters)} with leases={str(members.leases).lower()}"


def lost_text(node: NodeId) -> str:
    """For the error that ends a node whose disk was wiped."""
    return (
        f"the cluster knows node {node} with another disk than this one: what it had acknowledged is lost. Put its "
        f"data directory back, or remove node {node} from the cluster and add this one under an id that was never used"
    )


def _named(nodes: tuple[NodeId, ...]) -> str:
    return f"nodes {', '.join(map(str, nodes))}" if nodes else "others"
