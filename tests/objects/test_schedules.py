"""Schedules: each occurrence is begun once; runs do not overlap; what failed is begun again if that is asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import pytest

from raft_core.errors import CallerError
from raft_objects import Objects
from raft_objects.occurrences import Cron, Every
from raft_objects.schedule_table import Run, ScheduleTable
from raft_objects.schedules import Schedule, Schedules

from .cluster import BACKENDS, backends, cluster, run
from .samples import Driver
from .test_locks import Cut

SECOND = 1_000_000_000


def table() -> tuple[ScheduleTable, Driver]:
    made = ScheduleTable()
    driver = Driver(Objects({"jobs": made}, development=True))
    for client in "abc":
        driver.do(made.open_client, client, 10 * SECOND)
    return made, driver


# The table.


def test_occurrence_is_begun_once_and_the_next_after_it_has_ended() -> None:
    jobs, driver = table()
    assert driver.do(jobs.begin, "j", "a", "a1", 100, 1) == Run(100, 1, 1)
    assert driver.do(jobs.begin, "j", "a", "a1", 100, 1) == Run(100, 1, 1)
    assert driver.do(jobs.begin, "j", "b", "b1", 100, 1) is None
    assert driver.do(jobs.begin, "j", "b", "b1", 200, 1) is None
    assert driver.do(jobs.finish, "j", "a1")
    assert not driver.do(jobs.finish, "j", "a1")
    assert driver.do(jobs.begin, "j", "b", "b1", 100, 1) is None
    assert driver.do(jobs.begin, "j", "b", "b1", 200, 1) == Run(200, 1, 2)
    assert driver.ask(jobs.last, "j") == Run(200, 1, 2)


def test_run_that_died_is_begun_again_as_often_as_was_asked() -> None:
    jobs, driver = table()
    driver.do(jobs.begin, "j", "a", "a1", 100, 3)
    driver.do(jobs.begin, "once", "a", "a2", 100, 1)
    driver.time += 9 * SECOND
    driver.do(jobs.renew, "b")
    driver.time += 2 * SECOND

    assert driver.do(jobs.begin, "once", "b", "b0", 100, 1) is None
    assert driver.do(jobs.begin, "j", "b", "b1", 200, 3) == Run(100, 2, 3)
    assert driver.do(jobs.finish, "j", "b1", failed=True)
    assert driver.do(jobs.begin, "j", "b", "b2", 100, 3) == Run(100, 3, 4)
    assert driver.do(jobs.finish, "j", "b2", failed=True)
    assert driver.do(jobs.begin, "j", "b", "b3", 100, 3) is None


def test_job_is_forgotten_unless_it_runs() -> None:
    jobs, driver = table()
    driver.do(jobs.begin, "j", "a", "a1", 100, 1)
    assert not driver.do(jobs.forget, "j")
    driver.do(jobs.finish, "j", "a1")
    assert driver.do(jobs.forget, "j")
    assert driver.do(jobs.begin, "j", "a", "a2", 100, 1) == Run(100, 1, 2)


# When.


def ms(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def test_intervals_are_the_same_times_in_every_process() -> None:
    noon = Every(86_400, 43_200)
    assert noon.before(ms("2026-03-01 11:59:59")) == ms("2026-02-28 12:00")
    assert noon.before(ms("2026-03-01 12:00")) == ms("2026-03-01 12:00")
    assert noon.after(ms("2026-03-01 12:00")) == ms("2026-03-02 12:00")
    with pytest.raises(CallerError):
        Every(0.0)


def test_cron_lines_follow_the_time_zone() -> None:
    nightly = Cron("30 2 * * *", "Europe/Berlin")
    assert nightly.after(ms("2026-03-01 00:00")) == ms("2026-03-01 02:30", "Europe/Berlin")
    assert nightly.before(ms("2026-03-01 00:00")) == ms("2026-02-28 02:30", "Europe/Berlin")
    minutely = Cron("* * * * *")
    assert (minutely.before(119_999), minutely.before(120_000), minutely.after(120_000)) == (60_000, 120_000, 180_000)
    for wrong in ("* * *", "61 * * * *"):
        with pytest.raises(CallerError):
            Cron(wrong)
    with pytest.raises(CallerError):
        Cron("* * * * *", "Mars/Olympus")


def test_day_with_a_change_of_clocks_has_each_job_once() -> None:
    zone = ZoneInfo("Europe/Berlin")
    for day in ("2026-03-29", "2026-10-25"):
        midnight = ms(day, "Europe/Berlin")
        for line in ("30 2 * * *", "15 1 * * *"):
            found = {Cron(line, zone.key).before(midnight + hour * 3_600_000) for hour in range(4, 24)}
            assert len(found) == 1, (day, line)
            (only,) = found
            assert only is not None
            assert datetime.fromtimestamp(only / 1000, UTC).astimezone(zone).date().isoformat() == day


# In a cluster.


@backends
def test_each_occurrence_runs_once_in_the_cluster(backend: tuple[str, str], tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(backend, tmp_path, ScheduleTable) as members:
            runs: list[Run] = []
            inside: list[Run] = []

            async def work(run: Run) -> None:
                assert not inside
                inside.append(run)
                runs.append(run)
                await anyio.sleep(0.01)
                inside.clear()
                if len(runs) >= 6:
                    group.cancel_scope.cancel()

            async with anyio.create_task_group() as group:
                for member in members:
                    group.start_soon(Schedule(Schedules(member.object), "job", Every(0.1)).run, work)
            assert len({run.occurrence for run in runs}) == 6
            assert sorted(runs, key=lambda run: run.token) == sorted(runs, key=lambda run: run.occurrence) == runs
            assert all(run.occurrence % 100 == 0 and run.attempt == 1 for run in runs)

    run(backend, test)


def test_run_whose_lease_is_lost_is_cancelled_and_begun_again_elsewhere(tmp_path: Path) -> None:
    async def test() -> None:
        cuts: list[Cut] = []
        log: list[tuple[int, int, str]] = []

        def wrap(node: object) -> Cut:
            cuts.append(Cut(node))  # type: ignore[arg-type]
            return cuts[-1]

        async with cluster(BACKENDS[0], tmp_path, ScheduleTable, wrap=wrap) as members:
            now = 1000.0

            async def stand(number: int) -> None:
                async def work(run: Run) -> None:
                    log.append((number, run.attempt, "begun"))
                    if run.attempt == 1:
                        cuts[number].cut = True
                        try:
                            await anyio.sleep_forever()
                        finally:
                            log.append((number, run.attempt, "cancelled"))
                    group.cancel_scope.cancel()

                schedules = Schedules(members[number].object, lease=1.0, clock=lambda: now)
                await Schedule(schedules, "job", Every(60.0), attempts=2).run(work)

            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(stand, number)
                await anyio.sleep(0.1)
                now = 1030.0  # the job is due; whoever reads the clock next begins it
                members[0].running.wake("it", "job")
            (first, one, _), (second, *_), (third, two, _) = log
            assert (first, one, two) == (second, 1, 2)
            assert third != first
            for cut in cuts:
                cut.cut = False

    run(BACKENDS[0], test)


def test_missed_occurrences_are_made_up_by_one_run_unless_it_is_too_late(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, ScheduleTable, count=1) as members:
            jobs, times = members[0].object, [1000.0]
            schedules = Schedules(jobs, clock=lambda: times[-1])
            runs: list[int] = []

            async def first(run: Run) -> None:
                runs.append(run.occurrence)
                raise ZeroDivisionError

            async def tick(now: float) -> None:
                await anyio.sleep(0.02)
                times.append(now)
                members[0].running.wake("it", "job")

            for now, late in ((1030.0, 60.0), (5000.0, 60.0), (9010.0, 5.0)):
                times.append(now - 15)  # a process that starts
                with anyio.move_on_after(0.3):
                    async with anyio.create_task_group() as group:
                        group.start_soon(tick, now)
                        with pytest.raises(ZeroDivisionError):
                            await Schedule(schedules, "job", Every(60.0), late=late).run(first)
            assert runs == [1_020_000, 4_980_000]

    run(BACKENDS[0], test)
