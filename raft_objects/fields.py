"""The fields of a replicated object: read, put back, copied for undoing and for snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raft_objects.codec import copied
from raft_objects.declare import Replicated
from raft_objects.portions import copied_in_portions

__all__ = ["copy_fields", "copy_for_snapshot", "fields_of", "set_fields"]

_OWN = frozenset({"_binding", "__weakref__", "__dict__", "__orig_class__"})


def fields_of(instance: Replicated) -> dict[str, Any]:
    """Return the fields that are set, with their present values, those in slots included."""
    found: dict[str, Any] = dict(getattr(instance, "__dict__", {}))
    found.pop("__orig_class__", None)  # set by a call of Queue[Job]()
    for kind in type(instance).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in _OWN and hasattr(instance, name):
                found[name] = getattr(instance, name)
    return found


def copy_fields(instance: Replicated) -> dict[str, Any]:
    """Return copies of the fields, which later commands do not change."""
    return {name: copied(value) for name, value in fields_of(instance).items()}


def copy_for_snapshot(instance: Replicated) -> dict[str, Any]:
    """Return copies of the fields to be encoded: large containers in portions."""
    return {name: copied_in_portions(value) for name, value in fields_of(instance).items()}


def set_fields(instance: Replicated, fields: Mapping[str, Any]) -> None:
    """Make `fields` the instance's fields; any other is removed.

    Those that are not in slots change at once, for a thread that reads them meanwhile.
    """
    for name in fields_of(instance).keys() - fields.keys():
        object.__delattr__(instance, name)
    plain: dict[str, Any] = getattr(instance, "__dict__", {})
    plain.update({name: value for name, value in fields.items() if name in plain})
    for name, value in fields.items():
        if name not in plain:
            object.__setattr__(instance, name, value)
