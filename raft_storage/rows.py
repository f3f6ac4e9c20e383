"""The log as numbered rows, for stores on a database engine: the bytes of the rows, and their checks. Pure.

Every call of `write` becomes one row: its changes, under the next number. Row 0 is the state: the whole state of the
log except entries, and the number and the chain of the newest row. Both are written in one transaction.

- A row is sealed by the chain: a checksum over its contents and the chain of the row before it. A row that is missing,
  doubled, changed, exchanged or left over from an older version of a page breaks the chain.
- The newest row must be the one named by the state. A state or a row that is older than the other is damage.
- The mark (`raft_storage.mark`) lies outside the database and names a row that was durable. A database that ends before
  it has lost acknowledged rows.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, final

import attrs
import msgspec

from raft_core.entries import HardState, SnapshotMeta
from raft_core.errors import LogDamaged, LogLost, WrongDirectory
from raft_core.ids import BootNumber, ClusterId, Incarnation, Index, NodeId
from raft_core.recovered import Identity
from raft_core.structs import Value
from raft_core.wal.layout import RESTORE_REMEDY
from raft_core.wal.log_state import LogImage
from raft_core.wal.records import Change, RecordsUndecodable, decode, encode

__all__ = [
    "ROWS_VERSION",
    "START",
    "STATE",
    "Point",
    "RowState",
    "RowsRead",
    "newest_state_in",
    "read_rows",
    "seal_row",
    "seal_state",
]

ROWS_VERSION: Final = 1
"""Version of rows, state and mark. A reader refuses a higher one."""

STATE: Final = 0
"""The number of the state's row."""

_ROW: Final = struct.Struct("<QQII")  # number, next index before it, chain before it, chain with it
_STATE_MAGIC: Final = b"RAFTSTAT"
_STATE: Final = struct.Struct("<8sIII")  # magic, version, length, checksum


@final
class Point(Value, frozen=True, array_like=True):
    """A place in the sequence of rows: a row's number, and the chain up to and with it."""

    number: int
    chain: int


START: Final = Point(0, 0)
"""Before the first row."""


@final
class RowState(Value, frozen=True, array_like=True):
    """The state of the log after the newest row, and its owner. `first`: entries below are obsolete."""

    cluster: ClusterId
    node: NodeId
    incarnation: Incarnation
    boot: BootNumber
    newest: Point
    first: Index
    next: Index
    hard: HardState
    snapshot: SnapshotMeta | None


@final
@attrs.frozen(eq=False)
class RowsRead:
    """The log recovered from rows.

    `before`: for each row, from number `oldest` on, the index of the next entry before it; `sizes`: the bytes of each.
    """

    state: RowState | None
    image: LogImage
    oldest: int
    before: array[int]
    sizes: array[int]


def seal_row(number: int, next_before: Index, chain: int, changes: Sequence[Change]) -> tuple[bytes, Point]:
    """Return the bytes of a row, and the place behind it."""
    payload = encode(changes)
    sealed = zlib.crc32(payload, zlib.crc32(_ROW.pack(number, next_before, chain, 0)))
    return _ROW.pack(number, next_before, chain, sealed) + payload, Point(number, sealed)


def seal_state(state: RowState) -> bytes:
    """Return the bytes of the state's row."""
    body = msgspec.msgpack.encode(state)
    start = _STATE.pack(_STATE_MAGIC, ROWS_VERSION, len(body), 0)[:-4]
    return start + zlib.crc32(body, zlib.crc32(start)).to_bytes(4, "little") + body


def newest_state_in(data: bytes) -> int:
    """Return the number of the newest row named by a whole state anywhere in `data`, 0 if there is none."""
    newest, start = 0, data.find(_STATE_MAGIC)
    while start >= 0:
        if len(data) - start >= _STATE.size:
            _magic, version, length, checksum = _STATE.unpack_from(data, start)
            body = data[start + _STATE.size : start + _STATE.size + length]
            if (
                version == ROWS_VERSION
                and zlib.crc32(body, zlib.crc32(data[start : start + _STATE.size - 4])) == checksum
            ):
                with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                    newest = max(newest, msgspec.msgpack.decode(body, type=RowState).newest.number)
        start = data.find(_STATE_MAGIC, start + 1)
    return newest


def read_rows(
    rows: Iterable[tuple[int, bytes]], file: str, identity: Identity, mark: Point, tail: str = ""
) -> RowsRead:
    """Replay `rows`, in the order of their numbers, from the database `file`.

    Its newest rows were in the file `tail`, if given.

    Raise `LogDamaged`, `LogLost` or `WrongDirectory`.
    """
    reader = _Reader(file, identity, mark, tail)
    for number, body in rows:
        if number == STATE:
            reader.state = reader.read_state(body)
        else:
            reader.read(number, body)
    return reader.finish()


