"""The base of every value that is made by the thousand: entries, messages, events and effects.

What lives here: one class. A `Value` is immutable, compares by its fields, and is never tracked by the
garbage collector, because a value cannot be part of a cycle. Building one costs a fifth of a frozen attrs class.
"""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True, gc=False):
    """An immutable value that compares and hashes by its fields."""
