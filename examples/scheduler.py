"""Jobs at certain times, as Celery beat has them, without a beat process: every process is equal, each job runs once.

    python examples/scheduler.py 1 jobs-1 localhost:7101 localhost:7102 localhost:7103   # and 2, and 3

Each process knows the table `BEAT` and runs a node. When a job is due, one of them puts it into a replicated queue, and
whichever worker is free takes it. If a process dies, the others go on; what it was working on is delivered again.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import anyio
import attrs

from raft_anyio import Node, NodeConfig, serve
from raft_objects import Objects
from raft_objects.occurrences import Every, Occurrences
from raft_objects.queue_table import QueueTable
from raft_objects.queues import DeliveryEnded, Queue
from raft_objects.schedule_table import Run, ScheduleTable
from raft_objects.schedules import Schedule, Schedules

BEAT: dict[str, Occurrences] = {
    "measure": Every(0.5),
    "report": Every(86_400, offset=3 * 3600),  # or Cron("0 3 * * *", "Europe/Berlin"), with the extra cron
}


@attrs.frozen
class Task:
    job: str
    due: int


async def main(node: int, data: str, addresses: list[str]) -> None:
    objects = Objects()
    schedules = Schedules(objects.add("schedules", ScheduleTable()))
    tasks = Queue(objects.add("tasks", QueueTable[Task]()))

    async def keep(job: str, when: Occurrences) -> None:
        """Put a job into the queue whenever it is due and this process is the first to say so."""

        async def put(run: Run) -> None:
            await tasks.put(Task(job, run.occurrence))

        await Schedule(schedules, job, when).run(put)

    async def work() -> None:
        while True:
            try:
                async with tasks.taking(visibility=30) as message:
                    due = datetime.fromtimestamp(message.item.due / 1000, UTC)
                    print(f"{message.item.job} of {due:%H:%M:%S.%f} on node {node}", flush=True)
            except DeliveryEnded:  # it took more than 30 s, and another worker has it as well
                continue

    async def app(_: Node) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            for job, when in BEAT.items():
                group.start_soon(keep, job, when)

    await serve(NodeConfig(node, dict(enumerate(addresses, 1)), data=data), objects, app)
    print("ended in order")


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), sys.argv[2], sys.argv[3:])
