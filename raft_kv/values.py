"""Types of the numbers and values in a keyspace. No logic: this module is never compiled."""

from __future__ import annotations

from typing import TypeAlias, final

import attrs
import msgspec

from raft_kv.long_values import Long

__all__ = ["Census", "Kind", "Millis", "Record", "Value", "Version"]

Millis: TypeAlias = int
"""Milliseconds of cluster time. They look like milliseconds since 1970, which old logs hold."""
Version: TypeAlias = int
"""Index of the last log entry to change a key."""
Kind: TypeAlias = int
"""Number of a type of value; part of the snapshot format, never reused."""
Value: TypeAlias = bytes | Long
"""A key's value. A new type joins this union, and its number and name join `keyspace._KIND_NAMES`."""


@final
class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One key's value. `deadline` 0: it stays. `born`: its place in the order of creation, never given twice."""

    kind: Kind
    value: Value
    version: Version
    deadline: Millis
    born: int


@final
@attrs.frozen
class Census:
    """The number of keys, and of keys with a deadline, on this node at this moment."""

    keys: int
    expiring: int
