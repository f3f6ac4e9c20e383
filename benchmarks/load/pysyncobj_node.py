"""One PySyncObj node with a dictionary, which puts load on itself while it leads: PySyncObj has no client protocol.

    python -m benchmarks.load.pysyncobj_node ADDRESS JOURNAL OTHER,OTHER

Reads lines "CLIENTS SECONDS" from standard input; a leader answers with a line of JSON, another node with "{}".
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import threading
import time
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated

VALUE = "v" * 256
KEYS = 100_000
WARM_UP = 0.5


class Dictionary(SyncObj):  # type: ignore[misc]  # the package has no types
    """A replicated dictionary."""

    def __init__(self, address: str, others: list[str], journal: str) -> None:
        self.items: dict[str, str] = {}
        super().__init__(address, others, SyncObjConf(journalFile=journal, commandsQueueSize=1_000_000))

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: str, value: str) -> None:
        self.items[key] = value


def load(node: Dictionary, clients: int, seconds: float) -> dict[str, float]:
    """Keep `clients` puts in flight; count those answered after the warm-up."""
    begin = time.monotonic() + WARM_UP
    end = begin + seconds
    took: list[float] = []
    total = errors = 0
    over = threading.Event()

    def one() -> None:
        sent = time.monotonic()

        def answered(_: Any, error: int) -> None:
            nonlocal total, errors
            now = time.monotonic()
            if now > end:
                over.set()
                return
            if now > begin:
                total += 1
                errors += error != 0
                if sent > begin:
                    took.append((now - sent) * 1e3)
            one()

        node.put(f"{random.randrange(KEYS):08}", VALUE, callback=answered)

    for _ in range(clients):
        one()
    time.sleep(max(0.0, begin - time.monotonic()))
    print("ready", flush=True)
    over.wait(seconds + 5)
    took.sort()
    return {
        "operations": total,
        "per_second": total / seconds,
        "p50_ms": statistics.median(took) if took else 0.0,
        "p99_ms": took[int(0.99 * (len(took) - 1))] if took else 0.0,
        "errors": errors,
    }


def main() -> None:
    address, journal, others = sys.argv[1:4]
    node = Dictionary(address, others.split(","), journal)
    for line in sys.stdin:
        clients, seconds = line.split()
        leads = node.isReady() and node._isLeader()
        print(json.dumps(load(node, int(clients), float(seconds)) if leads else {}), flush=True)


if __name__ == "__main__":
    main()
