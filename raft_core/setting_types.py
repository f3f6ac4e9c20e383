"""Checks that each setting has the type that its class declares.

Python would accept `election_ticks=60.5`, `pre_vote="false"` or `snapshot_ticks=True`, and the node would fail much
later, or do the opposite of what was meant: the text "false" is true.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import attrs

from raft_core.errors import SettingsError
from raft_core.ids import MAX_INT63

__all__ = ["check_mapping", "check_setting", "check_types"]

_CHECKED: Final = {name: kind for kind in (int, bool, str) for name in (kind.__name__, kind)}
"""The declared types that are checked here. Others have checks of their own.

A type is a text as long as nothing has called `attrs.resolve_types` for the class, which cattrs does.
"""


def check_types(settings: Any) -> None:
    """Raise `SettingsError` for the first field of this attrs object whose value is not of its declared type.

    `Any`: an object of whichever attrs class, such as `Settings`.
    """
    for field in attrs.fields(type(settings)):
        kind = _CHECKED.get(field.type)
        if kind is not None:
            check_setting(field.name, getattr(settings, field.name), kind)


def check_mapping(name: str, value: object) -> None:
    """Raise `SettingsError` if `value` is no mapping."""
    if not isinstance(value, Mapping):
        raise SettingsError(f"{name} must be a mapping, such as a dict, not {value!r}, {_described(value)}")


def check_setting(name: str, value: object, kind: type) -> None:
    """Raise `SettingsError` if `value` is not of this kind: int, bool or str."""
    if kind is int and isinstance(value, int) and type(value) is not bool:
        if not -MAX_INT63 <= value <= MAX_INT63:
            raise SettingsError(f"{name} must be below 2**63, not {value}")
        return
    if kind is not int and isinstance(value, kind):
        return
    raise SettingsError(f"{name} must be {_WANTED[kind]}, not {value!r}, {_described(value)}{_remedy(value, kind)}")


_WANTED: Final = {int: "a whole number", bool: "True or False", str: "a text"}
_NAMES: Final = {bool: "a bool", int: "an int", float: "a float", str: "a str", bytes: "bytes"}
_SWITCHES: Final = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


def _described(value: object) -> str:
    return _NAMES.get(type(value)) or f"of type {type(value).__name__}"


def _remedy(value: object, kind: type) -> str:
    """Return what to write instead, if a guess can be made."""
    meant: object = None
    if kind is int and isinstance(value, str):
        try:
            meant = int(value)
        except ValueError:
            return ""
    elif kind is int and isinstance(value, float) and math.isfinite(value):
        meant = round(value)
    elif kind is bool and isinstance(value, str | int):
        meant = _SWITCHES.get(str(value).lower())
    return "" if meant is None else f": write {meant!r}"
