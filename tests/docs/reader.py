"""A reader of a page: saves its files, makes its changes to them, types its commands, and sees their output.

The page marks its blocks: `file: NAME`, `diff: NAME`, `output: COMMAND`, each in a comment on the line before.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raft_kv.demo.cluster import free_ports

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
_PORT = re.compile(r"\b[78][12]\d\d\b")


class Reader:
    """Someone who saves the files of the page in a directory and types its commands."""

    def __init__(self, page: str, directory: Path) -> None:
        self.text = (ROOT / "docs" / page).read_text("utf-8")
        self.directory = directory
        ports = sorted(set(_PORT.findall(self.text)))
        self.ports = dict(zip(ports, free_ports(len(ports)), strict=True))
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}  # a line is one write

    def own(self, text: str) -> str:
        """Return the text with ports that are free."""
        return _PORT.sub(lambda found: str(self.ports[found.group()]), text)

    def block(self, mark: str, language: str) -> str:
        """Return the page's block behind a mark."""
        (found,) = self._blocks(mark, language)
        return found

    def outputs(self, command: str) -> list[str]:
        """Return the outputs that the page shows for a command, in order."""
        return self._blocks(f"output{command}", "text")

    def _blocks(self, mark: str, language: str) -> list[str]:
        pattern = rf"^<!-- {re.escape(mark)} -->\n```{language}\n(.*?)^```"
        return re.findall(pattern, self.text, re.MULTILINE | re.DOTALL)

    def save(self, name: str) -> None:
        (self.directory / name).write_text(self.own(self.block(f"file: {name}", "python")), "utf-8")

    def change(self, name: str, variant: str = "") -> None:
        """Apply the page's change to a file. Every part of it must fit at one place."""
        file = self.directory / name
        text = file.read_text("utf-8")
        for hunk in self.own(self.block(f"diff: {name}{variant}", "diff")).split("@@\n"):
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] in " -")
            assert text.count(before) == 1, before
            text = text.replace(before, "".join(line[1:] for line in lines if line[0] in " +"))
        file.write_text(text, "utf-8")

    def types(self, command: str) -> str:
        """Return the output of a command that ends."""
        done = subprocess.run(
            self.arguments(command),
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def terminals(self, *commands: str) -> Iterator[Terminals]:
        """Run commands until the block is left."""
        terminals = Terminals(self)
        try:
            for command in commands:
                terminals.start(command)
            yield terminals
        finally:
            terminals.close()

    def arguments(self, command: str) -> list[str]:
        word, *others = command.split()
        program = {"python": [sys.executable], "raft-kv": [sys.executable, "-m", "raft_kv"]}[word]
        return [*program, *others]


class Terminals:
    """Processes that are up, and the lines that they print, one after the other (each line is one write)."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.processes: list[subprocess.Popen[bytes]] = []
        self.readable, self.writable = os.pipe()
        self._unread = b""

    def start(self, command: str) -> None:
        """Start `NAME=value ... program argument ...`."""
        words = self.reader.own(command).split()
        settings = dict(word.split("=") for word in words if "=" in word)
        arguments = self.reader.arguments(" ".join(words[len(settings) :]))
        environment = {**self.reader.environment, **settings}
        directory = self.reader.directory
        pipe = subprocess.PIPE  # for a program that waits for a key
        process = subprocess.Popen(arguments, cwd=directory, env=environment, stdin=pipe, stdout=self.writable)
        self.processes.append(process)

    def kill(self, number: int) -> None:
        self.processes[number - 1].kill()
        self.processes[number - 1].wait()

    def line(self, part: str) -> str:
        """Return the next line that has `part`; fail after a minute without one."""
        deadline = time.monotonic() + PATIENCE
        while True:
            line, end, rest = self._unread.partition(b"\n")
            if not end:
                ready, _, _ = select.select([self.readable], [], [], max(0.0, deadline - time.monotonic()))
                assert ready, f"no line with {part!r} within {PATIENCE} s, but {line!r}"
                self._unread += os.read(self.readable, 65536)
                continue
            self._unread = rest
            if part in line.decode():
                return line.decode().strip()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        os.close(self.writable)
        os.close(self.readable)
