"""Garbage collection in a server: rare, and no pause grows with the number of keys or with the code that is loaded.

CPython looks for cycles after every 700 containers that were made and not freed. A server with many requests in flight
makes that many all the time, and frees them without its help. So a collection after each 700 of them found nothing, and
took 7 % of the leader's processor time under pipelines. A full one visited every object of the loaded modules.
`settle` makes collections rarer, and excludes what exists when the server starts.

A full collection visits every container that CPython tracks: 100 ms for a million keys in lists and tuples, in any step
of the loop. Most containers of a key are not tracked (`Record`, and dictionaries of numbers and bytes). `leave_out`
excludes the rest from collections.

An entry of the log is not tracked either, but the list of all is: with a million entries each of its first three
collections and every full one took 35 to 90 ms, while the log was applied. `opened` excludes it before the first.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from anyio.lowlevel import checkpoint

from raft_kv.keyspace import Keyspace

if TYPE_CHECKING:
    import raft_anyio
    import raft_trio

_Node = TypeVar("_Node", bound="raft_trio.Node | raft_anyio.Node")

__all__ = ["MANY", "YOUNG", "leave_out", "opened", "settle"]

MANY: Final = 100_000
"""This many keys with deadlines cost a full collection some 10 ms, and this many entries one."""
_PASSES: Final = 10
"""A node with a log has made its core after so many passes of the loop; one without members has none."""
YOUNG: Final = 10_000
"""New containers between two collections; to visit as many takes less than a millisecond."""


def settle() -> None:
    """Prepare a process that is about to serve, once: later collections are rare and visit only what is made later."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])


@asynccontextmanager
async def opened(opening: AbstractAsyncContextManager[_Node]) -> AsyncIterator[_Node]:
    """Open the node without collections, and exclude all live objects from later ones if its log is long."""
    collects = gc.isenabled()
    gc.disable()
    try:
        async with opening as node:
            for _ in range(_PASSES):
                if node.status.core is not None:
                    break
                await checkpoint()
            core = node.status.core
            if core is not None and core.last_index - core.first_index >= MANY:
                gc.freeze()
            if collects:
                gc.enable()
            yield node
    finally:
        if collects:
            gc.enable()


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
