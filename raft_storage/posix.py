"""`PosixFiles`: the operating system's files, for POSIX.

The only code of the stores that calls the operating system. It decides nothing: every failure is raised as a
`FileFailed`, and only two things are retried: a call interrupted by a signal, and the opening of a file for which a
descriptor was reserved.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar, final

from raft_core.wal.filesystem import File, FileFailed, FileMissing, LockHeld, NoDescriptor, NoSpace
from raft_storage.forks import keep_from_children, let_go

__all__ = ["PosixFile", "PosixFiles"]

T = TypeVar("T")
_ZEROS: Final = bytes(1024 * 1024)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOO_MANY: Final = (errno.EMFILE, errno.ENFILE)
_RESERVE: Final = 12
"""Descriptors reserved for the disk: more than a store has open at once. That is the segment, the next one with its
anchor, a snapshot being written, an incoming one with a look at its file, two being sent to peers, one read.
"""
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
"""On macOS `fsync` does not reach the medium; this does."""


@contextmanager
def _named(operation: str, name: str) -> Iterator[None]:
    """Turn an `OSError` inside into a `FileFailed` with the operation and the file."""
    try:
        yield
    except FileNotFoundError as failure:
        raise FileMissing(operation, name, str(failure)) from failure
    except OSError as failure:
        kind = NoSpace if failure.errno in _FULL else NoDescriptor if failure.errno in _TOO_MANY else FileFailed
        raise kind(operation, name, str(failure)) from failure


class _Reserve:
    """Descriptors reserved for the disk, whatever else the process opens. Every method may be called from any thread.

    A spare descriptor is a duplicate of the directory's. It is closed right before a file is opened that could not be
    opened otherwise, and a closed file becomes a missing spare one in one system call.
    """

    __slots__ = ("_directory", "_lock", "_missing", "_spare")

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._spare: list[int] = []
        self._missing = 0
        with suppress(OSError):  # the process limit may be lower
            for _ in range(_RESERVE):
                self._spare.append(os.dup(directory))
        self._missing = _RESERVE - len(self._spare)

    def open(self, name: str, flags: int) -> int:
        """Return a descriptor of the file. Raise `OSError`."""
        descriptor = self._with_one(lambda: os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self._directory))
        keep_from_children(descriptor)
        return descriptor

    def names(self, path: str) -> list[str]:
        """Return all names in the directory. Raise `OSError`."""
        names = self._with_one(lambda: os.listdir(path))
        with self._lock, suppress(OSError):
            while self._missing > 0:
                self._spare.append(os.dup(self._directory))
                self._missing -= 1
        return names

    def _with_one(self, use: Callable[[], T]) -> T:
        """Return the result of `use`, which needs one descriptor."""
        while True:
            try:
                return use()
            except OSError as failure:
                if failure.errno not in _TOO_MANY or not self._give_up_one():
                    raise

    def _give_up_one(self) -> bool:
        with self._lock:
            if not self._spare:
                return False
            os.close(self._spare.pop())
            self._missing += 1
            return True

    def close(self, descriptor: int) -> None:
        """Close the file. Raise `OSError`."""
        let_go(descriptor)
        with self._lock:
            if self._missing > 0 and self._directory >= 0:
                os.dup2(self._directory, descriptor, inheritable=False)
                self._spare.append(descriptor)
                self._missing -= 1
                return
        os.close(descriptor)

    def release(self) -> None:
        """Free all spare descriptors; files still open are closed later."""
        with self._lock:
            spare, self._spare, self._directory, self._missing = self._spare, [], -1, 0
        for descriptor in spare:
            with suppress(OSError):
                os.close(descriptor)


def _sync(descriptor: int) -> None:
    if _FULL_SYNC is not None:
        fcntl.fcntl(descriptor, _FULL_SYNC)
    else:
        os.fdatasync(descriptor)


@final
class PosixFile:
    """An open file, by its descriptor."""

    __slots__ = ("_descriptor", "_name", "_reserve")

    def __init__(self, descriptor: int, name: str, reserve: _Reserve) -> None:
        self._descriptor = descriptor
        self._name = name
        self._reserve = reserve

    @property
    def name(self) -> str:
        """The file's name in its directory."""
        return self._name

    def size(self) -> int:
        """Return the size in bytes."""
        with _named("stat", self._name):
            return os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        parts, wanted = [], length
        with _named("read", self._name):
            while wanted > 0 and (part := os.pread(self._descriptor, wanted, offset)):
                parts.append(part)
                offset += len(part)
                wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """Return the number of bytes taken by the operating system."""
        try:  # without the context manager: this is the hot path
            return os.pwrite(self._descriptor, data, offset)
        except OSError as failure:
            kind = NoSpace if failure.errno in _FULL else FileFailed
            raise kind("write", self._name, str(failure)) from failure

    def preallocate(self, size: int) -> None:
        """Fill the file with `size` zeros, all written once: syncing a later write into them changes no metadata."""
        with _named("preallocate", self._name):
            if hasattr(os, "posix_fallocate"):
                with suppress(OSError):  # unsupported by some file systems; the write below decides
                    os.posix_fallocate(self._descriptor, 0, size)
            offset = 0
            while offset < size:
                offset += os.pwrite(self._descriptor, _ZEROS[: size - offset], offset)

    def sync(self) -> None:
        """Make contents and size durable."""
        try:
            _sync(self._descriptor)
        except OSError as failure:
            kind = NoSpace if failure.errno in _FULL else FileFailed
            raise kind("sync", self._name, str(failure)) from failure

    def close(self) -> None:
        """Free the descriptor. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with _named("close", self._name):
                self._reserve.close(descriptor)


@final
class PosixFiles:
    """A directory, created if missing.

    With `read_only`, nothing in it is changed, and it need not be writable: its files can be read, and its lock can be
    held together with other readers, against any writer.
    """

    __slots__ = ("_directory", "_held", "_path", "_process", "_read_only", "_reserve")

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self._path = os.fspath(path)
        self._read_only = read_only
        self._held: int | None = None
        with _named("make directory", self._path):
            if not read_only:
                self._make()
            self._directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        self._process = os.getpid()
        keep_from_children(self._directory)
        self._reserve = _Reserve(self._directory)

    def _make(self) -> None:
        """Create the directory and make its name durable."""
        missing, path = [], os.path.abspath(self._path)
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            os.mkdir(path, 0o700)
            parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)

    def names(self) -> list[str]:
        """Return all names, sorted."""
        with _named("list", self._path):
            return sorted(self._reserve.names(self._path))

    def open(self, name: str) -> File:
        """Open an existing file, for reading and, unless the directory is read only, for writing."""
        return self._open(name, os.O_RDONLY if self._read_only else os.O_RDWR)

    def create(self, name: str) -> File:
        """Create an empty file."""
        return self._open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def _open(self, name: str, flags: int) -> PosixFile:
        with _named("open", name):
            return PosixFile(self._reserve.open(name, flags), name, self._reserve)

    def rename(self, old: str, new: str) -> None:
        """Rename the file to `new`."""
        with _named("rename", old):
            os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def unlink(self, name: str) -> None:
        """Remove the name."""
        with _named("unlink", name):
            os.unlink(name, dir_fd=self._directory)

    def sync_directory(self) -> None:
        """Make all present names durable."""
        with _named("sync", self._path):
            os.fsync(self._directory)

    def room(self) -> int | None:
        """Return the free bytes of the file system; without a quota of this user, which only a write can find."""
        with _named("measure", self._path):
            found = os.fstatvfs(self._directory)
        return found.f_bavail * found.f_frsize

    def lock(self, name: str) -> None:
        """Hold the lock until `close` or the end of this process.

        Write the process number to the file, for error texts of other processes.
        """
        with _named("lock", name):
            held = self._open_lock(name)
            if held is None:
                return
            try:
                fcntl.flock(held, (fcntl.LOCK_SH if self._read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError as failure:
                holder = _holder(held)
                os.close(held)
                raise LockHeld("lock", name, str(failure), holder) from failure
            except BaseException:
                os.close(held)
                raise
            self._held = held
            keep_from_children(held)
            if not self._read_only:
                _write_holder(held)

    def _open_lock(self, name: str) -> int | None:
        """Open the lock's file; create it if missing. None if that is impossible: then no other process holds it."""
        if not self._read_only:
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._directory)
        try:
            return os.open(name, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._directory)
        except OSError as failure:
            if failure.errno not in _READ_ONLY:
                raise
        try:
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Free the lock, even if a child of this process has it too. A second call does nothing."""
        held, self._held = self._held, None
        directory, self._directory = self._directory, -1
        self._reserve.release()
        with _named("close", self._path):
            try:
                if held is not None:
                    self._unlock(held)
            finally:
                if directory >= 0:
                    let_go(directory)
                    os.close(directory)

    def _unlock(self, held: int) -> None:
        let_go(held)
        try:
            if self._process == os.getpid():  # a forked child must not free its parent's lock
                if not self._read_only:
                    with suppress(OSError):
                        os.ftruncate(held, 0)
                fcntl.flock(held, fcntl.LOCK_UN)
        finally:
            os.close(held)


def _write_holder(held: int) -> None:
    """Write this process into the lock's file. If that fails, only the error text of others suffers."""
    with suppress(OSError):
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()} {os.uname().nodename}\n".encode(), 0)


def _holder(held: int) -> str:
    """Return the holder of the lock as text; empty if unknown, as for readers."""
    try:
        number, _, host = os.pread(held, 200, 0).decode("utf-8", "replace").strip().partition(" ")
        process = int(number)
        if host == os.uname().nodename:
            os.kill(process, 0)  # tests for the process without affecting it
    except PermissionError:
        pass
    except (OSError, ValueError):
        return ""
    return f"process {process} on {host}"
