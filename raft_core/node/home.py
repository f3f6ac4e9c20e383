"""Where a node runs: one thread and one event loop, and what a call from elsewhere is told.

The adapter says where a call comes from; `Home` decides whether that is right. It holds identities only."""

from __future__ import annotations

from typing import Final, final

from raft_core.errors import CallerError

__all__ = ["Home"]


@final
class Home:
    """The thread and the event loop of one node. `remedy` says how its adapter is called from another thread."""

    __slots__ = ("_loop", "_remedy", "_thread")

    def __init__(self, thread: int, loop: object, remedy: str) -> None:
        self._thread: Final = thread
        self._loop: Final = loop
        self._remedy: Final = remedy

    def require_thread(self, thread: int) -> None:
        """Raise `CallerError` where a call that waits for nothing comes from another thread."""
        if thread != self._thread:
            raise CallerError(f"a node is used in the thread of its event loop only: {self._remedy}")

    def require_loop(self, thread: int, loop: object) -> None:
        """Raise `CallerError` where a request is awaited in another thread or another event loop: the answer would
        never reach it. `loop` is None where none runs."""
        self.require_thread(thread)
        if loop != self._loop:
            raise CallerError(f"a node is awaited in its own event loop only: {self._remedy}")
