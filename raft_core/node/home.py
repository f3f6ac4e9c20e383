"""`Home`: the thread and event loop of a node, and the check of calls from elsewhere.

The adapter reports the origin of a call; `Home` decides whether it is allowed. It holds identities only.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.errors import CallerError

__all__ = ["Home"]


@final
class Home:
    """The thread and event loop of one node. `remedy` describes the adapter's way to call from another thread."""

    __slots__ = ("_loop", "_remedy", "_thread")

    def __init__(self, thread: int, loop: object, remedy: str) -> None:
        self._thread: Final = thread
        self._loop: Final = loop
        self._remedy: Final = remedy

    def require_thread(self, thread: int) -> None:
        """Raise `CallerError` if a non-waiting call comes from another thread."""
        if thread != self._thread:
            raise CallerError(f"a node is used in the thread of its event loop only: {self._remedy}")

    def require_loop(self, thread: int, loop: object) -> None:
        """Raise `CallerError` if a request is awaited in another thread or event loop.

        The answer would never arrive there. `loop` is None if none is running.
        """
        self.require_thread(thread)
        if loop != self._loop:
            raise CallerError(f"a node is awaited in its own event loop only: {self._remedy}")
