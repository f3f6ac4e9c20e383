"""SQLite's write-ahead log, read before SQLite reads it, to tell a torn end from damage in the middle.

SQLite takes the first frame with a wrong checksum for the end of the log, whatever follows. This module decides: every
transaction is synced before the next one begins, so a frame behind the end of the transaction with the bad frame proves
that the bad frame was durable once. Pure; the format is that of https://sqlite.org/walformat.html.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, final

from raft_core.structs import Value

__all__ = ["WalDamage", "has_frames", "wal_damage"]

_HEADER: Final = struct.Struct(">IIIIIIII")  # magic, version, page size, sequence, salts, checksums
_FRAME: Final = struct.Struct(">IIIIII")  # page, pages after a commit, salts, checksums
_TOLD: Final = 16
"""The page, the mark of a commit and the salts are in the first bytes of a frame."""
_SECTOR: Final = 512
_MAGIC: Final = 0x377F0682  # or one more, where the checksums are over big-endian words
_MASK: Final = 0xFFFFFFFF


@final
class WalDamage(Value, frozen=True):
    """The damage and its offset."""

    offset: int
    problem: str


def has_frames(log: bytes) -> bool:
    """Return whether the log holds anything but a header."""
    return len(log) > _HEADER.size


def wal_damage(log: bytes, page_bytes: int, page: Callable[[int], bytes]) -> WalDamage | None:
    """Return the damage in `log`, None if it is whole, or torn at its end by a power loss.

    `page` returns a page of the database by its number, from 1 on.
    """
    frame_bytes = _FRAME.size + page_bytes
    count = (len(log) - _HEADER.size) // frame_bytes
    if count <= 0:
        return None
    salts, checksum, little = _read_header(log, page_bytes)
    if checksum is None:
        # A header may be torn when the log starts over: then everything in the old log is in the database already.
        behind = None if _is_in_database(log, count, frame_bytes, page) else "the header of the log is damaged"
        return None if behind is None else WalDamage(0, behind)
    for number in range(count):
        start = _HEADER.size + number * frame_bytes
        found = _FRAME.unpack_from(log, start)
        if found[2:4] == salts:
            checksum = _sum(log[start : start + 8], checksum, little=little)
            checksum = _sum(log[start + _FRAME.size : start + frame_bytes], checksum, little=little)
        if found[2:4] != salts or found[4:6] != checksum:
            if _goes_on(log, number, count, frame_bytes, salts):
                return WalDamage(start, "a frame is damaged, and later ones were synced after it")
            return None
    return None


def _read_header(log: bytes, page_bytes: int) -> tuple[tuple[int, ...], tuple[int, int] | None, bool]:
    magic, version, size, _sequence, *salts, first, second = _HEADER.unpack_from(log)
    little = magic == _MAGIC
    right = magic in (_MAGIC, _MAGIC + 1) and version == 3007000 and size == page_bytes
    if not right or _sum(log[: _HEADER.size - 8], (0, 0), little=little) != (first, second):
        return (), None, little
    return tuple(salts), (first, second), little


def _sum(data: bytes, start: tuple[int, int], *, little: bool) -> tuple[int, int]:
    one, two = start
    words = struct.unpack(f"{'<' if little else '>'}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        one = (one + words[at] + two) & _MASK
        two = (two + words[at + 1] + one) & _MASK
    return one, two


def _goes_on(log: bytes, bad: int, count: int, frame_bytes: int, salts: tuple[int, ...]) -> bool:
    """Return whether a transaction follows the one with the bad frame.

    If the log was started over an older one, a torn frame may have the older one's first words beside the new salts, if
    a sector ends between them. Such a frame does not tell the end of a transaction.
    """
    ended = False
    for number in range(bad, count):
        start = _HEADER.size + number * frame_bytes
        found = _FRAME.unpack_from(log, start)
        if found[2:4] != salts:
            continue
        if ended:
            return True
        ended = found[1] != 0 and start % _SECTOR + _TOLD <= _SECTOR
    return False


def _is_in_database(log: bytes, count: int, frame_bytes: int, page: Callable[[int], bytes]) -> bool:
    """Return whether the database holds the pages of the frames with the first one's salts, up to the last commit."""
    salts = _FRAME.unpack_from(log, _HEADER.size)[2:4]
    pages: dict[int, int] = {}
    committed: dict[int, int] = {}
    for number in range(count):
        start = _HEADER.size + number * frame_bytes
        found = _FRAME.unpack_from(log, start)
        if found[2:4] != salts:
            break
        pages[found[0]] = start + _FRAME.size
        if found[1]:
            committed = dict(pages)
    size = frame_bytes - _FRAME.size
    return all(page(number) == log[start : start + size] for number, start in committed.items())
