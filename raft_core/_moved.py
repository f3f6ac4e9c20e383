"""Names of release 0.1 which are elsewhere now: access to one raises an error that says where. For one release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["moved_names"]


def _all_in(module: str, names: str) -> dict[str, str]:
    return {name: f"{module}.{name}" for name in names.split()}


_OF_MODULE: Final[dict[str, dict[str, str]]] = {
    "raft_core.effects": {
        "Announce": "raft_core.effects.RoleChanged",
        "Uncertainty": "raft_core.effects.Indeterminate",
    },
    "raft_core.errors": {"CoreIsDead": "raft_core.errors.RaftStopped"},
    "raft_core.events": {
        "ChangeRequested": "raft_core.requests.ChangeMembership, in raft_core.events.Requested",
        "LeaveRequested": "raft_core.requests.LeaveJoint, in raft_core.events.Requested",
        "ReadConsistency": "raft_core.requests.ReadConsistency",
        "ReadRequested": "raft_core.requests.Read, in raft_core.events.Requested",
        "Started": "raft_core.raft.Raft.step, which needs no first event any more",
        "TransferRequested": "raft_core.requests.TransferLeadership, in raft_core.events.Requested",
    },
    "raft_core.ids": {"HIGHEST_NUMBER": "raft_core.ids.MAX_INT63", "NOBODY": "raft_core.ids.NO_NODE"},
    "raft_core.membership": {
        "MembershipHistory": "raft_core.membership_history.MembershipHistory",
        "Problem": "raft_core.membership.ChangeError",
    },
    "raft_core.messages": {"ANNOUNCEMENT": "raft_core.messages.COMMIT_UPDATE"},
    "raft_core.quorum": {"INFINITE": "raft_core.quorum.NO_LIMIT"},
    "raft_core.requests": {
        "Requests": "raft_core.pending.PendingProposals",
        "Waiting": "raft_core.pending.PendingProposal",
    },
    "raft_storage": {
        "OperatingFiles": "raft_storage.posix.PosixFiles",
        "salvage": "raft_storage.quorum_loss.recover_from_quorum_loss",
    },
}
_ADAPTER: Final = {
    "Announce": "raft_core.effects.RoleChanged",
    "HostConfig": "raft_core.node.limits.NodeLimits",
    "HostStatus": "raft_core.node.status.NodeStatus",
}
_OF_MODULE["raft_trio"] = _OF_MODULE["raft_anyio"] = _ADAPTER
_OF_MODULE["raft_core"] = {
    **{
        old: new
        for module in ("effects", "errors", "events", "ids", "membership")
        for old, new in _OF_MODULE[f"raft_core.{module}"].items()
    },
    **_all_in("raft_core.effects", "AlarmKind RefusalReason RoleName StopReason UnknownReason"),
    **_all_in("raft_core.entries", "COMMAND MEMBERS NOOP Checksum Entry EntryKind HardState LogPosition SnapshotMeta"),
    **_all_in(
        "raft_core.errors",
        "DirectoryInUse DiskError FrameError InvariantBroken LogDamaged LogLost MembershipRefused NotLeader"
        " OutcomeUnknown PeerError QueueFull Refused RequestError StorageBroken TransferInProgress WrongDirectory",
    ),
    **_all_in("raft_core.events", "ForgetLeaderRequested LocalEvent"),
    **_all_in("raft_core.explain", "Explanation Reason"),
    **_all_in(
        "raft_core.ids",
        "NO_INDEX NO_TERM NO_WRITE BootNumber ClusterId GroupId Incarnation Index MessageId NodeId ReadId RequestId"
        " Term WriteId",
    ),
    **_all_in("raft_core.membership", "Change ChangeMode ChangeProblem MembersUndecodable"),
    **_all_in(
        "raft_core.messages",
        "AppendEntries AppendPurpose AppendReply InstallSnapshot Message ReadIndex ReadIndexReply RequestVote"
        " SnapshotReply TimeoutNow TransferRefused VoteKind VoteReply",
    ),
    **_all_in("raft_core.recovered", "Identity"),
    **_all_in("raft_core.status", "PeerStatus"),
    **_all_in("raft_core.store", "SnapshotReader SnapshotWriter Store"),
}


def moved_names(module: str) -> Callable[[str], Any]:
    """Return a `__getattr__` for `module`, which raises `ImportError` for a name that is elsewhere now.

    It is an `ImportError` in every case: of another error, `from module import name` would not show the text.
    """
    names = _OF_MODULE[module]

    def missing(name: str) -> Any:
        if name in names:
            raise ImportError(f"{module}.{name} is now {names[name]}", name=name, path=module)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return missing
