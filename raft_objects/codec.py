"""Values to bytes and back: arguments, results, errors and fields, all in one self-describing encoding.

What was put in comes out: a tuple stays a tuple and a set stays a set. Plain values of MessagePack stand for
themselves. Everything else is an array that begins with a tag. Members of sets are sorted by their bytes, so that
replicas with other hash seeds write the same. attrs classes and dataclasses travel as class name and fields; fields
that equal a plain default are left out, so a class can gain one. Only classes that the object knows are ever made.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Final, TypeGuard, Union, final, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
import msgspec

from raft_core.errors import CallerError
from raft_objects.shards import ShardedDict, ShardedSortedList

__all__ = ["FIXED", "MAX_DEPTH", "Codec", "Since", "classes_in", "copied", "field_names"]

MAX_DEPTH: Final = 64
"""Deepest nesting of a value."""

_LIST, _TUPLE, _SET, _FROZENSET, _DICT, _DEQUE, _INT, _DATETIME = range(8)
_DATE, _TIME, _DELTA, _UUID, _DECIMAL, _ENUM, _OBJECT = range(8, 15)
_SHARDED_DICT, _SHARDED_SORTED_LIST, _LONG_INT = range(15, 18)
_SHORT_INT: Final = 10**4300
"""Below it a whole number is written as a decimal text; Python makes none of more digits."""
_PLAIN: Final = frozenset({type(None), bool, float, str, bytes})
FIXED: Final = _PLAIN | {int, datetime, date, time, timedelta, UUID, Decimal}
"""Types whose values never change and hold no others."""
_LEAVES: Final = _PLAIN | {int}
"""Types of MessagePack whose values stand for themselves."""
_MISSING: Final = object()


@final
@attrs.frozen
class Since:
    """Marks a parameter or a field, `Annotated[str, Since(2)]`: it may be used once version 2 is enabled."""

    version: int


@final
class Codec:
    """Encodes and decodes values of the given attrs classes, dataclasses and enums, and of the built-in types.

    Raise `CallerError` if two classes have one name. `generic`: a class that was made without its `[Class]`.
    """

    def __init__(self, classes: Iterable[type], *, generic: str = "") -> None:
        self._generic: Final = generic
        self._known: dict[str, type] = {}
        self._fields: dict[type, dict[str, _Field]] = {}
        self._makers: dict[str, tuple[type, dict[str, str]]] = {}  # class and its arguments by field
        for one in classes:
            if self._known.setdefault(one.__name__, one) is not one:
                raise CallerError(f"two classes are called {one.__name__}; rename one of them")
            if not issubclass(one, enum.Enum):
                self._fields[one] = fields = _fields_of(one)
                self._makers[one.__name__] = one, {name: field.argument for name, field in fields.items()}

    def encode(self, value: object) -> bytes:
        """Return the bytes of `value`. Raise `CallerError` for a value of an unknown class."""
        return msgspec.msgpack.encode(self.pack(value))

    def decode(self, data: bytes) -> Any:
        """Return the value in `data`. Raise `ValueError` for anything that `encode` did not write."""
        try:
            return self.unpack(msgspec.msgpack.decode(data))
        except MemoryError:
            raise
        except Exception as failure:
            raise ValueError(f"not a value of these classes: {type(failure).__name__}") from failure

    def needs(self, value: object) -> int:
        """Return the highest version that a field set in `value` asks for; 1 if none does."""
        kind = type(value)
        if kind in FIXED:
            return 1
        if isinstance(value, dict | ShardedDict):
            return max((self.needs(part) for pair in value.items() for part in pair), default=1)
        if isinstance(value, list | tuple | set | frozenset | deque | ShardedSortedList):
            return max(map(self.needs, value), default=1)
        highest = 1
        for name, field in self._fields.get(kind, {}).items():
            part = getattr(value, name)
            if not _same(part, field.default):
                highest = max(highest, field.since, self.needs(part))
        return highest

    def pack(self, value: object, depth: int = 0) -> Any:
        """Return `value` in terms of MessagePack."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is int:
            return value if -(2**63) <= value < 2**63 else _packed_int(value)  # type: ignore[operator, arg-type]
        if depth >= MAX_DEPTH:
            raise CallerError(f"a value is nested deeper than {MAX_DEPTH}, or contains itself")
        if (pack := _PACK.get(kind)) is not None:
            return pack(self, value, depth + 1)
        if isinstance(value, enum.Enum):
            self._require(kind)
            return [_ENUM, kind.__name__, *_member_names(value)]
        self._require(kind)
        fields = {
            name: self.pack(part, depth + 1)
            for name, field in self._fields[kind].items()
            if not _same(part := getattr(value, name), field.default)
        }
        return [_OBJECT, kind.__name__, fields]

    def _require(self, kind: type) -> None:
        if self._known.get(kind.__name__) is not kind:
            remedy = f"write {self._generic}[{kind.__name__}](), or " if self._generic else ""
            raise CallerError(
                f"{kind.__name__} is not known here: {remedy}name it in the annotation of a command or a field, or in"
                " classes=. It must be an attrs class, a dataclass or an enum"
            )

    def unpack(self, data: Any, depth: int = 0) -> Any:
        """Return the value of which `pack` returned `data`. Raise any exception if there is none."""
        if type(data) is not list:
            if type(data) is dict:
                raise ValueError("a bare map")
            return data
        if depth >= MAX_DEPTH:
            raise ValueError("nested too deeply")
        tag = data[0]
        if tag == _OBJECT:  # first, because a large state consists of these and of containers
            _, name, fields = data
            kind, arguments = self._makers[name]
            return kind(
                **{
                    arguments[field]: part
                    for field, part in zip(fields, self._parts(fields.values(), depth + 1), strict=True)
                }
            )
        if (make := _CONTAINERS.get(tag)) is not None:
            return make(self._parts(data[1:], depth + 1))
        rest = data[1:]
        if tag == _ENUM:
            name, *members = rest
            kind = self._known[name]
            if not issubclass(kind, enum.Enum):
                raise ValueError("not an enum")
            if len(members) == 1:
                return kind[members[0]]
            if not issubclass(kind, enum.Flag):
                raise ValueError("not a flag")
            return reduce(or_, (kind[member] for member in members), kind(0))
        if tag in _TEXTS:
            (text,) = rest
            return _TEXTS[tag](text)
        if tag == _LONG_INT:
            (digits,) = rest
            return int.from_bytes(digits, "little", signed=True)
        if tag == _DELTA:
            return timedelta(*rest)
        raise ValueError(f"the unknown tag {tag}")

    def unpack_all(self, packed: Iterable[Any]) -> list[Any]:
        """Return the values of which `pack` returned these."""
        return self._parts(packed, 0)

    def _parts(self, packed: Iterable[Any], depth: int) -> list[Any]:
        unpack, leaves = self.unpack, _LEAVES
        return [part if type(part) in leaves else unpack(part, depth) for part in packed]


