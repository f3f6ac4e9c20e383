"""An explored cluster: its states as a few small numbers, the possible events, and their results.

The bounds, and the tables behind the numbers. The states of single nodes recur in very many states of the cluster. So
each is numbered once, and the effect of an event on a node is computed once (by the real core, on a copy) and kept.
`symmetry` decides which states are equal; `search` decides the order of visits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias, final

import attrs

from raft_core.errors import CallerError
from raft_core.events import CampaignRequested, Event, Persisted, Proposed, Requested, Tick
from raft_core.ids import NodeId, RequestId, WriteId
from raft_core.membership import AddVoter, Members, RemoveNode
from raft_core.recovered import Recovered
from raft_core.requests import ChangeMembership, TransferLeadership
from raft_core.settings import Settings
from raft_testing.model_checker.canonical import FIRST_NODE, LEFT_OUT, TIMERS, Plain, as_bytes
from raft_testing.model_checker.node import ExploredNode, Packet
from raft_testing.model_checker.properties import Ghost, check_state, check_step, remember

__all__ = ["CRASH", "REPEAT", "SYNC", "Action", "Bounds", "Cluster", "State"]


@final
@attrs.frozen
class Bounds:
    """How far the search goes: how many nodes, and how often each thing may happen in one run of the cluster."""

    nodes: int = 3
    elections: int = 2
    values: int = 1
    ticks: int = 0
    duplicates: int = 0
    crashes: int = 0
    changes: int = 0
    """Voters removed by a leader that stays, or joiners added."""
    abdications: int = 0
    """Leaders that remove themselves. Then names matter: the successor that they choose depends on them."""
    transfers: int = 0
    """Leaderships handed over, to any other node."""
    features: int = 0
    """Features enabled by a leader, one at a time; all nodes have them (`Members.features`)."""
    joiners: int = 0
    """Further nodes with empty disks, which are members only once a change has added them."""
    pre_vote: bool = False
    check_quorum: bool = False
    election_ticks: int = 1000
    """After how many ticks a node stands by itself; far more than there are, unless `ticks` are to do it. Then names
    matter: nodes stand in the order of their names."""
    single_entries: bool = False
    """Appends carry one entry each, so that a log can arrive in parts."""
    states: int | None = None
    """Stop after so many distinct states; None: when there are no more."""

    @property
    def timers_run_out(self) -> bool:
        """Nodes may stand by themselves. Short timeouts follow a broken connection only, and none breaks here."""
        return self.ticks >= self.election_ticks

    def __attrs_post_init__(self) -> None:
        if self.nodes < 1:
            raise CallerError("a cluster has at least one node")

    def settings(self) -> Settings:
        """Nothing happens by chance, and the short logs of a small cluster are never compacted."""
        return Settings(
            election_ticks=self.election_ticks,
            heartbeat_ticks=1,
            short_ticks=1,
            pre_vote=self.pre_vote,
            check_quorum=self.check_quorum,
            stall_ticks=0,
            max_message_bytes=1 if self.single_entries else 1 << 18,
            features=self.feature_names,
        )

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features that can be enabled."""
        return tuple(f"feature-{number}" for number in range(1, self.features + 1))


State: TypeAlias = tuple[tuple[int, ...], int, tuple[int, ...], int]
"""Numbers of the nodes' states; messages under way, a bit for each; what the bounds leave; the ghost's number."""
Action: TypeAlias = tuple[int, int, int]
"""What happens, to which node or with which message, and a number that says the rest."""

DELIVER, REPEAT, SYNC, CRASH, CAMPAIGN, PROPOSE, TICK, REMOVE, ADD, TRANSFER, ABDICATE, ENABLE = range(12)
_BUDGETS: Final = (
    "elections", "values", "ticks", "duplicates", "crashes", "changes", "transfers", "abdications", "features",
)  # fmt: skip
_ELECTIONS, _VALUES, _TICKS, _DUPLICATES, _CRASHES, _CHANGES, _TRANSFERS, _ABDICATIONS, _FEATURES = range(9)
_COST: Final = {
    CAMPAIGN: _ELECTIONS,
    PROPOSE: _VALUES,
    TICK: _TICKS,
    REPEAT: _DUPLICATES,
    CRASH: _CRASHES,
    REMOVE: _CHANGES,
    ADD: _CHANGES,
    TRANSFER: _TRANSFERS,
    ABDICATE: _ABDICATIONS,
    ENABLE: _FEATURES,
}


_MOST_JUDGEMENTS: Final = 1 << 20  # then they are begun anew: each is cheap to find again


