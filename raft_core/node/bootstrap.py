"""`Bootstrap`: a node's way into a cluster, by bootstrapping it with others or by being added.

It judges greetings while the disk is not part of a cluster, and afterwards checks that peers come from the same
bootstrap.

*Bootstrapping.* Every founder must write the same first entry, which names every founder's disk. They agree on it in
two rounds. First each greets with a plan: the founders, with or without leases. A founder that has met all the others
knows every disk: it adds them to the plan, closes all its connections, and greets all others again. A founder that has
then received its own complete plan from every other founder writes it. A founder that was late finds the entry in the
greeting of the others, and writes the same if it names its own disk.

*Why two rounds.* A founder's disk may be wiped while the others are meeting, or the founder may be started twice. With
one round, two founders could write entries that name different disks of a third one, which could then stand for a
majority of both. Now suppose A writes P and B writes Q. A received P from B on a connection that A opened after it
adopted P: it opens all of them again then, and the dialled side speaks last. So B held P when A already did, and
adopted Q after that. B received Q from A in the same way, so A adopted P after B adopted Q. Both cannot be true.

*Features.* The complete plan enables the features that all founders have, by their greetings. A founder that is
restarted with another release meanwhile has another plan, so nothing is written before all have greeted anew.

*Not covered*: a founder that is restarted with another list of founders or other settings, while others write the plan
that it sent before. That can make two clusters of one name. Nodes whose entries differ refuse each other and raise an
alarm.

*A founder that finds a cluster whose first entry is compacted* starts empty, as a follower that does not campaign
before it has learned its cluster. That is safe if the configuration in force names this very disk: a disk is marked as
part of a cluster before anything is acknowledged from it, so this one has neither voted nor acknowledged anything, and
a compacted entry 1 reached a majority long ago. It is safe if the cluster does not name the node at all: then it waits
to be added, and disturbs no member. And if the cluster names it with another disk, it is not greeted.

*A wiped disk.* If the cluster names this node with another disk, its acknowledged entries are lost. It must not take
part under its id, and ends with `LogLost`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final, final

from raft_core.entries import MEMBERS
from raft_core.errors import CallerError, SettingsError
from raft_core.ids import Incarnation, Index, NodeId
from raft_core.membership import Members
from raft_core.node.jobs import FormCluster, Lane
from raft_core.node.limits import NodeLimits
from raft_core.node.outputs import Outputs
from raft_core.recovered import Recovered
from raft_core.settings import Settings, unfit, unknown_features
from raft_core.structs import Value
from raft_core.wire.payloads import Hello

__all__ = ["Bootstrap", "Judgement", "Verdict"]


class Verdict(Enum):
    """The meaning of a greeting for this node."""

    FINE = auto()
    REFUSE = auto()  # this peer must be refused
    AGREE = auto()  # all founders are known: reconnect, and greet with the complete plan
    JOIN = auto()  # a cluster exists already: start empty
    LOST = auto()  # a cluster exists already, and it names this node with another disk
    UNFIT = auto()  # a cluster exists already, and our settings do not fit it


@final
class Judgement(Value, frozen=True):
    """A verdict on another node's greeting, with its reason."""

    verdict: Verdict
    text: str = ""


_FINE: Final = Judgement(Verdict.FINE)
_MOST_REPLACED: Final = 100
"""Replaced disks tolerated while founders meet; more are not an accident."""


