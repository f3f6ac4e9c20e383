"""`Barrier`: parties that wait for one another, on asyncio or trio.

    barriers = Barriers(objects.add("barriers", BarrierTable()))
    number = await Barrier(barriers, "loaded", parties=3).wait()

Promise: when someone passes, as many parties as were asked for have waited at one moment, all with leases, and all of
them pass in this round.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, final

from raft_core.errors import CallerError
from raft_objects.barrier_table import BarrierTable
from raft_objects.leases import Leases

__all__ = ["Barrier", "Barriers"]


@final
class Barriers:
    """This process's places in a `BarrierTable` that is open on a node.

    `lease`: seconds after which a party that has died, or cannot reach the cluster, is no longer counted.
    """

    def __init__(self, table: BarrierTable, *, lease: float = 10.0) -> None:
        self._table: Final = table
        self._leases: Final = Leases(table, lease)

    async def wait(self, name: str, parties: int, *, timeout: float | None = None) -> int:
        """Wait until as many parties wait under this name; return the number of the round. Rounds follow one another.

        Raise `TimeoutError` after `timeout` seconds: the party is no longer counted, unless all have come just then.
        Raise `SizeDiffers` if others wait for another number of parties.
        """
        if parties < 1:
            raise CallerError(f"{name}: a barrier has one party at least, not {parties}")

        def ask(client: str, owner: str) -> Awaitable[int]:
            return self._table.arrive(name, client, owner, parties)

        held = await self._leases.acquire(name, ask, lambda owner: self._table.leave(name, owner), timeout=timeout)
        await self._leases.release(held)
        return held.token


@final
class Barrier:
    """One barrier, used again and again. The number of parties must be the same in every process."""

    def __init__(self, barriers: Barriers, name: str, parties: int) -> None:
        self._barriers: Final = barriers
        self.name: Final = name
        self.parties: Final = parties

    async def wait(self, *, timeout: float | None = None) -> int:
        """Wait for the others; return the number of the round. See `Barriers.wait`."""
        return await self._barriers.wait(self.name, self.parties, timeout=timeout)
