"""Garbage collection in a server with many keys: no pause grows with their number.

A full collection visits every container that CPython tracks: 100 ms for a million keys in lists and tuples, in any step
of the loop. Most containers of a key are not tracked (`Record`, and dictionaries of numbers and bytes). `leave_out`
excludes the rest from collections.
"""

from __future__ import annotations

import gc
from typing import Final

from raft_kv.keyspace import Keyspace

__all__ = ["MANY", "leave_out"]

MANY: Final = 100_000
"""This many keys with deadlines cost a full collection some 10 ms."""


def leave_out(space: Keyspace) -> bool:
    """Freeze all live objects if `space` has grown by `MANY` keys since the last time; return whether.

    Costs no more than a young collection.

    Frozen objects are freed like others when nothing refers to them. But cycles among them are never collected: those
    which exist at this moment, of connections for example, stay in memory. So this is tied to growth, not to time.
    """
    if space.size < space.left_out + MANY:
        return False
    space.left_out = space.size
    gc.collect(1)
    gc.freeze()
    return True
