"""Copies and fingerprints of objects of plain classes with `__slots__`.

Used by the recorder, the explorer and the purity test. Copies share frozen values; all other objects are copied field
by field.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import attrs
import msgspec

__all__ = ["alike", "copied", "fingerprint"]

_T = TypeVar("_T")
_ATOMS = (int, str, bytes, type(None), Enum, msgspec.Struct, tuple, frozenset)


def copied(thing: _T) -> _T:
    """Return a deep copy which shares frozen values."""
    return _copy(thing, {})  # type: ignore[no-any-return]


def _copy(thing: Any, seen: dict[int, Any]) -> Any:
    kind = type(thing)
    if _is_shared(kind):  # type: ignore[arg-type]  # a class is hashable, whatever mypy thinks of type[Any]
        return thing
    if kind is list:
        return [_copy(item, seen) for item in thing]
    if kind is deque:
        return deque([_copy(item, seen) for item in thing])
    if kind is dict:
        return {key: _copy(value, seen) for key, value in thing.items()}
    if id(thing) in seen:
        return seen[id(thing)]
    if isinstance(thing, random.Random):
        rng = kind(0)
        rng.setstate(thing.getstate())
        seen[id(thing)] = rng
        return rng
    twin = object.__new__(kind)
    seen[id(thing)] = twin
    for name in kind.__slots__:
        setattr(twin, name, _copy(getattr(thing, name), seen))
    return twin


@cache
def _is_shared(kind: type) -> bool:
    """Things of this kind never change: settings, members and the like."""
    return issubclass(kind, _ATOMS) or attrs.has(kind)


def alike(one: object, other: object) -> bool:
    """Return whether two objects are in equal states, as equal fingerprints do.

    For an object and its copy it is much faster, because shared parts are equal without comparison.
    """
    return _alike(one, other, set())


def _alike(one: Any, other: Any, seen: set[tuple[int, int]]) -> bool:
    kind = type(one)
    if one is other:
        return True
    if kind is not type(other):
        return False
    if _is_shared(kind):  # type: ignore[arg-type]  # a class is hashable, whatever mypy thinks of type[Any]
        return bool(one == other)
    if kind is list or kind is deque:
        return len(one) == len(other) and all(
            _alike(mine, theirs, seen) for mine, theirs in zip(one, other, strict=True)
        )
    if kind is dict:
        return list(one) == list(other) and all(_alike(value, other[key], seen) for key, value in one.items())
    if (id(one), id(other)) in seen:
        return True
    seen.add((id(one), id(other)))
    if isinstance(one, random.Random):
        return bool(one.getstate() == other.getstate())
    return all(_alike(getattr(one, name), getattr(other, name), seen) for name in kind.__slots__)


def fingerprint(thing: object) -> bytes:
    """Return 16 bytes, equal for equal states."""
    return hashlib.blake2b(msgspec.msgpack.encode(_plain(thing, {})), digest_size=16).digest()


def _plain(thing: Any, seen: dict[int, int]) -> Any:
    if isinstance(thing, int) and not isinstance(thing, bool | Enum) and thing >= 2**63:
        return str(thing)
    if thing is None or isinstance(thing, bool | int | str | bytes | Enum):
        return thing
    if isinstance(thing, tuple | list | deque):
        return [_plain(item, seen) for item in thing]
    if isinstance(thing, dict):
        return [[_plain(key, seen), _plain(value, seen)] for key, value in thing.items()]
    if isinstance(thing, msgspec.Struct):
        fields = [_plain(getattr(thing, name), seen) for name in thing.__struct_fields__]
        return [type(thing).__name__, *fields]
    if attrs.has(type(thing)):
        fields = [_plain(getattr(thing, field.name), seen) for field in attrs.fields(type(thing))]
        return [type(thing).__name__, *fields]
    if id(thing) in seen:
        return ["seen", seen[id(thing)]]
    seen[id(thing)] = len(seen)
    if isinstance(thing, random.Random):
        return thing.getstate()
    return [type(thing).__name__, *(_plain(getattr(thing, name), seen) for name in type(thing).__slots__)]
