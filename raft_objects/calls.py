"""Commands, queries and replies of `Objects` as bytes. `machine` shows the formats."""

from __future__ import annotations

import enum
from struct import Struct
from typing import Any, Final

import msgspec

__all__ = [
    "BEGIN",
    "CALL",
    "ENABLE",
    "HEAD",
    "REFUSED",
    "SKIP",
    "ReplyKind",
    "encode_enable",
    "encode_reply",
    "encode_skip",
    "index_in",
]

HEAD: Final = Struct("<BQH")
"""Of a command: its kind, its time, the version that it needs."""
CALL, ENABLE, BEGIN, SKIP, REFUSED = range(5)
"""`REFUSED`: a call that the leader did not understand. No replica carries it out, whatever its own code has."""
_INDEX: Final = Struct("<Q")


class ReplyKind(enum.IntEnum):
    """What a reply says."""

    VALUE = 0
    RAISED = 1
    UNKNOWN = 2
    NOT_ENABLED = 3
    CRASHED = 4
    ENABLED = 5
    HELD = 6
    SKIPPED = 7


def encode_enable(version: int, *, only_first: bool = False) -> bytes:
    """Return the command that enables a version; `only_first`: only if nothing was applied before it."""
    return HEAD.pack(BEGIN if only_first else ENABLE, 0, version)


def encode_skip(index: int) -> bytes:
    """Return the command that skips the one at `index`."""
    return HEAD.pack(SKIP, 0, 0) + _INDEX.pack(index)


def index_in(skip: bytes) -> int:
    """Return the index in a command that skips; 0 if it has none."""
    return int(_INDEX.unpack_from(skip, HEAD.size)[0]) if len(skip) == HEAD.size + _INDEX.size else 0


def encode_reply(kind: ReplyKind, *parts: Any) -> bytes:
    """Return a reply. Raise `ValueError` for a text that no UTF-8 can hold."""
    return msgspec.msgpack.encode([int(kind), *parts])
