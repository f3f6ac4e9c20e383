"""Configurations: `Members`, the changes between them, and the rules a single value can check (thesis ch. 4).

Rules which need the log (one change at a time, first a commit in this term) are in `roles.membership_change`.

A configuration also says which features its members may use (`Members.enabling`). One that enables none has the same
bytes as in release 0.1.0. One that enables some cannot be read by 0.1.0, which would forget them, and then write a
configuration without: it ends instead.

A configuration takes effect when it is appended, and truncation undoes it. While `outgoing` is not empty the
configuration is joint: every decision needs a majority of `voters` and one of `outgoing` (§6, thesis 4.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias, assert_never, final

import attrs
import msgspec

from raft_core._moved import moved_names
from raft_core.errors import CallerError
from raft_core.features import features_problem, missing_features, named
from raft_core.ids import HIGHEST_FOUNDER, MAX_INT63, NODE_LEAP, Incarnation, NodeId
from raft_core.structs import Value

__all__ = [
    "AddLearner",
    "AddVoter",
    "Change",
    "ChangeError",
    "ChangeMode",
    "ChangeProblem",
    "Level",
    "Members",
    "MembersUndecodable",
    "RemoveNode",
]


@final
class AddVoter(Value, frozen=True, tag=1, array_like=True):
    """Make `node` a voter: a new one, or a learner promoted. `incarnation` names a new node's disk."""

    node: int
    incarnation: int = 0


@final
class AddLearner(Value, frozen=True, tag=2, array_like=True):
    """Make `node` a learner: a new one, or a voter demoted.

    With `promote_when_ready` it becomes a voter once it has caught up and is active. The flag is part of the
    configuration, so any later leader also acts on it.
    """

    node: int
    incarnation: int = 0
    promote_when_ready: bool = False


@final
class RemoveNode(Value, frozen=True, tag=3, array_like=True):
    """Remove `node`, voter or learner. Its id is never used again."""

    node: int


Change: TypeAlias = AddVoter | AddLearner | RemoveNode


class ChangeMode(StrEnum):
    """How to change. `AUTO`: a simple change for one voter, otherwise joint and left automatically."""

    AUTO = "auto"
    JOINT = "joint"  # always joint, left automatically once committed
    EXPLICIT = "explicit"  # always joint, left only on request


class ChangeProblem(StrEnum):
    """Why a change is invalid for this configuration, regardless of the log."""

    UNKNOWN_NODE = "unknown_node"
    ID_REUSED = "id_reused"
    NO_VOTERS = "no_voters"
    CONTRADICTORY = "contradictory_change"
    ALREADY_JOINT = "already_joint"
    NOT_JOINT = "not_joint"
    BAD_ID = "bad_id"
    WRONG_INCARNATION = "wrong_incarnation"
    NO_CHANGE = "no_change"


@final
class ChangeError(Value, frozen=True):
    """A refused change: the rule it breaks, and one sentence for the operator."""

    kind: ChangeProblem
    text: str


class MembersUndecodable(ValueError):
    """The bytes of a membership entry are not a valid configuration."""


@final
class Level(Value, frozen=True, array_like=True):
    """The value of `Members.leases` while features are enabled: true if lease reads are allowed.

    Release 0.1.0 expects a boolean there, so it cannot read such a configuration.
    """

    leases: bool
    features: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.leases


def _sorted(nodes: Iterable[NodeId]) -> tuple[NodeId, ...]:
    return tuple(sorted(set(nodes)))


