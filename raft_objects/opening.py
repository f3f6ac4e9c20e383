"""What `open_node` runs for a `Replicated` or for `Objects`: their machine under sessions, connected to the node."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from raft_core.errors import CallerError
from raft_core.node.opening import Opening
from raft_objects.declare import Replicated
from raft_objects.machine import Objects

__all__ = ["opening"]


def opening(given: Replicated | Objects) -> Opening:
    """Return the opening of objects that belong to no node yet. One object alone is called `main` in the log."""
    objects = given if isinstance(given, Objects) else _alone(given)

    def attach(node: Any) -> AbstractAsyncContextManager[object]:
        from raft_objects.running import attach  # needs an event loop's package, which this one does not

        return attach(node, objects)

    return Opening(objects.machine, attach)


def _alone(instance: Replicated) -> Objects:
    if instance._binding.name:
        raise CallerError(
            "the object belongs to Objects already: open those. After a node has ended, make new objects for the next"
            " one, which reads their state from its disk"
        )
    return Objects({"main": instance})
