"""`result_of`: a reply's bytes to the command's result, or to the exception that is raised at the caller."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from raft_core.effects import UnknownReason
from raft_core.errors import CallerError
from raft_objects.calls import ReplyKind
from raft_objects.entries import Entry
from raft_objects.errors import CommandCrashed, CommandError, CommandHeld, CommandRefused

__all__ = ["require_travels", "result_of"]


_MISSING: Final = object()


def result_of(entry: Entry, method: str, data: bytes) -> Any:
    """Return the result in a reply, or raise its error."""
    kind, *rest = msgspec.msgpack.decode(data)
    label = f"{entry.name}.{method}"
    if kind == ReplyKind.VALUE:
        return entry.codec.unpack(rest[0])
    if kind == ReplyKind.RAISED:
        raise _error(entry, rest[0], [entry.codec.unpack(part) for part in rest[1]])
    if kind == ReplyKind.NOT_ENABLED:
        raise CommandRefused(
            "version_not_enabled",
            f"{label} needs a newer version than {rest[0]}, which is enabled: once every process runs the new release,"
            " call enable()",
        )
    if kind == ReplyKind.UNKNOWN:
        raise CommandRefused(
            "command_unknown",
            f"the cluster does not carry out {label} with these arguments: it was removed, or changed without since=",
        )
    if kind == ReplyKind.CRASHED:
        raise CommandCrashed(f"{label} raised {rest[0]}, which it does not declare; its changes were taken back")
    if kind == ReplyKind.HELD:
        text = f"the cluster holds at index {rest[0]}, where a command failed; {label} is applied later or never"
        raise CommandHeld(UnknownReason.MACHINE_FAILED, text)
    raise ValueError(f"a reply of kind {kind} is of a newer release")


def require_travels(entry: Entry, label: str, failure: Exception) -> None:
    """Raise `CallerError` if an error of the user's own reaches the caller with other attributes than it has here."""
    kind = type(failure)
    if not issubclass(kind, (CommandError, *entry.instance.errors)):
        return
    made = _error(entry, kind.__name__, list(failure.args))
    differ = sorted(name for name, value in vars(failure).items() if vars(made).get(name, _MISSING) != value)
    if differ or made.args != failure.args:
        raise CallerError(
            f"{label} raised {kind.__name__}, which would reach the caller with other {', '.join(differ) or 'args'}:"
            " only `args` travel. Pass all arguments of its constructor to super().__init__, or make it an attrs class"
        )


def _error(entry: Entry, name: str, arguments: list[Any]) -> Exception:
    """Return the exception: one of the declared classes and their subclasses, or a `CommandError` that names it."""
    known = next((one for one in _subclasses(entry.declared) if one.__name__ == name), None)
    if known is None:
        return CommandError(name, *arguments)
    try:
        made = known(*arguments)
    except Exception:  # a constructor of its own
        made = known.__new__(known)
        made.args = tuple(arguments)
    return made


def _subclasses(roots: tuple[type[Exception], ...]) -> list[type[Exception]]:
    found = list(roots)
    for root in found:  # grows meanwhile
        found += [one for one in root.__subclasses__() if one not in found]
    return found