@final
class _Reader:
    """The rows read so far."""

    def __init__(self, file: str, identity: Identity, mark: Point, tail: str) -> None:
        self.file = file
        self.tail = tail
        self.identity = identity
        self.mark = mark
        self.state: RowState | None = None
        self.image = LogImage()
        self.oldest = 0
        self.last: Point | None = None
        self.before = array("Q")
        self.sizes = array("Q")
        self.seen_hard = False

    def read_state(self, body: bytes) -> RowState:
        if len(body) < _STATE.size:
            raise self._damage("the state is too short")
        magic, version, length, checksum = _STATE.unpack_from(body)
        content = body[_STATE.size :]
        right = zlib.crc32(content, zlib.crc32(body[: _STATE.size - 4])) == checksum
        if magic != _STATE_MAGIC or len(content) != length or not right:
            raise self._damage("the checksum of the state is wrong")
        if version > ROWS_VERSION:
            raise WrongDirectory(
                f"{self.file} has format {version}, this library reads {ROWS_VERSION}: use a newer one"
            )
        try:
            state = msgspec.msgpack.decode(content, type=RowState)
        except (msgspec.MsgspecError, UnicodeDecodeError) as failure:
            raise self._damage(f"the state cannot be decoded: {failure}") from None
        theirs = Identity(state.node, state.cluster, state.incarnation)
        if theirs != self.identity:
            raise WrongDirectory(
                f"{self.file} was written by node {state.node} of cluster {state.cluster!r} (incarnation"
                f" {state.incarnation}): put that node's own files back"
            )
        return state

    def read(self, number: int, body: bytes) -> None:
        """Check one row against the chain, and apply its changes."""
        if len(body) < _ROW.size:
            raise self._damage(f"row {number} is too short")
        stored, next_before, before, chain = _ROW.unpack_from(body)
        payload = body[_ROW.size :]
        if zlib.crc32(payload, zlib.crc32(_ROW.pack(number, next_before, before, 0))) != chain or stored != number:
            raise self._damage(f"the checksum of row {number} is wrong")
        if self.last is None:
            self.oldest = number
            self.image.next = self.image.known_from = Index(next_before)
        elif number != self.last.number + 1:
            raise self._damage(f"rows {self.last.number + 1} to {number - 1} are missing")
        elif before != self.last.chain or next_before != self.image.next:
            raise self._damage(f"row {number} does not follow row {self.last.number}")
        self.last = Point(number, chain)
        if number == self.mark.number and chain != self.mark.chain:
            raise self._damage(f"row {number} is not the one that was acknowledged under this number")
        self.before.append(next_before)
        self.sizes.append(len(body))
        self._replay(number, payload)

    def _replay(self, number: int, payload: bytes) -> None:
        try:
            changes = decode(payload)
        except RecordsUndecodable as failure:
            raise self._damage(f"row {number} cannot be decoded: {failure}") from None
        for change in changes:
            if type(change) is not Change or change.group:
                raise WrongDirectory(
                    f"{self.file}: row {number} holds what this library does not know: use a newer one"
                )
            if (problem := self.image.problem(change)) is not None:
                raise self._damage(f"row {number}: {problem}")
            self.seen_hard = self.seen_hard or change.hard is not None
            self.image.apply(change)

    def finish(self) -> RowsRead:
        """Compare the rows with the state and with the mark."""
        state, last = self.state, self.last
        reached = state.newest if state is not None else START
        if reached.number < self.mark.number and self.tail:
            problem = f"the log ends at write {reached.number}, but write {self.mark.number} was acknowledged"
            raise LogDamaged(self.tail, 0, problem, RESTORE_REMEDY)
        if reached.number < self.mark.number:
            raise LogLost(
                f"{self.file} ends at write {reached.number}, but write {self.mark.number} was acknowledged: the"
                f" database has lost its end, or an older one was put in its place. {RESTORE_REMEDY}"
            )
        if state is None:
            if last is not None:
                raise self._damage("the state is missing")
            return RowsRead(None, self.image, 1, self.before, self.sizes)
        if last is None or last != state.newest:
            found = "no row" if last is None else f"row {last.number}"
            raise self._damage(f"the state names row {state.newest.number} as the newest, the newest found is {found}")
        if reached.number == self.mark.number and reached.chain != self.mark.chain:
            raise self._damage(f"row {reached.number} is not the one that was acknowledged under this number")
        self._agree(state)
        return RowsRead(state, self.image, self.oldest, self.before, self.sizes)

    def _agree(self, state: RowState) -> None:
        image = self.image
        agrees = image.next == state.next and (not self.seen_hard or image.hard == state.hard)
        if not agrees or (image.snapshot is not None and image.snapshot != state.snapshot):
            raise self._damage("the state contradicts the rows")
        image.hard, image.snapshot = state.hard, state.snapshot
        image.first = max(image.first, state.first)
        if image.known_from > image.base + 1:
            missing = f"entries {image.base + 1} to {image.known_from - 1}"
            raise self._damage(f"the oldest row is {self.oldest}; {missing} were in older ones")

    def _damage(self, problem: str) -> LogDamaged:
        return LogDamaged(self.file, 0, problem, RESTORE_REMEDY)
