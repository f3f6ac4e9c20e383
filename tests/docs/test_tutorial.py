"""The tutorial, step by step as a reader does it: its files, its changes to them, its commands and their output."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import pytest

from .reader import Reader


def commands(reader: Reader, program: str) -> list[str]:
    """Return the lines that start three processes of a program without settings."""
    found = re.findall(rf"^python {program} [123] .*$", reader.text, re.MULTILINE)
    assert len(found) == 3
    return found


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader("tutorial.md", tmp_path)


def test_counter_goes_on_after_restart_and_on_three_nodes(reader: Reader) -> None:
    reader.save("counter.py")
    shown = reader.outputs(": python counter.py")
    assert [reader.types("python counter.py") for _ in shown] == shown

    reader.change("counter.py")
    (reader.directory / "counter-1").rename(reader.directory / "old")
    started = commands(reader, "counter.py")
    with reader.terminals(*started) as nodes:
        totals = [nodes.line("total") for _ in started]
        nodes.kill(2)
        nodes.start(started[1])
        totals.append(nodes.line("total"))

    assert sorted(totals) == ["total 1", "total 2", "total 3", "total 4"]


def test_bank_prints_what_the_page_shows(reader: Reader) -> None:
    reader.save("bank.py")

    assert [reader.types("python bank.py")] == reader.outputs(": python bank.py")


def test_jobs_of_killed_worker_are_done_by_others(reader: Reader) -> None:
    reader.save("jobs.py")
    with reader.terminals(*commands(reader, "jobs.py")) as nodes:
        nodes.line("worker 2 did")
        nodes.kill(2)
        assert nodes.line("no job is left")


@pytest.mark.parametrize("variant", ["", "clock", "token"])
def test_simulator_passes_the_queue_and_finds_the_planted_mistakes(reader: Reader, variant: str) -> None:
    reader.save("jobs.py")
    reader.save("check_jobs.py")
    if variant:
        reader.change("jobs.py", f" as {variant}")
    command = "python check_jobs.py 1"
    (shown,) = reader.outputs(f" of {variant}: {command}" if variant else f": {command}")
    found = reader.types(command)

    for line in shown.splitlines():
        assert line in found


def test_production_has_certificates_readiness_and_metrics(reader: Reader) -> None:
    reader.save("jobs.py")
    reader.change("jobs.py")
    for line in reader.block("shell", "sh").splitlines():
        reader.types(line)
    with reader.terminals(*reader.block("cluster: production", "sh").splitlines()) as nodes:
        done = [nodes.line(f"worker {number} did") for number in (1, 2, 3)]
        port = reader.ports["8121"]
        ready = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read()
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()

    assert len(done) == 3
    assert ready == b"ready\n"
    secure = re.findall(r"^raft_peer_secure\{.*\} (\d)", metrics, re.MULTILINE)
    assert secure == ["1", "1"]
