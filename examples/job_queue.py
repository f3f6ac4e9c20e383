"""A job queue in three processes, one of which is killed while it works: no job is lost.

    python examples/job_queue.py                 # starts three, kills one with SIGKILL, starts it again
    python examples/job_queue.py --node 1 --data DIRECTORY

Every process runs a node and a worker. A job that a killed worker had taken is delivered again after its visibility
timeout; a job is recorded in the cluster before it is acknowledged, so it may be done twice, but never not at all.
On trio: `raft_trio` in place of `raft_anyio`, and `trio.run` in place of `anyio.run`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
import attrs

from raft_anyio import Node, NodeConfig, OutcomeUnknown, Refused, serve
from raft_objects import Objects, Replicated, command, query
from raft_objects.queue_table import QueueTable
from raft_objects.queues import DeliveryEnded, Queue

JOBS = 30
VISIBILITY = 2.0


@attrs.frozen
class Job:
    name: str
    seconds: float = 0.05


class Results(Replicated):
    def __init__(self) -> None:
        self.workers: dict[str, list[int]] = {}

    @command
    def record(self, job: str, worker: int) -> None:
        self.workers.setdefault(job, []).append(worker)

    @query
    def jobs_done(self) -> int:
        return len(self.workers)


async def work(number: int, ports: list[int], directory: Path) -> None:
    members = {node: f"127.0.0.1:{port}" for node, port in enumerate(ports, 1)}
    objects, results = Objects(), Results()
    table = objects.add("jobs", QueueTable[Job](attempts=0))
    objects.add("results", results)
    jobs = Queue(table)

    async def worker() -> None:
        while True:
            try:
                async with jobs.taking(visibility=VISIBILITY) as message:
                    await anyio.sleep(message.item.seconds)
                    await results.record(message.item.name, number)
                print(f"node {number} did {message.item.name}, delivery {message.delivery}", flush=True)
            except DeliveryEnded:  # it took too long, and another worker has it as well
                pass
            except (Refused, OutcomeUnknown):  # no majority for 30 s, or a lost answer: the job is delivered again
                await anyio.sleep(0.1)

    async def app(node: Node) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(worker)
            if number == 1 and await results.jobs_done() == 0:
                for job in range(JOBS):
                    await jobs.put(Job(f"job-{job}"))
            while await results.jobs_done() < JOBS:
                await anyio.sleep(0.2)
            print(f"node {number} sees all {JOBS} jobs done", flush=True)

    await serve(NodeConfig(number, members, data=directory / f"node-{number}"), objects, app)
    print(f"node {number} ended in order", flush=True)


def start(number: int, ports: list[int], directory: str) -> subprocess.Popen[str]:
    arguments = ["--node", str(number), "--ports", ",".join(map(str, ports)), "--data", directory]
    return subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)


def demonstrate(ports: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        processes = {number: start(number, ports, directory) for number in (1, 2, 3)}
        try:
            second = processes[2].stdout
            assert second is not None
            for line in second:
                print(line, end="", flush=True)
                if line.startswith("node 2 did"):
                    break
            processes[2].kill()  # SIGKILL, most likely in the middle of its next job
            processes[2].wait()
            print("node 2 was killed", flush=True)
            processes[2] = start(2, ports, directory)
            for until in ("jobs done\n", "ended in order\n"):
                if until.startswith("ended"):
                    for process in processes.values():
                        process.terminate()
                for process in processes.values():
                    assert process.stdout is not None
                    for line in process.stdout:
                        print(line, end="", flush=True)
                        if line.endswith(until):
                            break
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A job queue in three processes.")
    parser.add_argument("--node", type=int, default=0)
    parser.add_argument("--ports", default="7101,7102,7103")
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    ports = [int(port) for port in given.ports.split(",")]
    if given.node:
        anyio.run(work, given.node, ports, given.data)
    else:
        demonstrate(ports)
