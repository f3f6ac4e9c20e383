"""Copies, comparison, fingerprints and serialisation of a core's state: plain classes with `__slots__`, and values.

For the recorder, the model checker and the purity check. Copies share frozen values (values, settings, members, enums);
all other objects are copied field by field. Serialised state belongs to one version of this library: it is for
diagnosis, not for storage.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cache
from types import ModuleType
from typing import Any, Final, TypeVar, final

import attrs
import msgspec

from raft_core.errors import CallerError

__all__ = ["alike", "classes_of", "copied", "dump", "field_names", "fingerprint", "load"]

_T = TypeVar("_T")
_ATOMS: Final = (int, str, bytes, type(None), Enum, msgspec.Struct, tuple, frozenset)
_BIGGEST: Final = 2**63


@cache
def _is_shared(kind: type) -> bool:
    """Return whether things of this kind never change."""
    return issubclass(kind, _ATOMS) or attrs.has(kind)


_NAMES: Final[dict[type, tuple[str, ...]]] = {}


def field_names(kind: Any) -> tuple[str, ...]:
    """Return the names of an object's fields. A compiled class has no `__slots__`, but names its attributes."""
    names = _NAMES.get(kind)
    if names is None:
        compiled = getattr(kind, "__mypyc_attrs__", None)
        names = _NAMES[kind] = tuple(sorted(kind.__slots__ if compiled is None else compiled))
    return names


# Copies.


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
    twin = kind.__new__(kind)  # type: ignore[call-overload]
    seen[id(thing)] = twin
    for name in field_names(kind):
        setattr(twin, name, _copy(getattr(thing, name), seen))
    return twin


# Comparison.


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
    return all(_alike(getattr(one, name), getattr(other, name), seen) for name in field_names(kind))


def fingerprint(thing: object) -> bytes:
    """Return 16 bytes, equal for equal states."""
    return hashlib.blake2b(msgspec.msgpack.encode(_Dumper(None).walk(thing)), digest_size=16).digest()


# Serialisation.


def classes_of(modules: Iterable[ModuleType]) -> dict[str, type[Any]]:
    """Return the classes of this library that these modules use, by name: those which `load` may create."""
    found: dict[str, type[Any]] = {}
    for module in modules:
        for thing in vars(module).values():
            if isinstance(thing, type) and thing.__module__.startswith("raft_core."):
                assert found.setdefault(thing.__name__, thing) is thing, f"two classes are called {thing.__name__}"
    return found


def dump(thing: object, classes: Mapping[str, type[Any]]) -> bytes:
    """Return the whole state, with random generators. Equal states give equal bytes."""
    return msgspec.msgpack.encode(_Dumper(classes).walk(thing))


def load(data: bytes, classes: Mapping[str, type[Any]]) -> object:
    """Return what `dump` was given; it creates only objects of `classes`, so no foreign code can run.

    Raise `CallerError` if these bytes are not such a state.
    """
    try:
        return _Loader(classes).walk(msgspec.msgpack.decode(data))
    except (msgspec.MsgspecError, KeyError, IndexError, TypeError, ValueError, AttributeError) as failure:
        raise CallerError(
            f"these bytes are not the state of a core of this version of the library: {failure}"
        ) from None


@final
class _Dumper:
    """Encodes objects, numbered in order of the walk; a repeated object is written as its number."""

    def __init__(self, classes: Mapping[str, type[Any]] | None) -> None:
        self.classes = classes
        self.seen: dict[int, int] = {}

    def walk(self, thing: Any) -> Any:
        if isinstance(thing, Enum):
            return ["enum", self._name(thing), thing.name]
        if thing is None or isinstance(thing, bool | str | bytes):
            return thing
        if isinstance(thing, int):
            return thing if -_BIGGEST <= thing < _BIGGEST else ["int", str(thing)]
        if isinstance(thing, tuple | list | deque):
            return [type(thing).__name__, [self.walk(item) for item in thing]]
        if isinstance(thing, dict):
            return ["dict", [[self.walk(key), self.walk(value)] for key, value in thing.items()]]
        if isinstance(thing, msgspec.Struct):
            return ["value", self._name(thing), [self.walk(getattr(thing, f)) for f in thing.__struct_fields__]]
        if attrs.has(type(thing)):
            fields = [self.walk(getattr(thing, field.name)) for field in attrs.fields(type(thing))]
            return ["value", self._name(thing), fields]
        if id(thing) in self.seen:
            return ["again", self.seen[id(thing)]]
        self.seen[id(thing)] = len(self.seen)
        if isinstance(thing, random.Random):
            return ["rng", self.walk(thing.getstate())]
        return ["object", self._name(thing), [self.walk(getattr(thing, name)) for name in field_names(type(thing))]]

    def _name(self, thing: Any) -> str:
        name = type(thing).__name__
        if self.classes is not None and self.classes.get(name) is not type(thing):
            raise CallerError(f"a core holds a {name}, which recordings do not know: name its module in the recorder")
        return name


@final
class _Loader:
    """Decodes objects, numbered in the same order."""

    def __init__(self, classes: Mapping[str, type[Any]]) -> None:
        self.classes = classes
        self.seen: list[Any] = []

    def walk(self, dumped: Any) -> Any:
        if not isinstance(dumped, list):
            return dumped
        kind = dumped[0]
        if kind in ("tuple", "list", "deque"):
            items = [self.walk(item) for item in dumped[1]]
            return items if kind == "list" else tuple(items) if kind == "tuple" else deque(items)
        if kind == "dict":
            return {self.walk(key): self.walk(value) for key, value in dumped[1]}
        if kind == "value":
            return self.classes[dumped[1]](*[self.walk(field) for field in dumped[2]])
        if kind == "enum":
            enum: Any = self.classes[dumped[1]]
            return enum[dumped[2]]
        if kind == "int":
            return int(dumped[1])
        if kind == "again":
            return self.seen[dumped[1]]
        return self._rng(dumped) if kind == "rng" else self._object(dumped)

    def _rng(self, dumped: Any) -> random.Random:
        rng = random.Random()
        self.seen.append(rng)
        rng.setstate(self.walk(dumped[1]))
        return rng

    def _object(self, dumped: Any) -> Any:
        kind: Any = self.classes[dumped[1]]
        thing = kind.__new__(kind)
        self.seen.append(thing)
        for name, value in zip(field_names(kind), dumped[2], strict=True):
            setattr(thing, name, self.walk(value))
        return thing
