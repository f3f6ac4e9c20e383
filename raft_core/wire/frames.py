"""Frames: a header with a length and two checksums, then a payload.

`encode_frame` makes one; `FrameReader` takes bytes as they come and returns the complete frames. The meaning of a
payload is left to `codec.py`.

    offset  size  field
         0     2  magic, F5 52
         2     1  kind of the payload
         3     1  flags, 0
         4     4  group
         8     4  length of the payload
        12     4  crc32 of the payload
        16     4  crc32 of the 16 bytes before
        20        payload

Numbers are little-endian. The header has its own checksum, so a damaged length is found before it is used: a reader
neither waits for bytes that never come nor allocates room for them. The first byte is neither text nor the start of a
TLS record, so another protocol is recognised at once.
"""

from __future__ import annotations

import zlib
from enum import IntEnum
from struct import Struct
from typing import Final, final

from raft_core.ids import GroupId
from raft_core.wire.payloads import BadFrame, Frame

__all__ = ["FRAME_OVERHEAD", "MAGIC", "FrameKind", "FrameReader", "encode_frame"]

MAGIC: Final = b"\xf5R"
FRAME_OVERHEAD: Final = 20
"""Bytes of a frame besides the payload."""

_MAGIC_NUMBER: Final = int.from_bytes(MAGIC, "little")
_CHECKED: Final = Struct("<HBBIII")  # the part covered by the header's checksum
_HEADER: Final = Struct("<HBBIIII")
_CRC: Final = Struct("<I")
_CHECKED_SIZE: Final = 16
# Names of this module, which may be compiled: see `raft_core.compiled`.
_Frame: Final = Frame
_crc32: Final = zlib.crc32
_pack_checked: Final = _CHECKED.pack
_pack_crc: Final = _CRC.pack
_unpack_header: Final = _HEADER.unpack_from


class FrameKind(IntEnum):
    """The kind of a payload."""

    HELLO = 1
    REFUSE = 2
    MESSAGE = 3
    FORWARD = 4
    FORWARD_REPLY = 5
    PULL = 6
    CHUNK = 7


def encode_frame(kind: int, group: GroupId, payload: bytes) -> bytes:
    """Return the bytes of one frame."""
    checked = _pack_checked(_MAGIC_NUMBER, kind, 0, group, len(payload), _crc32(payload))
    return checked + _pack_crc(_crc32(checked)) + payload


@final
class FrameReader:
    """One direction of one connection. The first frame has its own limit, because it comes from an unknown peer.

    Limits are in bytes of payload. Each byte is copied at most twice, however the stream is cut.
    """

    __slots__ = ("_crc", "_dead", "_group", "_kind", "_length", "_limit", "_max_later", "_waiting")

    def __init__(self, *, max_first: int, max_later: int) -> None:
        self._limit = max_first
        self._max_later = max_later
        self._waiting = bytearray()  # an incomplete frame; without its header once `_length` is set
        self._length = -1  # of the payload whose header was read; -1: no header yet
        self._kind = self._group = self._crc = 0  # the other fields of that header
        self._dead = False

    def feed(self, data: bytes) -> list[Frame | BadFrame]:
        """Return the frames completed by `data`. A `BadFrame` is the last value; after it, nothing is returned."""
        frames: list[Frame | BadFrame] = []
        if self._dead:
            return frames
        waiting = self._waiting
        source: bytes | bytearray = data
        if waiting:
            waiting += data
            source = waiting
        at = 0
        size = len(source)
        while True:
            if self._length < 0:
                wrong = self._read_header(source, at, size)
                if wrong is not None:
                    self._die()
                    frames.append(wrong)
                    return frames
                if self._length < 0:
                    break
                at += FRAME_OVERHEAD
            end = at + self._length
            if size < end:
                break
            payload = _cut(source, at, end)
            if _crc32(payload) != self._crc:
                self._die()
                frames.append(BadFrame("the checksum of a frame's payload is wrong: it was damaged on its way"))
                return frames
            frames.append(_Frame(self._kind, GroupId(self._group), payload))
            self._length = -1
            self._limit = self._max_later
            at = end
            if at == len(source):
                break
        if source is waiting:
            del waiting[:at]
        elif at < size:
            waiting += data[at:] if at else data
        return frames

    def _read_header(self, source: bytes | bytearray, at: int, size: int) -> BadFrame | None:
        """Read the header at `at`, if it is complete. Return what is wrong with it."""
        if size - at < FRAME_OVERHEAD:
            if at == size:
                return None
            start = bytes(source[at : at + len(MAGIC)])
            return None if MAGIC.startswith(start) else _not_ours(bytes(source[at : at + _SHOWN]))
        fields: tuple[int, int, int, int, int, int, int] = _unpack_header(source, at)
        magic, kind, flags, group, length, payload_crc, header_crc = fields
        if magic != _MAGIC_NUMBER:
            return _not_ours(bytes(source[at : at + _SHOWN]))
        if _crc32(source[at : at + _CHECKED_SIZE]) != header_crc:
            return BadFrame("the checksum of a frame's header is wrong: it was damaged on its way")
        if flags:
            return BadFrame(f"a frame has flags ({flags:#04x}) that this version does not know")
        if length > self._limit:
            return BadFrame(f"a frame announces {length} bytes, but at most {self._limit} are taken here")
        self._kind, self._group, self._crc = kind, group, payload_crc
        self._length = length
        return None

    def _die(self) -> None:
        self._dead = True
        self._length = -1
        self._waiting = bytearray()


_SHOWN: Final = 60
"""Bytes of another protocol that are examined and shown."""
_STRANGERS: Final = (
    ((b"HTTP/", b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTIONS "), "HTTP"),
    ((b"SSH-",), "SSH"),
    ((b"\x15\x03", b"\x16\x03"), "TLS"),
    (
        (b"-", b"+", b"*", b"$", b":"),
        "the Redis protocol, which is spoken at ports for clients and not at those for peers",
    ),
)


def _not_ours(start: bytes) -> BadFrame:
    shown = start.split(b"\r", 1)[0].split(b"\n", 1)[0].decode("ascii", "backslashreplace")
    spoken = next((name for starts, name in _STRANGERS if start.startswith(starts)), "")
    guess = f"it looks like {spoken}" if spoken else f"a frame starts with {MAGIC.hex(' ')}, not {start[:2].hex(' ')}"
    return BadFrame(f"this is not the wire protocol between nodes: {guess}; it begins with {shown!a}")


def _cut(source: bytes | bytearray, start: int, end: int) -> bytes:
    if type(source) is bytes:
        return source[start:end]
    with memoryview(source) as view, view[start:end] as part:
        return part.tobytes()
