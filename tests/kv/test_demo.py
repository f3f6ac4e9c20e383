"""The demo itself, told once, and a few rounds of killing: real processes, real disks."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import final
from xml.etree import ElementTree

import pytest

from raft_kv.cli import main
from raft_kv.demo.admin import Operator
from raft_kv.demo.board import big, sparkline
from raft_kv.demo.cluster import Cluster, Member
from raft_kv.demo.load import Load
from raft_kv.demo.scenarios import DemoOptions, _Story
from raft_kv.node_client import wait_until
from tests.adapters.kill_rounds import play_round

pytestmark = pytest.mark.slow


@final
class Terminal:
    """A process on a pseudo terminal of its own, and what it has printed there."""

    def __init__(self, arguments: list[str], temporary: Path) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        surroundings = {**os.environ, "TMPDIR": str(temporary), "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", LEAD_TERMINAL, *arguments],
            env=surroundings,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.printed = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def read_until(self, text: str) -> str:
        """Return all that was printed, once this text was; at the end of the process in any case."""
        while text not in self.printed:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # Linux reports the end of the last process like this
                break
            if not data:
                break
            self.printed += self._decoder.decode(data)
        return self.printed

    def close(self) -> None:
        """Close the terminal, as by the cross of its window."""
        os.close(self.master)


LEAD_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from raft_kv.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def test_demo_on_a_terminal_kills_the_leader_and_draws_what_happened(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    arguments = ["demo", "--seconds", "3", "--clients", "2", "--data", str(tmp_path / "demo"), "--record", str(picture)]
    terminal = Terminal(arguments, tmp_path)
    printed = terminal.read_until("never printed")
    assert terminal.process.wait() == 0, printed
    terminal.close()

    assert "\x1b[1;32m0 lost" in printed
    frames = [COLOURS.sub("", frame) for frame in re.split(r"(?:\x1b\[2K(?:\x1b\[1A)?)+", printed)]
    stories = {"elected": "failover", "SIGKILL": "down", "is started again": "starting", "start again from": "starting"}
    for sentence, role in stories.items():  # the table follows the story while it waits
        during = [frame for frame in frames if sentence in frame]
        assert len({re.sub(r"^[^▁-█]*$", "", frame) for frame in during}) > 1, sentence
        assert any(role in frame for frame in during), sentence
    waiting = [line for frame in frames for line in frame.splitlines() if re.search(r"\b(starting|down) *$", line)]
    assert waiting
    assert not [line for frame in frames for line in frame.splitlines() if re.search(r"(follower|leader) +0", line)]
    last = frames[-1]
    assert re.search(r"[┏╺╻].* ms", last.replace("\r\n", " ")), "the failover is no big number"
    assert "try next  raft-kv demo --story membership" in last

    assert re.search(r"^ *▲ kill -9 of the leader *\r?$", last, re.MULTILINE)

    drawn = picture.read_text(encoding="utf-8")
    assert not re.search(r"[▁-█┏┓┗┛┃]", drawn), "curve and digits depend on the reader's font"
    assert len(re.findall(r"M[\d.]+ [\d.]+h12", drawn)) > 30, "the curve is not drawn"
    words = "".join(ElementTree.fromstring(drawn).itertext()).replace("\u00a0", " ")
    assert "0 lost" in words
    assert "SIGKILL to node" in words
    assert "http" not in drawn.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert len(drawn) < 100_000


def test_closed_terminal_leaves_no_server_and_no_directory(tmp_path: Path) -> None:
    terminal = Terminal(["demo", "--seconds", "60", "--clients", "1"], tmp_path)
    terminal.read_until("was elected")
    assert list(tmp_path.glob("raft-kv-demo-*/node-*/*"))
    terminal.close()
    assert terminal.process.wait(20) != 0
    assert wait_until(lambda: not list(tmp_path.iterdir()), 20.0)


def test_demo_refuses_a_picture_that_cannot_be_written_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nowhere" / "demo.svg"
    assert main(["demo", "--record", str(path), "--data", str(tmp_path / "demo")]) != 0
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("before", [None, "an earlier picture"])
@pytest.mark.parametrize(("number", "status"), [(None, 130), (signal.SIGTERM, 143)])
def test_interrupted_demo_says_so_and_keeps_a_picture(
    number: int | None, status: int, before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "demo.svg"
    if before is not None:
        path.write_text(before, "utf-8")
    seen: list[str | None] = []

    def interrupt(story: _Story) -> None:
        seen.append(path.read_text("utf-8") if path.exists() else None)
        story._tell("the story so far")
        raise KeyboardInterrupt(*([] if number is None else [number]))

    monkeypatch.setattr(_Story, "_begin", interrupt)
    assert main(["demo", "--record", str(path), "--data", str(tmp_path / "demo")], {}) == status
    assert seen == [before], "nothing is written before the end"
    words = "".join(ElementTree.fromstring(path.read_text("utf-8")).itertext()).replace("\u00a0", " ")
    assert "the story so far" in words
    assert "interrupted" in words
    assert [each.name for each in tmp_path.iterdir()] == ["demo.svg"]


def test_curve_shows_pauses_as_gaps() -> None:
    assert sparkline([0, 1, 8, 16, 12, 0.1]) == ("   ▇▃ ", " ▁███▁")
    assert sparkline([]) == ("", "")
    assert sparkline([0, 0]) == ("  ", "  ")
    assert big(70) == ("╺━┓ ┏━┓", "  ┃ ┃ ┃", "  ╹ ┗━┛")


def test_load_divides_its_writes_into_parts_of_time() -> None:
    load = Load([], 1)
    load._samples[:] = [(10.0, 0), (11.0, 100), (12.0, 100), (13.0, 400)]
    assert load.curve(10, 1.0) == [100.0, 0.0, 300.0]
    assert load.curve(10, 0.5) == [100.0, 100.0, 0.0, 0.0, 300.0, 300.0]
    assert load.curve(2, 1.0) == [0.0, 300.0]


def test_the_members_can_all_change_under_load_without_a_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["demo", "--story", "membership", "--seconds", "2", "--clients", "1"]
    status = main([*arguments, "--data", str(tmp_path / "demo")])
    told = capsys.readouterr().out
    assert status == 0, told
    assert told.count("was removed") == 3
    assert re.search(r"^lost +0$", told, re.MULTILINE)
    assert re.search(r"^failover +\d+ ms$", told, re.MULTILINE)
    assert "try next  raft-kv demo" in told


def test_a_killed_node_comes_back_with_every_acknowledged_write(tmp_path: Path) -> None:
    result = play_round(tmp_path / "round", random.Random(11))  # `python -m tests.adapters.kill_rounds` plays many
    assert result.acknowledged > 0
    assert result.lost == 0


def test_a_demo_that_makes_no_sense_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--nodes", "2"]) != 0
    assert "at least 3 nodes" in capsys.readouterr().err
    (tmp_path / "something").touch()
    assert main(["demo", "--data", str(tmp_path)]) != 0
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_demo_that_dies_leaves_no_server_and_no_directory(tmp_path: Path, death: signal.Signals) -> None:
    command = [sys.executable, "-m", "raft_kv", "demo", "--seconds", "60", "--clients", "1"]
    surroundings = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, start_new_session=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if b"was elected" in line:
                break
        (directory,) = tmp_path.glob("raft-kv-demo-*")
        locks = list(directory.glob("node-*/*"))
        assert locks
        demo.send_signal(death)
        demo.wait(20)
    assert wait_until(lambda: not list(tmp_path.iterdir()), 20.0), "the guard removes it when the last server is gone"


def test_node_that_has_restored_nothing_is_shown_as_starting(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.members[1] = Member(1, 1, 2, tmp_path / "node-1")
    story = _Story(DemoOptions(), cluster)
    status = {"role": "follower", "term": 0, "commit": 0, "applied": 0, "keys": 0}
    rows = [story._row(1, status), story._row(1, {**status, "commit": 7, "applied": 7, "term": 2}), story._row(1, None)]

    assert [(row.role, row.known) for row in rows] == [("starting", False), ("follower", True), ("down", False)]


def test_operator_shows_the_nodes_while_it_waits(tmp_path: Path) -> None:
    looks: list[int] = []
    operator = Operator(Cluster(tmp_path), lambda _: None, lambda: looks.append(1))
    operator._wait(lambda: len(looks) > 2, "never")

    assert len(looks) == 3