@final
@attrs.frozen
class _Field:
    """A field of a class: its argument in the constructor, its default, its version."""

    argument: str
    default: object
    since: int


def _fields_of(one: type) -> dict[str, _Field]:
    hints = get_type_hints(one, include_extras=True)
    fields = attrs.fields(one) if attrs.has(one) else dataclasses.fields(one) if dataclasses.is_dataclass(one) else ()
    for field in fields:
        if not field.init:
            raise CallerError(f"{one.__name__}.{field.name} cannot be given to the constructor, so it would be lost")
    if attrs.has(one):
        return {
            field.name: _Field(
                field.alias, field.default if _plain(field.default) else _MISSING, _since(hints.get(field.name))
            )
            for field in attrs.fields(one)
        }
    if dataclasses.is_dataclass(one):
        return {
            field.name: _Field(
                field.name, field.default if _plain(field.default) else _MISSING, _since(hints.get(field.name))
            )
            for field in dataclasses.fields(one)
        }
    raise CallerError(f"{one.__name__} is neither an attrs class nor a dataclass nor an enum")


def _since(hint: Any) -> int:
    return max((part.version for part in getattr(hint, "__metadata__", ()) if isinstance(part, Since)), default=1)


def _plain(default: object) -> bool:
    return type(default) in FIXED or isinstance(default, enum.Enum)


def _same(value: object, default: object) -> bool:
    """Return whether the value is the default, type included: 1 is not True."""
    return type(value) is type(default) and value == default


def _member_names(value: enum.Enum) -> list[str]:
    """Return the name of a member, or those of the members of a combined flag."""
    if value.name in type(value).__members__:
        return [value.name]
    if isinstance(value, enum.Flag):
        members = list(value)
        if reduce(or_, members, type(value)(0)) == value:
            return [str(member.name) for member in members]
    raise CallerError(f"{value!r} is made of no members of {type(value).__name__}, so it has no names to travel by")


def _packed_int(value: int) -> list[Any]:
    if abs(value) < _SHORT_INT:
        return [_INT, str(value)]
    return [_LONG_INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)]


# One entry per type that is written with a tag.


def _parts(tag: int) -> Callable[[Codec, Any, int], Any]:
    return lambda codec, value, depth: [tag, *(codec.pack(part, depth) for part in value)]


