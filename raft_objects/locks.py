"""`Locks`, and on it `Lock`, `Semaphore`, `ReadWriteLock` and `Election`: in a cluster, on asyncio or trio.

    locks = Locks(objects.add("locks", LockTable()))
    async with Lock(locks, "report").hold() as held:
        await storage.write(report, fence=held.token)

Promise: no more owners than the size allows have not been told that they lost their place, and each owner's token is
higher than those before it, as long as the process runs and its clock does not run more than a tenth too slow. What
must not be done twice under any circumstance checks the token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, ParamSpec, TypeVar, final

from raft_core.errors import CallerError
from raft_objects.leases import Ask, GiveUp, Held, Leases, LockLost, while_held
from raft_objects.lock_table import MAX_SIZE, LockTable

__all__ = ["Election", "Held", "Lock", "LockLost", "Locks", "ReadWriteLock", "Semaphore"]

P = ParamSpec("P")
T = TypeVar("T")


@final
class Locks:
    """This process's places in a `LockTable` that is open on a node, and locks by name.

    `lease`: seconds after which the locks of a process that has died, or that cannot reach the cluster, are free; they
    pass to the first who waits within 4/3 of it. While something is held or waited for, it is renewed in the
    background.

    `share` of `size`, in all methods: how much an owner has of a semaphore, 1 of 1 for a lock.
    """

    def __init__(self, table: LockTable, *, lease: float = 10.0) -> None:
        self._table: Final = table
        self._leases: Final = Leases(table, lease)

    @asynccontextmanager
    async def hold(
        self, name: str, *, share: int = 1, size: int = 1, timeout: float | None = None
    ) -> AsyncIterator[Held]:
        """Hold the lock for the block. Owners come in the order in which they asked.

        Raise `TimeoutError` if it is not free within `timeout` seconds. If it is lost meanwhile, `lost` is set and the
        block goes on: watch it, call `check`, or use `run_holding`, which cancels.
        """
        held = await self.acquire(name, share=share, size=size, timeout=timeout)
        try:
            yield held
        finally:
            await self.release(held)

    async def acquire(self, name: str, *, share: int = 1, size: int = 1, timeout: float | None = None) -> Held:
        """Take the lock, to be given back by `release`; wait through outages of the cluster. Prefer `hold`.

        Raise `TimeoutError` after `timeout` seconds, and `Refused` if this node has ended. Raise `SizeDiffers` if
        others use the name with another size.
        """
        ask, give_up = self._requests(name, share, size, wait=True)
        return await self._leases.acquire(name, ask, give_up, timeout=timeout)

    async def try_acquire(self, name: str, *, share: int = 1, size: int = 1) -> Held | None:
        """Take the lock if it is free now; else return None."""
        ask, give_up = self._requests(name, share, size, wait=False)
        return await self._leases.try_acquire(name, ask, give_up)

    async def release(self, held: Held) -> None:
        """Give the lock back; if the cluster cannot be reached now, its lease will end."""
        await self._leases.release(held)

    async def run_holding(self, name: str, func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Wait for the lock, run `func` under it, cancel `func` if it is lost. Raise `LockLost` then."""
        async with self.hold(name) as held:
            return await while_held(held, lambda: func(*args, **kwargs))

    def _requests(self, name: str, share: int, size: int, *, wait: bool) -> tuple[Ask, GiveUp]:
        if not 1 <= share <= size <= MAX_SIZE:
            raise CallerError(f"{name}: a share is from 1 to the size, and that to {MAX_SIZE}; not {share} of {size}")

        def ask(client: str, owner: str) -> Awaitable[int]:
            if share == size == 1:
                return self._table.acquire(name, client, owner, wait)
            return self._table.acquire(name, client, owner, wait, share=share, size=size)

        return ask, lambda owner: self._table.release.within(5.0)(name, owner)


