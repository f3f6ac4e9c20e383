"""`BackupPieces`: reads the pieces of backups from the snapshots of a store, for `JobRunner`.

A snapshot stays open, and its file on the disk, from the first piece that is read to the last one, although newer
snapshots replace it meanwhile.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, final

from raft_core.backup_format import BackupHeader
from raft_core.entries import LogPosition, SnapshotMeta
from raft_core.store import SnapshotReader, Store

__all__ = ["BackupPieces"]

_MOST_OPEN: Final = 2
"""Snapshots open for backups: the newest, and one whose backup began before it."""


@final
class BackupPieces:
    """The snapshots open for backups. Used by one lane."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[LogPosition, tuple[SnapshotReader, BackupHeader]] = {}

    def read(self, meta: SnapshotMeta, piece: int, label: str = "") -> bytes:
        """Return a piece; b"" beyond the end. Raise `DiskError` if the snapshot is gone or cannot be read."""
        if piece == 0:
            self._close(meta.position)  # a new header, with this label
        reader, header = self._opened(meta, label)
        if piece >= header.pieces - 1:
            self._close(meta.position)
        if piece >= header.pieces or piece < 0:
            return b""
        state = reader.read(*header.span(piece)) if 1 <= piece <= header.blocks else b""
        return header.piece(piece, state)

    def _opened(self, meta: SnapshotMeta, label: str) -> tuple[SnapshotReader, BackupHeader]:
        found = self._open.get(meta.position)
        if found is None:
            reader = self._store.open_snapshot(meta)
            identity = self._store.identity
            header = BackupHeader(
                identity.cluster, identity.node, identity.incarnation, reader.meta, reader.size, label=label
            )
            while len(self._open) >= _MOST_OPEN:
                self._close(min(self._open, key=lambda position: position.index))
            found = self._open[meta.position] = (reader, header)
        return found

    def _close(self, position: LogPosition) -> None:
        found = self._open.pop(position, None)
        if found is not None:
            with suppress(Exception):
                found[0].close()

    def close(self) -> None:
        """Close all of them; a later `read` opens its own again, if it still exists."""
        for position in list(self._open):
            self._close(position)