@final
@attrs.frozen
class Members:
    """One configuration, all in sorted tuples, so equal configurations have equal bytes.

    `voters` decide; `outgoing` (not empty: joint) decide too until the joint configuration is left; `learners` receive
    the log without a vote; `learners_next` are outgoing voters to become learners on leaving; `promotable` are learners
    to become voters once caught up. `incarnations` pairs each node with its disk's number. `highest_id` is the highest
    id ever used. `leases`: lease reads are allowed, fixed at formation; a `Level` once features are enabled.
    """

    voters: tuple[NodeId, ...] = ()
    outgoing: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()
    learners_next: tuple[NodeId, ...] = ()
    promotable: tuple[NodeId, ...] = ()
    auto_leave: bool = False
    incarnations: tuple[tuple[NodeId, Incarnation], ...] = ()
    highest_id: NodeId = NodeId(0)
    leases: bool | Level = False

    @classmethod
    def initial(
        cls,
        voters: Iterable[int],
        *,
        learners: Iterable[int] = (),
        incarnations: Mapping[NodeId, Incarnation] | None = None,
        leases: bool = False,
        features: Iterable[str] = (),
    ) -> Members:
        """Return the configuration of a new cluster. Raise `CallerError` if it is invalid.

        `features` are enabled from the start: all founding members have them.
        """
        enabled = tuple(sorted(set(features)))
        members = cls(
            voters=_sorted(NodeId(n) for n in voters),
            learners=_sorted(NodeId(n) for n in learners),
            incarnations=tuple(sorted((incarnations or {}).items())),
            highest_id=NodeId(max([0, *voters, *learners])),
            leases=Level(leases, enabled) if enabled else leases,
        )
        if (problem := members.problem()) is not None:
            raise CallerError(f"these members cannot form a cluster: {problem}")
        if not members.voters:
            raise CallerError("a cluster needs at least one voter")
        if members.highest_id > HIGHEST_FOUNDER:
            raise CallerError(f"a founding member's id is at most {HIGHEST_FOUNDER}, not {members.highest_id}")
        return members

    @property
    def joint(self) -> bool:
        """True while a joint configuration is in force (§6)."""
        return bool(self.outgoing)

    @property
    def empty(self) -> bool:
        """True if there are no members: the node does not know its cluster yet."""
        return not self.voters and not self.learners

    @property
    def features(self) -> tuple[str, ...]:
        """The features that the cluster may use once this configuration is committed, sorted."""
        return self.leases.features if isinstance(self.leases, Level) else ()

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """All nodes to receive the log, sorted."""
        return _sorted((*self.voters, *self.outgoing, *self.learners))

    @property
    def all_voters(self) -> tuple[NodeId, ...]:
        """Voters of either half, sorted."""
        return _sorted((*self.voters, *self.outgoing)) if self.outgoing else self.voters

    def is_voter(self, node: NodeId) -> bool:
        """Return whether the node votes, in either half."""
        return node in self.voters or node in self.outgoing

    def is_member(self, node: NodeId) -> bool:
        """Return whether the node votes or learns."""
        return self.is_voter(node) or node in self.learners

    def incarnation_of(self, node: NodeId) -> Incarnation:
        """Return the number of the node's disk; 0 if none was declared."""
        for known, incarnation in self.incarnations:
            if known == node:
                return incarnation
        return Incarnation(0)

    # Changes.

    def changed(self, changes: tuple[Change, ...], mode: ChangeMode = ChangeMode.AUTO) -> Members | ChangeError:
        """Return the configuration after `changes`; a joint one if `mode` or a change of several voters requires it."""
        if self.joint:
            return ChangeError(ChangeProblem.ALREADY_JOINT, "leave the joint configuration first")
        target = self._target(changes)
        if isinstance(target, ChangeError):
            return target
        moved = set(self.voters) ^ set(target.voters)
        if mode is ChangeMode.AUTO and len(moved) <= 1:
            return target
        if not self.voters:
            return ChangeError(ChangeProblem.NO_VOTERS, "a joint change needs voters to start from")
        demoted = set(target.learners) & set(self.voters)
        stay = {*self.voters, *target.nodes}
        return attrs.evolve(
            target,
            outgoing=self.voters,
            learners=_sorted(set(target.learners) - demoted),
            learners_next=_sorted(demoted),
            auto_leave=mode is not ChangeMode.EXPLICIT,
            incarnations=_merge(self.incarnations, target.incarnations, stay),
        )

    def left(self) -> Members | ChangeError:
        """Return the configuration after leaving the joint one: outgoing voters are removed or become learners."""
        if not self.joint:
            return ChangeError(ChangeProblem.NOT_JOINT, "there is no joint configuration to leave")
        learners = _sorted((*self.learners, *self.learners_next))
        stay = {*self.voters, *learners}
        return attrs.evolve(
            self,
            outgoing=(),
            learners=learners,
            learners_next=(),
            auto_leave=False,
            incarnations=tuple(pair for pair in self.incarnations if pair[0] in stay),
        )

    def enabling(self, features: Iterable[str]) -> Members | ChangeError:
        """Return the configuration with `features` enabled as well. There is no way to disable one.

        An entry of the log that needs a feature stays in the log and in snapshots for ever. If the feature could be
        disabled, a node without it could join, and would meet that entry.
        """
        if self.joint:
            return ChangeError(ChangeProblem.ALREADY_JOINT, "leave the joint configuration first")
        new = missing_features(features, self.features)
        if not new:
            text = f"enabled already: {named(self.features)}" if self.features else "name at least one feature"
            return ChangeError(ChangeProblem.NO_CHANGE, text)
        enabled = tuple(sorted((*self.features, *new)))
        if (problem := features_problem(enabled)) is not None:
            return ChangeError(ChangeProblem.CONTRADICTORY, problem)
        return attrs.evolve(self, leases=Level(bool(self.leases), enabled))

    def _target(self, changes: tuple[Change, ...]) -> Members | ChangeError:
        voters, learners, promotable = set(self.voters), set(self.learners), set(self.promotable)
        incarnations, highest = dict(self.incarnations), self.highest_id
        if not changes or len({change.node for change in changes}) != len(changes):
            return ChangeError(ChangeProblem.CONTRADICTORY, "name at least one node, and each node once")
        for change in changes:
            node = NodeId(change.node)
            if not 0 < node <= MAX_INT63:  # the range of the wire format
                return ChangeError(ChangeProblem.BAD_ID, f"a node id is a positive number, not {node}")
            if not isinstance(change, RemoveNode) and not 0 <= change.incarnation <= MAX_INT63:
                text = f"an incarnation is a 63-bit number, not {change.incarnation}"
                return ChangeError(ChangeProblem.WRONG_INCARNATION, text)
            if not self.is_member(node):
                if isinstance(change, RemoveNode):
                    return ChangeError(ChangeProblem.UNKNOWN_NODE, f"node {node} is not a member")
                if node <= self.highest_id:
                    text = f"id {node} was used before or skipped; take one above {self.highest_id}"
                    return ChangeError(ChangeProblem.ID_REUSED, text)
                if node > self.highest_id + NODE_LEAP:
                    limit = self.highest_id + NODE_LEAP
                    text = f"id {node} would use up the ids below it for ever; take one up to {limit}"
                    return ChangeError(ChangeProblem.BAD_ID, text)
                highest = max(highest, node)
                if change.incarnation:
                    incarnations[node] = Incarnation(change.incarnation)
            elif not isinstance(change, RemoveNode) and change.incarnation not in (0, self.incarnation_of(node)):
                return ChangeError(ChangeProblem.WRONG_INCARNATION, f"node {node} is a member with another disk")
            voters.discard(node)
            learners.discard(node)
            promotable.discard(node)
            if isinstance(change, AddVoter):
                voters.add(node)
            elif isinstance(change, AddLearner):
                learners.add(node)
                if change.promote_when_ready:
                    promotable.add(node)
            elif isinstance(change, RemoveNode):
                incarnations.pop(node, None)
            else:
                assert_never(change)
        if not voters:
            return ChangeError(ChangeProblem.NO_VOTERS, "the change leaves no voter")
        return attrs.evolve(
            self,
            voters=_sorted(voters),
            learners=_sorted(learners),
            promotable=_sorted(promotable),
            incarnations=tuple(sorted(incarnations.items())),
            highest_id=highest,
        )

    # Bytes.

    def encode(self) -> bytes:
        """Return the bytes of a membership entry; equal configurations have equal bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Members:
        """Return the configuration in `data`. Raise `MembersUndecodable` if it is none or breaks its own rules."""
        try:
            members = _DECODER.decode(data)
        except msgspec.MsgspecError as failure:
            raise MembersUndecodable(str(failure)) from None
        if (problem := members.problem()) is not None:
            raise MembersUndecodable(problem)
        return members

    def problem(self) -> str | None:
        """Return the first invariant of a configuration that does not hold, or None."""
        for name in ("voters", "outgoing", "learners", "learners_next", "promotable"):
            nodes: tuple[NodeId, ...] = getattr(self, name)
            if nodes != _sorted(nodes):
                return f"{name} must be sorted and without doubles"
            if nodes and (nodes[0] <= 0 or nodes[-1] > self.highest_id):
                return f"{name} must be between 1 and the highest id ever used"
        if set(self.learners) & {*self.voters, *self.outgoing}:
            return "a node is voter and learner at once"
        if not set(self.learners_next) <= set(self.outgoing) - set(self.voters):
            return "only an outgoing voter can be waiting to become a learner"
        if not set(self.promotable) <= {*self.learners, *self.learners_next}:
            return "only a learner can wait for promotion"
        if self.auto_leave and not self.outgoing:
            return "only a joint configuration can be left"
        if self.outgoing and not self.voters:
            return "a joint configuration needs incoming voters"
        known = tuple(node for node, _ in self.incarnations)
        if known != _sorted(known) or not set(known) <= set(self.nodes):
            return "incarnations must be sorted and belong to members"
        if isinstance(self.leases, Level):
            return features_problem(self.features) if self.features else "a level needs features"
        return None


def _merge(
    old: tuple[tuple[NodeId, Incarnation], ...], new: tuple[tuple[NodeId, Incarnation], ...], stay: set[NodeId]
) -> tuple[tuple[NodeId, Incarnation], ...]:
    """Return the incarnations of both halves: a removed voter still counts until the joint one is left."""
    return tuple(sorted(pair for pair in {**dict(old), **dict(new)}.items() if pair[0] in stay))


_DECODER = msgspec.msgpack.Decoder(Members)


if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
