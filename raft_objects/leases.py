"""`Leases`: a process's lease on a `LeaseTable`, renewed while something hangs on it; on asyncio or trio.

What the process holds is told that it is lost before the cluster can give it to another. Waiting is by notice from the
local replica, confirmed by a command.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias, TypeVar, cast, final

import anyio

from raft_core.errors import CallerError, OutcomeUnknown, Refused, RequestError
from raft_objects.lease_table import LeaseEnded, LeaseTable
from raft_objects.running import Running, may_pass

__all__ = ["Held", "Leases", "LockLost", "while_held"]

T = TypeVar("T")
Ask: TypeAlias = Callable[[str, str], Awaitable[int]]
"""Asks the table for a place, for a client and an owner: the token, or 0 if it has to wait."""
GiveUp: TypeAlias = Callable[[str], Awaitable[object]]
"""Gives the owner's place up."""
_USABLE: Final = 0.9
"""Of a lease, counted from when its renewal was sent: the rest is for clocks that run unlike."""
_RELEASE_TIMEOUT: Final = 5.0
_PAUSE: Final = 0.05
_LONGEST: Final = 1e9


class LockLost(Exception):
    """The lease could not be renewed in time; the lock may have another owner."""


@final
class Held:
    """What is held: its name, its token for fencing, and `lost`, which is also set once it is given back."""

    def __init__(self, name: str, token: int, owner: str, give_up: GiveUp, is_over: Callable[[], bool]) -> None:
        self.name: Final = name
        self.token: Final = token
        self.lost: Final = anyio.Event()
        self.owner: Final = owner
        self.give_up: Final = give_up
        self.given_back = False
        self._is_over: Final = is_over

    def check(self) -> None:
        """Raise `LockLost` if it is lost or was given back.

        This looks at the clock. So it also tells after the event loop was blocked for longer than the lease, when
        `lost` could not be set yet. Any thread may call it.
        """
        if self.given_back:
            raise LockLost(f"{self.name} (token {self.token}) was given back, so it may have another owner")
        if self.lost.is_set() or self._is_over():
            raise LockLost(f"{self.name} (token {self.token}) is lost: its lease could not be renewed in time")


