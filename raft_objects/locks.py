"""`Locks`: locks and elections in a cluster, on asyncio or trio.

    locks = Locks(objects.add("locks", LockTable()))
    async with locks.hold("report") as held:
        await storage.write(report, fence=held.token)

Promise: at most one owner's token is the highest that was ever given out, and `held.lost` is set before another owner
can have a higher one, as long as this process runs and its clock does not run more than a tenth too slow. What must not
be done twice under any circumstance checks the token.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, ParamSpec, TypeVar, cast, final

import anyio

from raft_core.errors import CallerError, OutcomeUnknown, Refused, RequestError
from raft_objects.lock_table import LeaseEnded, LockTable
from raft_objects.running import Running, may_pass

__all__ = ["Held", "LockLost", "Locks"]

P = ParamSpec("P")
T = TypeVar("T")
_USABLE: Final = 0.9
"""Of a lease, counted from when its renewal was sent: the rest is for clocks that run unlike."""
_RELEASE_TIMEOUT: Final = 5.0
_PAUSE: Final = 0.05


class LockLost(Exception):
    """The lease could not be renewed in time; the lock may have another owner."""


@final
class Held:
    """A lock that is held: its name, its token for fencing, and `lost`."""

    def __init__(self, name: str, token: int, owner: str) -> None:
        self.name: Final = name
        self.token: Final = token
        self.lost: Final = anyio.Event()
        self._owner: Final = owner

    def check(self) -> None:
        """Raise `LockLost` if it is lost."""
        if self.lost.is_set():
            raise LockLost(f"the lock {self.name} (token {self.token}) is lost: its lease could not be renewed in time")


@final
class Locks:
    """Handles of a `LockTable` that is open on a node.

    `lease`: seconds after which the locks of a process that has died, or that cannot reach the cluster, are free; they
    pass to the first who waits within 4/3 of it. While something is held or waited for, it is renewed in the
    background.
    """

    def __init__(self, table: LockTable, *, lease: float = 10.0) -> None:
        if not lease > 0:
            raise CallerError(f"a lease is a positive number of seconds, not {lease}")
        self._table: Final = table
        self._lease: Final = lease
        self._client = ""
        self._opening: anyio.Lock | None = None
        self._valid_until = 0.0
        self._held: Final[dict[str, Held]] = {}
        self._users = 0
        self._renewing = False

    @property
    def _running(self) -> Running:
        site = self._table._binding.site
        if site is None:
            raise CallerError("the lock table is not open; add it to Objects, and open those")
        return cast("Running", site)

    @asynccontextmanager
    async def hold(self, name: str, *, timeout: float | None = None) -> AsyncIterator[Held]:
        """Hold the lock for the block. Owners come in the order in which they asked.

        Raise `TimeoutError` if it is not free within `timeout` seconds. If it is lost meanwhile, `lost` is set and the
        block goes on: watch it, call `check`, or use `run_holding`, which cancels.
        """
        held = await self.acquire(name, timeout=timeout)
        try:
            yield held
        finally:
            await self.release(held)

    async def acquire(self, name: str, *, timeout: float | None = None) -> Held:
        """Take the lock, to be given back by `release`; wait through outages of the cluster. Prefer `hold`.

        Raise `TimeoutError` after `timeout` seconds, and `Refused` if this node has ended.
        """
        self._users += 1
        held: Held | None = None
        try:
            with anyio.fail_after(timeout):
                while held is None:
                    held = await self._stand_in_line(name, wait=True)
        finally:
            if held is None:
                self._users -= 1
        return held

    async def try_acquire(self, name: str) -> Held | None:
        """Take the lock if it is free now; else return None."""
        self._users += 1
        held: Held | None = None
        try:
            held = await self._stand_in_line(name, wait=False)
        finally:
            if held is None:
                self._users -= 1
        return held

    async def release(self, held: Held) -> None:
        """Give the lock back; if the cluster cannot be reached now, its lease will end."""
        if self._held.pop(held._owner, None) is not None:
            self._users -= 1
        if not held.lost.is_set():
            await self._give_up(held.name, held._owner)

    async def run_holding(self, name: str, func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Wait for the lock, run `func` under it, cancel `func` if it is lost. Raise `LockLost` then."""
        async with self.hold(name) as held:
            return await _while_held(held, lambda: func(*args, **kwargs))

    async def run_while_leader(self, name: str, func: Callable[[int], Awaitable[T]]) -> T:
        """Run `func(token)` in the one process that is elected; if that is lost, cancel it and stand again.

        Return what `func` returns. It is cancelled before another process can be elected; the token fences what it has
        begun elsewhere.
        """
        while True:
            async with self.hold(name) as held:
                try:
                    return await _while_held(held, lambda: func(held.token))
                except LockLost:
                    continue

    # The lease.

    async def _stand_in_line(self, name: str, *, wait: bool) -> Held | None:
        """Return the lock once it is this owner's; None without `wait`, or if the place was lost with the lease."""
        client, owner = await self._open(), secrets.token_hex(8)
        held: Held | None = None
        with self._running.waiting(self._table._binding.name, owner) as waiter:
            try:
                while client == self._client:
                    sent = anyio.current_time()
                    try:
                        token = await self._table.acquire(name, client, owner, wait)
                    except LeaseEnded:
                        self._lose(client)
                        return None
                    except (Refused, OutcomeUnknown) as failure:
                        if not wait or not may_pass(failure):
                            raise
                        await anyio.sleep(_PAUSE)
                        continue
                    if client != self._client:
                        return None
                    self._valid_until = max(self._valid_until, sent + _USABLE * self._lease)
                    if token:
                        held = self._held[owner] = Held(name, token, owner)
                        return held
                    if not wait:
                        return None
                    await waiter.wait()
                return None
            finally:
                if held is None:
                    await self._give_up(name, owner)

    async def _open(self) -> str:
        """Return the client, with a lease that was valid a moment ago."""
        if self._opening is None:
            self._opening = anyio.Lock()
        async with self._opening:
            if not self._client:
                client = secrets.token_hex(8)
                sent = anyio.current_time()
                await self._table.open_client(client, round(self._lease * 1e9))
                self._client, self._valid_until = client, sent + _USABLE * self._lease
            if not self._renewing:
                self._renewing = True
                self._running.tasks.start_soon(self._renew)
            return self._client

    async def _renew(self) -> None:
        """Renew the lease while it is used; what cannot be renewed in time is lost."""
        try:
            while self._users and (client := self._client):
                await anyio.sleep(min(self._lease / 3, max(0.0, self._valid_until - anyio.current_time()) / 2))
                if client != self._client:
                    continue
                sent, ended = anyio.current_time(), False
                with anyio.move_on_at(self._valid_until):
                    try:
                        await self._table.renew(client)
                        self._valid_until = sent + _USABLE * self._lease
                    except LeaseEnded:
                        ended = True
                    except RequestError:
                        await anyio.sleep(0.01)
                    except CallerError:  # the objects are being closed
                        return
                if ended or anyio.current_time() >= self._valid_until:
                    self._lose(client)
        finally:
            self._renewing = False
            for held in self._held.values():
                held.lost.set()

    def _lose(self, client: str) -> None:
        """Take everything of this client as lost, and let those who wait stand in line anew."""
        if client != self._client:
            return
        self._client = ""
        for held in self._held.values():
            held.lost.set()
        self._users -= len(self._held)
        self._held.clear()
        self._running.heard(self._table._binding.name, None)

    async def _give_up(self, name: str, owner: str) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(_RELEASE_TIMEOUT):
            try:
                await self._table.release.within(_RELEASE_TIMEOUT)(name, owner)
            except (RequestError, CallerError):
                return  # the lease ends by itself


async def _while_held(held: Held, func: Callable[[], Awaitable[T]]) -> T:
    """Await `func()`, cancelled if the lock is lost; then raise `LockLost`. Its own error leaves unchanged."""
    results: list[T] = []
    failure: BaseException | None = None

    async def cancel_if_lost() -> None:
        await held.lost.wait()
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_if_lost)
        try:
            results.append(await func())
        except Exception as raised:
            failure = raised
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not results:
        held.check()
        raise LockLost(f"the lock {held.name} is lost")
    return results[0]
