"""The formats between a client session and the machine: log entries, queries and their answers.

A log entry is one of

    byte 0      kind: 1 calls, 2 transaction, 3 clock, 8 open a client session, 9 apply once, 10 change a user,
                11 delete users, 12 an entry on behalf of a user, 13 an entry with an allowance of memory
    bytes 1-8   cluster time in milliseconds, big endian; written by `stamp`, on the leader
    bytes 9-    msgpack: [protocol, calls] or [protocol, watched, calls]; nothing for kinds 3 and 8;
                [session, sequence, protocol, together, watched, calls] for kind 9; [name, rules] for kind 10;
                [names] for kind 11. For kind 12 not msgpack: length of the user's name (1 byte), name, kind and body
                of the entry inside. For kind 13: the allowance (8 bytes, big endian), kind and body of the entry inside

and a query is one of

    byte 0      kind: 4 calls, 5 versions, 6 short reads of many clients
    bytes 1-8   cluster time in milliseconds as the asking node knows it; 0: answer by the log's time alone
    bytes 9-    msgpack: [protocol, watched, calls, together, user], [keys] or [protocol, calls]

The answer to an entry is the RESP bytes of its replies, in order. The answer to a query of kind 4 is one byte (1:
stopped early, at a deadline that only the asking node has seen pass), the number of calls answered as four bytes big
endian, and their RESP bytes. The answer to kind 5 is a msgpack array of versions; empty if such a deadline was met. The
answer to kind 6 is a msgpack array of the RESP bytes of each reply, nil for a command that has to be asked again in a
query of kind 4. A `protocol` is 2 or 3. Queries and their answers do not leave their process.
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
    "SHORT_READS",
    "VERSIONS",
    "Answered",
    "Bounded",
    "Calls",
    "ChangeUser",
    "Clock",
    "Command",
    "DeleteUsers",
    "OnBehalf",
    "Once",
    "OpenSession",
    "Query",
    "Transaction",
    "Undecodable",
    "Versions",
    "bounded",
    "decode_answer",
    "decode_entry",
    "decode_query",
    "decode_short_reads",
    "decode_short_replies",
    "decode_versions",
    "encode_answer",
    "encode_entry",
    "encode_query",
    "encode_short_reads",
    "encode_short_replies",
    "encode_versions",
    "on_behalf",
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
class ChangeUser(msgspec.Struct, frozen=True, array_like=True):
    """Make or change a user by these rules; passwords in them are hashed."""

    name: bytes
    rules: list[bytes]


@final
class DeleteUsers(msgspec.Struct, frozen=True, array_like=True):
    """Delete users."""

    names: list[bytes]


@final
class OnBehalf(msgspec.Struct, frozen=True):
    """A command on behalf of a user, whose rights the machine checks; an empty name: of no user."""

    user: bytes
    command: Calls | Transaction | Clock | OpenSession | Once | ChangeUser | DeleteUsers


@final
class Bounded(msgspec.Struct, frozen=True):
    """A command that may make the state grow by so many bytes; then further writes are refused, except deletions."""

    allowance: int
    command: Calls | Transaction | Clock | OpenSession | Once | ChangeUser | DeleteUsers | OnBehalf


@final
class Query(msgspec.Struct, frozen=True, array_like=True):
    """Reading commands; `together`: answered as one transaction, or not at all."""

    protocol: int
    watched: Watched
    calls: list[Call]
    together: bool
    user: bytes = b""
    """Who asks; empty: no user."""


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


Command: TypeAlias = Calls | Transaction | Clock | OpenSession | Once | ChangeUser | DeleteUsers | OnBehalf | Bounded

_Plain: TypeAlias = Calls | Transaction | Clock | OpenSession | Once | ChangeUser | DeleteUsers

_CALLS: Final = 1
_TRANSACTION: Final = 2
_CLOCK: Final = 3
_QUERY: Final = 4
_VERSIONS: Final = 5
QUERY: Final = bytes([_QUERY])
"""The first byte of a query."""
VERSIONS: Final = bytes([_VERSIONS])
"""The first byte of a query of versions."""
_SHORT_READS: Final = 6
SHORT_READS: Final = bytes([_SHORT_READS])
"""The first byte of a query of short reads."""
_OPEN_SESSION: Final = 8
_ONCE: Final = 9
_CHANGE_USER: Final = 10
_DELETE_USERS: Final = 11
_ON_BEHALF: Final = 12
_BOUNDED: Final = 13
_ALLOWANCE: Final = struct.Struct(">Q")
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
_DECODE_CHANGE: Final = msgspec.msgpack.Decoder(ChangeUser)
_DECODE_DELETE: Final = msgspec.msgpack.Decoder(DeleteUsers)
_DECODE_QUERY: Final = msgspec.msgpack.Decoder(Query)
_DECODE_VERSIONS: Final = msgspec.msgpack.Decoder(Versions)
_DECODE_ANSWER: Final = msgspec.msgpack.Decoder(list[int])
_DECODE_SHORT_REPLIES: Final = msgspec.msgpack.Decoder(list[bytes | None])


def encode_entry(command: Command) -> bytes:
    """Return the entry, with its time still 0."""
    if type(command) is Calls:
        return _HEADER.pack(_CALLS, 0) + _ENCODER.encode(command)
    if type(command) is Transaction:
        return _HEADER.pack(_TRANSACTION, 0) + _ENCODER.encode(command)
    if type(command) is Once:
        return _HEADER.pack(_ONCE, 0) + _ENCODER.encode(command)
    if type(command) is ChangeUser:
        return _HEADER.pack(_CHANGE_USER, 0) + _ENCODER.encode(command)
    if type(command) is DeleteUsers:
        return _HEADER.pack(_DELETE_USERS, 0) + _ENCODER.encode(command)
    if type(command) is Bounded:
        return bounded(encode_entry(command.command), command.allowance)
    if type(command) is OnBehalf:
        return on_behalf(encode_entry(command.command), command.user)
    return _HEADER.pack(_OPEN_SESSION if type(command) is OpenSession else _CLOCK, 0)


def on_behalf(entry: bytes, user: bytes) -> bytes:
    """Return the entry, not yet stamped, on behalf of this user; names have at most 255 bytes."""
    inner = entry[:1] + entry[_HEADER.size :]
    return _HEADER.pack(_ON_BEHALF, 0) + bytes([len(user)]) + user + inner


def bounded(entry: bytes, allowance: int) -> bytes:
    """Return the entry, not yet stamped, with this allowance."""
    inner = entry[:1] + entry[_HEADER.size :]
    return _HEADER.pack(_BOUNDED, 0) + _ALLOWANCE.pack(allowance) + inner


def stamp(entry: bytes, now: Millis) -> bytes:
    """Return the entry with `now` as its time; return invalid bytes unchanged."""
    if len(entry) < _HEADER.size:
        return entry
    return _HEADER.pack(entry[0], now) + entry[_HEADER.size :]


def decode_entry(entry: bytes) -> tuple[Millis, Command]:
    """Return the time and the command of an entry. Raise `Undecodable`."""
    kind, time = _header(entry)
    body = memoryview(entry)[_HEADER_BYTES:]
    if kind == _CALLS:  # by far the most
        try:
            return time, _DECODE_CALLS.decode(body)
        except msgspec.MsgspecError as failure:
            raise Undecodable(str(failure)) from None
    if kind != _BOUNDED:
        return time, _perhaps_on_behalf(kind, body)
    start = _ALLOWANCE.size
    if len(body) <= start:
        raise Undecodable("too short")
    return time, Bounded(_ALLOWANCE.unpack_from(body)[0], _perhaps_on_behalf(body[start], body[start + 1 :]))


def _perhaps_on_behalf(kind: int, body: memoryview) -> _Plain | OnBehalf:
    if kind != _ON_BEHALF:
        return _decoded(kind, body)
    start = 1 + body[0] if len(body) else 0
    if not 0 < start < len(body):
        raise Undecodable("too short")
    return OnBehalf(bytes(body[1:start]), _decoded(body[start], body[start + 1 :]))


def _decoded(kind: int, body: memoryview) -> _Plain:
    try:
        if kind == _CALLS:
            return _DECODE_CALLS.decode(body)
        if kind == _TRANSACTION:
            return _DECODE_TRANSACTION.decode(body)
        if kind == _ONCE:
            return _DECODE_ONCE.decode(body)
        if kind == _CHANGE_USER:
            return _DECODE_CHANGE.decode(body)
        if kind == _DELETE_USERS:
            return _DECODE_DELETE.decode(body)
    except msgspec.MsgspecError as failure:
        raise Undecodable(str(failure)) from None
    if kind == _CLOCK and not len(body):
        return Clock()
    if kind == _OPEN_SESSION and not len(body):
        return OpenSession()
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


def encode_short_reads(protocol: int, calls: list[Call], now: Millis) -> bytes:
    """Return the bytes of a query of short reads as asked at `now`."""
    return _HEADER.pack(_SHORT_READS, now) + _ENCODER.encode(Calls(protocol, calls))


def decode_short_reads(request: bytes) -> tuple[Millis, Calls]:
    """Return the time of asking and the commands. Raise `Undecodable`."""
    _, now = _header(request)
    try:
        return now, _DECODE_CALLS.decode(memoryview(request)[_HEADER_BYTES:])
    except msgspec.MsgspecError as failure:
        raise Undecodable(str(failure)) from None


def encode_short_replies(replies: list[bytes | None]) -> bytes:
    """Encode the answer to short reads; None: to be asked again in a query of its own."""
    return _ENCODER.encode(replies)


def decode_short_replies(data: bytes) -> list[bytes | None]:
    """Return the answer to short reads, as this process's machine encoded it."""
    return _DECODE_SHORT_REPLIES.decode(data)
