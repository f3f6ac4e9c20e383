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
from typing import Final, NamedTuple, final

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
    checked = _CHECKED.pack(_MAGIC_NUMBER, kind, 0, group, len(payload), zlib.crc32(payload))
    return b"".join((checked, _CRC.pack(zlib.crc32(checked)), payload))


class _Header(NamedTuple):
    kind: int
    group: int
    length: int
    payload_crc: int


@final
class FrameReader:
    """One direction of one connection. The first frame has its own limit, because it comes from an unknown peer.

    Limits are in bytes of payload. Each byte is copied at most twice, however the stream is cut.
    """

    __slots__ = ("_dead", "_header", "_limit", "_max_later", "_waiting")

    def __init__(self, *, max_first: int, max_later: int) -> None:
        self._limit = max_first
        self._max_later = max_later
        self._waiting = bytearray()  # an incomplete frame; without its header once `_header` is set
        self._header: _Header | None = None
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
        while True:
            header = self._header
            if header is None:
                found = self._read_header(source, at)
                if type(found) is BadFrame:
                    self._die()
                    frames.append(found)
                    return frames
                if type(found) is not _Header:
                    break
                self._header = header = found
                at += FRAME_OVERHEAD
            end = at + header.length
            if len(source) < end:
                break
            payload = _cut(source, at, end)
            if zlib.crc32(payload) != header.payload_crc:
                self._die()
                frames.append(BadFrame("the checksum of a frame's payload is wrong: it was damaged on its way"))
                return frames
            frames.append(Frame(header.kind, GroupId(header.group), payload))
            self._header = None
            self._limit = self._max_later
            at = end
            if at == len(source):
                break
        if source is waiting:
            del waiting[:at]
        elif at < len(data):
            waiting += data[at:] if at else data
        return frames

    def _read_header(self, source: bytes | bytearray, at: int) -> _Header | BadFrame | None:
        """Return the header at `at`; None while it is incomplete and not yet wrong."""
        if len(source) - at < FRAME_OVERHEAD:
            start = bytes(source[at : at + len(MAGIC)])
            return None if MAGIC.startswith(start) else _not_ours(bytes(source[at : at + _SHOWN]))
        magic, kind, flags, group, length, payload_crc, header_crc = _HEADER.unpack_from(source, at)
        if magic != _MAGIC_NUMBER:
            return _not_ours(bytes(source[at : at + _SHOWN]))
        if zlib.crc32(source[at : at + _CHECKED.size]) != header_crc:
            return BadFrame("the checksum of a frame's header is wrong: it was damaged on its way")
        if flags:
            return BadFrame(f"a frame has flags ({flags:#04x}) that this version does not know")
        if length > self._limit:
            return BadFrame(f"a frame announces {length} bytes, but at most {self._limit} are taken here")
        return _Header(kind, group, length, payload_crc)

    def _die(self) -> None:
        self._dead = True
        self._header = None
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
