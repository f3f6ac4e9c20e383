"""Rounds of planned restarts: every node of three in turn is stopped with SIGTERM and started again, under load.

Run it by hand: `python -m tests.adapters.restart_rounds --rounds 10`. Clients write and read at every node without
pause. Those of healthy nodes must see no error at all; those of the node that stops get their answers, and then the end
of the connection, never a reset. Exit status 1 where that is not so. The longest time that a request of a healthy node
took is printed, because it depends on the machine.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from raft_kv.demo.cluster import Cluster, Member

__all__ = ["Client", "Outcome", "main", "restart_all"]


@attrs.define(eq=False)
class Client:
    """One client of one node: writes and reads its own key, one request at a time."""

    member: Member
    number: int
    stopping: threading.Event
    answered: int = 0
    ends: int = 0
    """How often the node ended the connection in good order."""
    errors: list[str] = attrs.field(factory=list)
    """Error replies, resets, and answers that are wrong."""
    longest: float = 0.0
    """Seconds that a request took which was answered."""

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with socket.create_connection(self.member.address, timeout=10) as connection:
                    self._talk(connection)
            except ConnectionRefusedError:
                time.sleep(0.01)  # it is being started
            except OSError as failure:
                self.errors.append(f"node {self.member.node}: {failure!r}")

    def _talk(self, connection: socket.socket) -> None:
        key, number = b"restart:%d" % self.number, 0
        with connection.makefile("rb") as replies:
            while not self.stopping.is_set():
                number += 1
                began = time.monotonic()
                connection.sendall(b"SET %b %d\r\nGET %b\r\n" % (key, number, key))
                if not self._reads(replies.readline(), b"+OK\r\n"):
                    return
                value = b"%d" % number
                length = replies.readline()
                if not self._reads(length, b"$%d\r\n" % len(value)):
                    return
                self._reads(replies.readline(), value + b"\r\n")
                self.longest = max(self.longest, time.monotonic() - began)
                self.answered += 1

    def _reads(self, got: bytes, expected: bytes) -> bool:
        if got == expected:
            return True
        if not got:
            self.ends += 1
        else:
            self.errors.append(f"node {self.member.node}: {got!r} instead of {expected!r}")
        return False


@attrs.frozen
class Outcome:
    """What became of the clients while every node was restarted once. Times in seconds."""

    answered: int
    ends: int
    errors: tuple[str, ...]
    longest: float


def restart_all(cluster: Cluster, *, clients: int = 2, leader_first: bool = False) -> Outcome:
    """Every node is restarted once; `clients` talk to each all the time."""
    everybody: list[Client] = []
    done = threading.Event()
    for member in cluster.members.values():
        everybody += [Client(member, len(everybody) + number, done) for number in range(clients)]
    threads = [threading.Thread(target=client.run, daemon=True) for client in everybody]
    for thread in threads:
        thread.start()
    try:
        nodes = sorted(cluster.members)
        if leader_first:
            leader = cluster.wait_leader()
            nodes = [leader, *(node for node in nodes if node != leader)]
        for node in nodes:
            time.sleep(0.3)
            cluster.stop([node])
            cluster.start(node)
            cluster.wait_ready([node])
        time.sleep(0.3)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    errors = [error for client in everybody for error in client.errors]
    return Outcome(
        sum(client.answered for client in everybody),
        sum(client.ends for client in everybody),
        tuple(errors),
        max(client.longest for client in everybody),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays the rounds; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, metavar="N")
    parser.add_argument("--clients", type=int, default=4, metavar="N", help="of each node")
    parser.add_argument("--loop", choices=("trio", "asyncio", "uvloop"), default="trio")
    options = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="raft-kv-restart-"))
    outcomes: list[Outcome] = []
    try:
        with Cluster(directory, options.loop) as cluster:
            cluster.found(3)
            cluster.wait_ready([1, 2, 3])
            for number in range(options.rounds):
                outcome = restart_all(cluster, clients=options.clients, leader_first=True)
                outcomes.append(outcome)
                longest = f"longest {1000 * outcome.longest:.0f} ms"
                print(f"round {number + 1}: {outcome.answered} answered, {outcome.ends} ends, {longest}", flush=True)
                for error in outcome.errors:
                    print(f"  {error}", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    errors = sum(len(outcome.errors) for outcome in outcomes)
    answered = sum(outcome.answered for outcome in outcomes)
    worst = max(outcome.longest for outcome in outcomes)
    print(f"{3 * len(outcomes)} restarts, {answered} answered, {errors} errors, longest {1000 * worst:.0f} ms")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
