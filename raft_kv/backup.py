"""`raft-kv backup`, `restore` and `verify`: from a running node to a file, from a file to a new node, and checks."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import attrs
import hiredis
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from raft_core.backup_format import BackupDamaged, BackupHeader
from raft_core.entries import LogPosition
from raft_core.errors import DiskError, RaftError, SettingsError
from raft_core.node.config import split_address
from raft_kv.certificates import certificate_step
from raft_kv.client_remedies import with_remedy
from raft_kv.config import check_name
from raft_kv.log_output import print_error
from raft_kv.node_client import Failed, NodeConnection
from raft_kv.snapshot_format import SnapshotUnreadable, count_keys
from raft_storage.backup_file import BackupFile, backup_states, restore_backup, verify_backup
from raft_storage.location import kind_at, parse_location
from raft_storage.verification import verify_store

__all__ = [
    "BackupFailed",
    "BackupOptions",
    "RestoreOptions",
    "VerifyOptions",
    "run_backup",
    "run_restore",
    "run_verify",
]

_CONNECT_SECONDS: Final = 10.0
_PIECE_SECONDS: Final = 30.0
_ATTEMPTS: Final = 5
"""Connections in a row without a further piece, before the backup is given up."""
_PAUSE: Final = 1.0


class BackupFailed(RaftError):
    """The node refused, or could not be reached for too long; what has arrived is kept."""


def _one(file: list[str], what: str) -> None:
    if len(file) != 1:
        raise SettingsError(f"name one {what}, not {len(file)}")


@attrs.frozen(kw_only=True)
class BackupOptions:
    """The options of `raft-kv backup`. Raise `SettingsError` if values are invalid."""

    source: str = "127.0.0.1:6379"
    file: list[str] = attrs.field(factory=list)
    timeout: float = 900.0
    quiet: bool = False

    def __attrs_post_init__(self) -> None:
        _one(self.file, "file for the backup")
        split_address(self.source)
        if not 0 < self.timeout < 1e6:
            raise SettingsError(f"timeout must be a positive number of seconds, not {self.timeout}")


@attrs.frozen(kw_only=True)
class RestoreOptions:
    """The options of `raft-kv restore`. Raise `SettingsError` if values are invalid."""

    file: list[str] = attrs.field(factory=list)
    new_cluster: str
    data: str
    id: int = 1
    quiet: bool = False

    def __attrs_post_init__(self) -> None:
        _one(self.file, "backup")
        check_name(self.new_cluster)
        if self.id < 1:
            raise SettingsError(f"the id of a node is a positive number, not {self.id}")


@attrs.frozen(kw_only=True)
class VerifyOptions:
    """The options of `raft-kv verify`. Raise `SettingsError` if values are invalid."""

    file: list[str] = attrs.field(factory=list)
    scratch: str = ""
    quiet: bool = False

    def __attrs_post_init__(self) -> None:
        _one(self.file, "backup or location")


@contextmanager
def _bar(text: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show progress on standard error, unless it is no terminal."""
    columns = TextColumn(text), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _origin(header: BackupHeader) -> str:
    voters = ", ".join(map(str, header.meta.members.voters))
    return (
        f"cluster {header.cluster!r} at entry {header.meta.index}, term {header.meta.term} (node {header.node}, "
        f"voters {voters}, {header.label or 'no label'}, {header.size:,} bytes of state)"
    )


# Backup.


def run_backup(options: BackupOptions) -> int:
    """Write the backup; return the exit status. Raise `BackupFailed` and `DiskError`."""
    (path,) = options.file
    with BackupFile(path) as file, _bar("backing up", quiet=options.quiet) as show:
        if file.header is not None:
            print_error(f"continuing {path}.part at byte {file.offset:,}")
        _fetch_all(options, file, show)
        header = file.finish()
    print_error(f"{path}: {_origin(header)}, in {header.total_bytes:,} bytes")
    return 0


def _fetch_all(options: BackupOptions, file: BackupFile, show: Callable[[int, int], None]) -> None:
    """Append pieces until the backup is whole; connect again if the connection breaks."""
    left = _ATTEMPTS
    while not file.whole:
        number = file.number
        try:
            with closing(NodeConnection(split_address(options.source), _CONNECT_SECONDS)) as node:
                header = _open(node, options, file)
                node.wait_for(_PIECE_SECONDS)
                while not file.whole:
                    meta = header.meta
                    file.append(_piece(node, "READ", meta.index, meta.term, file.number))
                    show(file.offset, header.total_bytes)
        except Failed as failure:
            if failure.refused:
                raise BackupFailed(f"{options.source}: {failure}") from None
            left = _ATTEMPTS if file.number > number else left - 1
            if left <= 0:
                raise BackupFailed(f"{options.source}: {failure}. {_kept(file)}") from None
            time.sleep(_PAUSE)
        except BackupDamaged as damage:
            raise BackupFailed(f"{options.source} sent a damaged piece, {damage}. {_kept(file)}") from None


