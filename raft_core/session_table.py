"""The table of sessions: one open session, and the records of the table in a snapshot.

A snapshot of `Sessions` begins with records, each a length of four bytes and MessagePack: `TableHead`, then a
`TableRow` per session, least recently used first. The chunks of the inner machine follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final, TypeVar, final

import msgspec

from raft_core.structs import Value

__all__ = ["Session", "SnapshotMalformed", "TableHead", "TablePieces", "TableRow", "table_chunks"]

_LENGTH: Final = Struct("<I")
_Record = TypeVar("_Record")
_VERSION: Final = 1


class SnapshotMalformed(ValueError):
    """A snapshot does not begin with a session table: it is of another machine, or of a newer release."""


@final
class Session:
    """One open session. Invariant: no result is kept below `lowest`."""

    __slots__ = ("last_used", "lowest", "moment", "results")

    def __init__(self, last_used: int, lowest: int, results: dict[int, bytes], moment: int) -> None:
        self.last_used = last_used
        self.lowest = lowest
        self.results = results  # sequence -> reply, in the order of applying
        self.moment = moment  # snapshots begun before this object was made: later ones may read it

    def copy(self, moment: int) -> Session:
        """Return a copy of this session, to be changed."""
        return Session(self.last_used, self.lowest, dict(self.results), moment)

    def forget_below(self, lowest: int) -> None:
        """Drop the results below `lowest`, confirmed by the client. The cost is about linear in the dropped ones."""
        results = self.results
        gone: Iterable[int] = range(self.lowest, lowest)
        if lowest - self.lowest > len(results):
            gone = [known for known in results if known < lowest]
        for sequence in gone:
            results.pop(sequence, None)
        self.lowest = max(self.lowest, lowest)


@final
class TableHead(Value, frozen=True, array_like=True):
    """The first record of a snapshot."""

    version: int
    now: int
    limits: tuple[int, int, int]
    sessions: int


@final
class TableRow(Value, frozen=True, array_like=True):
    """A record per session, least recently used first."""

    session: int
    last_used: int
    lowest: int
    results: tuple[tuple[int, bytes], ...]


_HEAD_DECODER: Final = msgspec.msgpack.Decoder(TableHead)
_ROW_DECODER: Final = msgspec.msgpack.Decoder(TableRow)


def table_chunks(
    now: int, limits: tuple[int, int, int], held: list[tuple[int, Session]], inner: Iterator[bytes]
) -> Iterator[bytes]:
    """Yield the records of the sessions `held`, by their ids, then the chunks of the inner machine."""
    yield _record(TableHead(_VERSION, now, limits, len(held)))
    held.reverse()
    while held:
        number, session = held.pop()
        yield _record(TableRow(number, session.last_used, session.lowest, tuple(session.results.items())))
    yield from inner


def _record(record: TableHead | TableRow) -> bytes:
    data = msgspec.msgpack.encode(record)
    return _LENGTH.pack(len(data)) + data


@final
class TablePieces:
    """Reads a snapshot in chunks of any size: the table's records, then the rest, chunk by chunk."""

    __slots__ = ("_at", "_chunks", "_waiting")

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._waiting = bytearray()
        self._at = 0

    def head(self) -> TableHead:
        """Return the first record. Raise `SnapshotMalformed` if it is none of this version."""
        head = self._decoded(_HEAD_DECODER)
        if head.version != _VERSION:
            raise SnapshotMalformed(f"the session table has version {head.version}, this release reads {_VERSION}")
        return head

    def row(self) -> TableRow:
        """Return the next record. Raise `SnapshotMalformed` if it is no session."""
        return self._decoded(_ROW_DECODER)

    def _decoded(self, decoder: msgspec.msgpack.Decoder[_Record]) -> _Record:
        (length,) = _LENGTH.unpack(self._take(_LENGTH.size))
        try:
            return decoder.decode(self._take(length))
        except msgspec.MsgspecError as failure:
            raise SnapshotMalformed(f"the snapshot does not begin with a session table: {failure}") from failure

    def rest(self) -> Iterator[bytes]:
        """Yield all bytes after the records."""
        if self._at < len(self._waiting):
            yield bytes(self._waiting[self._at :])
        self._waiting.clear()
        yield from self._chunks

    def _take(self, length: int) -> bytes:
        if len(self._waiting) - self._at < length:
            del self._waiting[: self._at]
            self._at = 0
            while len(self._waiting) < length:
                chunk = next(self._chunks, None)
                if chunk is None:
                    raise SnapshotMalformed("the snapshot ends within the session table")
                self._waiting += chunk
        start, self._at = self._at, self._at + length
        return bytes(self._waiting[start : self._at])
