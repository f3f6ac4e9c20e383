"""The base of every value that is made by the thousand: entries, messages, events and effects.

What lives here: one class. A `Value` is immutable, compares by its fields, and is not tracked by the garbage collector,
because nothing that it is made of can be part of a cycle. Building one costs a fifth of a frozen attrs class.

A value that holds an exception or an iterator can be part of one (an exception knows the frames that it went through,
and one of them knows the value), and would then stay for ever: such a class says `gc=True`. A test looks at all fields.
"""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True, gc=False):
    """An immutable value that compares and hashes by its fields."""
