"""Checks of a node's data and of the disk under it: damage, room, speed, kind of file system, rights."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, final

import attrs

from raft_core.errors import DirectoryInUse, DiskError, SettingsError
from raft_kv.doctor.finding import Finding, note, right, warning, wrong
from raft_kv.snapshot_format import SnapshotUnreadable, count_keys
from raft_storage.location import Location, kind_at
from raft_storage.verification import verify_store

__all__ = ["DiskFacts", "check_data", "check_disk", "look_at_disk"]

_SYNCS: Final = 24
_SYNC_BYTES: Final = 4096
_WRITE_BYTES: Final = 16 * 1024 * 1024
_SLOW: Final = 0.010
"""Seconds; a write is acknowledged after about one sync of the leader's and one of a follower's disk."""
_MEBIBYTE: Final = 1024 * 1024
_VOLATILE: Final = frozenset({"tmpfs", "ramfs", "overlay"})
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs"})


@final
@attrs.frozen
class DiskFacts:
    """What was found about a disk. `sync`: median seconds of a small write with its sync. `failure`: why it was not."""

    directory: str
    free_bytes: int
    free_files: int | None
    filesystem: str
    sync: float = 0.0
    slowest: float = 0.0
    rate: float = 0.0
    """Bytes per second of a long write, sync included."""
    failure: str = ""


def look_at_disk(directory: str) -> DiskFacts:
    """Look at the disk of `directory`, or of its nearest existing parent; write and remove a file of 16 MiB there."""
    place = Path(directory).absolute()
    while not place.exists():
        place = place.parent
    room = os.statvfs(place)
    free = room.f_bavail * room.f_frsize
    facts = DiskFacts(str(place), free, room.f_favail if room.f_files else None, _filesystem(place))
    if free < 2 * _WRITE_BYTES:
        return attrs.evolve(facts, failure="there is too little room to measure its speed")
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".raft-kv-doctor-") as file:
            begun = time.perf_counter()
            for _ in range(_WRITE_BYTES // _MEBIBYTE):
                os.write(file.fileno(), b"\xa5" * _MEBIBYTE)
            os.fsync(file.fileno())
            rate = _WRITE_BYTES / (time.perf_counter() - begun)
            times = []
            for number in range(_SYNCS):
                begun = time.perf_counter()
                os.pwrite(file.fileno(), b"\x5a" * _SYNC_BYTES, number * _SYNC_BYTES)
                os.fdatasync(file.fileno())
                times.append(time.perf_counter() - begun)
    except OSError as failure:
        return attrs.evolve(facts, failure=str(failure))
    return attrs.evolve(facts, sync=median(times), slowest=max(times), rate=rate)


def _filesystem(place: Path) -> str:
    """Return the kind of file system that `place` is on; "" where the system does not tell."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return ""
    real = os.path.realpath(place)
    inside = [(path, kind) for path, kind in mounts if os.path.commonpath([path, real]) == path]
    return max(inside, key=lambda mount: len(mount[0]))[1] if inside else ""


def check_disk(facts: DiskFacts, *, needed: int, election: float) -> Iterator[Finding]:
    """Judge a disk. `needed`: bytes of log and two snapshots. `election`: the shortest election timeout, in seconds."""
    place = facts.directory
    remedy = "make room, or use a larger disk: a full disk stops the node, with all that is acknowledged intact"
    text = f"{facts.free_bytes / _MEBIBYTE:,.0f} MiB are free, log and snapshots need up to {needed / _MEBIBYTE:,.0f}"
    yield warning("room", place, text, remedy) if facts.free_bytes < needed else right("room", place, text)
    if facts.free_files is not None and facts.free_files < 1000:
        yield warning(
            "room", place, f"{facts.free_files} more files can be created", "remove files (inodes are used up)"
        )
    if facts.filesystem in _VOLATILE:
        yield wrong(
            "file system",
            place,
            f"{facts.filesystem} is lost with the machine or the container",
            "put the data on a volume of a disk",
        )
    elif facts.filesystem in _REMOTE:
        yield warning(
            "file system",
            place,
            f"{facts.filesystem} is reached over a network: its locks and syncs may not hold after a failure",
            "use a local disk: the cluster keeps the copies",
        )
    else:
        yield right("file system", place, facts.filesystem or "unknown")
    yield from _speed(facts, election)


def _speed(facts: DiskFacts, election: float) -> Iterator[Finding]:
    place = facts.directory
    if facts.failure:
        yield wrong("disk", place, f"it cannot be written: {facts.failure}", "give this user the right to write here")
        return
    text = (
        f"a sync takes {facts.sync * 1000:.1f} ms (slowest {facts.slowest * 1000:.1f}), "
        f"{facts.rate / _MEBIBYTE:,.0f} MiB/s"
    )
    if facts.slowest > election / 2:
        yield wrong(
            "disk speed",
            place,
            f"{text}: elections may be lost to a slow disk",
            "use a faster disk, or raise election_ticks on all nodes",
        )
    elif facts.sync > _SLOW:
        yield warning(
            "disk speed", place, f"{text}: each write waits for it", "use a disk with a protected cache (NVMe)"
        )
    else:
        yield right("disk speed", place, text)


def check_data(
    location: Location, *, scratch: str | None = None, owner: tuple[str, int] | None = None
) -> tuple[list[Finding], int]:
    """Check every byte of the data; return the findings, and the bytes of the snapshot's state.

    `owner`: the cluster and node of the configuration that names these data.
    """
    place = str(location)
    try:
        kind = kind_at(location.directory)
        if kind is None:
            return [note("data", place, "there is none yet: a node that starts here is new")], 0
        found = verify_store(Location(kind, location.directory), count_keys, scratch=scratch)
    except DirectoryInUse:
        text = "a node runs on it, so its bytes are not checked"
        return [note("data", place, text, "stop the node to check them, or check a backup")], 0
    except SnapshotUnreadable as failure:
        return [wrong("data", place, f"its state cannot be read: {failure}", "use the release that wrote it")], 0
    except (DiskError, SettingsError, OSError) as failure:
        return [wrong("data", place, str(failure), "if others have the data, replace this node by a new one")], 0
    findings = []
    if kind != location.kind:
        findings.append(
            wrong("data", place, f"it is a store of kind {kind}", f"start the node with {kind}:{location.directory}")
        )
    identity = found.identity
    if owner is not None and (identity.cluster, identity.node) != owner:
        whose = f"it is of node {identity.node} of cluster {identity.cluster!r}, the configuration"
        remedy = "name this node's own data, or correct id and cluster: raft-kv serve refuses it"
        findings.append(wrong("data", place, f"{whose} of node {owner[1]} of cluster {owner[0]!r}", remedy))
    log = len(found.recovered.entries)
    text = f"intact: node {identity.node} of cluster {identity.cluster!r}, {log:,} entries in the log"
    return [*findings, right("data", place, text)], found.snapshot_bytes
