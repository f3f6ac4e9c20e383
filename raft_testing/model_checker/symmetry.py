"""Symmetry reduction: states that need not be followed, because a followed one can do all that they can.

`Forms` gives each state a form, and holds the forms seen. Three things make states equal, or one state covered by
another:

1. The names of nodes. States that differ only in names are one, unless something singles out a node.
2. Messages in transit. One that is never delivered is lost, so fewer messages allow nothing new.
3. The remaining bounds. None has to be used up, so smaller ones allow nothing new.
"""

from __future__ import annotations

from itertools import permutations
from typing import TypeAlias, final

from raft_testing.model_checker.canonical import as_bytes, plain, renamed
from raft_testing.model_checker.cluster import Cluster, State

__all__ = ["Form", "Forms"]

Form: TypeAlias = tuple[int, list[int]]
"""A number for nodes and ghost; and a bit for each message under way and for each thing that the bounds leave: several
times, where several ways to name the nodes give that number."""

_FEW: int = 1 << 24  # nobody waits for more states of single nodes


@final
class Forms:
    """Forms under the names that give the smallest one, and those that were seen, in no form covered by another."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        founders, joiners = cluster.names[: cluster.bounds.nodes], cluster.names[cluster.bounds.nodes :]
        orders = permutations(founders)
        self._renamings = [dict(zip(cluster.names, (*order, *joiners), strict=True)) for order in orders]
        if cluster.bounds.abdications or cluster.bounds.timers_run_out:
            self._renamings = self._renamings[:1]
        self._numbers: dict[object, int] = {}
        self._nodes: list[tuple[int, ...]] = []  # by node: its number under each renaming
        self._packet_bits: list[list[int]] = [[] for _ in self._renamings]
        self._bits: dict[object, int] = {}
        self._ghosts: list[tuple[int, ...]] = []
        budgets = cluster.start()[2]
        self._left_bits = [
            [(1 << left) - 1 << sum(budgets[:at]) for left in range(n + 1)] for at, n in enumerate(budgets)
        ]
        self._shift = sum(budgets)
        self._seen: dict[int, tuple[int, ...]] = {}

    def of(self, state: State) -> Form:
        """Return the state's form."""
        nodes, under_way, budgets, ghost = state
        if len(self._nodes) < len(self._cluster.nodes) or len(self._ghosts) < len(self._cluster.ghosts):
            self._rename_new()
        table = self._nodes
        named = [sorted(under) for under in zip(*[table[number] for number in nodes], strict=True)]
        smallest = min(named)
        ghosts = self._ghosts[ghost]
        ways = [named.index(smallest)]
        if named.count(smallest) > 1:
            ways = [which for which, form in enumerate(named) if form == smallest]
            least = min([ghosts[which] for which in ways])
            ways = [which for which in ways if ghosts[which] == least]
        key = ghosts[ways[0]]
        for number in smallest:
            key = key * _FEW + number
        rest = 0
        for at, left in enumerate(budgets):
            rest |= self._left_bits[at][left]
        return key, [self._under(which, under_way) << self._shift | rest for which in ways]

    def covered(self, form: Form) -> bool:
        """Return whether a state seen before can do all that this one can."""
        key, ways = form
        for known in self._seen.get(key, ()):
            for bits in ways:
                if known & bits == bits:
                    return True
        return False

    def add(self, form: Form) -> bool:
        """Add the form to those seen. Return whether it was not covered before."""
        if self.covered(form):
            return False
        key, ways = form
        self._seen[key] = (*self._seen.get(key, ()), ways[0])
        return True

    # Other names.

    def _under(self, which: int, under_way: int) -> int:
        table = self._packet_bits[which]
        bits = 0
        while under_way:
            lowest = under_way & -under_way
            under_way ^= lowest
            packet = lowest.bit_length() - 1
            if packet >= len(table):
                self._rename_packets(packet)
            bits |= table[packet]
        return bits

    def _rename_new(self) -> None:
        cluster = self._cluster
        for key in cluster.keys[len(self._nodes) :]:
            forms = [as_bytes(renamed(key, names)) for names in self._renamings]
            self._nodes.append(tuple([self._numbers.setdefault(form, len(self._numbers)) for form in forms]))
        for ghost in cluster.ghosts[len(self._ghosts) :]:
            forms = [ghost.renamed(names) for names in self._renamings]
            numbers = [self._numbers.setdefault(("ghost", form), len(self._numbers)) for form in forms]
            self._ghosts.append(tuple(numbers))

    def _rename_packets(self, upto: int) -> None:
        cluster = self._cluster
        for which, names in enumerate(self._renamings):
            table = self._packet_bits[which]
            for number in range(len(table), upto + 1):
                sender, to, message = cluster.packets[number]
                content = as_bytes(renamed(plain(message), names))
                key = (names[sender], names[to], content, cluster.copies[number])
                table.append(self._bits.setdefault(key, 1 << len(self._bits)))
