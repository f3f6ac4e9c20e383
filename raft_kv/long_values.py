"""Long values in pieces, so that a small change does not copy the whole value.

Copying a string of 62 MiB takes some 20 ms, on every replica and again in every replay. A `Long` is such a string as a
tuple of pieces and never changes in place; appending to it makes another one that shares its pieces. The two forms of a
value cannot be told apart from outside; they differ only in memory.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

__all__ = ["LONG_BYTES", "PIECE_BYTES", "Long", "Value", "append", "cut_out", "overwrite", "portion", "whole"]

LONG_BYTES: Final = 512 * 1024
"""Values which grow beyond this are kept in pieces."""
PIECE_BYTES: Final = 64 * 1024


@final
class Long:
    """A string in pieces. Invariant: all but the last have `PIECE_BYTES`."""

    __slots__ = ("pieces", "size")

    def __init__(self, pieces: tuple[bytes, ...], size: int) -> None:
        self.pieces: Final = pieces
        self.size: Final = size

    @classmethod
    def of(cls, data: bytes) -> Long:
        """Return the same bytes, in pieces."""
        return cls(_cut(data), len(data))

    def __len__(self) -> int:
        return self.size

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bytes):
            return len(other) == self.size and other == whole(self)
        return isinstance(other, Long) and other.pieces == self.pieces

    __hash__ = None  # type: ignore[assignment]


Value: TypeAlias = bytes | Long


def _cut(data: bytes) -> tuple[bytes, ...]:
    return tuple([data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)])


def whole(value: Value) -> bytes:
    """Return all bytes of a value; a long one is copied once."""
    return value if isinstance(value, bytes) else b"".join(value.pieces)


def append(value: Value, data: bytes) -> Value:
    """Return the value followed by `data`. Copies no more than `data` and a piece if the value is long."""
    if isinstance(value, bytes):
        if len(value) + len(data) <= LONG_BYTES:
            return value + data
        value = Long.of(value)
    full = len(value) // PIECE_BYTES
    rest = value.pieces[full] if full < len(value.pieces) else b""
    return Long(value.pieces[:full] + _cut(rest + data), len(value) + len(data))


def overwrite(value: Value, offset: int, data: bytes) -> Value:
    """Return the value with `data` from `offset` on, and zeros between its end and `offset`."""
    end = offset + len(data)
    size = max(len(value), end)
    if isinstance(value, bytes):
        if size <= LONG_BYTES:
            return value[:offset].ljust(offset, b"\0") + data + value[end:]
        value = Long.of(value)
    if len(value) < offset:
        value = _padded(value, offset)
    first, last = offset // PIECE_BYTES, -(-end // PIECE_BYTES)
    old = b"".join(value.pieces[first:last])
    start = offset - first * PIECE_BYTES
    new = old[:start] + data + old[start + len(data) :]
    return Long(value.pieces[:first] + _cut(new) + value.pieces[last:], size)


_ZEROS: Final = bytes(PIECE_BYTES)


def _padded(value: Long, size: int) -> Long:
    """Return the value with zeros up to `size`; all whole pieces of zeros are one object."""
    missing = size - len(value)
    rest = -len(value) % PIECE_BYTES
    padded = append(value, bytes(min(rest, missing)))
    assert isinstance(padded, Long)
    count, left = divmod(size - len(padded), PIECE_BYTES)
    pieces = padded.pieces + (_ZEROS,) * count + ((bytes(left),) if left else ())
    return Long(pieces, size)


def portion(value: Value, first: int, end: int) -> bytes:
    """Return the bytes from `first` up to `end`, both not negative; fewer if the value ends before."""
    if isinstance(value, bytes):
        return value[first:end]
    low = first // PIECE_BYTES
    joined = b"".join(value.pieces[low : -(-end // PIECE_BYTES)])
    return joined[first - low * PIECE_BYTES : max(0, end - low * PIECE_BYTES)]


def cut_out(value: Value, first: int, end: int) -> Value:
    """Return the bytes from `first` up to `end` for a reply. A long part shares its pieces with the value.

    Its pieces need not have `PIECE_BYTES`, so it is never stored.
    """
    end = min(end, len(value))
    if isinstance(value, bytes) or end - first <= LONG_BYTES:
        return portion(value, first, end)
    low, high = first // PIECE_BYTES, (end - 1) // PIECE_BYTES
    head = value.pieces[low][first - low * PIECE_BYTES :]
    tail = value.pieces[high][: end - high * PIECE_BYTES]
    return Long((head, *value.pieces[low + 1 : high], tail), end - first)
