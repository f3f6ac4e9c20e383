"""Descriptors: the disk has its own, a forked child has none of a node's, and the holder of a lock is named."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import DirectoryInUse, DiskError, StorageBroken
from raft_core.ids import Incarnation, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.store import SnapshotReader
from raft_storage.file_store import FileStore
from raft_storage.next_segment import at_once

MEMBERS = Members.initial([1], incarnations={NodeId(1): Incarnation(7)})
META = SnapshotMeta(Index(2), Term(1), MEMBERS, Index(1))


def formed(place: Path) -> FileStore:
    # A thread that prepares a segment would hold a descriptor for a moment, while the tests count them.
    store = FileStore.open(place, node=1, incarnation=7, segment_bytes=4096, background=at_once)
    store.recover()
    store.form(MEMBERS)
    return store


def entries(first: int, count: int) -> tuple[Entry, ...]:
    return tuple(Entry.make(first + at, 1, bytes(1000)) for at in range(count))


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0) for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def test_the_disk_has_its_descriptors_though_the_process_has_none_left(tmp_path: Path) -> None:
    store = formed(tmp_path)
    with no_descriptor_left():
        for number in range(1, 20):  # each takes a segment of its own
            store.write([Persist(WriteId(number), entries=entries(4 * number - 2, 4))])
        writer = store.create_snapshot(META)
        writer.write(b"state")
        writer.finish()
        store.write([Persist(WriteId(20), snapshot=META, drop_before=Index(3))])
        reader = store.open_snapshot(META)
        assert reader.read(0, 100) == b"state"
        reader.close()
        with pytest.raises(OSError, match="Too many"):
            os.dup(0)
    store.close()
    again = FileStore.open(tmp_path, node=1)
    assert again.recover().entries[-1].index == 77
    again.close()


def test_a_snapshot_that_finds_no_descriptor_breaks_nothing_and_can_be_opened_later(tmp_path: Path) -> None:
    store = formed(tmp_path)
    store.write([Persist(WriteId(1), entries=entries(2, 1))])
    writer = store.create_snapshot(META)
    writer.finish()
    readers: list[SnapshotReader] = []
    with no_descriptor_left():
        readers += [store.open_snapshot(META) for _ in range(12)]
        with pytest.raises(DiskError) as failure:
            store.open_snapshot(META)
        assert not isinstance(failure.value, StorageBroken)
        readers.pop().close()
        store.open_snapshot(META).close()
    for reader in readers:
        reader.close()
    store.write([Persist(WriteId(2), hard=HardState(Term(2)))])
    store.close()


def test_a_closed_store_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    store = formed(tmp_path)
    store.write([Persist(WriteId(1), entries=entries(2, 1))])
    store.create_snapshot(META).write(b"half of a st")
    store.resume_snapshot(META, "peer").write(b"half of another")
    store.close()
    assert os.listdir("/proc/self/fd") == before


FORKING = """
import os, signal, socket, sys, time
from raft_storage.file_store import FileStore
from raft_storage.forks import kept_from_children
store = FileStore.open(sys.argv[1], node=1)
listener = socket.create_server(("127.0.0.1", 0))
with kept_from_children(listener.fileno()):
    child = os.fork()
    if child == 0:
        if sys.argv[2] == "closes":
            store.close()  # as a block does that the child leaves; it must not free its parent's lock
        os.write(1, b"child\\n")
        signal.pause()
    os.write(1, b"parent %d\\n" % listener.getsockname()[1])
    sys.stdin.readline()
listener.close()
store.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@contextmanager
def forking(place: Path, how: str = "waits") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that has the store open, with a child that it has forked; and the port that it listens at."""
    command = [sys.executable, "-W", "ignore", "-c", FORKING, str(place), how]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        lines = sorted([process.stdout.readline(), process.stdout.readline()])
        assert lines[0] == "child\n", lines
        yield process, int(lines[1].split()[1])
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def tell(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go on\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_the_holder_of_a_directory_is_named_and_a_child_that_closes_the_store_does_not_free_it(tmp_path: Path) -> None:
    for how in ("waits", "closes"):
        with forking(tmp_path / how, how) as (process, _), pytest.raises(DirectoryInUse) as refused:
            FileStore.open(tmp_path / how, node=1)
        assert f"process {process.pid} " in str(refused.value)


def test_a_directory_that_was_closed_can_be_opened_while_a_forked_child_lives(tmp_path: Path) -> None:
    with forking(tmp_path) as (process, port):
        assert tell(process) == "closed\n"
        FileStore.open(tmp_path, node=1).close()
        socket.create_server(("127.0.0.1", port)).close()


def test_a_directory_whose_process_was_killed_can_be_opened_while_its_forked_child_lives(tmp_path: Path) -> None:
    with forking(tmp_path) as (process, port):
        process.kill()
        process.wait()
        FileStore.open(tmp_path, node=1).close()
        socket.create_server(("127.0.0.1", port)).close()


def test_a_reader_of_a_directory_is_not_taken_for_the_process_that_had_it_before(tmp_path: Path) -> None:
    from raft_storage.posix import PosixFiles

    FileStore.open(tmp_path, node=1).close()
    reader = PosixFiles(tmp_path, read_only=True)
    reader.lock("lock")
    with pytest.raises(DirectoryInUse):
        FileStore.open(tmp_path, node=1)
    reader.close()