@final
class Bootstrap:
    """One node's way into its cluster. `ready` once a core may be built; `founding` is the first entry's data.

    Before it exists, `founding` is a founder's plan, including the disks once all are known.
    """

    __slots__ = (
        "_config",
        "_disks",
        "_features",
        "_me",
        "_orders",
        "_replaced",
        "_settings",
        "_writing",
        "founding",
        "ready",
    )

    def __init__(self, config: NodeLimits, settings: Settings, recovered: Recovered, orders: Outputs) -> None:
        self._config = config
        self._settings = settings
        self._orders = orders
        self._me = recovered.identity
        self._writing: Members | None = None
        self._disks: dict[NodeId, Incarnation] = {self._me.node: self._me.incarnation}
        self._features: dict[NodeId, tuple[str, ...]] = {self._me.node: settings.features}
        self._replaced: set[tuple[NodeId, Incarnation]] = set()
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
            plan = self._plan()
            if problem := unfit(settings, plan):
                raise SettingsError(problem)
            self.founding = plan.encode()

    def formed(self, recovered: Recovered) -> None:
        """Record that the disk is part of a cluster. `founding` is known while the first entry is in the log."""
        self.ready = True
        self.founding = b""
        first = recovered.entries[0] if recovered.entries else None
        if first is not None and first.index == Index(1) and first.kind is MEMBERS:
            self.founding = first.data

    def begin(self) -> None:
        """Start bootstrapping. A sole founder writes at once."""
        if self._config.founders == (self._me.node,):
            self._write(self._plan())

    def judge(self, hello: Hello, standing: Iterable[Hello]) -> Judgement:
        """Judge this greeting, and take the next step of bootstrapping if it was the last one missing.

        `standing`: the greetings on open connections that this node dialled, including this one.
        """
        if self.ready:
            return self._compare(hello)
        if hello.formed:
            return self._meet_cluster(hello)
        if hello.founders != self._config.founders:
            theirs = f"node {hello.sender} says that {_named(hello.founders)} found the cluster"
            ours = f"this node says {_named(self._config.founders)}"
            return Judgement(Verdict.REFUSE, f"{theirs}, {ours}; give all founders the same list")
        if hello.founding:
            theirs = _described(Members.decode(hello.founding))  # the link has checked that it decodes
            ours = _described(self._plan())
            if theirs != ours:
                text = f"node {hello.sender} would found the cluster {theirs}, this node {ours}"
                return Judgement(
                    Verdict.REFUSE, f"{text}; nothing is written before all founders have the same settings"
                )
        return _FINE if self._writing is not None else self._meet_founder(hello, standing)

    def _meet_founder(self, hello: Hello, standing: Iterable[Hello]) -> Judgement:
        node, disk = hello.sender, hello.incarnation
        if node not in self._config.founders:
            return _FINE
        known = self._disks.get(node, disk)
        if known != disk:
            if (node, disk) in self._replaced or len(self._replaced) >= _MOST_REPLACED:
                return Judgement(Verdict.REFUSE, _replaced_text(node))
            self._replaced.add((node, known))
        self._disks[node], self._features[node] = disk, hello.features
        plan, before = self._plan(), self.founding
        self.founding = plan.encode()
        if self.founding != before:
            return Judgement(Verdict.AGREE)
        agreed = {other.sender for other in standing if other.founding == self.founding}
        if len(self._disks) == len(self._config.founders) == len(agreed) + 1:
            self._write(plan)
        return _FINE

    def _plan(self) -> Members:
        """Return the first entry as far as known: without disks while one is missing."""
        founders, leases = self._config.founders, self._config.leases
        if len(self._disks) < len(founders):
            return Members.initial(founders, leases=leases)
        disks = {node: disk for node, disk in self._disks.items() if disk}
        common = set(self._settings.features).intersection(*self._features.values())
        return Members.initial(founders, incarnations=disks, leases=leases, features=common)

    def _write(self, members: Members) -> None:
        self._writing = members
        self._orders.run(Lane.WRITE, FormCluster(members))

    def _meet_cluster(self, hello: Hello) -> Judgement:
        me, founders = self._me, Members.decode(hello.founding) if hello.founding else None
        if self._writing is not None:
            if founders is None or founders == self._writing:
                return _FINE
            return _other_founding(hello.sender, founders, self._writing)
        if founders is not None:
            disk = founders.incarnation_of(me.node)
            if founders.is_member(me.node) and disk not in (0, me.incarnation):
                return Judgement(Verdict.LOST, lost_text(me.node))
            if founders.is_member(me.node):
                if problem := unfit(self._settings, founders) or unknown_features(self._settings, founders):
                    return Judgement(Verdict.UNFIT, problem)
                self._write(founders)
                return _FINE
        self.ready = True
        self.founding = b""
        return Judgement(Verdict.JOIN, "" if founders is None else self._left_out(hello.sender, founders))

    def _left_out(self, sender: NodeId, founders: Members) -> str:
        """Return a remark: a cluster was bootstrapped without this node, by mistake unless it is to be added."""
        return (
            f"node {sender} is part of a cluster that was founded by {_named(founders.voters)} and without this node, "
            f"{self._me.node}, which was to found one of {_named(self._config.founders)}. It waits to be added to that "
            f"cluster now: add it, and nothing of that cluster is lost. If that cluster was founded by mistake, and "
            f"holds nothing of worth, stop its nodes, set their data directories aside, and start all founders anew, "
            f"each with an empty directory and the addresses of all others"
        )

    def _compare(self, hello: Hello) -> Judgement:
        if not hello.formed and hello.founders and self.founding:
            founders = Members.decode(self.founding)
            if founders.voters != hello.founders and not founders.is_member(hello.sender):
                return Judgement(Verdict.FINE, _stranger_text(hello, founders))
        if not (hello.formed and self.founding and hello.founding) or self.founding == hello.founding:
            return _FINE  # a peer that has not formed learns our first entry from us
        return _other_founding(hello.sender, Members.decode(hello.founding), Members.decode(self.founding))


def _stranger_text(hello: Hello, founders: Members) -> str:
    return (
        f"node {hello.sender} is part of no cluster, and was started to found one of {_named(hello.founders)}; this "
        f"node is part of one that was founded by {_named(founders.voters)}. To have it in this cluster, add it here. "
        "If this cluster was founded by mistake and holds nothing of worth, stop its nodes, set their data directories "
        "aside, and start all founders anew, each with an empty directory and the addresses of all others"
    )


def _other_founding(sender: NodeId, theirs: Members, ours: Members) -> Judgement:
    differ = " with other disks or settings" if theirs.voters == ours.voters else ""
    text = (
        f"node {sender} belongs to a cluster that was founded by {_named(theirs.voters)}, this node to one that was "
        f"founded by {_named(ours.voters)}{differ}: these are two clusters of one name. If one of them has a leader, "
        "set the data directories of the other's nodes aside, and let them join under ids above every id ever used. If "
        "both have, both may have acknowledged: keep everything, and decide which counts. If none has, nothing was "
        "acknowledged: give all founders the same settings and empty directories"
    )
    return Judgement(Verdict.REFUSE, text)


def _described(plan: Members) -> str:
    return f"of {_named(plan.voters)} with leases={str(bool(plan.leases)).lower()}"


def _replaced_text(node: NodeId) -> str:
    return (
        f"node {node} greets with one disk and with another while the cluster forms: see that it runs only once, with "
        "its own data directory, and restart this node"
    )


def lost_text(node: NodeId) -> str:
    """Return the text of the error that ends a node with a wiped disk."""
    return (
        f"the cluster knows node {node} with another disk than this one: what it had acknowledged is lost. Put its "
        f"data directory back, or remove node {node} from the cluster and add this one under an id above every id ever "
        "used"
    )


def _named(nodes: tuple[NodeId, ...]) -> str:
    if not nodes:
        return "others"
    return f"node {nodes[0]} alone" if len(nodes) == 1 else f"nodes {', '.join(map(str, nodes))}"
