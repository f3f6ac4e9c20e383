"""Answers to forwarded requests that older nodes can read as well."""

from __future__ import annotations

import msgspec
import pytest

from raft_core.effects import Indeterminate, Refusal, RefusalReason, Success, UnknownReason
from raft_core.errors import InvariantBroken, MachineBroken, StorageBroken
from raft_core.ids import Index, NodeId
from raft_core.node.outcomes import ended, ending
from raft_core.node.replies import outcome_of, reply_of
from raft_core.wire.payloads import ForwardReply

FIRST_REFUSALS = """
not_leader no_leader transferring uncommitted_full log_full reads_full clients_full too_large prepare_failed
superseded leadership_lost storage_failed stopping stale deadline removed change_pending change_while_joint
not_joint no_commit_in_term configuration_differs unknown_node id_reused no_voters contradictory_change
no_change bad_id wrong_incarnation not_a_voter target_unreachable transfer_failed
"""
FIRST_UNKNOWNS = """
leadership_lost truncated snapshot stopping storage_failed deadline transfer_unanswered forward_lost
"""


@pytest.mark.parametrize("reason", RefusalReason)
def test_every_refusal_travels_as_a_word_that_all_versions_know(reason: RefusalReason) -> None:
    outcome = Refusal(reason, NodeId(2), "why")
    reply = reply_of(1, outcome, 100)
    assert reply.refused in FIRST_REFUSALS.split()
    assert outcome_of(reply) == outcome


@pytest.mark.parametrize("reason", UnknownReason)
def test_every_indeterminate_outcome_travels_as_a_word_that_all_versions_know(reason: UnknownReason) -> None:
    outcome = Indeterminate(reason, "why")
    reply = reply_of(1, outcome, 100)
    assert reply.unknown in FIRST_UNKNOWNS.split()
    assert outcome_of(reply) == outcome


def test_result_travels_unless_it_is_too_large() -> None:
    assert outcome_of(reply_of(1, Success(Index(7), (b"12",)), 2)) == Success(Index(7), (b"12",))
    assert outcome_of(reply_of(1, Success(Index(7)), 2)) == Success(Index(7), (b"",))
    outcome = outcome_of(reply_of(1, Success(Index(7), (b"123",)), 2))
    assert isinstance(outcome, Indeterminate)
    assert outcome.reason == UnknownReason.RESULT_TOO_LARGE


def test_answers_of_older_and_of_newer_nodes_are_understood() -> None:
    older = msgspec.msgpack.encode([1, None, None, "storage_failed", 0, ""])
    newer = msgspec.msgpack.encode([1, None, None, "storage_failed", 0, "", "on_fire", 7])
    odd = msgspec.msgpack.encode([1, None, None, "deadline", 0, "", "machine_failed"])
    for data, reason in ((older, "storage_failed"), (newer, "storage_failed"), (odd, "deadline")):
        assert outcome_of(msgspec.msgpack.decode(data, type=ForwardReply)) == Indeterminate(UnknownReason(reason))


def test_a_node_says_what_it_ends_by() -> None:
    machine = MachineBroken("it raised", "M", "apply", 5, b"x")
    for error, reason in (
        (None, "stopping"),
        (machine, "machine_failed"),
        (StorageBroken("EIO"), "storage_failed"),
        (InvariantBroken("a defect"), "node_failed"),
    ):
        refused, unknown, _ = ending(error)
        assert (refused.value, unknown.value, ended(error).reason) == (reason, reason, refused)
