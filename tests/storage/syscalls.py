"""Power losses for stores that call the operating system themselves: recorded calls, replayed on a crash disk.

A child process works on a store under `strace`, which writes down every call that changes its directory, with the
bytes. The calls are then made again on `CrashDisk`s, one per directory, up to any point; what a power loss would leave
there is written into a real directory, and the store is opened on it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import attrs

from raft_testing.disk.crash_disk import CrashDisk

__all__ = ["Call", "Machine", "record", "strace_works", "survivors"]

_TRACED = (
    "openat,open,creat,close,write,pwrite64,pwritev,pwritev2,writev,ftruncate,fallocate,fdatasync,fsync,msync,"
    "rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir"
)
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(.*)")
_UNFINISHED = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FD = re.compile(r"(\d+)<((?:\\x[0-9a-f]{2})*)>")


@attrs.frozen
class Call:
    """One call that changes the directory, or one acknowledgement. `path` is relative to the directory."""

    operation: str
    path: str = ""
    offset: int = 0
    data: bytes = b""
    to: str = ""
    durable: bool = False


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def strace_works() -> bool:
    """Return whether `strace` is there and may trace."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def record(location: str, directory: Path, seed: int, writes: int, scratch: Path) -> list[Call]:
    """Let a child make so many writes to the store, and return what it did to `directory`."""
    trace = scratch / "trace"
    command = ["strace", "-f", "-y", "-xx", "-s", "100000000", "-e", f"trace={_TRACED}", "-o", str(trace)]
    command += [sys.executable, "-m", "tests.storage.engine_child", location, str(seed), str(writes)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-1000:]
    return list(_Parser(str(directory)).calls(_joined(trace.read_text().splitlines())))


def _joined(lines: list[str]) -> Iterator[tuple[str, str, int]]:
    """Give name, arguments and result of every call, in the order in which they ended."""
    open_calls: dict[str, tuple[str, str]] = {}
    for line in lines:
        if found := _UNFINISHED.fullmatch(line):
            open_calls[found[1]] = found[2], found[3]
        elif found := _RESUMED.fullmatch(line):
            name, begun = open_calls.pop(found[1])
            if whole := re.fullmatch(r"(.*)\) += (-?\d+)(.*)", found[3]):
                suffix = whole[3] if name in ("openat", "open", "creat") else ""
                yield name, begun + whole[1] + suffix, int(whole[2])
        elif found := _LINE.fullmatch(line):
            suffix = found[5] if found[2] in ("openat", "open", "creat") else ""
            yield found[2], found[3] + suffix, int(found[4])


