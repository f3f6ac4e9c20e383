"""`Opening`: what `open_node` needs of the object it is given: a state machine, and a way to connect it to the node.

A state machine stands for itself. Any other class can offer one by a method `__raft_open__`. Adapters know this module
and need not know the class: `raft_objects` is opened so.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol, final, runtime_checkable

import attrs

from raft_core.errors import CallerError
from raft_core.state_machine import StateMachine

__all__ = ["Openable", "Opening", "opening_of"]


def _nothing(_node: Any) -> AbstractAsyncContextManager[object]:
    return nullcontext()


@final
@attrs.frozen
class Opening:
    """A state machine for one node, and what surrounds the user's block: `attach(node)` is entered before it."""

    machine: StateMachine
    attach: Callable[[Any], AbstractAsyncContextManager[object]] = _nothing


@runtime_checkable
class Openable(Protocol):
    """An object which offers a state machine."""

    def __raft_open__(self) -> Opening:
        """Return a state machine that has applied nothing yet. Raise `CallerError` if there is none any more."""
        ...


def opening_of(given: StateMachine | Openable) -> Opening:
    """Return what to open. Raise `CallerError` for a class in place of an instance."""
    if isinstance(given, type):
        raise CallerError(f"open_node needs an instance, not the class itself: {given.__name__}()")
    if isinstance(given, Openable):
        return given.__raft_open__()
    return Opening(given)
