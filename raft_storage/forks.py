"""Descriptors that a forked child must not keep: locks, log files, sockets.

A child forked without calling another program inherits all open files of its parent. While it lived, a lock would stay
held, a port bound and a connection open after the node has ended. So the descriptors registered here become /dev/null
in every child, right after the fork. The number stays taken, so that a later close in the child does no harm.
Descriptors of started programs need no care: Python passes none of these on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

__all__ = ["keep_from_children", "kept_from_children", "let_go"]

_KEPT: Final[set[int]] = set()


def keep_from_children(descriptor: int) -> None:
    """Keep this descriptor out of all children forked from now on. Call `let_go` before it is closed."""
    _KEPT.add(descriptor)


def let_go(descriptor: int) -> None:
    """Unregister the descriptor: it is about to be closed, and its number reused."""
    _KEPT.discard(descriptor)


@contextmanager
def kept_from_children(descriptor: int) -> Iterator[None]:
    """Keep this descriptor out of children forked during the block."""
    keep_from_children(descriptor)
    try:
        yield
    finally:
        let_go(descriptor)


def _in_child() -> None:
    """Replace the descriptors in the child. Must not raise, and can do little: the parent's threads are gone here."""
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
