"""Errors and texts for exceptions raised by the user's code.

The text is bounded, on one line, and made without trusting the exception: its own `__str__` may raise as well.
"""

from __future__ import annotations

from typing import Final

from raft_core.errors import MachineBroken

__all__ = ["broken_apply", "broken_call", "broken_restore", "described"]

_LONGEST: Final = 500
"""Characters of an exception that are shown; all of it is in the error's `__cause__`."""
_SEE: Final = "see 'A state machine that raises' in docs/operations.md"


def described(failure: BaseException) -> str:
    """Return the exception's class and text, as in `KeyError: 'x'`; cut a long text."""
    try:
        text = str(failure)
    except Exception:
        text = "(its text cannot be shown)"
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ... ({len(text)} characters)"
    return f"{type(failure).__name__}: {text}"


def broken_apply(machine: object, index: int, command: bytes, failure: BaseException) -> MachineBroken:
    """Return the error of a node whose machine cannot apply an entry."""
    name = type(machine).__name__
    text = (
        f"the state machine {name} raised {described(failure)}, when applying entry {index} (a command of"
        f" {len(command)} bytes). The entry is committed and is applied again at every start: mend apply() on all"
        f" nodes, so that it gives this command a result, and start them again; {_SEE}"
    )
    return _caused(MachineBroken(text, name, "apply", index, command), failure)


def broken_restore(machine: object, index: int, failure: BaseException) -> MachineBroken:
    """Return the error of a node whose machine cannot restore a snapshot."""
    name = type(machine).__name__
    text = (
        f"the state machine {name} raised {described(failure)}, when restoring the snapshot at {index}. It is restored"
        f" again at every start: mend restore(), so that it reads what snapshot() wrote, and start again; {_SEE}"
    )
    return _caused(MachineBroken(text, name, "restore", index), failure)


def broken_call(machine: object, operation: str, failure: BaseException) -> MachineBroken:
    """Return the error of a node whose machine cannot report its state: `init`, or `latest_time`."""
    name = type(machine).__name__
    text = f"the state machine {name} raised {described(failure)}, in {operation}(): mend it and start again; {_SEE}"
    return _caused(MachineBroken(text, name, operation), failure)


def _caused(error: MachineBroken, cause: BaseException) -> MachineBroken:
    error.__cause__ = cause
    return error
