"""`Backups`: callers that read a backup of this node's state, piece by piece, from a snapshot on its disk.

A backup begins when everything committed before is applied here: `RequestBook` waits for that as for any read. Then a
snapshot at the index applied, or a later one, is needed. If the newest is older, the core is asked to take one, again
at every tick, because it may be unable to at the moment.

Example: entry 90 is applied and the snapshot covers 60. A snapshot at 93 is ordered (entries went on), stored, and the
disk is switched to it; only then is it offered, because a restart before the switch could store other bytes at 93.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.entries import SnapshotMeta
from raft_core.events import SnapshotRequested
from raft_core.ids import Index, Term
from raft_core.membership import Members
from raft_core.node.events import QueryFailed
from raft_core.node.jobs import CloseBackups, Lane, ReadPiece, Ticket
from raft_core.node.limits import SECOND
from raft_core.node.outputs import Outputs
from raft_core.node.pending_request import PendingRequest, Place
from raft_core.raft import Raft
from raft_core.requests import OpenBackup, ReadBackup

__all__ = ["Backups"]

_IDLE: Final = 60 * SECOND
"""A backup from which nothing was read for this long no longer keeps its snapshot on the disk."""


@final
class Backups:
    """The backups of one node. `RequestBook` has their requests, and drops answers to those that wait no more."""

    def __init__(self, orders: Outputs) -> None:
        self._orders = orders
        self.waiting: list[tuple[PendingRequest, OpenBackup, Index]] = []  # for a snapshot at this index or later
        self._ordered = False  # since the last tick
        self._used_at: int | None = None  # None: no snapshot is open
        self.now = 0

    @property
    def open_or_waiting(self) -> bool:
        """True while a snapshot is open for a backup, or waited for."""
        return bool(self.waiting) or self._used_at is not None

    def open(self, waiting: PendingRequest, request: OpenBackup) -> None:
        """Begin a backup: everything committed before it was requested is applied here."""
        if request.index > 0:
            self._read(waiting, request.index, request.term, 0, request.label)
        else:
            self.waiting.append((waiting, request, Index(0)))

    def read(self, waiting: PendingRequest, request: ReadBackup) -> None:
        """Read a piece of a backup that was opened before."""
        self._read(waiting, request.index, request.term, request.piece)

    def _read(self, ticket: Ticket, index: int, term: int, piece: int, label: str = "") -> None:
        self._used_at = self.now
        meta = SnapshotMeta(Index(index), Term(term), Members())  # a store finds it by index and term
        self._orders.run(Lane.CHUNKS, ReadPiece(ticket, meta, piece, label))

    def look(self, raft: Raft) -> None:
        """Begin the backups for which there is a snapshot; order one for the others, at most once in a tick.

        Forget those whose request waits no more.
        """
        server = raft.server
        applied, newest = server.pipeline.applied, server.snapshots.to_offer
        waiting = [
            (item, request, wanted or applied) for item, request, wanted in self.waiting if item.place is Place.MACHINE
        ]
        self.waiting = []
        for item, request, wanted in waiting:
            if newest is not None and newest.index >= wanted:
                self._read(item, newest.index, newest.term, 0, request.label)
            else:
                self.waiting.append((item, request, wanted))
        if self.waiting and not self._ordered:
            self._ordered = True
            self._orders.events.append(SnapshotRequested(max(wanted for _, _, wanted in self.waiting)))

    def on_snapshot_failed(self, text: str) -> list[QueryFailed]:
        """Return the refusals of those that wait for a snapshot: it could not be taken."""
        waiting, self.waiting = self.waiting, []
        return [QueryFailed(item, text) for item, _, _ in waiting]

    def on_tick(self) -> None:
        """Let a snapshot be ordered again; close those from which nothing is read any more."""
        self._ordered = False
        if self._used_at is not None and self.now - self._used_at >= _IDLE:
            self._used_at = None
            self._orders.run(Lane.CHUNKS, CloseBackups())
