"""Descriptors that a forked child must not keep: locks, log files, sockets.

A child that is forked and does not call another program has everything that its parent had open. While it lived, a lock
would stay held, a port bound and a connection open, though the node has long ended. So what is named here becomes
/dev/null in every child, right after the fork. The number stays taken, so that what the child still closes harms
nobody. Descriptors of programs that are started are no matter: Python lets none of these through."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

__all__ = ["keep_from_children", "kept_from_children", "let_go"]

_KEPT: Final[set[int]] = set()


def keep_from_children(descriptor: int) -> None:
    """No child that is forked from now on has this descriptor. Call `let_go` before it is closed."""
    _KEPT.add(descriptor)


def let_go(descriptor: int) -> None:
    """The descriptor is about to be closed, and its number to be used for something else."""
    _KEPT.discard(descriptor)


@contextmanager
def kept_from_children(descriptor: int) -> Iterator[None]:
    """No child that is forked during the block has this descriptor."""
    keep_from_children(descriptor)
    try:
        yield
    finally:
        let_go(descriptor)


def _in_child() -> None:
    """Nothing may raise here, and little can be done: the child has none of the threads that its parent had."""
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            for descriptor in _KEPT:
                with suppress(OSError):
                    os.dup2(nothing, descriptor, inheritable=False)
        finally:
            os.close(nothing)
    _KEPT.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
