"""The open request of a session, and the replies to its commands if it fails."""

from __future__ import annotations

from typing import TypeAlias, final

import attrs

from raft_core.errors import OutcomeUnknown, Refused
from raft_kv.error_replies import explain
from raft_kv.log_format import Question
from raft_kv.resp import OK, Reply, encode_failure

__all__ = ["Administering", "Executing", "Inspecting", "Open", "Reading", "Watching", "Writing", "failure_replies"]


@final
@attrs.frozen
class Writing:
    """An entry is on its way that answers so many commands. `once`: it may be repeated without harm."""

    replies: int
    once: bool = False


@final
@attrs.define
class Reading:
    """These reads are being asked. `touching`: the cluster's clock is being moved before they are asked again."""

    calls: list[list[bytes]]
    touching: bool = False


@final
@attrs.define
class Executing:
    """A transaction that only reads is being asked."""

    question: Question
    touching: bool = False


@final
@attrs.frozen
class Watching:
    """The versions of these keys are being asked. `touching`: the log's time is being moved before that."""

    keys: list[bytes]
    touching: bool = False


@final
@attrs.frozen
class Inspecting:
    """A command waits for the picture of this node."""

    call: list[bytes]


@final
@attrs.frozen
class Administering:
    """A wish is on its way; then `reply` is given, and the connection closed where it `closes`."""

    reply: Reply = OK
    closes: bool = False


Open: TypeAlias = Writing | Reading | Executing | Watching | Inspecting | Administering


def failure_replies(waiting: Open | None, error: Refused | OutcomeUnknown) -> bytes:
    """One error per command that the failed request carried."""
    text = explain(error)
    if isinstance(error, OutcomeUnknown) and isinstance(waiting, Reading | Executing | Watching):
        text = f"TRYAGAIN {error}; nothing was changed"  # a read, or a clock entry: harmless to repeat
    count = 1
    if isinstance(waiting, Writing):
        count = waiting.replies
        if waiting.once and isinstance(error, OutcomeUnknown):
            text = f"UNKNOWN outcome: {error}. Repeat it with the same session and number: it is applied once"
    if isinstance(waiting, Reading):
        count = len(waiting.calls)
    return encode_failure(text) * count