def _sorted_parts(tag: int) -> Callable[[Codec, Any, int], Any]:
    return lambda codec, value, depth: [
        tag,
        *sorted((codec.pack(part, depth) for part in value), key=msgspec.msgpack.encode),
    ]


def _pairs(tag: int) -> Callable[[Codec, Any, int], Any]:
    def pack(codec: Codec, value: Any, depth: int) -> Any:
        packed: list[Any] = [tag]
        for key, part in value.items():
            packed += (codec.pack(key, depth), codec.pack(part, depth))
        return packed

    return pack


def _text(tag: int, write: Callable[[Any], str]) -> Callable[[Codec, Any, int], Any]:
    return lambda codec, value, depth: [tag, write(value)]


_PACK: Final[Mapping[type, Callable[[Codec, Any, int], Any]]] = {
    list: _parts(_LIST),
    tuple: _parts(_TUPLE),
    set: _sorted_parts(_SET),
    frozenset: _sorted_parts(_FROZENSET),
    dict: _pairs(_DICT),
    deque: _parts(_DEQUE),
    datetime: _text(_DATETIME, datetime.isoformat),
    date: _text(_DATE, date.isoformat),
    time: _text(_TIME, time.isoformat),
    timedelta: lambda codec, value, depth: [_DELTA, value.days, value.seconds, value.microseconds],
    UUID: _text(_UUID, str),
    Decimal: _text(_DECIMAL, str),
    ShardedDict: _pairs(_SHARDED_DICT),
    ShardedSortedList: _parts(_SHARDED_SORTED_LIST),
}
_TEXTS: Final[Mapping[int, Callable[[str], Any]]] = {
    _INT: int,
    _DATETIME: datetime.fromisoformat,
    _DATE: date.fromisoformat,
    _TIME: time.fromisoformat,
    _UUID: UUID,
    _DECIMAL: Decimal,
}
_CONTAINERS: Final[Mapping[int, Callable[[list[Any]], Any]]] = {
    _LIST: list,
    _TUPLE: tuple,
    _SET: set,
    _FROZENSET: frozenset,
    _DICT: lambda parts: dict(zip(parts[::2], parts[1::2], strict=True)),
    _DEQUE: deque,
    _SHARDED_DICT: lambda parts: ShardedDict(zip(parts[::2], parts[1::2], strict=True)),
    _SHARDED_SORTED_LIST: ShardedSortedList,
}


# Copies, and classes from annotations.


def copied(value: Any) -> Any:
    """Return a copy that shares no mutable part with `value`. Aliases within it become copies of their own."""
    kind = type(value)
    if kind in FIXED or isinstance(value, enum.Enum):
        return value
    if kind is dict:
        if FIXED.issuperset(map(type, value.values())):
            return dict(value) if FIXED.issuperset(map(type, value)) else {copied(k): v for k, v in value.items()}
        return {copied(key): copied(part) for key, part in value.items()}
    if kind in (list, set, frozenset, tuple):
        return kind(value) if FIXED.issuperset(map(type, value)) else kind(map(copied, value))
    if kind is deque:
        return deque(map(copied, value))
    if kind is ShardedDict or kind is ShardedSortedList:
        return value.copy()
    if attrs.has(kind):
        names = [(field.alias, field.name) for field in attrs.fields(kind) if field.init]
    elif dataclasses.is_dataclass(kind):
        names = [(field.name, field.name) for field in dataclasses.fields(kind) if field.init]
    else:
        raise CallerError(f"a field holds a {kind.__name__}, which cannot be copied or kept in a snapshot")
    return kind(**{argument: copied(getattr(value, name)) for argument, name in names})


def field_names(kind: type) -> tuple[str, ...]:
    """Return the names of the fields of an attrs class or dataclass; none of any other class."""
    if attrs.has(kind):
        return tuple(field.name for field in attrs.fields(kind))
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


def classes_in(hint: Any) -> list[type]:
    """Return the attrs classes, dataclasses and enums in an annotation, those in their fields included."""
    found: dict[type, None] = {}
    waiting = [hint]
    while waiting:
        one = waiting.pop()
        origin = get_origin(one)
        if origin is Annotated:
            waiting.append(get_args(one)[0])
        elif origin in (Union, UnionType) or get_args(one):
            waiting += [part for part in get_args(one) if part is not Ellipsis]
            if origin is not None:
                waiting.append(origin)
        elif _is_own(one) and one not in found:
            found[one] = None
            if not issubclass(one, enum.Enum):
                waiting += get_type_hints(one, include_extras=True).values()
    return list(found)


def _is_own(one: Any) -> TypeGuard[type]:
    return isinstance(one, type) and (attrs.has(one) or dataclasses.is_dataclass(one) or issubclass(one, enum.Enum))
