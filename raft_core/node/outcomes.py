"""The exception for each outcome of a request or node, with its text.

Two tables and the functions that read them. Every text states the cause and the remedy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, assert_never

from raft_core.effects import Indeterminate, Refusal, RefusalReason, StopReason, Success, UnknownReason
from raft_core.errors import (
    DiskError,
    InvariantBroken,
    LogLost,
    MachineBroken,
    MembershipRefused,
    NotLeader,
    OutcomeUnknown,
    QueueFull,
    RaftError,
    Refused,
    RequestError,
    StorageBroken,
    TransferInProgress,
)
from raft_core.events import MachineFailed, StorageFailed
from raft_core.ids import NodeId
from raft_core.node.events import Answered
from raft_core.node.raising import described

__all__ = [
    "core_error",
    "deadline_text",
    "ended",
    "ending",
    "error_of",
    "failure_event",
    "result_of",
    "stop_error",
    "turn_error",
]

_R = RefusalReason

_NOT_LEADER: Final = frozenset({_R.NOT_LEADER, _R.NO_LEADER})
_QUEUE_FULL: Final = frozenset({_R.UNCOMMITTED_FULL, _R.LOG_FULL, _R.READS_FULL, _R.CLIENTS_FULL})
_MEMBERSHIP: Final = frozenset(
    {
        _R.CHANGE_PENDING,
        _R.CHANGE_WHILE_JOINT,
        _R.NOT_JOINT,
        _R.NO_COMMIT_IN_TERM,
        _R.CONFIGURATION_DIFFERS,
        _R.UNKNOWN_NODE,
        _R.ID_REUSED,
        _R.NO_VOTERS,
        _R.CONTRADICTORY_CHANGE,
        _R.NO_CHANGE,
        _R.BAD_ID,
        _R.WRONG_INCARNATION,
        _R.NOT_HEARD_FROM,
        _R.UNKNOWN_FEATURE,
        _R.FEATURE_MISSING,
    }
)

_REFUSALS: Final[dict[RefusalReason, str]] = {
    _R.NOT_LEADER: "this node does not lead and could not pass the request on; ask the leader",
    _R.NO_LEADER: "no leader is known: an election is under way, or no majority can be reached; try again",
    _R.TRANSFERRING: "the leader is handing over and takes nothing new; try again in a moment",
    _R.UNCOMMITTED_FULL: "too many bytes wait for a majority; try again later",
    _R.LOG_FULL: "the log in memory is full until a snapshot has been taken; try again later",
    _R.READS_FULL: "too many reads wait for confirmation; try again later",
    _R.CLIENTS_FULL: "too many requests wait on this node; try again later or at another node",
    _R.TOO_LARGE: "the command is larger than max_entry_bytes; split it, or raise the setting on all nodes",
    _R.SUPERSEDED: "another leader's entry was committed in its place; it was not carried out and may be sent again",
    _R.LEADERSHIP_LOST: "the leader was deposed before it could answer; ask again",
    _R.MACHINE_FAILED: "this node's state machine raised an exception and the node is ending; ask another node",
    _R.NODE_FAILED: "this node failed and is ending; ask another node",
    _R.STORAGE_FAILED: "this node's storage failed and it is ending; ask another node",
    _R.DISK_STALLED: "this node's disk has not answered for too long, so it cannot catch up; ask another node",
    _R.STOPPING: "this node is stopping; ask another node",
    _R.STALE: "no leader was heard within the staleness that was asked for; ask for more, or try again",
    _R.DEADLINE: "the deadline passed before anything was done; it was not carried out and may be sent again",
    _R.REMOVED: "this node is no member of the cluster any more; ask another node",
    _R.NOT_A_MEMBER: "this node has not been added to a cluster yet; ask a member, or wait until this node is ready",
    _R.QUERY_FAILED: "the state machine's query raised an exception; nothing was changed",
    _R.PREPARE_FAILED: "the state machine's prepare raised an exception for this command; it was not appended",
    _R.CHANGE_PENDING: "another change of members is not yet committed; try again when it is",
    _R.CHANGE_WHILE_JOINT: "the configuration is joint; leave it first",
    _R.NOT_JOINT: "there is no joint configuration to leave",
    _R.NO_COMMIT_IN_TERM: "the leader is new and has committed nothing in its term yet; try again in a moment",
    _R.CONFIGURATION_DIFFERS: "the configuration in force is not the one that was expected; look at it again",
    _R.UNKNOWN_NODE: "the node is not a member",
    _R.ID_REUSED: "the id is not above every id ever used, and no id is used again: take a higher one",
    _R.NO_VOTERS: "the change would leave no voter",
    _R.CONTRADICTORY_CHANGE: "the change names no node, or one twice",
    _R.NO_CHANGE: "the members already are as asked",
    _R.BAD_ID: "a node id is a positive number",
    _R.NOT_HEARD_FROM: "the node has not greeted yet; start it with the addresses of members, and ask again",
    _R.UNKNOWN_FEATURE: "the leader does not have the feature; check its name, or start newer releases",
    _R.FEATURE_MISSING: "a node does not have the feature; start it with a newer release",
    _R.WRONG_INCARNATION: "the node's disk is not known, or not the one that was named",
    _R.NOT_A_VOTER: "leadership can be handed only to another voter",
    _R.TARGET_UNREACHABLE: "the chosen successor cannot be reached",
    _R.TRANSFER_FAILED: "the chosen successor did not take over in time, or said no; the leader goes on",
}

_U = UnknownReason
_UNKNOWNS: Final[dict[UnknownReason, str]] = {
    _U.LEADERSHIP_LOST: "the leader was deposed before the outcome was known",
    _U.TRANSFER_UNANSWERED: "the successor was told to stand and may still do so; look who leads",
    _U.TRUNCATED: "a new leader replaced the entry here, but it may live on elsewhere",
    _U.SNAPSHOT: "a snapshot replaced the entries that would have told the outcome",
    _U.STOPPING: "the node stopped before the outcome was known",
    _U.MACHINE_FAILED: "the node's state machine raised an exception before the outcome was known",
    _U.NODE_FAILED: "the node failed before the outcome was known",
    _U.STORAGE_FAILED: "the node's storage failed before the outcome was known",
    _U.DEADLINE: "the deadline passed before the outcome was known; it may still be carried out",
    _U.FORWARD_LOST: "it was passed on to the leader, and the connection broke before the answer came",
    _U.RESULT_TOO_LARGE: "it was passed on to the leader and carried out, but its result is too large to come back",
}


def result_of(outcome: Answered, address_of: Callable[[NodeId], str] = lambda _: "") -> bytes:
    """Return the result in an outcome, b"" if its request has none, or raise the exception that it stands for.

    `address_of` gives the address of the leader that a refusal names, "" if unknown.
    """
    if isinstance(outcome, Success):
        return outcome.results[0] if outcome.results else b""
    raise error_of(outcome, address_of)


def error_of(outcome: Refusal | Indeterminate, address_of: Callable[[NodeId], str] = lambda _: "") -> RequestError:
    """Return the exception for a request that was not carried out, or whose outcome is indeterminate."""
    if type(outcome) is Indeterminate:
        return OutcomeUnknown(outcome.reason, outcome.text or _UNKNOWNS[outcome.reason])
    assert type(outcome) is Refusal
    reason, leader = outcome.reason, outcome.leader
    text = outcome.text or _REFUSALS[reason]
    if reason in _NOT_LEADER:
        address = address_of(leader) if leader else ""
        if leader and not outcome.text:
            text = f"{text}: node {leader}{f' at {address}' if address else ''}"
        return NotLeader(reason, text, leader, address)
    if reason in _QUEUE_FULL:
        return QueueFull(reason, text, leader)
    if reason in _MEMBERSHIP:
        return MembershipRefused(reason, text, leader)
    if reason is _R.TRANSFERRING:
        return TransferInProgress(reason, text, leader)
    return Refused(reason, text, leader)


def stop_error(reason: StopReason, text: str, failure: RaftError | None) -> RaftError | None:
    """Return the error of a node whose core has stopped; `failure` is the failure reported to the core, if any."""
    if reason is StopReason.REQUESTED:
        return failure
    if reason is StopReason.LOG_LOST:
        return LogLost(text or "the disk does not hold what this node acknowledged")
    if reason is StopReason.STORAGE_FAILED:
        return failure or StorageBroken(text or "the storage failed")
    if reason is StopReason.MACHINE_FAILED:
        return failure or MachineBroken(text or "the state machine failed", "", "")
    assert_never(reason)


def deadline_text(held_for: RefusalReason | None) -> str:
    """Return the text for a deadline that passed while the request was held; `held_for`: the reason of the wait."""
    text = _REFUSALS[_R.DEADLINE]
    return text if held_for is None else f"{text}. It waited all the while: {_REFUSALS[held_for]}"


def core_error(failure: Exception, event: object) -> RaftError:
    """Return the error of a node whose core raised at `event`."""
    if isinstance(failure, RaftError):
        return failure
    error = InvariantBroken(f"the core raised {described(failure)} at {type(event).__name__}")
    error.__cause__ = failure
    return error


def turn_error(failure: BaseException) -> RaftError:
    """Return the error of a node in whose turn something was raised that is no `Exception`."""
    error = InvariantBroken(f"a turn of the node raised {described(failure)}")
    error.__cause__ = failure
    return error


def failure_event(error: RaftError) -> StorageFailed | MachineFailed:
    """Return the core's event for a job that failed for good."""
    return MachineFailed(str(error)) if isinstance(error, MachineBroken) else StorageFailed(str(error))


def ending(error: Exception | None) -> tuple[RefusalReason, UnknownReason, str]:
    """Return the reasons, and a text, for requests refused and left indeterminate by a node that ends with `error`."""
    if error is None:
        return _R.STOPPING, _U.STOPPING, ""
    if isinstance(error, MachineBroken):
        return _R.MACHINE_FAILED, _U.MACHINE_FAILED, str(error)
    if isinstance(error, DiskError):
        return _R.STORAGE_FAILED, _U.STORAGE_FAILED, ""
    return _R.NODE_FAILED, _U.NODE_FAILED, described(error)


def ended(error: Exception | None) -> Refusal:
    """Return the outcome of a request to an ended node, with `error` if it failed."""
    if error is None:
        return Refusal(_R.STOPPING, text="this node has ended; ask another node, or open it again")
    text = f"this node has ended; ask another node. It failed with {described(error)}"
    return Refusal(ending(error)[0], text=text)
