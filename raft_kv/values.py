"""Types of the numbers and values in a keyspace."""

from __future__ import annotations

from typing import TypeAlias

from raft_kv.long_values import Long

__all__ = ["Kind", "Millis", "Value", "Version"]

Millis: TypeAlias = int
"""Milliseconds of cluster time. They look like milliseconds since 1970, which old logs hold."""
Version: TypeAlias = int
"""The index of the log entry that last changed a key."""
Kind: TypeAlias = int
"""A number that says what a value is; part of the snapshot format, never given twice."""
Value: TypeAlias = bytes | Long
"""What a key can hold. A type that comes later joins this union, and its number and name `keyspace._KIND_NAMES`."""