class _Parser:
    """Follows descriptors to the places in files."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.at: dict[int, int] = {}
        self.synced: set[int] = set()
        self.sizes: dict[str, int] = {}

    def calls(self, found: Iterator[tuple[str, str, int]]) -> Iterator[Call]:
        for name, arguments, result in found:
            if result >= 0:
                yield from getattr(self, f"_{name}", self._nothing)(arguments, result)

    def _nothing(self, _arguments: str, _result: int) -> Iterator[Call]:
        return iter(())

    def _inside(self, path: bytes) -> str | None:
        text = path.decode().removesuffix(" (deleted)")
        if text == self.root:
            return ""
        return text.removeprefix(self.root + "/") if text.startswith(self.root + "/") else None

    def _file(self, arguments: str) -> tuple[int, str | None]:
        found = _FD.match(arguments)
        return (int(found[1]), self._inside(_unhex(found[2]))) if found else (-1, None)

    def _paths(self, arguments: str) -> list[str | None]:
        """Every path named, made absolute by the directory's descriptor before it."""
        paths = []
        for found in re.finditer(r'(?:\w+<((?:\\x[0-9a-f]{2})*)>, )?"((?:\\x[0-9a-f]{2})*)"', arguments):
            path = _unhex(found[2])
            if not path.startswith(b"/") and found[1] is not None:
                path = _unhex(found[1]) + b"/" + path
            paths.append(self._inside(path))
        return paths

    def _openat(self, arguments: str, result: int) -> Iterator[Call]:
        path = self._paths(arguments)[0]
        self.at[result] = 0
        self.synced.discard(result)
        if path is None:
            return
        if "SYNC" in arguments:
            self.synced.add(result)
        if "O_APPEND" in arguments:
            self.at[result] = self.sizes.get(path, 0)
        if "O_CREAT" in arguments and path not in self.sizes:
            self.sizes[path] = 0
            yield Call("create", path)
        elif "O_TRUNC" in arguments:
            self.sizes[path] = 0
            yield Call("truncate", path)

    _open = _creat = _openat

    def _put(self, descriptor: int, path: str | None, offset: int, data: bytes) -> Iterator[Call]:
        if path is not None:
            self.sizes[path] = max(self.sizes.get(path, 0), offset + len(data))
            yield Call("write", path, offset, data, durable=descriptor in self.synced)

    def _write(self, arguments: str, result: int) -> Iterator[Call]:
        descriptor, path = self._file(arguments)
        data = _unhex(_TEXT.findall(arguments)[0])[:result]
        if descriptor == 1:
            yield Call("acknowledged", data=data)
            return
        offset = self.at.get(descriptor, 0)
        self.at[descriptor] = offset + result
        yield from self._put(descriptor, path, offset, data)

    def _writev(self, arguments: str, result: int) -> Iterator[Call]:
        descriptor, path = self._file(arguments)
        offset = self.at.get(descriptor, 0)
        self.at[descriptor] = offset + result
        yield from self._put(descriptor, path, offset, b"".join(map(_unhex, _TEXT.findall(arguments)))[:result])

    def _pwrite64(self, arguments: str, result: int) -> Iterator[Call]:
        descriptor, path = self._file(arguments)
        data = b"".join(map(_unhex, _TEXT.findall(arguments)))[:result]
        yield from self._put(descriptor, path, int(arguments.rsplit(", ", 1)[1]), data)

    _pwritev = _pwrite64

    def _pwritev2(self, arguments: str, result: int) -> Iterator[Call]:
        yield from self._pwrite64(arguments.rsplit(", ", 1)[0], result)

    def _ftruncate(self, arguments: str, _result: int) -> Iterator[Call]:
        _descriptor, path = self._file(arguments)
        if path is not None:
            size = int(arguments.rsplit(", ", 1)[1])
            self.sizes[path] = size
            yield Call("size", path, size)

    def _fallocate(self, arguments: str, _result: int) -> Iterator[Call]:
        _descriptor, path = self._file(arguments)
        mode, offset, length = arguments.split(", ")[1:4]
        if path is not None and mode == "0":
            self.sizes[path] = max(self.sizes.get(path, 0), int(offset) + int(length))
            yield Call("size", path, self.sizes[path])

    def _fsync(self, arguments: str, _result: int) -> Iterator[Call]:
        _descriptor, path = self._file(arguments)
        if path is not None:
            yield Call("sync", path)

    _fdatasync = _fsync

    def _rename(self, arguments: str, _result: int) -> Iterator[Call]:
        old, new = self._paths(arguments)[:2]
        if old is not None and new is not None:
            self.sizes[new] = self.sizes.pop(old, 0)
            yield Call("rename", old, to=new)

    _renameat = _renameat2 = _rename

    def _unlink(self, arguments: str, _result: int) -> Iterator[Call]:
        path = self._paths(arguments)[0]
        if path is not None and self.sizes.pop(path, None) is not None:
            yield Call("unlink", path)

    _unlinkat = _unlink


class Machine:
    """One crash disk per directory, on which recorded calls are made again."""

    def __init__(self) -> None:
        self.disks: dict[str, CrashDisk] = {"": CrashDisk()}

    def _disk(self, path: str) -> tuple[CrashDisk, str]:
        folder, _, name = path.rpartition("/")
        return self.disks.setdefault(folder, CrashDisk()), name

    def make(self, call: Call) -> None:
        """Make one call."""
        if call.operation == "acknowledged":
            return
        disk, name = self._disk(call.path)
        if call.operation == "sync":
            if name in disk.listing():
                disk.open(name).sync()
            else:  # a directory
                self.disks.setdefault(call.path, CrashDisk()).sync_directory()
        elif call.operation == "create":
            disk.create(name)
        elif call.operation == "rename":
            disk.rename(name, self._disk(call.to)[1])
        elif call.operation == "unlink":
            disk.unlink(name)
        else:
            self._change(disk, name, call)

    def _change(self, disk: CrashDisk, name: str, call: Call) -> None:
        node = disk._names[name]
        if call.operation == "write":
            first = len(node.pending)
            node.put(call.offset, call.data)
            if call.durable:  # only this write: what was written before it stays unsynced
                fresh, node.pending = node.pending[first:], node.pending[:first]
                for change in fresh:
                    node._reach(*change)
        elif call.operation == "truncate":
            node.shrink(0)
        elif call.offset < node.size:
            node.shrink(call.offset)
        else:
            node.grow(call.offset)

    def lose_power(self, keep: Callable[[int], set[int]], into: Path) -> None:
        """Write what a power loss leaves into the directory `into`. `keep` says which of so many changes survive."""
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        for folder, disk in self.disks.items():
            after = disk.crash(keep(disk.unsynced))
            (into / folder).mkdir(exist_ok=True)
            for name in after.listing():
                (into / folder / name).write_bytes(after.content(name))


def survivors(rng: Random) -> list[Callable[[int], set[int]]]:
    """Nothing, everything, a beginning, and some at random."""
    return [
        lambda count: set(),
        lambda count: set(range(count)),
        lambda count: set(range(int(rng.random() * count))),
        lambda count: {number for number in range(count) if rng.random() < 0.5},
    ]
