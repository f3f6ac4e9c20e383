"""A replicated number in a program without an event loop, one process per node, until SIGTERM or SIGINT.

python examples/counter_blocking.py 1 data-1 localhost:7101 localhost:7102 localhost:7103

and the same with 2 and 3. A cluster of one needs one address only. Each start adds to the number.
"""

from __future__ import annotations

import signal
import sys
import threading

from raft_anyio import NodeConfig
from raft_objects import Replicated, blocking, command, query


class Counter(Replicated):
    def __init__(self) -> None:
        self.total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total

    @query
    def present(self) -> int:
        return self.total


def main(node: int, data: str, *addresses: str) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the block below is left
    counter = Counter()
    config = NodeConfig(node, dict(enumerate(addresses, 1)), data=data)
    try:
        with blocking.open_objects(config, counter) as cluster:
            threads = [threading.Thread(target=cluster.call, args=(counter.add, 1)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print("total", cluster.call(counter.present), flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("ended in order")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
