"""The log: lines to standard output and standard error, written without ever blocking the caller.

A pipe without a reader fills up, and then a plain write blocks the writer. So only a thread writes. The lines waiting
for it are bounded; further lines are dropped and counted, and the count is written once there is room.

A running server logs by the standard library's `logging`, so records of other packages (such as asyncio's) are treated
alike. A record is a line of text, or one JSON object per line.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TextIO, final

__all__ = ["FORMATS", "LEVELS", "LOG", "LineWriter", "flush", "log_to_stderr", "print_error", "print_line"]

LOG: Final = logging.getLogger("raft_kv")
"""The log of a running server, once `log_to_stderr` was called. A record's `fields` has the details of an event."""

FORMATS: Final = ("text", "json")
LEVELS: Final = ("debug", "info", "warning", "error")

_MOST_WAITING: Final = 256 * 1024
"""Bytes waiting for one stream's thread."""


def _note_as_text(count: int) -> str:
    return f"({count} lines were dropped here: this log was not read)"


def _note_as_json(count: int) -> str:
    return json.dumps({"level": "warning", "event": "lines_dropped", "lines": count})


@final
class LineWriter:
    """Write lines to a file descriptor from a thread. `put` never waits."""

    def __init__(self, descriptor: int, *, most_waiting: int = _MOST_WAITING) -> None:
        self.note: Callable[[int], str] = _note_as_text
        """Returns the line that stands for so many dropped lines."""
        self._descriptor: Final = descriptor
        self._most: Final = most_waiting
        self._changed: Final = threading.Condition()
        self._waiting: Final[deque[bytes]] = deque()
        self._bytes = 0  # waiting or being written
        self._dropped = 0
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """Lines dropped since the last note of dropped lines."""
        return self._dropped

    def put(self, line: str) -> bool:
        """Queue the line. Return False if it was dropped, because too many bytes wait."""
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        with self._changed:
            if self._bytes and self._bytes + len(data) > self._most:
                self._dropped += 1
                return False
            data = self._note_of_dropped() + data
            self._bytes += len(data)
            self._waiting.append(data)
            if self._thread is None:
                # A daemon, so a pipe without a reader does not hold up the end of the process.
                self._thread = threading.Thread(target=self._write_all, name="lines", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return True

    def flush(self, timeout: float) -> bool:
        """Wait until all lines are written, for `timeout` seconds at most. Return whether they are."""
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
        """Return the line that stands for the lines dropped since the last note; empty if there were none."""
        count, self._dropped = self._dropped, 0
        return f"{self.note(count)}\n".encode() if count else b""

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
    """Queues each record for standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # a defect of the record's author must not end the server
            line = f"a log record of {record.name} could not be formatted: {record.msg!r}"
        _put(sys.stderr, line)


class _Text(logging.Formatter):
    """Time (UTC), level, node, term if known, message."""

    def __init__(self, node: int) -> None:
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._node: Final = node

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the line without a traceback."""
        fields = _fields_of(record)
        term = f" term={fields['term']}" if fields.get("term") else ""
        return f"{_time(self, record)} {record.levelname} node={self._node}{term} {record.getMessage()}"


@final
class _Json(_Text):
    """The same as a JSON object, with the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields: dict[str, object] = {"time": _time(self, record), "level": record.levelname.lower(), "node": self._node}
        fields |= _fields_of(record) | {"message": record.getMessage()}
        if record.name != LOG.name:
            fields["logger"] = record.name
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def _time(form: logging.Formatter, record: logging.LogRecord) -> str:
    return f"{form.formatTime(record, form.datefmt)}.{int(record.msecs):03d}Z"


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] = getattr(record, "fields", {})
    return found


def log_to_stderr(node: int, form: str = "text", level: str = "info") -> None:
    """Send every record of this process to standard error, in one of `FORMATS`, from one of `LEVELS` on."""
    handler = _ToStream()
    handler.setFormatter(_Json(node) if form == "json" else _Text(node))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    LOG.setLevel(level.upper())
    if form == "json" and (writer := _writer(sys.stderr)) is not None:
        writer.note = _note_as_json


def print_error(line: str) -> None:
    """Write the line to standard error, if it is open."""
    _put(sys.stderr, line)


def print_line(line: str) -> None:
    """Write the line to standard output, if it is open."""
    _put(sys.stdout, line)


def flush(timeout: float = 1.0) -> None:
    """Wait until all lines are written, for `timeout` seconds at most for each stream."""
    for writer in list(_WRITERS.values()):
        writer.flush(timeout)


_WRITERS: Final[dict[int, LineWriter]] = {}


def _writer(stream: TextIO | None) -> LineWriter | None:
    """Return the writer of the stream's descriptor; None for a stream in memory, or one that is closed."""
    try:
        descriptor = -1 if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None
    return None if descriptor < 0 else _WRITERS.setdefault(descriptor, LineWriter(descriptor))


def _put(stream: TextIO | None, line: str) -> None:
    writer = _writer(stream)
    if writer is not None:
        writer.put(line)
    elif stream is not None:
        with suppress(OSError, ValueError):
            print(line, file=stream, flush=True)