@final
class Lock:
    """A lock: one owner at most."""

    def __init__(self, locks: Locks, name: str) -> None:
        self._locks: Final = locks
        self.name: Final = name

    def hold(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Held]:
        """Hold it for a block; see `Locks.hold`."""
        return self._locks.hold(self.name, timeout=timeout)

    async def acquire(self, *, timeout: float | None = None) -> Held:
        """Take it, to be given back by `release`; see `Locks.acquire`."""
        return await self._locks.acquire(self.name, timeout=timeout)

    async def try_acquire(self) -> Held | None:
        """Take it if it is free now; else return None."""
        return await self._locks.try_acquire(self.name)

    async def release(self, held: Held) -> None:
        """Give it back."""
        await self._locks.release(held)

    async def run_holding(self, func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Wait for it, run `func` under it, cancel `func` if it is lost. Raise `LockLost` then."""
        return await self._locks.run_holding(self.name, func, *args, **kwargs)


@final
class Semaphore:
    """A semaphore: owners whose shares add up to `size` at most. The size must be the same in every process."""

    def __init__(self, locks: Locks, name: str, size: int) -> None:
        self._locks: Final = locks
        self.name: Final = name
        self.size: Final = size

    def hold(self, share: int = 1, *, timeout: float | None = None) -> AbstractAsyncContextManager[Held]:
        """Hold a share for a block; see `Locks.hold`."""
        return self._locks.hold(self.name, share=share, size=self.size, timeout=timeout)

    async def acquire(self, share: int = 1, *, timeout: float | None = None) -> Held:
        """Take a share, to be given back by `release`; see `Locks.acquire`."""
        return await self._locks.acquire(self.name, share=share, size=self.size, timeout=timeout)

    async def try_acquire(self, share: int = 1) -> Held | None:
        """Take a share if it is free now and none waits; else return None."""
        return await self._locks.try_acquire(self.name, share=share, size=self.size)

    async def release(self, held: Held) -> None:
        """Give the share back."""
        await self._locks.release(held)


@final
class ReadWriteLock:
    """A lock that many readers hold at once, or one writer alone. A writer who waits lets no later reader pass."""

    def __init__(self, locks: Locks, name: str) -> None:
        self._locks: Final = locks
        self.name: Final = name

    def reading(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Held]:
        """Hold it for a block, beside other readers; see `Locks.hold`."""
        return self._locks.hold(self.name, size=MAX_SIZE, timeout=timeout)

    def writing(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Held]:
        """Hold it for a block, alone; see `Locks.hold`."""
        return self._locks.hold(self.name, share=MAX_SIZE, size=MAX_SIZE, timeout=timeout)

    async def acquire_read(self, *, timeout: float | None = None) -> Held:
        """Take it for reading, to be given back by `release`."""
        return await self._locks.acquire(self.name, size=MAX_SIZE, timeout=timeout)

    async def acquire_write(self, *, timeout: float | None = None) -> Held:
        """Take it for writing, to be given back by `release`."""
        return await self._locks.acquire(self.name, share=MAX_SIZE, size=MAX_SIZE, timeout=timeout)

    async def release(self, held: Held) -> None:
        """Give it back."""
        await self._locks.release(held)


@final
class Election:
    """An election: one leader at most. Candidates follow in the order in which they stood."""

    def __init__(self, locks: Locks, name: str) -> None:
        self._locks: Final = locks
        self.name: Final = name

    def campaign(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Held]:
        """Stand for election, and lead for the block. `token` fences what the leader does; see `Locks.hold`.

        If the leadership is lost, `lost` is set before another can be elected, and the block goes on: watch it, or use
        `run_while_leader`, which cancels.
        """
        return self._locks.hold(self.name, timeout=timeout)

    async def run_while_leader(self, func: Callable[[int], Awaitable[T]]) -> T:
        """Run `func(token)` in the one process that is elected; if that is lost, cancel it and stand again.

        Return what `func` returns. It is cancelled before another process can be elected; the token fences what it has
        begun elsewhere.
        """
        while True:
            async with self.campaign() as held:
                try:
                    return await while_held(held, lambda: func(held.token))
                except LockLost:
                    if not held.lost.is_set():
                        raise  # of another lock, which `func` held
