"""Exhaustive search of the shipped core: every order in which a small cluster's events can happen, within bounds.

What lives here: `explore`, the search over states of a whole cluster. What one node can do is in `explored_node`, what
must hold in every state in `explored_safety`.

What is searched. From each state: any message that is under way may be delivered next (a message that never is, is
lost: losing needs no step of its own, so losses are without bound), or be delivered and stay under way (a duplicate);
the oldest write of any node may become durable; any node may stand for election, take a tick, be given a value or a
change of members, or crash and restart with any prefix of its writes on disk. Messages have no order among themselves.

How it is made finite and fast. Bounds count elections, values, ticks, duplicates, crashes and changes. The states of
single nodes recur in a great many states of the cluster, so each is numbered once, and what an event does to a node
is computed once (by the real core, on a copy) and remembered; a state of the cluster is a few small numbers. States
that differ only in the names of the nodes are one; a state that differs from a known one only in lacking messages is
not followed, because a message may always be lost; messages that can never do anything any more are forgotten. The
search is breadth first, so the first violation has the shortest trace.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Final, TypeAlias, final

import attrs
import msgspec

from raft_core.errors import CallerError
from raft_core.events import CampaignRequested, ChangeRequested, Event, Persisted, Proposed, Tick
from raft_core.ids import NodeId, RequestId, WriteId
from raft_core.membership import Members, RemoveNode
from raft_core.messages import Message
from raft_core.recovered import Recovered
from raft_core.settings import Settings
from raft_core.testing.explored_node import FIRST_NODE, ExploredNode, Outcome, renamed
from raft_core.testing.explored_safety import Ghost, check_state, remember
from raft_core.testing.traces import RecordKind, Tracer, TraceRecord

__all__ = ["SECOND_BOUNDS", "SMALL_BOUNDS", "Bounds", "Counterexample", "Report", "explore"]


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
    pre_vote: bool = False
    states: int | None = None
    """Stop after so many distinct states; None: when there are no more."""

    def settings(self) -> Settings:
        """Elections happen only when the search says so; the short lists of a small cluster are never compacted."""
        return Settings(
            election_ticks=1000, heartbeat_ticks=1, pre_vote=self.pre_vote, check_quorum=False, stall_ticks=0
        )


SMALL_BOUNDS: Final = Bounds()
SECOND_BOUNDS: Final = Bounds(values=2, duplicates=1, crashes=1, changes=1)


@final
@attrs.frozen
class Counterexample:
    """A shortest way into a state in which a safety property does not hold."""

    violation: str
    trace: tuple[TraceRecord, ...]

    def __str__(self) -> str:
        lines = [f"{record.step:3} node {record.node}: {record.event}" for record in self.trace]
        return "\n".join([*lines, f"    ✖ {self.violation}"])


@final
@attrs.frozen
class Report:
    """What was searched. `complete`: every state within the bounds was seen."""

    bounds: Bounds
    complete: bool
    states: int
    transitions: int
    depth: int
    node_states: int
    core_steps: int
    counterexample: Counterexample | None = None

    def __str__(self) -> str:
        """The figures in one line, and the counterexample if there is one."""
        extent = "complete" if self.complete else "not complete"
        line = (
            f"{extent}: {self.states:,} states, {self.transitions:,} transitions, depth {self.depth}, "
            f"{self.node_states:,} states of single nodes, {self.core_steps:,} steps of the core"
        )
        return line if self.counterexample is None else f"{line}\n{self.counterexample}"


def explore(bounds: Bounds, progress: Callable[[int, int, int], None] | None = None) -> Report:
    """Searches everything within `bounds`, or until a violation. `progress(depth, states, frontier)` is called once
    per level of the search."""
    return _Search(bounds).run(progress)


# A state: numbers of the nodes' states, messages under way, what the bounds leave, and the number of the ghost.
_State: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]
_Action: TypeAlias = tuple[str, int, int]
"""What happens (`deliver`, `repeat`, `sync`, `campaign`, `tick`, `propose`, `crash`, `remove`), to which node or with
which message, and a number that says the rest."""

_BUDGETS: Final = ("elections", "values", "ticks", "duplicates", "crashes", "changes")
_ELECTIONS, _VALUES, _TICKS, _DUPLICATES, _CRASHES, _CHANGES = range(6)
_Packet: TypeAlias = tuple[NodeId, NodeId, Message]


@final
class _Search:
    """The numbered things, the states seen, and the frontier."""

    def __init__(self, bounds: Bounds) -> None:
        if bounds.nodes < 1:
            raise CallerError("a cluster has at least one node")
        self._bounds = bounds
        self._names = tuple(NodeId(FIRST_NODE + place) for place in range(bounds.nodes))
        self._place = {name: place for place, name in enumerate(self._names)}
        self._settings = bounds.settings()
        self._nodes: list[ExploredNode] = []
        self._node_numbers: dict[bytes, int] = {}
        self._packets: list[_Packet] = []
        self._packet_numbers: dict[_Packet, int] = {}
        self._ghosts: list[Ghost] = []
        self._ghost_numbers: dict[Ghost, int] = {}
        self._done: dict[tuple[int, object], tuple[int, Outcome]] = {}
        self._renamings = [dict(zip(self._names, order, strict=True)) for order in permutations(self._names)]
        if bounds.changes:
            self._renamings = self._renamings[:1]  # a change singles out a node
        self._renamed_nodes: list[dict[int, int]] = [{} for _ in self._renamings]
        self._renamed_packets: list[dict[int, int]] = [{} for _ in self._renamings]
        self._renamed_ghosts: list[dict[int, int]] = [{} for _ in self._renamings]
        self._judgements: dict[tuple[int, ...], tuple[int, str]] = {}
        self._dead: dict[tuple[int, int], bool] = {}
        self._canonical_numbers: dict[object, int] = {}
        self._canonical_bits: dict[object, int] = {}
        self._seen: dict[tuple[int, ...], list[int]] = {}
        self._parents = array("q")
        self._actions: list[_Action] = []
        self._transitions = 0

    # Numbering.

    def _number_node(self, node: ExploredNode) -> int:
        number = self._node_numbers.get(node.key)
        if number is None:
            number = self._node_numbers[node.key] = len(self._nodes)
            self._nodes.append(node)
        return number

    def _number_packet(self, packet: _Packet) -> int:
        number = self._packet_numbers.get(packet)
        if number is None:
            number = self._packet_numbers[packet] = len(self._packets)
            self._packets.append(packet)
        return number

    def _number_ghost(self, ghost: Ghost) -> int:
        number = self._ghost_numbers.get(ghost)
        if number is None:
            number = self._ghost_numbers[ghost] = len(self._ghosts)
            self._ghosts.append(ghost)
        return number

    # The search.

    def run(self, progress: Callable[[int, int, int], None] | None) -> Report:
        start = self._start()
        self._is_new(start)
        self._parents.append(-1)
        self._actions.append(("start", 0, 0))
        frontier, depth = [(0, start)], 0
        limit = self._bounds.states
        while frontier:
            if progress is not None:
                progress(depth, len(self._parents), len(frontier))
            following: list[tuple[int, _State]] = []
            for number, state in frontier:
                for action in self._possible(state):
                    self._transitions += 1
                    after, violation = self._after(state, action)
                    if violation:
                        return self._report(depth + 1, False, self._explain(number, action, violation))
                    if self._is_new(after):
                        self._parents.append(number)
                        self._actions.append(action)
                        following.append((len(self._parents) - 1, after))
                if limit is not None and len(self._parents) >= limit:
                    return self._report(depth + 1, False, None)
            frontier = following
            depth += 1
        return self._report(depth, True, None)

    def _report(self, depth: int, complete: bool, counterexample: Counterexample | None) -> Report:
        return Report(
            self._bounds,
            complete,
            len(self._parents),
            self._transitions,
            depth,
            len(self._nodes),
            len(self._done),
            counterexample,
        )

    def _start(self) -> _State:
        members = Members.initial(self._names)
        nodes = [ExploredNode.begin(Recovered.fresh(name, members), self._settings) for name in self._names]
        numbers = tuple(self._number_node(node) for node in nodes)
        budgets = tuple(getattr(self._bounds, name) for name in _BUDGETS)
        return numbers, (), budgets, self._number_ghost(Ghost())

    def _possible(self, state: _State) -> Iterator[_Action]:
        """Everything that can happen next."""
        nodes, packets, budgets, _ = state
        for packet in packets:
            yield "deliver", packet, 0
            if budgets[_DUPLICATES]:
                yield "repeat", packet, 0
        for place, number in enumerate(nodes):
            node = self._nodes[number]
            if node.writes:
                yield "sync", place, 0
            if budgets[_ELECTIONS] and not node.leads:
                yield "campaign", place, 0
            if budgets[_TICKS]:
                yield "tick", place, 0
            if budgets[_CRASHES]:
                for survived in range(len(node.writes) + 1):
                    yield "crash", place, survived
            if node.leads and budgets[_VALUES]:
                yield "propose", place, budgets[_VALUES]
            if node.leads and budgets[_CHANGES]:
                for name in node.raft.server.members.voters:
                    yield "remove", place, name

    def _after(self, state: _State, action: _Action) -> tuple[_State, str]:
        """The state after the action, and what is violated in it."""
        nodes, packets, budgets, ghost = state
        kind, what, _ = action
        if kind in ("deliver", "repeat"):
            place = self._place[self._packets[what][1]]
            packets = tuple(p for p in packets if p != what) if kind == "deliver" else packets
        else:
            place = what
        if kind in _COST:
            cost = _COST[kind]
            budgets = (*budgets[:cost], budgets[cost] - 1, *budgets[cost + 1 :])
        changed, outcome = self._step(nodes[place], action)
        nodes = (*nodes[:place], changed, *nodes[place + 1 :])
        if outcome.packets:
            sent = {self._number_packet(packet) for packet in outcome.packets if packet[1] in self._place}
            packets = tuple(sorted({*packets, *sent}))
        packets = tuple([packet for packet in packets if not self._is_dead(nodes, packet)])
        violation = outcome.violation
        if not violation:
            ghost, violation = self._judged(nodes, ghost, place)
        return (nodes, packets, budgets, ghost), violation

    def _judged(self, nodes: tuple[int, ...], ghost: int, place: int) -> tuple[int, str]:
        """The ghost after the step of the node at `place`, and what is violated. Messages play no part in that."""
        key = (*nodes, ghost, place)
        judged = self._judgements.get(key)
        if judged is None:
            cluster = [self._nodes[number] for number in nodes]
            remembered = remember(self._ghosts[ghost], cluster, place)
            if isinstance(remembered, str):
                judged = (ghost, remembered)
            else:
                judged = (self._number_ghost(remembered), check_state(remembered, cluster, place))
            self._judgements[key] = judged
        return judged

    def _step(self, number: int, action: _Action) -> tuple[int, Outcome]:
        """What the action does to the node, computed once by its core."""
        kind, what, detail = action
        key = (number, what if kind in ("deliver", "repeat") else (kind, detail))
        done = self._done.get(key)
        if done is None:
            node = self._nodes[number]
            event = self._event(node, action)
            outcome = node.crashed(detail) if event is None else node.stepped(event)
            done = self._done[key] = (self._number_node(outcome.node), outcome)
        return done

    def _is_dead(self, nodes: tuple[int, ...], packet: int) -> bool:
        """The packet can never do anything any more, so that it makes no difference whether it is under way."""
        to = self._packets[packet][1]
        key = (nodes[self._place[to]], packet)
        dead = self._dead.get(key)
        if dead is None:
            node = self._nodes[key[0]]
            dead = node.has_outlived(self._packets[packet][2])
            if dead:
                after, outcome = self._step(key[0], ("deliver", packet, 0))
                dead = after == key[0] and not outcome.packets and not outcome.violation
            self._dead[key] = dead
        return dead

    def _event(self, node: ExploredNode, action: _Action) -> Event | None:
        """The event of an action; None for a crash."""
        kind, what, detail = action
        if kind in ("deliver", "repeat"):
            return self._packets[what][2]
        if kind == "sync":
            return Persisted(WriteId(node.writes[0].write))
        if kind == "campaign":
            return CampaignRequested()
        if kind == "tick":
            return Tick()
        if kind == "propose":
            return Proposed(RequestId(detail), (b"value %d" % detail,))
        if kind == "remove":
            return ChangeRequested(RequestId(1000), (RemoveNode(NodeId(detail)),))
        return None

    # Canonical states.

    def _is_new(self, state: _State) -> bool:
        """No state was seen that differs from this one, if at all, in the names of nodes and in having more messages
        under way. Such a state can do all that this one can, since a message may always be lost."""
        nodes, packets, budgets, ghost = state
        smallest: list[int] | None = None
        chosen: list[int] = []
        for which, table in enumerate(self._renamed_nodes):
            try:
                named = sorted([table[number] for number in nodes])
            except KeyError:
                for number in nodes:
                    self._rename_node(which, number)
                named = sorted([table[number] for number in nodes])
            if smallest is None or named < smallest:
                smallest, chosen = named, [which]
            elif named == smallest:
                chosen.append(which)
        last, under_way = min([self._rest(which, packets, ghost) for which in chosen])
        known = self._seen.setdefault((*(smallest or []), last, *budgets), [])
        for other in known:
            if other & under_way == under_way:
                return False
        known.append(under_way)
        return True

    def _rest(self, which: int, packets: tuple[int, ...], ghost: int) -> tuple[int, int]:
        """The ghost's number and the messages under way, one bit for each, under other names."""
        table = self._renamed_packets[which]
        under_way = 0
        for number in packets:
            bit = table.get(number)
            if bit is None:
                bit = self._rename_packet(which, number)
            under_way |= bit
        return self._rename_ghost(which, ghost), under_way

    def _canonical(self, thing: object) -> int:
        return self._canonical_numbers.setdefault(thing, len(self._canonical_numbers))

    def _rename_node(self, which: int, number: int) -> None:
        if number not in self._renamed_nodes[which]:
            key = self._nodes[number].renamed_key(self._renamings[which])
            self._renamed_nodes[which][number] = self._canonical(("node", key))

    def _rename_packet(self, which: int, number: int) -> int:
        names = self._renamings[which]
        sender, to, message = self._packets[number]
        key = (names[sender], names[to], renamed(message, names))
        bit = self._canonical_bits.setdefault(key, 1 << len(self._canonical_bits))
        self._renamed_packets[which][number] = bit
        return bit

    def _rename_ghost(self, which: int, number: int) -> int:
        table = self._renamed_ghosts[which]
        if number not in table:
            table[number] = self._canonical(("ghost", self._ghosts[number].renamed(self._renamings[which])))
        return table[number]

    # Counterexamples.

    def _explain(self, number: int, last: _Action, violation: str) -> Counterexample:
        """The way from the start, played again with every step recorded."""
        actions = [last]
        while number > 0:
            actions.append(self._actions[number])
            number = self._parents[number]
        tracer = Tracer()
        state = self._start()
        ids: dict[int, int] = {}
        for time, action in enumerate(reversed(actions), 1):
            before = state
            state, _ = self._after(state, action)
            self._record(tracer, time, before, state, action, ids)
        tracer.violated(violation)
        small = [_with_small_names(record, self._place) for record in tracer.records]
        return Counterexample(small[-1].violation, tuple(small))

    def _record(
        self, tracer: Tracer, time: int, before: _State, after: _State, action: _Action, ids: dict[int, int]
    ) -> None:
        kind, what, detail = action
        place = self._place[self._packets[what][1]] if kind in ("deliver", "repeat") else what
        name = self._names[place]
        node = self._nodes[before[0][place]]
        _, outcome = self._step(before[0][place], action)
        if kind == "crash":
            text = f"crashed with {detail} of {len(node.writes)} writes on disk, and started again"
            tracer.happened(time, RecordKind.CRASH, text, name)
            tracer.happened(time, RecordKind.RESTART, "started again", name)
            return
        event = self._event(node, action)
        assert event is not None  # only a crash has none
        received = ids.get(what, 0) if kind in ("deliver", "repeat") else 0
        numbers = tracer.stepped(time, name, outcome.node.raft, event, outcome.effects, received)
        for packet, number in zip(outcome.packets, numbers, strict=False):
            ids[self._number_packet(packet)] = number


_COST: Final = {
    "campaign": _ELECTIONS,
    "propose": _VALUES,
    "tick": _TICKS,
    "repeat": _DUPLICATES,
    "crash": _CRASHES,
    "remove": _CHANGES,
}


def _with_small_names(record: TraceRecord, places: dict[NodeId, int]) -> TraceRecord:
    """The record with nodes called 1, 2, 3 instead of by the numbers that the search can tell from all others."""
    text = msgspec.json.encode(record).decode()
    for name, place in places.items():
        text = text.replace(str(name), str(place + 1))
    return msgspec.json.decode(text, type=TraceRecord)
