"""`Value`, the base class of entries, messages, events and effects.

A `Value` is immutable, compares by its fields, and is not tracked by the garbage collector, because its fields cannot
be part of a reference cycle. Creating one costs a fifth of a frozen attrs class.

A class with an exception or an iterator as a field needs `gc=True`: an exception refers to its frames, and a frame may
refer to the value, which would never be freed. A test checks all fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

__all__ = ["Value", "fields_of"]

fields_of: Final[Callable[[Any], Any]] = msgspec.structs.astuple
"""All fields of a value as a tuple, in order. A compiled module reads a single field by its name, at the cost of four
fields here; so where a module needs many fields of one value, it unpacks them, with the types of `AppendFields`."""


class Value(msgspec.Struct, frozen=True, gc=False):
    """An immutable value, compared and hashed by its fields."""
