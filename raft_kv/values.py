"""Types of the numbers and values in a keyspace."""

from __future__ import annotations

from typing import TypeAlias

from raft_kv.long_values import Long

__all__ = ["Kind", "Millis", "Value", "Version"]

Millis: TypeAlias = int
"""Milliseconds of cluster time. They look like milliseconds since 1970, which old logs hold."""
Version: TypeAlias = int
"""Index of the last log entry to change a key."""
Kind: TypeAlias = int
"""Number of a type of value; part of the snapshot format, never reused."""
Value: TypeAlias = bytes | Long
"""A key's value. A new type joins this union, and its number and name join `keyspace._KIND_NAMES`."""
