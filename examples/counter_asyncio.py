"""A replicated number on asyncio, one process per node, until SIGTERM or SIGINT.

python examples/counter_asyncio.py 1 data-1 localhost:7101 localhost:7102 localhost:7103

and the same with 2 and 3. A cluster of one needs one address only. Each start adds to the number.
"""

from __future__ import annotations

import asyncio
import sys

from raft_anyio import Node, NodeConfig, serve
from raft_objects import Replicated, command


class Counter(Replicated):
    def __init__(self) -> None:
        self.total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total


async def main(node: int, data: str, *addresses: str) -> None:
    counter = Counter()

    async def app(raft: Node) -> None:
        print("total", await counter.add(1), flush=True)
        await raft.wait_finished()

    await serve(NodeConfig(node, dict(enumerate(addresses, 1)), data=data), counter, app)
    print("ended in order")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
