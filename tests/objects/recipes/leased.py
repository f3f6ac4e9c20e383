"""Clients with leases: what they know of themselves, and for how long what they hold is theirs."""

from __future__ import annotations

from typing import Any

import attrs

from raft_objects import Objects
from raft_objects.lease_table import LeaseEnded, LeaseTable
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

from .workload import LEASE, USABLE, ObjectWorkload, Seen

__all__ = ["Client", "Holding", "LeasedWorkload", "holdings", "overlaps"]


@attrs.define
class Client:
    """A simulated process: its lease, and by owner what it waits for and holds."""

    lease: str = ""
    waits: dict[str, Any] = attrs.field(factory=dict)
    holds: dict[str, Any] = attrs.field(factory=dict)


class LeasedWorkload(ObjectWorkload):
    """Clients of one lease table. Some vanish: they come again as others, and their lease ends."""

    def __init__(self, objects: Objects, table: LeaseTable) -> None:
        super().__init__(objects)
        self.table = table
        self.clients: dict[int, Client] = {}
        self.by_lease: dict[str, Client] = {}

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        mine = self.clients.setdefault(client, Client())
        if not mine.lease or rng.chance(0.03):
            mine = self.clients[client] = Client(f"c{client}-{number}")
            self.by_lease[mine.lease] = mine
            return self.call(self.table.open_client, mine.lease, LEASE)
        return self.next(rng, mine, number)

    def next(self, rng: Rng, mine: Client, number: int) -> Asked:
        """Return the next operation of a client with a lease."""
        raise NotImplementedError

    def answered(self, asked: Asked, result: Any) -> None:
        given = self.arguments(asked.argument)
        if "client" not in given or "owner" not in given:
            return
        mine, owner = self.by_lease[given["client"]], given["owner"]
        place = mine.waits.pop(owner, None) or mine.holds.pop(owner, None) or given
        if isinstance(result, LeaseEnded):
            mine.lease = ""
        elif result:
            mine.holds[owner] = place
        elif given.get("wait", True):
            mine.waits[owner] = place


@attrs.frozen
class Holding:
    """From when until when an owner had to think that the place was its own."""

    name: str
    owner: str
    begin: int
    end: int
    asked: int
    result: Any
    given: dict[str, Any]


def holdings(found: list[Seen], gives: tuple[str, ...], takes: tuple[str, ...]) -> list[Holding]:
    """Return what owners held, by when they were told. `gives`: kinds whose result is a place; `takes`: that end it.

    An owner trusts its place from the answer on, as long as one answered command of its client follows the other
    within 0.9 leases, and until it asks to give the place back.
    """
    renewed: dict[str, list[tuple[int, int]]] = {}  # by client: told, valid until
    released: dict[tuple[str, str], int] = {}
    for one in found:
        if one.kind in takes:
            released.setdefault((one.given["name"], one.given["owner"]), one.asked)
        elif one.told is not None and not isinstance(one.result, Exception) and "client" in one.given:
            renewed.setdefault(one.given["client"], []).append((one.told, one.asked + round(USABLE * LEASE)))
    held = []
    for one in found:
        if one.kind not in gives or one.told is None or isinstance(one.result, Exception) or not one.result:
            continue
        name, owner, client = one.given["name"], one.given["owner"], one.given["client"]
        end = one.told
        for told, valid in sorted(renewed[client]):  # a chain without a gap, from where the place was told
            if told <= max(end, one.told):
                end = max(end, valid)
        end = min(end, released.get((name, owner), end))
        held.append(Holding(name, owner, one.told, end, one.asked, one.result, one.given))
    return sorted(held, key=lambda one: one.begin)


def overlaps(held: list[Holding]) -> list[tuple[Holding, list[Holding]]]:
    """Return, for each moment at which a place was told, it and what was held then under the same name."""
    moments = []
    for now in held:
        at = {one.owner: one for one in held if one.name == now.name and one.begin <= now.begin < one.end}
        moments.append((now, list(at.values())))
    return moments