@final
class Leases:
    """The lease of this process on one table; `seconds` long. All recipes on the table share it.

    A place that is given up while the cluster cannot be reached does not end with the lease if something else keeps
    that alive. So the request is repeated in the background until it is answered, or until the lease is lost.
    """

    def __init__(self, table: LeaseTable, seconds: float) -> None:
        if not 0 < seconds <= _LONGEST:
            raise CallerError(f"a lease is a positive number of seconds, {_LONGEST} at most, not {seconds}")
        self._table: Final = table
        self._seconds: Final = seconds
        self._client = ""
        self._opening: anyio.Lock | None = None
        self._valid_until = 0.0
        self._over_at = 0.0  # the same moment by `time.monotonic`, for `Held.check` in any thread
        self._held: Final[dict[str, Held]] = {}
        self._users = 0
        self._renewing = False

    @property
    def _running(self) -> Running:
        site = self._table._binding.site
        if site is None:
            raise CallerError("the table is not open; add it to Objects, and open those")
        return cast("Running", site)

    async def acquire(self, name: str, ask: Ask, give_up: GiveUp, *, timeout: float | None = None) -> Held:
        """Wait for a place, through outages of the cluster and ends of the lease.

        Raise `TimeoutError` after `timeout` seconds, and `Refused` if this node has ended.
        """
        self._users += 1
        held: Held | None = None
        try:
            with anyio.move_on_after(timeout):
                while held is None:
                    with suppress(LeaseEnded):
                        held = await self._stand_in_line(name, ask, give_up, wait=True, patient=True)
        finally:
            if held is None:
                self._users -= 1
        if held is None:
            raise TimeoutError(f"{name}: its turn did not come within {timeout} s")
        return held

    async def try_acquire(self, name: str, ask: Ask, give_up: GiveUp, *, patient: bool = False) -> Held | None:
        """Take a place if there is one now; else return None. `patient`: wait for a lease through outages."""
        self._users += 1
        held: Held | None = None
        try:
            while True:  # the lease of an idle process has ended; that says nothing about the place
                with suppress(LeaseEnded):
                    held = await self._stand_in_line(name, ask, give_up, wait=False, patient=patient)
                    return held
        finally:
            if held is None:
                self._users -= 1

    async def release(self, held: Held, give_up: GiveUp | None = None) -> None:
        """Give the place back, by `give_up` if given; in the background if the cluster cannot be reached now.

        First `held` is lost: a thread may still be at work under it, while another gets the place.
        """
        if self._held.pop(held.owner, None) is not None:
            self._users -= 1
        lost, held.given_back = held.lost.is_set(), True
        held.lost.set()
        if not lost:
            await self._give_up(self._client, held.owner, give_up or held.give_up)

    async def _stand_in_line(self, name: str, ask: Ask, give_up: GiveUp, *, wait: bool, patient: bool) -> Held | None:
        """Return the place once it is this owner's; None without `wait`. Raise `LeaseEnded` if the lease was lost.

        An owner who leaves without the place gives it up, unless it is known to have none.
        """
        client, owner = await self._open(patient=patient), secrets.token_hex(8)
        may_stand = True
        with self._running.waiting(self._table._binding.name, owner) as waiter:
            try:
                while client == self._client:
                    sent = anyio.current_time()
                    try:
                        token = await ask(client, owner)
                    except LeaseEnded:
                        may_stand = False
                        self._lose(client)
                        raise
                    except (Refused, OutcomeUnknown) as failure:
                        if not wait or not may_pass(failure):
                            raise
                        await anyio.sleep(_PAUSE)
                        continue
                    if client != self._client:
                        break
                    self._was_renewed(sent)
                    if token or not wait:
                        may_stand = False
                    if token:
                        self._held[owner] = Held(name, token, owner, give_up, self._is_over)
                        return self._held[owner]
                    if not wait:
                        return None
                    await waiter.wait()
                raise LeaseEnded(client)
            finally:
                if may_stand:
                    await self._give_up(client, owner, give_up)

    async def _open(self, *, patient: bool) -> str:
        """Return the client, with a lease that was valid a moment ago. `patient`: wait through outages."""
        if self._opening is None:
            self._opening = anyio.Lock()
        async with self._opening:
            if not self._client:
                client, sent = await self._opened(patient=patient)
                self._valid_until = 0.0
                self._was_renewed(sent)
                self._client = client
            if not self._renewing:
                self._renewing = True
                self._running.tasks.start_soon(self._renew)
            return self._client

    async def _opened(self, *, patient: bool) -> tuple[str, float]:
        """Begin the lease of a new client. Return it, and when the request was sent.

        Each attempt is for another client: a late one would end what this one holds by then.
        """
        while True:
            client, sent = secrets.token_hex(8), anyio.current_time()
            try:
                await self._table.open_client(client, round(self._seconds * 1e9))
            except (Refused, OutcomeUnknown) as failure:
                if not patient or not may_pass(failure):
                    raise
                await anyio.sleep(_PAUSE)
                continue
            return client, sent

    def _was_renewed(self, sent: float) -> None:
        """Count the lease from when its renewal was sent."""
        until = sent + _USABLE * self._seconds
        if until > self._valid_until:
            self._valid_until = until
            self._over_at = time.monotonic() + until - anyio.current_time()

    def _is_over(self) -> bool:
        return time.monotonic() >= self._over_at

    async def _renew(self) -> None:
        """Renew the lease while it is used; what cannot be renewed in time is lost."""
        try:
            while self._users and (client := self._client):
                await anyio.sleep(min(self._seconds / 3, max(0.0, self._valid_until - anyio.current_time()) / 2))
                if client != self._client:
                    continue
                sent, ended = anyio.current_time(), False
                with anyio.move_on_at(self._valid_until):
                    try:
                        await self._table.renew(client)
                        self._was_renewed(sent)
                    except LeaseEnded:
                        ended = True
                    except RequestError:
                        await anyio.sleep(0.01)
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

    async def _give_up(self, client: str, owner: str, give_up: GiveUp) -> None:
        """Give a place up in the background, and wait some seconds for it.

        It is a task of the node, not of the caller, whom asyncio may cancel a second time.
        """
        done = anyio.Event()
        try:
            self._running.tasks.start_soon(self._give_up_until_done, client, owner, give_up, done)
        except Refused:  # the node has ended: nothing renews the lease any more
            return
        with anyio.CancelScope(shield=True), anyio.move_on_after(_RELEASE_TIMEOUT):
            await done.wait()

    async def _give_up_until_done(self, client: str, owner: str, give_up: GiveUp, done: anyio.Event) -> None:
        try:
            while True:
                try:
                    await give_up(owner)
                    return
                except (Refused, OutcomeUnknown) as failure:
                    if client != self._client or not may_pass(failure):
                        return  # the lease has ended, or this node has
                except CallerError:
                    return
                await anyio.sleep(_PAUSE)
        finally:
            done.set()


async def while_held(held: Held, func: Callable[[], Awaitable[T]]) -> T:
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
        raise LockLost(f"{held.name} is lost")
    return results[0]
