"""`File` and `Files`: the file operations of a store, so that a simulated file system can replace the real one.

Also their errors, and the two loops that every caller needs. `Files` is one directory without subdirectories; names are
plain. The guarantees after a power loss are part of the protocol:

- `File.write_at` guarantees nothing: any subset of its 512-byte sectors may survive, until `File.sync` has returned.
- `File.sync` makes the contents and the size of a file durable, but not its name.
- `Files.create`, `Files.rename` and `Files.unlink` change names; a change is durable once `Files.sync_directory` has
  returned. A rename is atomic: the new name means the old or the new file, never neither.
- After a failed `sync` the contents of the disk are unknown, and a later successful one proves nothing.
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
    """The file system refused an operation; `operation` and `name` identify it."""

    def __init__(self, operation: str, name: str, problem: str) -> None:
        super().__init__(f"{operation} {name}: {problem}")
        self.operation = operation
        self.name = name
        self.problem = problem


class FileMissing(FileFailed):
    """No file has this name."""


class NoSpace(FileFailed):
    """The disk or the quota is full: make room, then start the node again."""


class NoDescriptor(FileFailed):
    """No file can be opened, because this process or the system has too many open. Nothing was changed."""


class LockHeld(FileFailed):
    """Another process holds the lock; `holder` names it, if known."""

    def __init__(self, operation: str, name: str, problem: str, holder: str = "") -> None:
        super().__init__(operation, name, problem)
        self.holder = holder


class File(Protocol):
    """An open file. It stays usable when its name is replaced or unlinked."""

    @property
    def name(self) -> str:
        """The file's name in its directory."""
        ...

    def size(self) -> int:
        """Return the size in bytes."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        ...

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """Return the number of bytes written, at least one; the rest needs another call."""
        ...

    def preallocate(self, size: int) -> None:
        """Fill the file, new and empty, with `size` zeros; writing into them will not run out of space."""
        ...

    def sync(self) -> None:
        """Make contents and size durable."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Files(Protocol):
    """One directory."""

    def names(self) -> list[str]:
        """Return all names, sorted."""
        ...

    def open(self, name: str) -> File:
        """Open an existing file, for reading and writing. Raise `FileMissing`."""
        ...

    def create(self, name: str) -> File:
        """Create an empty file. Raise `FileFailed` if the name is taken."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Rename the file to `new`, replacing any file of that name."""
        ...

    def unlink(self, name: str) -> None:
        """Remove the name."""
        ...

    def sync_directory(self) -> None:
        """Make all present names durable."""
        ...

    def room(self) -> int | None:
        """Return how many bytes can still be written, None if that is unknown."""
        ...

    def lock(self, name: str) -> None:
        """Hold the lock of that name until `close`. Raise `LockHeld`."""
        ...

    def close(self) -> None:
        """Free the lock."""
        ...


def write_whole(file: File, offset: int, data: bytes) -> None:
    """Write all of `data`, in as many calls as the file system needs."""
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
    """Return the contents of a file. Raise `FileMissing`."""
    file = files.open(name)
    try:
        return file.read_at(0, file.size())
    finally:
        file.close()
