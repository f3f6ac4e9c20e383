"""Exhaustive search of the shipped core: every order of a small cluster's events, within bounds.

`explore`, the order of the search, and its counterexamples. `node` has the events of one node, `cluster` those of a
cluster, `symmetry` the choice of states to follow, and `properties` the checks.

From each state: any message in transit may be delivered next (one that never is, is lost: losses need no step of their
own and have no bound), or be delivered and stay in transit (a duplicate); any number of a node's oldest writes may
become durable together; any node may campaign, take a tick, get a value, a membership change or an order to transfer,
or crash and restart with any prefix of its writes on disk. Messages have no order among themselves.

The search is breadth first, so the first violation has the shortest trace. A caller that may start processes can share
a level among them: see `Spread`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias, final

import attrs
import msgspec

from raft_core.ids import NodeId
from raft_core.recovered import Recovered
from raft_testing.model_checker.cluster import CRASH, REPEAT, Action, Bounds, Cluster, State
from raft_testing.model_checker.properties import CHECKED
from raft_testing.model_checker.symmetry import Forms
from raft_testing.trace.records import RecordKind, Tracer, TraceRecord

__all__ = ["SECOND_BOUNDS", "SMALL_BOUNDS", "Bounds", "Counterexample", "Report", "Search", "Spread", "explore"]

SMALL_BOUNDS: Final = Bounds()
SECOND_BOUNDS: Final = Bounds(values=2, duplicates=1, crashes=1, changes=1)

Spread: TypeAlias = Callable[[Callable[[int], bytes], int], Iterable[bytes]]
"""`spread(work, count)` returns `work(0)` … `work(count - 1)`, in this order. `work` changes nothing that lasts and may
run in processes that were forked for this call: it needs this moment's memory, and only its bytes have to come back."""

_COUNTED: Final = (
    "elections",
    "values",
    "ticks",
    "duplicates",
    "crashes",
    "changes",
    "abdications",
    "transfers",
    "features",
    "joiners",
)
_SHARE: Final = 2_000  # states in one piece of work


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
    """The result of a search.

    `complete`: every state within the bounds was seen. `node_states` and `core_steps` are those of this process; others
    sharing the work have repeated some.
    """

    bounds: Bounds
    complete: bool
    states: int
    transitions: int
    depth: int
    node_states: int
    core_steps: int
    counterexample: Counterexample | None = None

    def __str__(self) -> str:
        """Return the figures in one line, and the counterexample if there is one."""
        extent = "complete" if self.complete else "not complete"
        line = (
            f"{extent}: {self.states:,} states, {self.transitions:,} transitions, depth {self.depth}, "
            f"{self.node_states:,} states of single nodes, {self.core_steps:,} steps of the core"
        )
        return line if self.counterexample is None else f"{line}\n{self.counterexample}"

    def table(self) -> str:
        """Return a table of the possible events, the states seen, and the checks made."""
        limits = {name: getattr(self.bounds, name) for name in _COUNTED}
        injected = [f"{most:>11,}  {name}" for name, most in limits.items() if most]
        seen = {
            "states": self.states,
            "transitions": self.transitions,
            "depth": self.depth,
            "states of single nodes": self.node_states,
            "steps of the core": self.core_steps,
        }
        return "\n".join(
            [
                f"injected, in any order, in a cluster of {self.bounds.nodes} nodes, at most in one run",
                *injected,
                "      no limit  messages late, out of order, or lost; slow disks",
                "",
                "seen",
                *[f"{count:>11,}  {what}" for what, count in seen.items()],
                "",
                "checked in every state",
                *[f"  {check}" for check in CHECKED],
                "",
                str(self),
            ]
        )


def explore(
    bounds: Bounds,
    progress: Callable[[int, int, int], None] | None = None,
    spread: Spread | None = None,
    disks: Sequence[Recovered] = (),
) -> Report:
    """Search everything within `bounds`, or until a violation.

    `progress(depth, states, frontier)` is called once per level of the search. With `spread` the work of each level is
    shared; the result is the same. The nodes start from `disks` (they are called `FIRST_NODE` and so on); without them,
    from those of a newly formed cluster.
    """
    return Search(Cluster(bounds, disks), spread).run(progress)


