"""The board of the demo on terminals of any size: no line wraps, and everything is on the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from rich.cells import cell_len
from rich.console import Console

from raft_kv.demo.board import Board, Row, draw, lines_beside_events

LONG = "1,234 ms later the next write was acknowledged; node 2 leads, and all others have caught up by now"


def board(nodes: int = 5) -> Board:
    rows = [Row(node, f"127.0.0.1:5{node:04}", "follower", 12, 1_234_567, 1_234_567, 99_999) for node in range(nodes)]
    whole = Board("5 nodes on uvloop, store sqlite, 16 clients, and a long title that goes on and on and on", rows)
    whole.curve = [float(number) for number in range(72)]
    whole.rate, whole.acknowledged, whole.elapsed, whole.pause, whole.lost = 12_345.0, 1_234_567, 20.0, 0.743, 0
    whole.marks = [(24.0, "kill -9 of the leader")]
    whole.told = [(float(number), LONG) for number in range(30)]
    whole.try_next = "raft-kv demo --story membership"
    return whole


def test_mark_stands_below_the_dip_of_its_moment() -> None:
    whole = board()
    whole.curve, whole.part = [100.0] * 36 + [0.0] + [100.0] * 35, 0.25
    whole.marks = [(9.1, "kill -9"), (17.9, "no room for these words")]
    console = Console(width=96, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(draw(whole, 2, 96))
    _, _, curve, signs, *_ = capture.get().splitlines()

    place = signs.index("▲ kill -9")
    assert curve[place - 1 : place + 2] == "█ █"
    assert signs.rstrip().endswith("▲")


def drawn(width: int, height: int, nodes: int = 5) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    events = max(2, height - 1 - lines_beside_events(board(nodes), width))
    with console.capture() as capture:
        console.print(draw(board(nodes), events, width))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize("width", [60, 72, 80, 84, 96, 200])
@pytest.mark.parametrize("nodes", [3, 5])
def test_no_line_of_the_board_wraps(width: int, nodes: int) -> None:
    lines = drawn(width, 24, nodes)

    assert len(lines) <= 24
    assert max(cell_len(line) for line in lines) <= width
    assert lines[0].startswith("raft-kv demo")
    events = [line for line in lines if " s  1,234" in line]
    assert len(events) >= 2
    first = lines.index(events[0])
    assert lines[first : first + len(events)] == events
    assert lines[first - 1] == lines[first + len(events)] == ""
    table = lines[5 : 6 + nodes]
    assert [line.split()[0] for line in table] == ["node", *map(str, range(nodes))]
    numbers = ["1,234,567", "99,999"] if width < 68 else ["1,234,567", "1,234,567", "99,999"]
    assert table[1].split()[-len(numbers) :] == numbers
    assert any("failover: from kill -9 to the next acknowledged write" in line for line in lines)
    assert any(re.search(r"\b0 lost", line) for line in lines)
    assert lines[-1] == "try next  raft-kv demo --story membership"


@pytest.mark.parametrize("width", [60, 96])
def test_last_picture_has_every_word_of_its_events(width: int) -> None:
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(draw(board(), 3, width, wraps=True))
    lines = capture.get().splitlines()
    assert max(map(cell_len, lines)) <= width
    assert " ".join(capture.get().split()).count(LONG) == 3


PROGRAM = """
from raft_kv.demo.display import choose
from tests.kv.test_demo_board import board
with choose() as display:
    for _ in range(3):
        display.show(board())
"""


def test_board_stays_where_it_is_on_a_terminal_of_60_by_24() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    names = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    surroundings = {name: value for name, value in os.environ.items() if name not in names}
    surroundings |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=surroundings, stdin=slave, stdout=slave)
    os.close(slave)
    data = b""
    while True:
        try:
            data += os.read(master, 65536)
        except OSError:  # Linux reports the end of the last process like this
            break
    os.close(master)

    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode()).replace("\r", "\n")
    lines = text.split("\n")
    assert max(map(cell_len, lines)) <= 60
    assert text.count("try next  raft-kv demo --story membership") >= 3
    plain = re.sub(r"\x1b\[[0-9;]*m", "", data.decode())
    ups = [len(re.findall(r"\x1b\[1A", part)) for part in plain.split("raft-kv demo   ")[1:3]]
    assert ups[0] == ups[1] <= 23
