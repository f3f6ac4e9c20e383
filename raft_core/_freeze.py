"""Serialisation of a core's whole state, for the beginning of a recording.

It walks plain classes with `__slots__`, values, settings, enums, random generators and containers. Only the classes of
a core are known, so decoding cannot create other objects or run foreign code. The format belongs to one version of this
library: it is for diagnosis, not for storage.
"""

from __future__ import annotations

import random
from collections import deque
from enum import Enum
from types import ModuleType
from typing import Any, Final, final

import attrs
import msgspec

from raft_core import (
    apply,
    configurations,
    effects,
    entries,
    log,
    membership,
    messages,
    outbox,
    progress,
    raft,
    reads,
    recovered,
    server,
    settings,
    snapshots,
)
from raft_core import pending as requests
from raft_core.errors import CallerError
from raft_core.roles import candidate, follower, leader, reading, replication
from raft_core.roles import leadership_transfer as handover
from raft_core.roles import membership_change as reconfiguration

__all__ = ["freeze", "thaw"]

_MODULES: Final[tuple[ModuleType, ...]] = (
    *(apply, configurations, effects, entries, log, membership, messages, outbox, progress, raft, reads, recovered),
    *(
        requests,
        server,
        settings,
        snapshots,
        candidate,
        follower,
        handover,
        leader,
        reading,
        reconfiguration,
        replication,
    ),
)


def _known() -> dict[str, type[Any]]:
    found: dict[str, type[Any]] = {}
    for module in _MODULES:
        for thing in vars(module).values():
            if isinstance(thing, type) and thing.__module__.startswith("raft_core."):
                assert found.setdefault(thing.__name__, thing) is thing, f"two classes are called {thing.__name__}"
    return found


_CLASSES: Final = _known()
_BIGGEST: Final = 2**63


def freeze(core: raft.Raft) -> bytes:
    """Return the whole state of `core`, with its random generator. Equal states give equal bytes."""
    return msgspec.msgpack.encode(_Freezer().walk(core))


def thaw(data: bytes) -> raft.Raft:
    """Return the core frozen by `freeze`. Raise `CallerError` if these bytes are not such a state."""
    try:
        core = _Thawer().walk(msgspec.msgpack.decode(data))
    except (msgspec.MsgspecError, KeyError, IndexError, TypeError, ValueError, AttributeError) as failure:
        raise CallerError(
            f"these bytes are not the state of a core of this version of the library: {failure}"
        ) from None
    if not isinstance(core, raft.Raft):
        raise CallerError("these bytes are a value, but not the state of a core")
    return core


@final
class _Freezer:
    """Encodes objects, numbered in order of the walk; a repeated object is written as its number."""

    def __init__(self) -> None:
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
            return ["dice", self.walk(thing.getstate())]
        return ["object", self._name(thing), [self.walk(getattr(thing, name)) for name in type(thing).__slots__]]

    @staticmethod
    def _name(thing: Any) -> str:
        name = type(thing).__name__
        if _CLASSES.get(name) is not type(thing):
            raise CallerError(f"a core holds a {name}, which recordings do not know: name its module in _freeze")
        return name


@final
class _Thawer:
    """Decodes objects, numbered in the same order."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def walk(self, frozen: Any) -> Any:
        if not isinstance(frozen, list):
            return frozen
        kind = frozen[0]
        if kind in ("tuple", "list", "deque"):
            items = [self.walk(item) for item in frozen[1]]
            return items if kind == "list" else tuple(items) if kind == "tuple" else deque(items)
        if kind == "dict":
            return {self.walk(key): self.walk(value) for key, value in frozen[1]}
        if kind == "value":
            return _CLASSES[frozen[1]](*[self.walk(field) for field in frozen[2]])
        if kind == "enum":
            return _CLASSES[frozen[1]][frozen[2]]
        if kind == "int":
            return int(frozen[1])
        if kind == "again":
            return self.seen[frozen[1]]
        return self._rng(frozen) if kind == "dice" else self._object(frozen)

    def _rng(self, frozen: Any) -> random.Random:
        rng = random.Random()
        self.seen.append(rng)
        rng.setstate(self.walk(frozen[1]))
        return rng

    def _object(self, frozen: Any) -> Any:
        kind: Any = _CLASSES[frozen[1]]
        thing = kind.__new__(kind)
        self.seen.append(thing)
        for name, value in zip(kind.__slots__, frozen[2], strict=True):
            setattr(thing, name, self.walk(value))
        return thing
