"""The exceptions of `raft_objects`: what a command raises on purpose, and what can go wrong on its way."""

from __future__ import annotations

from raft_core.errors import CallerError, OutcomeUnknown, RaftError, Refused

__all__ = [
    "CommandCrashed",
    "CommandError",
    "CommandFailed",
    "CommandHeld",
    "CommandRefused",
    "NotDeterministic",
    "ReplicasDiffer",
    "SessionExpired",
    "VersionUnknown",
]


class CommandError(Exception):
    """Base class of errors that commands raise on purpose. It is the command's result and is raised at the caller.

    Only its `args` travel, so they must be all of its constructor's, and values that commands may have as arguments.
    """


class CommandRefused(Refused):
    """The cluster does not carry out this command: removed, not enabled yet, or unreadable. Nothing was changed."""


class CommandCrashed(RaftError):
    """The command raised what was not declared, and its changes were taken back (`on_error="result"`)."""


class SessionExpired(OutcomeUnknown):
    """The session ended while the outcome of a command was unknown; it was applied once or not at all."""


class CommandFailed(RaftError):
    """A command raised what was not declared, at a known index; the node ends. `__cause__` is the exception."""


class CommandHeld(OutcomeUnknown):
    """The cluster holds at a command that raised what it does not declare; this one is applied later or never."""


class ReplicasDiffer(CallerError):
    """The cluster skips a command that this replica has carried out: its code differs. The node ends."""


class NotDeterministic(CallerError):
    """A command used the real clock, the process's random numbers or the like; replicas would differ."""


class VersionUnknown(CallerError):
    """The log enables a version that this process's code does not know; start the newer release here."""
