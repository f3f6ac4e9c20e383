"""A bank on three nodes in one process: typed calls on any node, errors at the caller, one leader at a time.

    python examples/typed_bank.py [PORT PORT PORT]

`Bank` is an ordinary class. Its commands run on every replica in one order; mypy checks the calls as it checks those
of any method. A command that raises changes nothing, on no replica.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import AsyncExitStack
from enum import Enum
from pathlib import Path

import anyio
import attrs

from raft_anyio import NodeConfig
from raft_objects import CommandError, Objects, Replicated, command, query
from raft_objects.lock_table import LockTable
from raft_objects.locks import Locks
from raft_objects.running import open_objects


class Currency(Enum):
    EUR = "EUR"
    GBP = "GBP"


@attrs.frozen
class Money:
    cents: int
    currency: Currency = Currency.EUR


class NotEnough(CommandError):
    pass


class Bank(Replicated):
    def __init__(self) -> None:
        self.accounts: dict[str, int] = {}

    @command
    def deposit(self, account: str, money: Money) -> Money:
        if money.cents <= 0:
            raise ValueError("a deposit is positive")
        self.accounts[account] = self.accounts.get(account, 0) + money.cents
        return Money(self.accounts[account], money.currency)

    @command
    def move(self, source: str, to: str, cents: int) -> None:
        self.accounts[source] -= cents
        self.accounts[to] = self.accounts.get(to, 0) + cents
        if self.accounts[source] < 0:
            raise NotEnough(source)  # both changes are taken back, on all replicas

    @query
    def balance(self, account: str) -> int:
        return self.accounts.get(account, 0)


async def main(directory: Path, ports: list[str]) -> None:
    members = {number: f"127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
    banks = {number: Bank() for number in members}
    tables = {number: LockTable() for number in members}
    started = anyio.Event()

    async with AsyncExitStack() as stack, anyio.create_task_group() as group:

        async def run(number: int) -> None:
            config = NodeConfig(number, members, data=directory / f"bank-{number}")
            objects = Objects({"bank": banks[number], "locks": tables[number]})
            async with open_objects(config, objects):
                await banks[number].balance("ada")  # answered once there is a leader
                if number == 3:
                    started.set()
                await anyio.sleep_forever()

        for number in members:
            group.start_soon(run, number)
        await started.wait()

        print("ada has", (await banks[1].deposit("ada", Money(500))).cents)
        await banks[2].move("ada", "bob", 200)
        try:
            await banks[3].move("ada", "bob", 900)
        except NotEnough as failure:
            print("refused on every replica:", *failure.args)
        print("ada", await banks[3].balance("ada"), "bob", await banks[1].balance("bob"))

        async with Locks(tables[2]).hold("interest") as held:
            print("one node pays interest, with token", held.token)
        stack.callback(print, "closed in order")
        group.cancel_scope.cancel()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        anyio.run(main, Path(directory), sys.argv[1:] or ["7101", "7102", "7103"])
