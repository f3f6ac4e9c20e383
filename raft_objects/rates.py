"""`RateLimiter`: so many permits per second in the whole cluster, on asyncio or trio.

    limiter = RateLimiter(objects.add("rates", RateTable()), "mails", rate=10.0, burst=20)
    await limiter.acquire()                               # waits for its turn
    if not await limiter.try_acquire(): ...               # at once or not at all

Promise: in no span of time are more permits granted than `burst` and `rate` times the span.
"""

from __future__ import annotations

import math
from typing import Final, final

import anyio

from raft_core.errors import CallerError, OutcomeUnknown, Refused
from raft_objects.rate_table import RateTable, Turn
from raft_objects.running import may_pass

__all__ = ["RateLimiter"]

_PAUSE: Final = 0.05
_FOREVER: Final = 1 << 62


@final
class RateLimiter:
    """A rate of a `RateTable` that is open on a node. `rate` and `burst` must be the same in every process."""

    def __init__(self, table: RateTable, name: str, *, rate: float, burst: int = 1) -> None:
        if not 0 < rate <= 1e9 or burst < 1:
            raise CallerError(f"{name}: a rate is a number of permits per second, and a burst one at least")
        self._table: Final = table
        self.name: Final = name
        self.burst: Final = burst
        self._period: Final = math.ceil(1e9 / rate)

    async def acquire(self, amount: int = 1, *, timeout: float | None = None) -> None:
        """Wait for permits, through outages of the cluster. The order is that in which they were asked for.

        Raise `TimeoutError`, at once, if they come later than in `timeout` seconds: then they are not taken. Who is
        cancelled while it waits has used them up. Raise `Refused` if this node has ended.
        """
        self._require(amount)
        with anyio.fail_after(timeout):
            end = math.inf if timeout is None else anyio.current_time() + timeout
            while True:
                left = max(0.0, end - anyio.current_time())
                try:
                    turn = await self._take(amount, _FOREVER if math.isinf(left) else round(left * 1e9))
                except (Refused, OutcomeUnknown) as failure:
                    if not may_pass(failure):
                        raise
                    await anyio.sleep(_PAUSE)
                    continue
                if not turn.granted:
                    raise TimeoutError(f"{self.name}: {amount} permits are due in {turn.wait / 1e9:.3f} s")
                break
        await anyio.sleep(turn.wait / 1e9)

    async def try_acquire(self, amount: int = 1) -> bool:
        """Take permits if there are as many now. Return whether they were taken."""
        self._require(amount)
        return (await self._take(amount, 0)).granted

    async def _take(self, amount: int, patience: int) -> Turn:
        return await self._table.take(self.name, amount, period=self._period, burst=self.burst, patience=patience)

    def _require(self, amount: int) -> None:
        if not 1 <= amount <= self.burst:
            raise CallerError(f"{self.name}: from 1 to {self.burst} permits at once, not {amount}")
