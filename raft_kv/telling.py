"""Write lines to standard output and standard error without ever blocking the caller.

A pipe that is not read from fills up, and then a plain write blocks whoever writes. Here only a thread writes. What
waits for it is bounded: beyond that, lines are dropped and counted, and the count is written once there is room. The
log of a running server is the standard library's `logging`, so that other packages' records (such as asyncio's) take
the same way.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Final, TextIO, final

__all__ = ["LOG", "LineWriter", "announce", "flush", "log_to_stderr", "tell"]

LOG: Final = logging.getLogger("raft_kv")
"""The log of a running server; `log_to_stderr` gives it its form."""

_MOST_WAITING: Final = 256 * 1024
"""Bytes that wait for one stream's thread."""


@final
class LineWriter:
    """Write to one file descriptor from a thread of its own. `put` never waits."""

    def __init__(self, descriptor: int, *, most_waiting: int = _MOST_WAITING) -> None:
        self._descriptor: Final = descriptor
        self._most: Final = most_waiting
        self._changed: Final = threading.Condition()
        self._waiting: Final[deque[bytes]] = deque()
        self._bytes = 0  # that wait, and those being written
        self._dropped = 0
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """How many lines were dropped since the last time that this was written."""
        return self._dropped

    def put(self, line: str) -> bool:
        """Have the line written. Return False where it was dropped, because too much waits."""
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        with self._changed:
            if self._bytes and self._bytes + len(data) > self._most:
                self._dropped += 1
                return False
            data = self._note_of_dropped() + data
            self._bytes += len(data)
            self._waiting.append(data)
            if self._thread is None:
                # A daemon: at the end of the process nobody waits for a pipe that is not read from.
                self._thread = threading.Thread(target=self._write_all, name="lines", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return True

    def flush(self, timeout: float) -> bool:
        """Wait until everything is written, for `timeout` seconds at most. Return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._bytes, timeout)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting.popleft()
                size = len(data)
                if not self._waiting:
                    data += self._note_of_dropped()
            self._write(data)
            with self._changed:
                self._bytes -= size
                self._changed.notify_all()

    def _note_of_dropped(self) -> bytes:
        """Return what stands in the place of the lines that were dropped since the last note."""
        count, self._dropped = self._dropped, 0
        return b"(%d lines were dropped here: this log was not read)\n" % count if count else b""

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # another process has made the open file non-blocking
                select.select([], [self._descriptor], [], 1.0)
            except OSError:  # a pipe without a reader, a full disk: the line is lost
                return


@final
class _ToStream(logging.Handler):
    """Hand each record to the writer of standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _put(sys.stderr, self.format(record))
        except Exception:  # a record that cannot be formatted is a mistake of its author, not a reason to end
            _put(sys.stderr, f"a log record of {record.name} could not be formatted: {record.msg!r}")


def log_to_stderr() -> None:
    """Send every record of this process to standard error, with its time (UTC) and level."""
    handler = _ToStream()
    form = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    LOG.setLevel(logging.INFO)


def tell(line: str) -> None:
    """Write the line to standard error, if that can still be written to."""
    _put(sys.stderr, line)


def announce(line: str) -> None:
    """Write the line to standard output, if that can still be written to."""
    _put(sys.stdout, line)


def flush(timeout: float = 1.0) -> None:
    """Wait until what was told is written, for `timeout` seconds at most for each stream."""
    for writer in list(_WRITERS.values()):
        writer.flush(timeout)


_WRITERS: Final[dict[int, LineWriter]] = {}


def _put(stream: TextIO | None, line: str) -> None:
    """Give the line to the thread of the stream's descriptor; one without a descriptor lives in memory."""
    if stream is None:  # a process without a console
        return
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            print(line, file=stream, flush=True)
        return
    if descriptor not in _WRITERS:
        _WRITERS[descriptor] = LineWriter(descriptor)
    _WRITERS[descriptor].put(line)
