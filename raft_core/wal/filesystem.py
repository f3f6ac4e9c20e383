"""The few things that a store asks of a file system, so that a simulated one can stand in for the real one.

What lives here: the protocols `File` and `Files`, their errors, and the two loops that every caller needs. `Files` is
one directory without subdirectories; names are plain. What a call promises about power loss is part of the protocol:

- `File.write_at` promises nothing: any subset of its 512-byte sectors may survive, until `File.sync` has returned.
- `File.sync` makes the contents and the size of a file durable, and says nothing about its name.
- `Files.create`, `Files.rename` and `Files.unlink` change names; a change is durable once `Files.sync_directory` has
  returned. A rename is atomic: the new name means the old or the new file, never neither.
- After a failed `sync` nobody knows what is on the disk, and a later successful one proves nothing.
"""

from __future__ import annotations

from typing import Protocol

from raft_core.errors import DiskError

__all__ = [
    "File",
    "FileFailed",
    "FileMissing",
    "Files",
    "LockHeld",
    "NoDescriptor",
    "NoSpace",
    "read_whole",
    "write_whole",
]


class FileFailed(DiskError):
    """The file system refused an operation; `operation` and `name` say which."""

    def __init__(self, operation: str, name: str, problem: str) -> None:
        super().__init__(f"{operation} {name}: {problem}")
        self.operation = operation
        self.name = name
        self.problem = problem


class FileMissing(FileFailed):
    """There is no file of that name."""


class NoSpace(FileFailed):
    """The disk or the quota is full: make room, then start the node again."""


class NoDescriptor(FileFailed):
    """No file can be opened, because this process or the system has too many open. Nothing was changed."""


class LockHeld(FileFailed):
    """Another process holds the lock; `holder` says which, where that is known."""

    def __init__(self, operation: str, name: str, problem: str, holder: str = "") -> None:
        super().__init__(operation, name, problem)
        self.holder = holder


class File(Protocol):
    """An open file. It stays usable when its name is replaced or unlinked."""

    @property
    def name(self) -> str: ...

    def size(self) -> int: ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; shorter only at the end of the file."""
        ...

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """How many bytes were written, at least one; the rest has to be written by another call."""
        ...

    def preallocate(self, size: int) -> None:
        """The file, new and empty, is `size` bytes of zeros, and writing into them will not run out of space."""
        ...

    def sync(self) -> None:
        """Contents and size are durable."""
        ...

    def close(self) -> None: ...


class Files(Protocol):
    """One directory."""

    def names(self) -> list[str]:
        """All names, sorted."""
        ...

    def open(self, name: str) -> File:
        """An existing file, for reading and writing. Raises `FileMissing`."""
        ...

    def create(self, name: str) -> File:
        """A new empty file. Raises `FileFailed` where the name is taken."""
        ...

    def rename(self, old: str, new: str) -> None:
        """The file is called `new`, and what had that name before is gone."""
        ...

    def unlink(self, name: str) -> None: ...

    def sync_directory(self) -> None:
        """All names are durable as they are now."""
        ...

    def lock(self, name: str) -> None:
        """This process holds the lock of that name until `close`. Raises `LockHeld`."""
        ...

    def close(self) -> None:
        """The lock is free again."""
        ...


def write_whole(file: File, offset: int, data: bytes) -> None:
    """All of `data` is handed to the file system, in however many calls it wants."""
    written = file.write_at(offset, data)
    if written == len(data):
        return
    view = memoryview(data)
    while written < len(data):
        taken = file.write_at(offset + written, view[written:])
        if taken <= 0:
            raise FileFailed("write", file.name, "no byte was taken")
        written += taken


def read_whole(files: Files, name: str) -> bytes:
    """The contents of a file. Raises `FileMissing`."""
    file = files.open(name)
    try:
        return file.read_at(0, file.size())
    finally:
        file.close()
