"""What `open_node` runs for a `Replicated` or for `Objects`: their machine under sessions, connected to the node."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from raft_core.node.opening import Opening
from raft_objects.declare import Replicated
from raft_objects.machine import Objects, objects_of

__all__ = ["opening"]


def opening(given: Replicated | Objects) -> Opening:
    """Return the opening of objects that belong to no node yet."""
    objects = objects_of(given)

    def attach(node: Any) -> AbstractAsyncContextManager[object]:
        from raft_objects.running import attach  # needs an event loop's package, which this one does not

        return attach(node, objects)

    return Opening(objects.machine, attach)
