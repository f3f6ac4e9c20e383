"""`WalReader`: the incremental reader of one segment, with a verdict.

It decides whether a broken place is a torn tail or damage. The rules, which together leave no case open
(`docs/wal-format.md` gives the reasons):

- a mark that is neither FIRST nor NEXT nor zero is damage, wherever it is;
- a batch with all its marks and a wrong checksum is damage, wherever it is;
- a batch with a zero mark was torn, unless a later batch shows that the log was synced beyond its beginning: then it
  is damage. Therefore the reader goes on looking at the heads of later batches after a torn one.
"""

from __future__ import annotations

from enum import Enum
from typing import final

from raft_core.structs import Value
from raft_core.wal.blocks import (
    BLOCK,
    FIRST,
    NEXT,
    ROOM,
    BatchHead,
    Position,
    batch_bytes,
    content_of,
    expected_marks,
    marks_of,
    parse_head,
)
from raft_core.wal.records import Body, RecordsUndecodable, SegmentHeader, decode

__all__ = ["Record", "Verdict", "VerdictKind", "WalReader", "was_continued"]


class VerdictKind(Enum):
    """The state of a segment behind its last whole batch."""

    CLEAN = "clean"  # nothing but zeros
    TORN = "torn"  # a batch that was not synced
    DAMAGED = "damaged"  # bytes that were durable, or never written like that


@final
class Verdict(Value, frozen=True):
    """`offset`: the end of the whole batches, or the place of the damage."""

    kind: VerdictKind
    offset: int
    problem: str = ""


@final
class Record(Value, frozen=True):
    """A record, and the offset of its batch."""

    at: int
    body: Body


def was_continued(sequence: int, data: bytes) -> bool:
    """Return whether segment `sequence` holds the head of any batch but its first, whatever else is wrong with it.

    Then its first batch had been acknowledged: another one is written only after that. A head cannot arise by chance,
    because its checksum and place must be right; so garbage is not mistaken for one.
    """
    for offset in range(BLOCK, len(data) - BLOCK + 1, BLOCK):
        head = parse_head(data[offset : offset + BLOCK])
        if head is not None and head.at == Position(sequence, offset):
            return True
    return False


@final
class WalReader:
    """Reads the bytes of segment `sequence`, in pieces of any size."""

    __slots__ = ("_buffer", "_damage", "_dirty", "_end", "_offset", "_proven", "_sequence", "_torn")

    def __init__(self, sequence: int) -> None:
        self._sequence = sequence
        self._buffer = memoryview(b"")
        self._offset = 0  # of the first byte in the buffer; always a block's beginning
        self._end = 0
        self._proven = 0
        self._torn = False
        self._dirty = False  # bytes other than zeros were seen behind the last whole batch
        self._damage: Verdict | None = None

    @property
    def end(self) -> int:
        """Return the end of the whole batches."""
        return self._end

    @property
    def proven(self) -> int:
        """Return the offset up to which this segment was certainly synced, by its own account."""
        return self._proven

    @property
    def verdict(self) -> Verdict:
        """Return the verdict on the bytes fed so far, if no more follow."""
        if self._damage is not None:
            return self._damage
        rest = self._buffer
        if self._dirty or bytes(rest).count(0) != len(rest):
            return Verdict(VerdictKind.TORN, self._end, "a batch is not complete")
        return Verdict(VerdictKind.CLEAN, self._end)

    def feed(self, data: bytes | memoryview) -> list[Record]:
        """Return the records of every batch completed by `data`; none after a torn or damaged batch.

        A whole segment at once is not copied.
        """
        records: list[Record] = []
        self._buffer = memoryview(b"".join((self._buffer, data)) if self._buffer else data)
        consumed = 0
        while self._damage is None:
            taken = self._skim(consumed) if self._torn else self._take(consumed, records)
            if not taken:
                break
            consumed += taken
            self._offset += taken
        self._buffer = self._buffer[consumed:]
        return records

    def _take(self, start: int, records: list[Record]) -> int:
        """Read the batch at `start` of the buffer. Return its size, 0 if more bytes are needed."""
        buffer = self._buffer
        if len(buffer) - start < BLOCK:
            return 0
        mark = buffer[start + ROOM]
        if mark == 0:
            self._torn = True
            return self._skim(start)
        head = self._head(start) if mark == FIRST else None
        if head is None:
            self._damaged(self._offset, "the head of a batch is not readable")
            return 0
        size = batch_bytes(head.length)
        if len(buffer) - start < size:
            return 0
        blocks = bytearray(buffer[start : start + size])
        marks = marks_of(blocks)
        if marks != expected_marks(len(marks)):
            self._believe(head)
            return self._incomplete(marks, size)
        payload = content_of(blocks, head)
        if payload is None:
            self._damaged(self._offset, "all of a batch was written, but its checksum is wrong")
            return 0
        return size if self._accept(payload, size, head, records) else 0

    def _head(self, start: int) -> BatchHead | None:
        """Return the head at `start` of the buffer, if it is whole and names its own place."""
        head = parse_head(bytes(self._buffer[start : start + BLOCK]))
        if head is None or head.at != Position(self._sequence, self._offset) or head.synced > head.at:
            return None
        return head

    def _accept(self, payload: memoryview, size: int, head: BatchHead, records: list[Record]) -> bool:
        try:
            bodies = decode(payload)
        except RecordsUndecodable as failure:
            self._damaged(self._offset, f"a batch with a right checksum cannot be decoded: {failure}")
            return False
        headers = [type(body) is SegmentHeader for body in bodies]
        if any(headers[1:]) or any(headers[:1]) != (self._offset == 0):
            self._damaged(self._offset, "a segment has one header, at its beginning")
            return False
        records += [Record(self._offset, body) for body in bodies]
        self._end = self._offset + size
        self._believe(head)
        return True

    def _incomplete(self, marks: bytes, size: int) -> int:
        """Handle a batch with a wrong mark: torn if the mark is missing, damaged if it is anything else."""
        for block, mark in enumerate(marks[1:], start=1):
            if mark not in (0, NEXT):
                self._damaged(self._offset + block * BLOCK, f"the mark of a block is {mark:#04x}")
                return 0
        self._torn = self._dirty = True
        return size

    def _skim(self, start: int) -> int:
        """Search the blocks behind a torn batch for proof that it had been synced."""
        size = (len(self._buffer) - start) // BLOCK * BLOCK
        if not size:
            return 0
        blocks = bytes(self._buffer[start : start + size])
        if blocks.count(0) == size:
            return size
        self._dirty = True
        begin = self._offset
        for number, mark in enumerate(blocks[ROOM::BLOCK]):
            if mark in (0, NEXT):
                continue
            self._offset = begin + number * BLOCK
            self._judge(mark, start + number * BLOCK)
            if self._damage is not None:
                return 0
        self._offset = begin
        return size

    def _judge(self, mark: int, start: int) -> None:
        """Judge a marked block behind a torn batch."""
        head = self._head(start) if mark == FIRST else None
        if head is None:
            self._damaged(self._offset, "a block is not readable")
            return
        self._believe(head)
        if self._proven > self._end:
            self._damaged(self._end, f"a block is missing that was synced before offset {self._offset} was written")

    def _believe(self, head: BatchHead) -> None:
        if head.synced.segment == self._sequence:
            self._proven = max(self._proven, head.synced.offset)

    def _damaged(self, offset: int, problem: str) -> None:
        self._damage = Verdict(VerdictKind.DAMAGED, offset, problem)
