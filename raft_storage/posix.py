"""The operating system's files, for POSIX.

What lives here: `PosixFiles`, the only code of the stores that calls the operating system. It decides nothing:
every failure is raised as a `FileFailed`, and nothing is tried again except what a signal interrupted, and the opening
of a file for which a descriptor was kept in reserve.
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
"""Descriptors kept for the disk: more than a store has open at once. That is the segment, the next one with its anchor,
a snapshot being written, one being received with a look at what there is of it, two being given to peers, one read."""
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
"""On macOS `fsync` does not reach the medium; this does."""


@contextmanager
def _named(operation: str, name: str) -> Iterator[None]:
    """An `OSError` inside becomes a `FileFailed` that says what was done to which file."""
    try:
        yield
    except FileNotFoundError as failure:
        raise FileMissing(operation, name, str(failure)) from failure
    except OSError as failure:
        kind = NoSpace if failure.errno in _FULL else NoDescriptor if failure.errno in _TOO_MANY else FileFailed
        raise kind(operation, name, str(failure)) from failure


class _Reserve:
    """Descriptors that the disk has whatever else the process opens. Every method may be called from any thread.

    A spare descriptor is another one of the directory. It is given up right before a file is opened that could not be
    opened otherwise, and a file that is closed becomes a spare one where one is missing, in one system call."""

    __slots__ = ("_directory", "_lock", "_missing", "_spare")

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._spare: list[int] = []
        self._missing = 0
        with suppress(OSError):  # there may be fewer than that altogether
            for _ in range(_RESERVE):
                self._spare.append(os.dup(directory))
        self._missing = _RESERVE - len(self._spare)

    def open(self, name: str, flags: int) -> int:
        """A descriptor of the file. Raises `OSError`."""
        descriptor = self._with_one(lambda: os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self._directory))
        keep_from_children(descriptor)
        return descriptor

    def names(self, path: str) -> list[str]:
        """All names in the directory. Raises `OSError`."""
        names = self._with_one(lambda: os.listdir(path))
        with self._lock, suppress(OSError):
            while self._missing > 0:
                self._spare.append(os.dup(self._directory))
                self._missing -= 1
        return names

    def _with_one(self, use: Callable[[], T]) -> T:
        """What `use` gives, which needs a descriptor for itself."""
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
        """The file is closed. Raises `OSError`."""
        let_go(descriptor)
        with self._lock:
            if self._missing > 0 and self._directory >= 0:
                os.dup2(self._directory, descriptor, inheritable=False)
                self._spare.append(descriptor)
                self._missing -= 1
                return
        os.close(descriptor)

    def release(self) -> None:
        """All spare descriptors are free; files that are still open are closed as they come."""
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
        return self._name

    def size(self) -> int:
        with _named("stat", self._name):
            return os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; shorter only at the end of the file."""
        parts, wanted = [], length
        with _named("read", self._name):
            while wanted > 0 and (part := os.pread(self._descriptor, wanted, offset)):
                parts.append(part)
                offset += len(part)
                wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """How many bytes the operating system took."""
        try:  # without the context manager: this is the hot path
            return os.pwrite(self._descriptor, data, offset)
        except OSError as failure:
            kind = NoSpace if failure.errno in _FULL else FileFailed
            raise kind("write", self._name, str(failure)) from failure

    def preallocate(self, size: int) -> None:
        """The file is `size` zeros, all of them written once: syncing a write into them then changes no metadata."""
        with _named("preallocate", self._name):
            if hasattr(os, "posix_fallocate"):
                with suppress(OSError):  # a file system may not know it; writing decides
                    os.posix_fallocate(self._descriptor, 0, size)
            offset = 0
            while offset < size:
                offset += os.pwrite(self._descriptor, _ZEROS[: size - offset], offset)

    def sync(self) -> None:
        """Contents and size are durable."""
        try:
            _sync(self._descriptor)
        except OSError as failure:
            kind = NoSpace if failure.errno in _FULL else FileFailed
            raise kind("sync", self._name, str(failure)) from failure

    def close(self) -> None:
        """Frees the descriptor; harmless when done twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with _named("close", self._name):
                self._reserve.close(descriptor)


@final
class PosixFiles:
    """A directory, which is made where it does not exist.

    With `read_only`, nothing in it is changed, and it need not be writable: its files can be read, and its lock be held
    beside other readers, against everybody who writes."""

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
        """The directory exists, and its name is durable."""
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
        """All names, sorted."""
        with _named("list", self._path):
            return sorted(self._reserve.names(self._path))

    def open(self, name: str) -> File:
        """An existing file, for reading and, unless the directory is read only, for writing."""
        return self._open(name, os.O_RDONLY if self._read_only else os.O_RDWR)

    def create(self, name: str) -> File:
        """A new empty file."""
        return self._open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def _open(self, name: str, flags: int) -> PosixFile:
        with _named("open", name):
            return PosixFile(self._reserve.open(name, flags), name, self._reserve)

    def rename(self, old: str, new: str) -> None:
        """The file is called `new`."""
        with _named("rename", old):
            os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def unlink(self, name: str) -> None:
        """The name is gone."""
        with _named("unlink", name):
            os.unlink(name, dir_fd=self._directory)

    def sync_directory(self) -> None:
        """All names are durable as they are now."""
        with _named("sync", self._path):
            os.fsync(self._directory)

    def lock(self, name: str) -> None:
        """This process holds the lock until `close`, or until it ends, however it ends. Its number stands in the file,
        so that whoever finds the lock held can say by whom."""
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
        """The lock's file, made where it is missing. None where it is and cannot be made: then nobody else holds it."""
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
        """The lock is free, also if a child of this process has it too; harmless when done twice."""
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
            if self._process == os.getpid():  # a child that was forked must not free its parent's lock
                if not self._read_only:
                    with suppress(OSError):
                        os.ftruncate(held, 0)
                fcntl.flock(held, fcntl.LOCK_UN)
        finally:
            os.close(held)


def _write_holder(held: int) -> None:
    """The lock's file names this process. Where that is not possible, nobody learns who holds it, and no more."""
    with suppress(OSError):
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()} {os.uname().nodename}\n".encode(), 0)


def _holder(held: int) -> str:
    """Who holds the lock, for people; empty where that is not known, as with those who only read."""
    try:
        number, _, host = os.pread(held, 200, 0).decode("utf-8", "replace").strip().partition(" ")
        process = int(number)
        if host == os.uname().nodename:
            os.kill(process, 0)  # asks whether there is such a process, and does nothing to it
    except PermissionError:
        pass
    except (OSError, ValueError):
        return ""
    return f"process {process} on {host}"
