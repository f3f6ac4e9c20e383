"""`Value`, the base class of entries, messages, events and effects.

A `Value` is immutable, compares by its fields, and is not tracked by the garbage collector, because its fields cannot
be part of a reference cycle. Creating one costs a fifth of a frozen attrs class.

A class with an exception or an iterator as a field needs `gc=True`: an exception refers to its frames, and a frame may
refer to the value, which would never be freed. A test checks all fields.
"""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True, gc=False):
    """An immutable value, compared and hashed by its fields."""