@final
class Cluster:
    """The numbered things, and the steps between them.

    `disks`: the first nodes start from these, not from a newly formed cluster. `left_out`: the fields which do not
    distinguish nodes; None: all that make no difference within these bounds.
    """

    def __init__(self, bounds: Bounds, disks: Sequence[Recovered] = (), left_out: frozenset[str] | None = None) -> None:
        self.bounds = bounds
        self.names = tuple(NodeId(FIRST_NODE + place) for place in range(bounds.nodes + bounds.joiners))
        self.place = {name: place for place, name in enumerate(self.names)}
        self.nodes: list[ExploredNode] = []
        self.keys: list[Plain] = []
        self.packets: list[Packet] = []
        self.copies: list[int] = []  # how many of the same are under way before this one
        self.ghosts: list[Ghost] = []
        self.steps = 0
        self._disks = tuple(disks)
        if left_out is None:
            left_out = LEFT_OUT if bounds.timers_run_out else LEFT_OUT | TIMERS
        self._left_out = left_out
        self._node_numbers: dict[bytes, int] = {}
        self._packet_numbers: dict[tuple[Packet, int], int] = {}
        self._ghost_numbers: dict[Ghost, int] = {}
        self._done: dict[tuple[int, int, int, int], tuple[int, tuple[int, ...], str]] = {}
        self._judgements: dict[tuple[int, ...], tuple[int, str]] = {}
        self._addressed = [0] * len(self.names)  # by place: the messages to it
        self._looked_at: list[int] = []  # by node: messages of which it is known whether it has outlived them
        self._outlived: list[int] = []

    # Numbering.

    def number_node(self, node: ExploredNode) -> int:
        """Return the number of the node's state, equal for states that are not distinguished."""
        key = node.key(self._left_out)
        packed = as_bytes(key)
        number = self._node_numbers.get(packed)
        if number is None:
            number = self._node_numbers[packed] = len(self.nodes)
            self.nodes.append(node)
            self.keys.append(key)
            self._looked_at.append(0)
            self._outlived.append(0)
        return number

    def number_packet(self, packet: Packet, copy: int = 0) -> int:
        """Return the number of a message of which `copy` others are in transit before it."""
        number = self._packet_numbers.get((packet, copy))
        if number is None:
            number = self._packet_numbers[packet, copy] = len(self.packets)
            self.packets.append(packet)
            self.copies.append(copy)
            self._addressed[self.place[packet[1]]] |= 1 << number
        return number

    def number_ghost(self, ghost: Ghost) -> int:
        """Return the ghost's number."""
        number = self._ghost_numbers.get(ghost)
        if number is None:
            number = self._ghost_numbers[ghost] = len(self.ghosts)
            self.ghosts.append(ghost)
        return number

    # What can happen.

    def start(self) -> State:
        """Every node has started on its disk: that of a newly formed cluster, joiners on an empty one."""
        members = Members.initial(self.names[: self.bounds.nodes])
        fresh = [
            Recovered.fresh(name, members if at < self.bounds.nodes else None) for at, name in enumerate(self.names)
        ]
        disks = [*self._disks, *fresh[len(self._disks) :]]
        numbers = [self.number_node(ExploredNode.begin(disk, self.bounds.settings())) for disk in disks]
        budgets = tuple([getattr(self.bounds, name) for name in _BUDGETS])
        return tuple(numbers), 0, budgets, self.number_ghost(Ghost())

    def possible(self, state: State) -> Iterator[Action]:
        """Everything that can happen next."""
        nodes, under_way, budgets, _ = state
        while under_way:
            lowest = under_way & -under_way
            under_way ^= lowest
            packet = lowest.bit_length() - 1
            if self.copies[packet]:
                continue  # the first of its copies stands for all
            yield DELIVER, packet, 0
            if budgets[_DUPLICATES]:
                yield REPEAT, packet, 0
        for place, number in enumerate(nodes):
            node = self.nodes[number]
            for written in range(1, len(node.writes) + 1):
                yield SYNC, place, written
            if budgets[_CRASHES]:
                for survived in range(len(node.writes) + 1):
                    yield CRASH, place, survived
            if budgets[_TICKS]:
                yield TICK, place, 0
            if not node.leads:
                if budgets[_ELECTIONS]:
                    yield CAMPAIGN, place, 0
                continue
            if budgets[_VALUES]:
                yield PROPOSE, place, budgets[_VALUES]
            yield from self._of_operators(node, place, budgets)

    def _of_operators(self, leader: ExploredNode, place: int, budgets: tuple[int, ...]) -> Iterator[Action]:
        members = leader.raft.server.members
        if budgets[_CHANGES]:
            for name in members.voters:
                if name != leader.name:
                    yield REMOVE, place, name
            for name in self.names[self.bounds.nodes :]:
                if not members.is_member(name):
                    yield ADD, place, name
        if budgets[_ABDICATIONS]:
            yield ABDICATE, place, leader.name
        if budgets[_FEATURES]:
            for number, feature in enumerate(self.bounds.feature_names):
                if feature not in members.features:
                    yield ENABLE, place, number
                    break  # another one is the same under another name
        if budgets[_TRANSFERS]:
            for name in members.voters:
                if name != leader.name:
                    yield TRANSFER, place, name

    def after(self, state: State, action: Action) -> tuple[State, str]:
        """Return the state after the action, and the violation in it."""
        nodes, under_way, budgets, ghost = state
        kind, what, _ = action
        place = self.place_of(action)
        if kind == DELIVER:
            under_way = self._taken(under_way, what)
        if kind in _COST:
            cost = _COST[kind]
            budgets = (*budgets[:cost], budgets[cost] - 1, *budgets[cost + 1 :])
        number, sent, violation = self._step(nodes[place], action)
        if number != nodes[place]:
            nodes = (*nodes[:place], number, *nodes[place + 1 :])
        for packet in sent:
            under_way = self._put(under_way, packet)
        if sent:
            under_way = self.without_outlived(nodes, under_way)
        else:
            under_way = self._without_outlived(number, place, under_way)
        if not violation:
            ghost, violation = self._judged(nodes, ghost, place)
        return (nodes, under_way, budgets, ghost), violation

    def place_of(self, action: Action) -> int:
        """Return the node of the action."""
        return self.place[self.packets[action[1]][1]] if action[0] <= REPEAT else action[1]

    def _put(self, under_way: int, packet: int) -> int:
        """One more of it is under way."""
        copy = 0
        while under_way >> packet & 1:
            copy += 1
            packet = self.number_packet(self.packets[packet], copy)
        return under_way | 1 << packet

    def _taken(self, under_way: int, packet: int) -> int:
        """One less of it is under way: the last of the copies."""
        copy = 0
        while True:
            following = self._packet_numbers.get((self.packets[packet], copy + 1))
            if following is None or not under_way >> following & 1:
                return under_way ^ 1 << packet
            packet, copy = following, copy + 1

    def _judged(self, nodes: tuple[int, ...], ghost: int, place: int) -> tuple[int, str]:
        """Return the ghost after the step of the node at `place`, and the violation. Messages do not matter here."""
        key = (*nodes, ghost, place)
        judged = self._judgements.get(key)
        if judged is None:
            cluster = [self.nodes[number] for number in nodes]
            remembered = remember(self.ghosts[ghost], cluster, place)
            if isinstance(remembered, str):
                judged = (ghost, remembered)
            else:
                judged = (self.number_ghost(remembered), check_state(remembered, cluster, place))
            if len(self._judgements) >= _MOST_JUDGEMENTS:
                self._judgements.clear()
            self._judgements[key] = judged
        return judged

    def _step(self, number: int, action: Action) -> tuple[int, tuple[int, ...], str]:
        """Return the action's effect on the node: its next number, the messages sent, the violation. Cached."""
        kind, what, detail = action
        key = (number, DELIVER, what, 0) if kind <= REPEAT else (number, kind, 0, detail)
        done = self._done.get(key)
        if done is None:
            self.steps += 1
            node = self.nodes[number]
            event = self.event(node, action)
            outcome = node.crashed(detail) if event is None else node.stepped(event)
            violation = outcome.violation or (check_step(node, outcome.node) if event is not None else "")
            sent = tuple([self.number_packet(packet) for packet in outcome.packets if packet[1] in self.place])
            done = self._done[key] = (self.number_node(outcome.node), sent, violation)
        return done

    def without_outlived(self, nodes: tuple[int, ...], under_way: int) -> int:
        """Return the messages in transit except those without any future effect."""
        for place, number in enumerate(nodes):
            under_way = self._without_outlived(number, place, under_way)
        return under_way

    def _without_outlived(self, number: int, place: int, under_way: int) -> int:
        new = under_way & self._addressed[place] & ~self._looked_at[number]
        while new:
            lowest = new & -new
            new ^= lowest
            packet = lowest.bit_length() - 1
            self._looked_at[number] |= lowest
            if self.nodes[number].has_outlived(self.packets[packet][2]):
                after, sent, violation = self._step(number, (DELIVER, packet, 0))
                if after == number and not sent and not violation:
                    self._outlived[number] |= lowest
        return under_way & ~self._outlived[number]

    def event(self, node: ExploredNode, action: Action) -> Event | None:
        """Return the event of an action; None for a crash."""
        kind, what, detail = action
        if kind <= REPEAT:
            return self.packets[what][2]
        if kind == SYNC:
            return Persisted(WriteId(node.writes[detail - 1].write))
        if kind == CAMPAIGN:
            return CampaignRequested()
        if kind == TICK:
            return Tick()
        if kind == PROPOSE:
            return Proposed(RequestId(detail), (b"value %d" % detail,))
        if kind in (REMOVE, ABDICATE):
            return Requested(RequestId(1000), ChangeMembership((RemoveNode(NodeId(detail)),)))
        if kind == ADD:
            return Requested(RequestId(1000), ChangeMembership((AddVoter(NodeId(detail)),)))
        if kind == ENABLE:
            return Requested(RequestId(1000), ChangeMembership((), features=(self.bounds.feature_names[detail],)))
        if kind == TRANSFER:
            return Requested(RequestId(2000), TransferLeadership(NodeId(detail)))
        return None
