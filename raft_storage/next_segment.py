"""`NextSegment`: the empty segment that a file store prepares before it is needed.

A segment is zeros that were written and synced once, which takes tens of milliseconds for 8 MiB. They are written into
a file of another name, in the background, so that the write that begins the segment only renames the file.

The file is unreferenced until it is renamed. Recovery deletes it as it deletes every unfinished file, and so do
versions of this library that do not prepare segments. After the renaming, the directory is in a state that the creation
of a segment could have left as well: a segment of zeros without a first batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeAlias, final

from raft_core.errors import DiskError
from raft_core.wal.filesystem import File, FileFailed, Files
from raft_core.wal.layout import new_name
from raft_storage.data_directory import discard

__all__ = ["PREPARED", "Background", "NextSegment", "at_once", "in_thread"]

PREPARED: Final = new_name("segment")

Background: TypeAlias = Callable[[Callable[[], None]], None]
"""Runs a function once, now or later, in any thread."""


def at_once(work: Callable[[], None]) -> None:
    """Run `work` here: for files that are not the operating system's."""
    work()


def in_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread of its own."""
    threading.Thread(target=work, name="prepare segment", daemon=True).start()


@final
class NextSegment:
    """At most one prepared segment of `size` bytes. Its methods are for the write lane."""

    def __init__(self, files: Files, size: int, background: Background) -> None:
        self._files = files
        self._size = size
        self._background = background
        self._begun = False
        self._ready = False
        self._done = threading.Event()

    def prepare(self) -> None:
        """Begin to prepare a segment. Do nothing if that was begun already, even if it failed: once per segment."""
        if not self._begun:
            self._begun = True
            self._done.clear()
            self._background(self._make)

    def _make(self) -> None:
        try:
            file = self._files.create(PREPARED)
            try:
                file.preallocate(self._size)
                file.sync()
            finally:
                file.close()
            self._ready = True
        except DiskError:  # nothing depends on it: the next segment is created when it is needed, and fails or not
            discard(self._files, PREPARED)
        finally:
            self._done.set()

    def take(self, name: str) -> File | None:
        """Return the prepared segment under the name `name`, None if there is none. Waits for its preparation.

        If that fails, leave nothing behind.
        """
        if not self.wait():
            return None
        if name in self._files.names():
            raise FileFailed("create", name, "the file exists")
        try:
            self._files.rename(PREPARED, name)
        except BaseException:
            discard(self._files, PREPARED)
            raise
        try:
            return self._files.open(name)
        except BaseException:
            discard(self._files, name)
            raise

    def drop(self) -> None:
        """Delete the prepared segment, if there is one. Waits for its preparation."""
        if self.wait():
            discard(self._files, PREPARED)

    def wait(self) -> bool:
        """Wait until nothing is being prepared. Return whether a segment is ready: from now on it is the caller's."""
        if not self._begun:
            return False
        self._done.wait()
        ready, self._begun, self._ready = self._ready, False, False
        return ready