def _open(node: NodeConnection, options: BackupOptions, file: BackupFile) -> BackupHeader:
    """Open the backup that the file holds the beginning of; if the node no longer has it, a new one."""
    node.wait_for(options.timeout)
    held = file.header
    if held is not None:
        try:
            return file.begin(_piece(node, "OPEN", held.meta.index, held.meta.term))
        except BackupFailed:
            print_error("the node no longer has that snapshot: the backup starts anew")
    return file.begin(_piece(node, "OPEN"))


def _piece(node: NodeConnection, *words: bytes | str | int) -> bytes:
    reply = node.say("RAFT", "BACKUP", *words)
    if isinstance(reply, bytes):
        return reply
    text = str(reply) if isinstance(reply, hiredis.ReplyError) else f"it answers {reply!r}"
    raise BackupFailed(f"the node refuses the backup: {with_remedy(text, node.remedy(reply))}")


def _kept(file: BackupFile) -> str:
    return f"{file.path}.part has {file.offset:,} bytes; run the same command again to continue"


# Restore and verify.


def _keys(states: Iterator[bytes], path: str) -> int:
    """Return the number of keys in the state; raise `DiskError` if it is not one of this server."""
    try:
        return count_keys(states)
    except SnapshotUnreadable as failure:
        raise DiskError(
            f"{path} is intact, but holds no state of this server: {failure}. It is a backup of another program, or of"
            " a newer release"
        ) from None


def run_restore(options: RestoreOptions) -> int:
    """Create the new node; return the exit status. Raise `DiskError`, or `CallerError` for the old cluster's name."""
    (path,) = options.file
    target = parse_location(options.data)
    if not Path(path).is_file():
        raise SettingsError(f"there is no backup {path}")
    keys = _keys(backup_states(path), path)
    with _bar("restoring", quiet=options.quiet) as show:
        header, _ = restore_backup(path, target, node=options.id, cluster=options.new_cluster, progress=show)
    print_error(f"{keys:,} keys from {_origin(header)}")
    had = options.id in header.meta.members.nodes
    print_error(certificate_step(options.id, header.cluster, options.new_cluster, renew=had))
    cluster, data = shlex.quote(options.new_cluster), shlex.quote(str(target))
    print_error(f"Start it with: raft-kv serve --id {options.id} --cluster {cluster} --data {data}")
    highest = max(header.meta.members.highest_id, options.id)
    print_error(
        f"Add others with empty directories and ids above {highest}, the highest that was ever used: start them with "
        f"--id {highest + 1} --join, then RAFT ADD {highest + 1} HOST:PORT. Nodes of the old cluster are refused."
    )
    return 0


def run_verify(options: VerifyOptions) -> int:
    """Check a backup or a stopped node's data; return the exit status. Raise `DiskError`."""
    (given,) = options.file
    if Path(given).is_file():
        with _bar("verifying", quiet=options.quiet) as show:
            header = verify_backup(given, show)
        print_error(f"{given}: intact. {_keys(backup_states(given), given):,} keys of {_origin(header)}")
        return 0
    location = parse_location(given)
    if kind_at(location.directory) is None:
        raise SettingsError(f"there is neither a backup nor a node's data at {given}")
    if kind_at(location.directory) not in (None, location.kind) and ":" not in given:
        location = parse_location(f"{kind_at(location.directory)}:{location.directory}")
    keys: list[int] = []
    found = verify_store(location, lambda state: keys.append(_keys(state, given)), scratch=options.scratch or None)
    recovered = found.recovered
    snapshot = recovered.snapshot
    base = f"a snapshot at entry {snapshot.index} with {keys[0]:,} keys" if snapshot is not None else "no snapshot"
    end = LogPosition(recovered.entries[-1].index, recovered.entries[-1].term) if recovered.entries else None
    print_error(
        f"{location}: intact. Node {found.identity.node} of cluster {found.identity.cluster!r}: {base}, "
        f"{len(recovered.entries):,} entries behind it" + (f", the last is {end.index}, term {end.term}" if end else "")
    )
    return 0
