"""Rounds of {start three nodes, write, kill -9 one at a random moment, restart it}, each with a full check.

Run it by hand: `python -m tests.adapters.kill_rounds --rounds 100 --seed 1`. Exit status 1 if an acknowledged write is
missing on any node, or a node does not come back; the data of such a round is kept, and its directory printed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from raft_kv.demo.cluster import Cluster
from raft_kv.demo.load import Load, check

__all__ = ["RoundResult", "main", "play_round"]


@attrs.frozen
class RoundResult:
    """What one round came to."""

    victim: int
    led: bool
    acknowledged: int
    lost: int


def play_round(directory: Path, rng: random.Random, *, loop: str = "trio", clients: int = 4) -> RoundResult:
    """One round in an empty directory. Raises where a node dies unasked or does not come back."""
    with Cluster(directory, loop) as cluster:
        cluster.found(3)
        cluster.wait_ready([1, 2, 3])
        load = Load(cluster.addresses, clients)
        load.start()
        try:
            time.sleep(rng.uniform(0.0, 0.7))  # the random moment: not a wait for anything
            leader, victim = cluster.wait_leader(), rng.choice([1, 2, 3])
            cluster.kill(victim)
            time.sleep(rng.uniform(0.0, 0.5))
            cluster.start(victim)
            cluster.wait_ready([1, 2, 3])
        finally:
            load.stop()
        written = list(load.written())
        lost = max(len(check(member.node, member.address, written).keys) for member in cluster.members.values())
    return RoundResult(victim, victim == leader, len(written), lost)


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays the rounds; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--loop", choices=("trio", "asyncio", "uvloop"), default="trio")
    options = parser.parse_args(arguments)
    results: list[RoundResult] = []
    began = time.monotonic()
    for number in range(options.rounds):
        seed = options.seed * 1_000_003 + number
        directory = Path(tempfile.mkdtemp(prefix="raft-kv-kill-"))
        result = play_round(directory, random.Random(seed), loop=options.loop)
        results.append(result)
        who = f"node {result.victim}{' (leader)' if result.led else ''}"
        print(f"round {number + 1}: killed {who}, {result.acknowledged} acknowledged, {result.lost} lost", flush=True)
        if result.lost:
            print(f"seed {seed}; the data is in {directory}", flush=True)
            return 1
        shutil.rmtree(directory)
    total, leaders = sum(result.acknowledged for result in results), sum(result.led for result in results)
    took = time.monotonic() - began
    print(f"{len(results)} rounds in {took:.0f} s, {leaders} leaders killed, {total} writes acknowledged, lost 0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
