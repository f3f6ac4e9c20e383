"""Opening a data directory before its log is read: format it, check its owner, replace small files atomically.

The order of the steps leaves a directory at every moment either unformatted or formatted. `identity` makes it
formatted, so it is written last.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from raft_core.errors import DiskError, LogDamaged, WrongDirectory
from raft_core.ids import BootNumber, ClusterId, Incarnation, NodeId
from raft_core.wal.blocks import NOWHERE
from raft_core.wal.filesystem import Files, read_whole, write_whole
from raft_core.wal.layout import (
    ANCHOR,
    IDENTITY,
    LOCK,
    RESTORE_REMEDY,
    Anchor,
    IdentityFile,
    new_name,
    read_anchor,
    read_identity,
    sealed,
    segment_number,
    snapshot_position,
)
from raft_core.wal.recovery import Plan, plan_recovery
from raft_storage.snapshot_store import verify_snapshot

__all__ = [
    "MOVED",
    "check_not_moved",
    "discard",
    "drawn_incarnation",
    "identity_in",
    "plan_in",
    "put_in_force",
    "replace_file",
    "write_new",
]

MOVED: Final = "moved"
"""The file left in a directory whose data were moved away; it names the new location."""

_INCARNATION_BITS: Final = 63
_IGNORED: Final = frozenset({LOCK, "lost+found"})


def replace_file(files: Files, name: str, data: bytes) -> None:
    """Replace the contents of the file `name` by `data`, durably and atomically."""
    write_new(files, name, data)
    put_in_force(files, name)


def write_new(files: Files, name: str, data: bytes) -> None:
    """Write `data` durably beside the file `name`, to be switched by `put_in_force`.

    This does all steps that need room; if there is none, it leaves nothing behind.
    """
    new = new_name(name)
    if new in files.names():
        files.unlink(new)
    file = files.create(new)
    try:
        try:
            write_whole(file, 0, data)
            file.sync()
        finally:
            file.close()
    except BaseException:
        discard(files, new)
        raise


def put_in_force(files: Files, name: str) -> None:
    """Switch the file `name` to the data given to `write_new`, durably."""
    files.rename(new_name(name), name)
    files.sync_directory()


def discard(files: Files, name: str) -> None:
    """Delete the file, as far as a failing disk allows; its room may be needed."""
    with suppress(DiskError):
        files.unlink(name)


def check_not_moved(files: Files, place: str) -> None:
    """Raise `WrongDirectory` if the data were moved to another store: two nodes must not continue one log."""
    if MOVED in files.names():
        moved_to = read_whole(files, MOVED).decode(errors="replace").strip()
        raise WrongDirectory(
            f"{place} was moved to {moved_to}: start the node there. Only if it was never started there, delete the"
            f" file {MOVED!r} to go back, and never start the other one"
        )


def identity_in(files: Files, place: str, node: NodeId, cluster: ClusterId, incarnation: int | None) -> IdentityFile:
    """Return the identity of this directory; format an empty one first. Raise `WrongDirectory` or `LogDamaged`."""
    check_not_moved(files, place)
    names = files.names()
    if IDENTITY not in names:
        return _format(files, place, names, IdentityFile(cluster, node, drawn_incarnation(incarnation)))
    identity = read_identity(read_whole(files, IDENTITY))
    if (identity.node, identity.cluster) != (node, cluster):
        raise WrongDirectory(
            f"{place} belongs to node {identity.node} of cluster {identity.cluster!r}, not to node {node} of cluster"
            f" {cluster!r}: give this node the directory that it had before, or an empty one if it is new"
        )
    return identity


def drawn_incarnation(incarnation: int | None) -> Incarnation:
    """Return the given number, or a random one other than 0."""
    drawn = incarnation or 0
    while not drawn:
        drawn = int.from_bytes(os.urandom(8), "little") >> (64 - _INCARNATION_BITS)
    return Incarnation(drawn)


def _format(files: Files, place: str, names: list[str], identity: IdentityFile) -> IdentityFile:
    """Format an empty directory for this node."""
    if any(segment_number(name) is not None or snapshot_position(name) is not None for name in names):
        raise LogDamaged(IDENTITY, 0, "the file is missing, but the directory holds a log", RESTORE_REMEDY)
    if ANCHOR in names and read_anchor(read_whole(files, ANCHOR)).boot:
        raise LogDamaged(IDENTITY, 0, "the file is missing, but the directory was in use", RESTORE_REMEDY)
    ours = {ANCHOR, new_name(ANCHOR), new_name(IDENTITY), *_IGNORED}
    if foreign := [name for name in names if name not in ours]:
        raise WrongDirectory(f"{place} is not a data directory, but holds {foreign[0]!r}: give this node an empty one")
    replace_file(files, ANCHOR, sealed(Anchor(BootNumber(0), NOWHERE)))
    replace_file(files, IDENTITY, sealed(identity))
    return identity


def plan_in(files: Files, identity: IdentityFile, merge_bytes: int) -> Plan:
    """Return the recovery plan of a formatted directory. The log's snapshot has been read and is intact."""
    names = files.names()
    if ANCHOR not in names:
        raise LogDamaged(ANCHOR, 0, "the file is missing", RESTORE_REMEDY)
    anchor = read_anchor(read_whole(files, ANCHOR))
    plan = plan_recovery(names, lambda name: read_whole(files, name), identity, anchor, merge_bytes=merge_bytes)
    if plan.image.snapshot is not None:
        verify_snapshot(files, identity.cluster, plan.image.snapshot)
    return plan
