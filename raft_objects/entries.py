"""`Entry`: one object of `Objects`, with what is known of its class."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Final, final

import attrs

from raft_core.errors import CallerError
from raft_objects.codec import Codec, classes_in
from raft_objects.declare import Command, Query, Replicated, fields_in_class
from raft_objects.errors import CommandError, VersionUnknown
from raft_objects.fields import copy_fields

__all__ = ["Entry", "entry_of", "take_old_fields"]

_DECLARED: Final = (CommandError, ValueError, LookupError, TypeError)


@final
@attrs.define(eq=False)
class Entry:
    """One object: its instance, codec, methods, and the fields it began with."""

    name: str
    instance: Replicated
    since: int
    codec: Codec
    commands: dict[str, Command[..., Any]]
    queries: dict[str, Query[..., Any]]
    declared: tuple[type[Exception], ...]
    initial: dict[str, Any]


def take_old_fields(entry: Entry, fields: dict[str, Any]) -> None:
    """Rename or drop the fields of a snapshot as the class's `old_fields` says.

    Raise `VersionUnknown` for a field that the class does not have: its value would be lost.
    """
    kind = type(entry.instance)
    for old, new in kind.old_fields.items():
        if old in fields and old not in entry.initial:
            value = fields.pop(old)
            if new is not None:
                fields.setdefault(new, value)
    unknown = sorted(fields.keys() - entry.initial.keys() - fields_in_class(kind))
    if unknown:
        raise VersionUnknown(
            f"the snapshot has the fields {', '.join(unknown)} of {entry.name!r}, which {kind.__name__} lacks: start"
            " the code that wrote it, or name in old_fields the field that takes each value, None to drop it"
        )


def _hints_of(kind: type) -> list[Any]:
    """Return the annotations in a class's own body, without those that are text which cannot be resolved here."""
    try:
        return list(inspect.get_annotations(kind, eval_str=True).values())
    except Exception:  # such as a name that only type checkers import
        return [hint for hint in inspect.get_annotations(kind).values() if not isinstance(hint, str)]


def entry_of(name: str, instance: Replicated, since: int, classes: Iterable[type], version: int) -> Entry:
    """Return the entry of an object. Raise `CallerError` if something about it cannot be replicated.

    `classes`: those in its state or arguments, beside those in annotations. `version`: the highest that the code knows.
    """
    kind = type(instance)
    methods = [(key, getattr(kind, key)) for key in dir(kind) if isinstance(getattr(kind, key, None), Command | Query)]
    found = dict.fromkeys([*kind.classes, *classes, *classes_in(getattr(instance, "__orig_class__", None))])
    for one in list(found):
        found.update(dict.fromkeys(classes_in(one)))
    for _, method in methods:
        found.update(dict.fromkeys(method.reachable_classes()))
        if method.since > version:
            raise CallerError(f"{name}.{method.name} is of version {method.since}; raise version=")
    for base in kind.__mro__:
        for hint in _hints_of(base) if base is not Replicated else ():
            found.update(dict.fromkeys(classes_in(hint)))
    bare = getattr(kind, "__parameters__", ()) and not hasattr(instance, "__orig_class__")
    return Entry(
        name,
        instance,
        since,
        Codec(found, generic=kind.__name__ if bare else ""),
        {key: method for key, method in methods if isinstance(method, Command)},
        {key: method for key, method in methods if isinstance(method, Query)},
        (*kind.errors, *_DECLARED),
        copy_fields(instance),
    )