@final
class Search:
    """The states seen, the way to each, and the frontier."""

    def __init__(self, cluster: Cluster, spread: Spread | None = None) -> None:
        self.cluster = cluster
        self._spread = spread
        self._limit = cluster.bounds.states
        self.forms = Forms(cluster)
        self._parents = array("q", [-1])
        self._actions = array("q", [0])
        self._transitions = 0
        self._frontier: list[tuple[int, State]] = []
        self._following: list[tuple[int, State]] = []
        self._met: set[State] = set()  # in this level, so that most states are given a form only once
        self._found: Counterexample | None = None

    def run(self, progress: Callable[[int, int, int], None] | None = None) -> Report:
        """Search to the end. See `explore`."""
        start = self.cluster.start()
        self.forms.add(self.forms.of(start))
        self._frontier, depth = [(0, start)], 0
        while self._frontier:
            if progress is not None:
                progress(depth, len(self._parents), len(self._frontier))
            ended = self._level() if self._spread is None else self._shared_level(self._spread)
            depth += 1
            if ended:
                return self._report(depth, complete=False)
            self._frontier, self._following = self._following, []
        return self._report(depth, complete=True)

    def _report(self, depth: int, *, complete: bool) -> Report:
        cluster = self.cluster
        return Report(
            cluster.bounds,
            complete,
            len(self._parents),
            self._transitions,
            depth,
            len(cluster.nodes),
            cluster.steps,
            self._found,
        )

    # A level.

    def _level(self) -> bool:
        """Everything that can happen next has happened; true if the search ends here."""
        possible, take = self.cluster.possible, self._take
        self._met.clear()
        for parent, state in self._frontier:
            for action in possible(state):
                self._transitions += 1
                take(parent, state, action)
            if self._ended():
                return True
        return False

    def _ended(self) -> bool:
        return self._found is not None or (self._limit is not None and len(self._parents) >= self._limit)

    def _take(self, parent: int, state: State, action: Action) -> None:
        """Take the action: explain a violation, follow a new state."""
        after, violation = self.cluster.after(state, action)
        if violation:
            self._found = self._found or self._explain(parent, action, violation)
        elif _has_less(after, state):
            return
        elif after not in self._met:
            self._met.add(after)
            if self.forms.add(self.forms.of(after)):
                self._parents.append(parent)
                self._actions.append(_packed(action))
                self._following.append((len(self._parents) - 1, after))

    # A level in pieces.

    def _shared_level(self, spread: Spread) -> bool:
        """Do the same with shared work: others report the actions that lead to possibly new states."""
        self._met.clear()
        pieces = -(-len(self._frontier) // _SHARE)
        for answer in spread(self._piece, pieces):
            found = array("q")
            found.frombytes(answer)
            self._transitions += found[0]
            for at in range(1, len(found), 2):
                self._take(*self._frontier[found[at]], _unpacked(found[at + 1]))
            if self._ended():
                return True
        return False

    def _piece(self, number: int) -> bytes:
        """How many actions are possible in a piece of the frontier; and those worth a look, with their states."""
        cluster, forms = self.cluster, self.forms
        found, count = array("q", [0]), 0
        met: set[State] = set()
        first = number * _SHARE
        for at, (_, state) in enumerate(self._frontier[first : first + _SHARE], first):
            for action in cluster.possible(state):
                count += 1
                after, violation = cluster.after(state, action)
                if not violation:
                    if after in met or _has_less(after, state):
                        continue
                    met.add(after)
                    if forms.covered(forms.of(after)):
                        continue
                found.append(at)
                found.append(_packed(action))
        found[0] = count
        return found.tobytes()

    # Counterexamples.

    def _explain(self, number: int, last: Action, violation: str) -> Counterexample:
        """Return the way from the start, replayed with every step recorded."""
        actions = [last]
        while number > 0:
            actions.append(_unpacked(self._actions[number]))
            number = self._parents[number]
        tracer = Tracer()
        state = self.cluster.start()
        ids: dict[int, int] = {}
        for time, action in enumerate(reversed(actions), 1):
            before = state
            state, _ = self.cluster.after(state, action)
            self._record(tracer, time, before, state, action, ids)
        tracer.violated(violation)
        small = [_with_small_names(record, self.cluster.place) for record in tracer.records]
        return Counterexample(small[-1].violation, tuple(small))

    def _record(
        self, tracer: Tracer, time: int, before: State, after: State, action: Action, ids: dict[int, int]
    ) -> None:
        """`ids`: the trace's numbers of the messages under way, by ours."""
        cluster = self.cluster
        kind, what, detail = action
        place = cluster.place_of(action)
        node = cluster.nodes[before[0][place]]
        if kind == CRASH:
            text = f"crashed with {detail} of {len(node.writes)} writes on disk, and started again"
            tracer.happened(time, RecordKind.CRASH, text, node.name)
            tracer.happened(time, RecordKind.RESTART, "started again", node.name)
            return
        event = cluster.event(node, action)
        assert event is not None  # only a crash has none
        outcome = node.stepped(event)
        received = ids.get(what, 0) if kind <= REPEAT else 0
        numbers = tracer.stepped(time, node.name, outcome.node.raft, event, outcome.effects, received)
        for packet, number in zip(outcome.packets, numbers, strict=True):
            if packet[1] in cluster.place:
                ids[cluster.number_packet(packet)] = number


def _has_less(after: State, before: State) -> bool:
    """Return whether nothing changed: no node, no message, no ghost. Then no new event is possible."""
    return after[0] is before[0] and after[3] == before[3] and not after[1] & ~before[1]


def _packed(action: Action) -> int:
    kind, what, detail = action
    return kind | what << 8 | detail << 36


def _unpacked(number: int) -> Action:
    return number & 255, number >> 8 & (1 << 28) - 1, number >> 36


def _with_small_names(record: TraceRecord, places: dict[NodeId, int]) -> TraceRecord:
    """Return the record with nodes called 1, 2, 3 instead of the unique numbers of the search."""
    text = msgspec.json.encode(record).decode()
    for name, place in places.items():
        text = text.replace(str(name), str(place + 1))
    return msgspec.json.decode(text, type=TraceRecord)
