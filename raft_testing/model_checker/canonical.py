"""Canonical forms: the state of a node as bytes, and the same bytes under other node names.

The walk over all objects of a core. Nodes have large numbers that occur nowhere else, so a key can be rewritten for
other names. A field left out of a key must not affect the explored behaviour; the explorer's tests check that by a
search without omissions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import Enum
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

import attrs
import msgspec

from raft_core.entries import MEMBERS, Entry
from raft_core.ids import NodeId
from raft_core.membership import Members
from raft_core.state_codec import field_names

__all__ = ["ALWAYS_LEFT_OUT", "FIRST_NODE", "LEFT_OUT", "TIMERS", "Names", "Plain", "as_bytes", "plain", "renamed"]

FIRST_NODE: Final = 7_770_001
"""The first node's name; the others follow. No other number in a small cluster is as large."""

Names: TypeAlias = Mapping[NodeId, NodeId]
Plain: TypeAlias = "bool | int | str | bytes | list[Plain] | None"

ALWAYS_LEFT_OUT: Final = frozenset(
    {
        *("server", "settings", "rng"),  # the way back to what is walked anyway; equal on all nodes; always the same
        "messages_made",  # set by the explorer before every step
        "checksum",  # follows from the entry's content
        "highest_id",  # only refuses to use an id again, and none is
    }
)
LEFT_OUT: Final = frozenset(
    {
        *ALWAYS_LEFT_OUT,
        *("_shared", "_shared_last", "_announcement"),  # the last message built, kept for the next follower
        *("hurry_priority", "acked_at", "issued_at"),  # only for priorities and for disks that stall: neither is used
        *("fresh_at", "bytes_since_snapshot"),  # only for stale reads and for snapshots
    }
)
TIMERS: Final = frozenset({"timeout", "drawn_for"})
"""Only for timers that run out. Followers stand in turn, so a timeout depends on the node's name."""
_UNORDERED: Final = frozenset({"held"})  # messages that leave together: their order makes no difference
_ATOMS: Final = frozenset({bool, str, bytes, type(None)})


def plain(thing: Any, left_out: frozenset[str] = LEFT_OUT) -> Plain:
    """Return the thing as lists of atoms. Any: a core consists of many types."""
    return _plain(thing, set(), left_out)


def as_bytes(thing: object) -> bytes:
    """Return the bytes of a result of `plain` or `renamed`."""
    return msgspec.msgpack.encode(thing)


def renamed(thing: Any, names: Names) -> Any:
    """Return a result of `plain` with other names; sort sets, dicts and lists of nodes again."""
    kind = type(thing)
    if kind is int:
        return names.get(thing, thing) if thing >= FIRST_NODE else thing
    if kind is not list and kind is not tuple:
        return thing
    items = [renamed(item, names) for item in thing]
    if len(items) > 1:
        if items[0] == "dict" or items[0] == "set":
            return [items[0], *sorted(items[1:], key=as_bytes)]
        if type(items[0]) is int and items[0] >= FIRST_NODE and all(_is_name(item) for item in items):
            return sorted(items)
    return items


def _is_name(item: object) -> bool:
    return type(item) is int and item >= FIRST_NODE


def _plain(thing: Any, seen: set[int], left_out: frozenset[str]) -> Plain:
    kind = type(thing)
    if kind is int:
        return thing if thing < 2**63 else str(thing)
    if kind in _ATOMS:
        return thing  # type: ignore[no-any-return]
    if kind is tuple or kind is list or kind is deque:
        return [_plain(item, seen, left_out) for item in thing]
    if kind is Entry:
        return _entry(thing)
    if kind is Members:
        return _members(thing)
    if kind is dict:
        pairs = [[_plain(key, seen, left_out), _plain(value, seen, left_out)] for key, value in thing.items()]
        return ["dict", *sorted(pairs, key=as_bytes)]
    if isinstance(thing, Enum):
        return str(thing.value)
    if isinstance(thing, set | frozenset):
        return ["set", *sorted([_plain(item, seen, left_out) for item in thing], key=as_bytes)]
    return _fields_of(thing, seen, left_out)


def _fields_of(thing: Any, seen: set[int], left_out: frozenset[str]) -> Plain:
    kind = type(thing)
    shared, names = _fields(kind)  # type: ignore[arg-type]
    if shared:  # an object with identity, which others may point to
        if id(thing) in seen:
            return None
        seen.add(id(thing))
    items: list[Plain] = [kind.__name__]
    for name in names:
        if name in _UNORDERED:
            held = [_plain(item, seen, left_out) for item in getattr(thing, name)]
            items.append(["set", *sorted(held, key=as_bytes)])
        elif name not in left_out:
            items.append(_plain(getattr(thing, name), seen, left_out))
    return items


@cache
def _fields(kind: Any) -> tuple[bool, tuple[str, ...]]:
    """Whether things of this kind have identity, and the names of their fields."""
    if issubclass(kind, msgspec.Struct):
        return False, tuple(kind.__struct_fields__)
    if attrs.has(kind):
        return False, tuple([field.name for field in attrs.fields(kind)])
    return True, field_names(kind)


@lru_cache(maxsize=1 << 12)
def _entry(entry: Entry) -> Plain:
    content = _members(Members.decode(entry.data)) if entry.kind is MEMBERS else entry.data
    return ["Entry", entry.index, entry.term, str(entry.kind.value), content]


@lru_cache(maxsize=1 << 10)
def _members(members: Members) -> Plain:
    return _fields_of(members, set(), LEFT_OUT)
