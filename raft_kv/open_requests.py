"""The open request of a session, and the replies to its commands if it fails."""

from __future__ import annotations

from typing import TypeAlias, final

import attrs

from raft_core.errors import OutcomeUnknown, Refused
from raft_kv.client_session_values import BackUp, Inspect
from raft_kv.error_replies import explain
from raft_kv.local import Later
from raft_kv.log_format import Query
from raft_kv.resp import OK, Reply, encode_failure

__all__ = [
    "Administering",
    "Authenticating",
    "BackingUp",
    "Confirming",
    "Executing",
    "Inspecting",
    "Open",
    "Reading",
    "Refusing",
    "SettingUser",
    "SharedReading",
    "Watching",
    "Writing",
    "failure_replies",
    "open_for",
]


@final
@attrs.frozen
class Writing:
    """Waiting for a log entry, which answers `replies` commands. `once`: repeating it is harmless."""

    replies: int
    once: bool = False


@final
@attrs.define
class Reading:
    """Waiting for reads. `touching`: waiting for the cluster's clock, before the reads are repeated."""

    calls: list[list[bytes]]
    touching: bool = False


@final
@attrs.frozen
class SharedReading:
    """Waiting for reads in one query with those of other clients."""

    calls: list[list[bytes]]


@final
@attrs.define
class Executing:
    """Waiting for a transaction of reads."""

    query: Query
    touching: bool = False


@final
@attrs.frozen
class Watching:
    """Waiting for the versions of these keys. `touching`: waiting for the cluster's clock first."""

    keys: list[bytes]
    touching: bool = False


@final
@attrs.frozen
class Inspecting:
    """A command waiting for the status of this node."""

    call: list[bytes]


@final
@attrs.frozen
class Administering:
    """Waiting for a change of the cluster; then the reply is `reply`, and the connection is closed if `closes`."""

    reply: Reply = OK
    closes: bool = False


@final
@attrs.frozen
class BackingUp:
    """Waiting for a piece of a backup, which is the reply."""


@final
@attrs.frozen
class Authenticating:
    """Waiting for the check of a password, since this time of the monotonic clock.

    `made`: the entry that made the user. `then`: the rest of HELLO, to be answered if it is right.
    """

    user: bytes
    password: bytes = attrs.field(repr=False)
    made: int
    since: float
    then: list[bytes] | None = None


@final
@attrs.frozen
class Refusing:
    """Waiting until this error may be sent."""

    text: str


@final
@attrs.frozen
class SettingUser:
    """Waiting for the hashes of passwords in the rules of ACL SETUSER."""

    user: bytes


@final
@attrs.frozen
class Confirming:
    """The first command of the queue waits for a read that confirms the users of this node.

    Or this password, which was wrong, waits for it, to be checked once more.
    """

    password: Authenticating | None = None


Open: TypeAlias = (
    Writing
    | Reading
    | SharedReading
    | Executing
    | Watching
    | Inspecting
    | Administering
    | BackingUp
    | Authenticating
    | Refusing
    | SettingUser
    | Confirming
)


def open_for(answer: Later, call: list[bytes]) -> Open:
    """Return the open request while the effect of `answer` to `call` is carried out."""
    if isinstance(answer.effect, Inspect):
        return Inspecting(call)
    return BackingUp() if isinstance(answer.effect, BackUp) else Administering(answer.reply, answer.closes)


def failure_replies(waiting: Open | None, error: Refused | OutcomeUnknown) -> bytes:
    """Return one error for each command of the failed request."""
    text = explain(error)
    if isinstance(error, OutcomeUnknown) and isinstance(waiting, Reading | SharedReading | Executing | Watching):
        text = f"TRYAGAIN {error}; nothing was changed"  # a read, or a clock entry: harmless to repeat
    count = 1
    if isinstance(waiting, Writing):
        count = waiting.replies
        if waiting.once and isinstance(error, OutcomeUnknown):
            text = f"UNKNOWN outcome: {error}. Repeat it with the same session and number: it is applied once"
    if isinstance(waiting, Reading | SharedReading):
        count = len(waiting.calls)
    return encode_failure(text) * count
