"""Examples as processes, started as their users start them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

EXAMPLES: Final = Path(__file__).parents[2] / "examples"


def started(name: str, *arguments: str, out: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start an example, with its output to be read line by line, or in the file `out`."""
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *arguments],
        stdout=out,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PYTHONPATH": str(EXAMPLES.parent), "PATH": os.defpath, "PYTHONUNBUFFERED": "1"},
    )


@contextmanager
def ended(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """Kill what still runs at the end of the block; if the block failed, show what the processes said."""
    failed = True
    try:
        yield
        failed = False
    finally:
        for process in processes:
            process.kill()
            out, _ = process.communicate()
            if failed:
                print(out)


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Read lines until one contains `text`; return it. Raise `EOFError` if the process ends before."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line.strip()
    raise EOFError(text)
