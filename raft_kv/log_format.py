"""The formats between a client session and the machine: log entries, queries and their answers.

A log entry is one of

    byte 0      kind: 1 calls, 2 transaction, 3 clock, 8 open a client session, 9 apply once
    bytes 1-8   cluster time in milliseconds, big endian; written by `stamp`, on the leader
    bytes 9-    msgpack: [protocol, calls] or [protocol, watched, calls]; nothing for kinds 3 and 8;
                [session, sequence, protocol, together, watched, calls] for kind 9

and a query is one of

    byte 0      kind: 4 calls, 5 versions
    bytes 1-8   cluster time in milliseconds as the asking node knows it; 0: answer by the log's time alone
    bytes 9-    msgpack: [protocol, watched, calls, together] or [keys]

The answer to an entry is the RESP bytes of its replies, in order. The answer to a query of kind 4 is one byte (1:
stopped early, at a deadline that only the asking node has seen pass), the number of calls answered as four bytes big
endian, and their RESP bytes. The answer to kind 5 is a msgpack array of versions; empty if such a deadline was met. A
`protocol` is 2 or 3.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias, final

import msgspec

from raft_kv.keyspace import Millis, Version

__all__ = [
    "ANSWER_HEAD",
    "LONG_ANSWER",
    "QUERY",
    "Answered",
    "Calls",
    "Clock",
    "Command",
    "Once",
    "OpenSession",
    "Query",
    "Transaction",
    "Undecodable",
    "Versions",
    "decode_answer",
    "decode_entry",
    "decode_query",
    "decode_versions",
    "encode_answer",
    "encode_entry",
    "encode_query",
    "encode_versions",
    "stamp",
]

Call: TypeAlias = "list[bytes]"
"""A command with its arguments, as the client sent it."""
Watched: TypeAlias = "list[tuple[bytes, Version]]"
"""Keys and their expected versions."""


class Undecodable(ValueError):
    """The bytes are no entry or query of this version."""


@final
class Calls(msgspec.Struct, frozen=True, array_like=True):
    """Commands of one connection, in order; each succeeds or fails on its own."""

    protocol: int
    calls: list[Call]


@final
class Transaction(msgspec.Struct, frozen=True, array_like=True):
    """Commands carried out as one, if every watched key still has its version."""

    protocol: int
    watched: Watched
    calls: list[Call]


@final
class Clock(msgspec.Struct, frozen=True, array_like=True):
    """Nothing but the leader's time."""


@final
class OpenSession(msgspec.Struct, frozen=True, array_like=True):
    """Open a session for commands applied once; answered by its number."""


@final
class Once(msgspec.Struct, frozen=True, array_like=True):
    """A command, or (`together`) a transaction, applied once however often it is in the log."""

    session: int
    sequence: int
    protocol: int
    together: bool
    watched: Watched
    calls: list[Call]


@final
class Query(msgspec.Struct, frozen=True, array_like=True):
    """Reading commands; `together`: answered as one transaction, or not at all."""

    protocol: int
    watched: Watched
    calls: list[Call]
    together: bool


@final
class Versions(msgspec.Struct, frozen=True, array_like=True):
    """Request the versions of these keys."""

    keys: list[bytes]


@final
class Answered(msgspec.Struct, frozen=True):
    """The progress and the replies of a `Query`."""

    due: bool
    count: int
    replies: bytes


Command: TypeAlias = Calls | Transaction | Clock | OpenSession | Once

_CALLS: Final = 1
_TRANSACTION: Final = 2
_CLOCK: Final = 3
_QUERY: Final = 4
_VERSIONS: Final = 5
QUERY: Final = bytes([_QUERY])
"""The first byte of a query."""
_OPEN_SESSION: Final = 8
_ONCE: Final = 9
_HEADER: Final = struct.Struct(">BQ")
_HEADER_BYTES: Final = _HEADER.size
_ANSWER: Final = struct.Struct(">BI")
ANSWER_HEAD: Final = _ANSWER.size
"""Bytes of an answer before its replies."""
LONG_ANSWER: Final = 1024 * 1024
"""The replies of a longer answer are not copied."""
_LATEST: Final = (1 << 63) - 1

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODE_CALLS: Final = msgspec.msgpack.Decoder(Calls)
_DECODE_TRANSACTION: Final = msgspec.msgpack.Decoder(Transaction)
_DECODE_ONCE: Final = msgspec.msgpack.Decoder(Once)
_DECODE_QUERY: Final = msgspec.msgpack.Decoder(Query)
_DECODE_VERSIONS: Final = msgspec.msgpack.Decoder(Versions)
_DECODE_ANSWER: Final = msgspec.msgpack.Decoder(list[int])


