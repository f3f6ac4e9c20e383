"""`Notices`: wakes those who wait for something in the local replica. No polling: a thousand waiters cost nothing.

A key that a command notified wakes the one who has waited for it longest. Those who wait for the key None are woken by
every command of their object. A restored snapshot wakes everyone, because what happened meanwhile is not known. Who is
woken looks at the state again. At the end of the node all who wait are refused.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Final, final

import anyio

from raft_core.effects import RefusalReason
from raft_core.errors import Refused

__all__ = ["Notices", "Waiter"]


@final
class Waiter:
    """One who waits for a key; `wait` may be called again and again."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._ended = False

    @property
    def woken(self) -> bool:
        """Whether a notice came that no `wait` has returned for yet."""
        return self._event.is_set()

    def wake(self) -> None:
        """End the present or next `wait`."""
        self._event.set()

    def end(self) -> None:
        """End the present `wait` and all later ones with `Refused`."""
        self._ended = True
        self._event.set()

    async def wait(self, timeout: float | None = None) -> bool:
        """Return True after a notice, also one that came before; False after `timeout` seconds.

        Raise `Refused` at the end of the node.
        """
        with anyio.move_on_after(timeout):
            await self._event.wait()
        if self._ended:
            raise _ended()
        if not self._event.is_set():
            return False
        self._event = anyio.Event()
        return True


@final
class Notices:
    """Waiters by object and key, in the order in which they came."""

    def __init__(self) -> None:
        self._ended = False
        self._waiters: Final[dict[tuple[str, Hashable], dict[Waiter, None]]] = {}

    @contextmanager
    def waiting(self, name: str, key: Hashable) -> Iterator[Waiter]:
        """Wait for a key of an object while the block runs. A notice that was not used is passed on.

        Raise `Refused` after the end of the node.
        """
        if self._ended:
            raise _ended()
        waiter = Waiter()
        line = self._waiters.setdefault((name, key), {})
        line[waiter] = None
        try:
            yield waiter
        finally:
            del line[waiter]
            if not line:
                self._waiters.pop((name, key), None)
            elif waiter.woken:
                self.wake(name, key)

    def wake(self, name: str, key: Hashable) -> None:
        """Wake the one who has waited longest and is not awake yet."""
        for waiter in self._waiters.get((name, key), ()):
            if not waiter.woken:
                waiter.wake()
                return

    def wake_watchers(self, name: str) -> None:
        """Wake all who wait for any command of this object, that is for the key None."""
        for waiter in self._waiters.get((name, None), ()):
            waiter.wake()

    def wake_all(self, name: str) -> None:
        """Wake everyone who waits for something of this object."""
        for (owner, _), line in self._waiters.items():
            if owner == name:
                for waiter in line:
                    waiter.wake()

    def end(self) -> None:
        """Refuse all who wait, and who comes later: the node ends, so nothing would ever wake them."""
        self._ended = True
        for line in self._waiters.values():
            for waiter in line:
                waiter.end()


def _ended() -> Refused:
    return Refused(RefusalReason.STOPPING, "the objects were closed, so nothing more can be heard of them here")
