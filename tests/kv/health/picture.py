"""`python -m tests.kv.health.picture FILE.png [SECONDS]`: the picture of docs/monitoring.md, from a real cluster.

Three servers on uvloop take writes and reads from eight clients, and Chromium opens the health page of the leader.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from raft_kv.demo.cluster import Cluster, free_ports
from raft_kv.node_client import NodeConnection
from tests.browser import open_browser

__all__ = ["main"]

_CLIENTS = 8
_SIZE = (1240, 1200)


def _work(address: tuple[str, int], over: threading.Event, seed: int) -> None:
    """Write and read until it is over, in bursts, as the clients of a small service do."""
    rng = random.Random(seed)
    connection = NodeConnection(address)
    while not over.is_set():
        for _ in range(rng.randrange(5, 50)):
            key = b"order:%d" % rng.randrange(5000)
            words = (b"SET", key, b"x" * 256) if rng.random() < 0.4 else (b"GET", key)
            connection.say(*words)
        over.wait(rng.random() * 0.2)
    connection.close()


def main(path: Path, seconds: float) -> None:
    """Draw the page after so many seconds of work."""
    ports = free_ports(3)
    others = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    flags = {node: ("--health", str(port), "--health-nodes", others) for node, port in enumerate(ports, 1)}
    over = threading.Event()
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(Path(directory), "uvloop", name="orders", flags=flags) as it,
    ):
        it.found(3)
        it.wait_ready([1, 2, 3])
        leader = it.wait_leader()
        threads = [
            threading.Thread(target=_work, args=(it.addresses[number % 3], over, number)) for number in range(_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        with open_browser(Path(directory) / "profile") as browser:
            browser.open(f"http://127.0.0.1:{ports[leader - 1]}/", *_SIZE)
            time.sleep(4.0)  # it polls once a second
            height = browser.evaluate("Math.ceil(document.querySelector('main').getBoundingClientRect().bottom)")
            browser.resize(_SIZE[0], height)
            path.write_bytes(browser.picture())
        over.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 180.0)
