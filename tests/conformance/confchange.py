"""Our configurations judged by `confchange_cases.json` of a given folder.

The translation of that file, and `run`. A sequence starts without members; its steps are simple
changes, joint changes and departures from a joint configuration. Translated, because our rules are stricter in form:

* A list that names a node several times means its last word about it; a node that is not there cannot be removed, so
  that word is left out. A list that then says nothing leaves the configuration as it is, or, in a joint change,
  names a present voter again.
* Our ids rise and are never used again, so every new member gets the next id of ours.
* A step `L` (counted from 0) is made by a leader whose log ends so that a new member's next index is max(L, 1).
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final, final

import msgspec

from raft_core.entries import Entry
from raft_core.ids import NodeId
from raft_core.membership import (
    AddLearner,
    AddVoter,
    Change,
    ChangeError,
    ChangeMode,
    ChangeProblem,
    Members,
    RemoveNode,
)
from raft_core.recovered import Recovered
from raft_core.roles.replication import Replication
from raft_core.server import Server
from raft_core.settings import Settings
from tests.conformance.linearizability import Line

__all__ = ["FILE", "run"]

FILE: Final = "confchange_cases.json"
OUTSIDER: Final = 10_000


class _Place(msgspec.Struct, frozen=True):
    state: str
    match: int
    next: int
    learner: bool = False


class _Config(msgspec.Struct, frozen=True):
    voters: list[int]
    voters_outgoing: list[int]
    learners: list[int]
    learners_next: list[int]
    auto_leave: bool


class _Step(msgspec.Struct, frozen=True):
    op: str
    changes: list[tuple[str, int]]
    line: int = 0
    auto_leave: bool | None = None
    config: _Config | None = None
    progress: dict[int, _Place] = {}
    error: str | None = None


class _Sequence(msgspec.Struct, frozen=True):
    name: str
    steps: list[_Step]


class _Sequences(msgspec.Struct, frozen=True):
    sequences: list[_Sequence]


def run(path: str | Path) -> list[Line]:
    """One line per step of every sequence of the folder `path`; none where the folder has no such file."""
    file = Path(path) / FILE
    if not file.exists():
        return []
    sequences = msgspec.json.decode(file.read_bytes(), type=_Sequences, strict=False).sequences
    return [line for sequence in sequences for line in _Stage().judge(sequence)]


@final
class _Stage:
    """One leader outside of all configurations, whose members change."""

    def __init__(self) -> None:
        self.members = Members()
        self.ours: dict[int, NodeId] = {}  # the file's id of every present member, and ours
        self.newest = 0
        self.server = Server(Settings(), Recovered.fresh(OUTSIDER), random.Random(1))
        self.replication = Replication(self.server)

    def judge(self, sequence: _Sequence) -> list[Line]:
        lines = []
        for count, step in enumerate(sequence.steps):
            while self.server.log.last_index + 1 < count:
                self.server.log.append((Entry.make(self.server.log.last_index + 1, 0),))
            problem = self._make(step)
            wanted = (step.error, None if step.error else (step.config, step.progress))
            found = (problem, None if problem else (self._config(), self._progress()))
            lines.append(Line(f"{sequence.name}:{step.line}", wanted == found, f"wanted {wanted}, got {found}"))
        return lines

    def _make(self, step: _Step) -> str | None:
        """The step is made, or nothing has changed and the problem is returned."""
        known, newest = dict(self.ours), self.newest
        target = self._target(step)
        if isinstance(target, Members) and step.op == "simple" and target.joint:
            problem: str | None = "more_than_one_voter_changed"
        else:
            problem = self._problem(step, target) if isinstance(target, ChangeError) else None
        if problem is not None:
            self.ours, self.newest = known, newest
            return problem
        assert isinstance(target, Members)
        self.members = target
        self.ours = {theirs: node for theirs, node in self.ours.items() if target.is_member(node)}
        self.server.configurations.append(self.server.log.last_index, target)
        self.replication.follow_members()
        return None

    def _target(self, step: _Step) -> Members | ChangeError:
        if step.op == "leave_joint":
            return self.members.left()
        changes = self._changes(step)
        if step.op == "simple":
            return self.members.changed(changes, ChangeMode.AUTO) if changes else self.members
        if not changes:
            changes = (AddVoter(self.members.voters[0] if self.members.voters else NodeId(1)),)
        return self.members.changed(changes, ChangeMode.JOINT if step.auto_leave else ChangeMode.EXPLICIT)

    def _changes(self, step: _Step) -> tuple[Change, ...]:
        """The last word about each node, in our ids."""
        last = {who: what for what, who in step.changes if what != "update" and who > 0}
        changes: list[Change] = []
        for who, what in last.items():
            if what == "remove":
                if who in self.ours:
                    changes.append(RemoveNode(self.ours[who]))
                continue
            if who not in self.ours:
                self.newest += 1
                self.ours[who] = NodeId(self.newest)
            changes.append(AddVoter(self.ours[who]) if what == "add_voter" else AddLearner(self.ours[who]))
        return tuple(changes)

    def _problem(self, step: _Step, problem: ChangeError) -> str:
        """What the file calls it: the same reason has another name in a simple and in a joint change."""
        if problem.kind is ChangeProblem.ALREADY_JOINT:
            return "joint" if step.op == "simple" else "already_joint"
        if problem.kind is ChangeProblem.NO_VOTERS:
            return "zero_voters" if not self.members.voters and step.op == "enter_joint" else "removed_all_voters"
        return problem.kind.value

    def _theirs(self, nodes: tuple[NodeId, ...]) -> list[int]:
        names = {ours: theirs for theirs, ours in self.ours.items()}
        return sorted(names[node] for node in nodes)

    def _config(self) -> _Config:
        members = self.members
        return _Config(
            self._theirs(members.voters),
            self._theirs(members.outgoing),
            self._theirs(members.learners),
            self._theirs(members.learners_next),
            members.auto_leave,
        )

    def _progress(self) -> dict[int, _Place]:
        found: dict[int, _Place] = {}
        for theirs, node in self.ours.items():
            peer = self.replication.progress[node]
            found[theirs] = _Place(peer.state.value, peer.match, peer.next, node in self.members.learners)
        return found
