"""Replies as values, and their bytes in RESP2 and RESP3.

The machine encodes replies where it makes them, so their bytes go unchanged from a log entry's result to the socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, final

from raft_core.structs import Value
from raft_kv.long_values import Long

__all__ = [
    "EMPTY_ARRAY",
    "NULL_ARRAY",
    "OK",
    "PONG",
    "CommandError",
    "Encoded",
    "Failure",
    "Map",
    "NullArray",
    "Reply",
    "Simple",
    "array_header",
    "bulk_length",
    "encode",
    "encode_failure",
    "long_parts",
]


@final
class Simple(Value, frozen=True):
    """A short status such as `OK`."""

    text: str


@final
class Failure(Value, frozen=True):
    """An error; the first word of `text` is its code for client libraries (`ERR`, `WRONGTYPE`…)."""

    text: str


@final
class NullArray(Value, frozen=True):
    """The reply to a transaction not carried out because a watched key has changed."""


@final
class Map(Value, frozen=True, eq=False):
    """Pairs in order; RESP2 has no maps and gets a flat array."""

    pairs: tuple[tuple[Reply, Reply], ...]


@final
class Encoded(Value, frozen=True, eq=False):
    """A reply whose bytes are known, in RESP2 and in RESP3."""

    second: bytes
    third: bytes


Reply: TypeAlias = "bytes | Long | int | str | Simple | Failure | NullArray | Map | Encoded | Sequence[Reply] | None"
"""`bytes` and `str` are bulk strings, None is the null, a list or tuple is an array."""

OK: Final = Simple("OK")
PONG: Final = Simple("PONG")
EMPTY_ARRAY: Final[tuple[Reply, ...]] = ()
NULL_ARRAY: Final = NullArray()

_OK_BYTES: Final = b"+OK\r\n"
_LINE_BREAKS: Final = str.maketrans("\r\n", "  ")


class CommandError(Exception):
    """The command cannot be carried out; the text is the error reply. Raised before any change."""


def encode(reply: Reply, protocol: int) -> bytes:
    """Return the bytes of `reply` in RESP2 or RESP3."""
    if type(reply) is bytes:
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if reply is OK:
        return _OK_BYTES
    if type(reply) is int:
        return b":%d\r\n" % reply
    if reply is None:
        return b"_\r\n" if protocol >= 3 else b"$-1\r\n"
    if type(reply) is str:
        return encode(reply.encode("utf-8", "surrogateescape"), protocol)
    if isinstance(reply, list | tuple):
        return array_header(len(reply)) + b"".join([encode(item, protocol) for item in reply])
    return _encode_rare(reply, protocol)


def _encode_rare(reply: Reply, protocol: int) -> bytes:
    if isinstance(reply, Long):
        return b"".join(long_parts(reply))
    if isinstance(reply, Simple):
        return b"+%b\r\n" % reply.text.encode()
    if isinstance(reply, Failure):
        return encode_failure(reply.text)
    if isinstance(reply, NullArray):
        return b"_\r\n" if protocol >= 3 else b"*-1\r\n"
    if isinstance(reply, Encoded):
        return reply.third if protocol >= 3 else reply.second
    if isinstance(reply, Map):
        count = len(reply.pairs)
        header = b"%%%d\r\n" % count if protocol >= 3 else array_header(2 * count)
        return header + b"".join([encode(item, protocol) for pair in reply.pairs for item in pair])
    raise TypeError(f"not a reply: {type(reply).__name__}")


def bulk_length(size: int) -> int:
    """Return the encoded length of a bulk string of `size` bytes."""
    return len(b"$%d\r\n\r\n" % size) + size


def long_parts(value: Long) -> list[bytes]:
    """Return a long value as a bulk string, in pieces."""
    return [b"$%d\r\n" % len(value), *value.pieces, b"\r\n"]


def encode_failure(text: str) -> bytes:
    """Return the bytes of an error; line breaks become blanks, because one would end the reply early."""
    return b"-%b\r\n" % text.translate(_LINE_BREAKS).encode("utf-8", "surrogateescape")


def array_header(count: int) -> bytes:
    """Return the bytes before the `count` encoded items of an array."""
    return b"*%d\r\n" % count