def encode_entry(command: Command) -> bytes:
    """Return the entry, with its time still 0."""
    if type(command) is Calls:
        return _HEADER.pack(_CALLS, 0) + _ENCODER.encode(command)
    if type(command) is Transaction:
        return _HEADER.pack(_TRANSACTION, 0) + _ENCODER.encode(command)
    if type(command) is Once:
        return _HEADER.pack(_ONCE, 0) + _ENCODER.encode(command)
    return _HEADER.pack(_OPEN_SESSION if type(command) is OpenSession else _CLOCK, 0)


def stamp(entry: bytes, now: Millis) -> bytes:
    """Return the entry with `now` as its time; return invalid bytes unchanged."""
    if len(entry) < _HEADER.size:
        return entry
    return _HEADER.pack(entry[0], now) + entry[_HEADER.size :]


def decode_entry(entry: bytes) -> tuple[Millis, Command]:
    """Return the time and the command of an entry. Raise `Undecodable`."""
    kind, time = _header(entry)
    body = memoryview(entry)[_HEADER_BYTES:]
    try:
        if kind == _CALLS:
            return time, _DECODE_CALLS.decode(body)
        if kind == _TRANSACTION:
            return time, _DECODE_TRANSACTION.decode(body)
        if kind == _ONCE:
            return time, _DECODE_ONCE.decode(body)
    except msgspec.MsgspecError as failure:
        raise Undecodable(str(failure)) from None
    if kind == _CLOCK and not len(body):
        return time, Clock()
    if kind == _OPEN_SESSION and not len(body):
        return time, OpenSession()
    raise Undecodable(f"an entry of unknown kind {kind}")


def encode_query(query: Query | Versions, now: Millis) -> bytes:
    """Return the bytes of the query as asked at `now`."""
    kind = _QUERY if type(query) is Query else _VERSIONS
    return _HEADER.pack(kind, now) + _ENCODER.encode(query)


def decode_query(request: bytes) -> tuple[Millis, Query | Versions]:
    """Return the time of asking and the query. Raise `Undecodable`."""
    kind, now = _header(request)
    body = memoryview(request)[_HEADER.size :]
    try:
        if kind == _QUERY:
            return now, _DECODE_QUERY.decode(body)
        if kind == _VERSIONS:
            return now, _DECODE_VERSIONS.decode(body)
    except msgspec.MsgspecError as failure:
        raise Undecodable(str(failure)) from None
    raise Undecodable(f"a query of unknown kind {kind}")


def _header(data: bytes) -> tuple[int, Millis]:
    if len(data) < _HEADER_BYTES:
        raise Undecodable("too short")
    kind, time = _HEADER.unpack_from(data)
    if time > _LATEST:
        raise Undecodable("a time out of range")
    return kind, time


def encode_answer(answer: Answered, parts: Sequence[bytes] = ()) -> bytes:
    """Return the bytes of the answer to a `Query`. `parts` follow its replies and are copied once."""
    return b"".join([_ANSWER.pack(answer.due, answer.count), answer.replies, *parts])


def decode_answer(data: bytes) -> Answered:
    """Return the answer to a `Query`, as this process's machine encoded it.

    Its replies are copied out of `data`, except long ones: then they are empty here, and begin in `data` at
    `ANSWER_HEAD`.
    """
    due, count = _ANSWER.unpack_from(data)
    return Answered(bool(due), count, b"" if len(data) > LONG_ANSWER else data[ANSWER_HEAD:])


def encode_versions(versions: list[Version]) -> bytes:
    """Encode the answer to a `Versions`; an empty list means: move the log's time first."""
    return _ENCODER.encode(versions)


def decode_versions(data: bytes) -> list[Version]:
    """Return the answer to a `Versions`, as this process's machine encoded it."""
    return _DECODE_ANSWER.decode(data)
