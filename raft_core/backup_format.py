"""The format of a backup: the state of a machine at one index, with the cluster it comes from, in sealed pieces.

A backup is a header, blocks of state and an end, one after the other; each is a *piece* with a number. All lengths
follow from the header, so a backup that was interrupted continues at any piece, and a reader names the byte at which a
damaged one goes wrong.

    backup = header, blocks, end                                pieces 0, 1 … n, n + 1
    header = magic "RAFTBACK", version, length (4 bytes each), digest, then a MessagePack array of that length
    block  = digest, then `block_bytes` bytes of state; the last one may be shorter
    end    = magic "BACKDONE", digest

A digest is BLAKE2b of 16 bytes. Those of blocks and end also cover the identity of the snapshot (cluster, node, index,
term, size) and the piece's number, so that a piece of another backup or place is not accepted.

`BackupHeader.piece` makes a piece, `BackupReader` checks them. Both are without I/O.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final, final

import msgspec

from raft_core.entries import SnapshotMeta
from raft_core.errors import DiskError
from raft_core.ids import ClusterId, Incarnation, NodeId
from raft_core.structs import Value

__all__ = ["BLOCK_BYTES", "BackupDamaged", "BackupHeader", "BackupReader"]

BLOCK_BYTES: Final = 256 * 1024
"""State in a block: read, sent and checked at once, in about a millisecond."""

_VERSION: Final = 1
_MAGIC: Final = b"RAFTBACK"
_END_MAGIC: Final = b"BACKDONE"
_HEAD: Final = struct.Struct("<8sII")
_NUMBER: Final = struct.Struct("<Q")
_DIGEST_BYTES: Final = 16
_END_BYTES: Final = len(_END_MAGIC) + _DIGEST_BYTES
_MOST_HEADER_BYTES: Final = 1024 * 1024
_MOST_BLOCK_BYTES: Final = 16 * 1024 * 1024


class BackupDamaged(DiskError):
    """The bytes are not a whole, intact backup. `offset`: the first byte of the part that is wrong."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(f"at byte {offset:,}: {problem}")
        self.offset = offset
        self.problem = problem


@final
class BackupHeader(Value, frozen=True, array_like=True):
    """The origin of a backup.

    `meta` has index, term and members of the state, `size` its bytes. `node` and `incarnation` name the disk it was
    read from. `label` is the caller's: a program and its version.
    """

    cluster: ClusterId
    node: NodeId
    incarnation: Incarnation
    meta: SnapshotMeta
    size: int
    label: str = ""
    block_bytes: int = BLOCK_BYTES

    @property
    def blocks(self) -> int:
        """The number of blocks, which is also the number of the last one."""
        return -(-self.size // self.block_bytes)

    @property
    def pieces(self) -> int:
        """The number of pieces: the header, the blocks and the end."""
        return self.blocks + 2

    @property
    def total_bytes(self) -> int:
        """The size of the whole backup."""
        return len(self.piece(0)) + self.size + self.blocks * _DIGEST_BYTES + _END_BYTES

    def span(self, number: int) -> tuple[int, int]:
        """Return the offset and the length of the state in block `number`."""
        start = (number - 1) * self.block_bytes
        return start, max(0, min(self.block_bytes, self.size - start))

    def piece(self, number: int, state: bytes = b"") -> bytes:
        """Return the bytes of a piece; `state` is the state in this block."""
        if number == 0:
            body = msgspec.msgpack.encode(self)
            head = _HEAD.pack(_MAGIC, _VERSION, len(body))
            return head + blake2b(head + body, digest_size=_DIGEST_BYTES).digest() + body
        if number > self.blocks:
            return _END_MAGIC + self._digest(number, _END_MAGIC)
        return self._digest(number, state) + state

    def piece_bytes(self, number: int) -> int:
        """Return the length of a piece other than the header."""
        return _END_BYTES if number > self.blocks else _DIGEST_BYTES + self.span(number)[1]

    def _digest(self, number: int, data: bytes) -> bytes:
        identity = (self.cluster, self.node, self.incarnation, self.meta.index, self.meta.term)
        seal = msgspec.msgpack.encode((identity, self.size, self.block_bytes))
        digest = blake2b(_NUMBER.pack(number), digest_size=_DIGEST_BYTES)
        digest.update(seal)
        digest.update(data)
        return digest.digest()

    def state_of(self, number: int, piece: bytes) -> bytes | None:
        """Return the state in the bytes of a block, b"" for the end; None if they are not this piece."""
        if number > self.blocks:
            return b"" if piece == self.piece(number) else None
        state = piece[_DIGEST_BYTES:]
        return state if self._digest(number, state) == piece[:_DIGEST_BYTES] else None


@final
class BackupReader:
    """Checks the bytes of a backup, however they are cut, and returns the state in them.

        reader = BackupReader()
        for data in file:
            for state in reader.feed(data): ...
        reader.close()

    `feed` and `close` raise `BackupDamaged` at the first piece that is wrong; then the reader is dead. At most one
    piece is held.
    """

    def __init__(self) -> None:
        self.header: BackupHeader | None = None
        self.number = 0
        """The piece that comes next; the number of whole, intact pieces."""
        self.offset = 0
        """The bytes of these pieces."""
        self._buffer = bytearray()
        self._failure: BackupDamaged | None = None

    @property
    def done(self) -> bool:
        """True once the end has been read."""
        return self.header is not None and self.number == self.header.pieces

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the state in the blocks that they complete."""
        if self._failure is not None:
            raise self._failure
        self._buffer += data
        states: list[bytes] = []
        taken = 0
        while (length := self._length(taken)) is not None and len(self._buffer) - taken >= length:
            if self.done:
                if len(self._buffer) > taken:
                    raise self._damaged("bytes follow the end of the backup")
                break
            piece = bytes(memoryview(self._buffer)[taken : taken + length])
            if self.header is None:
                self.header = self._header(piece)
            else:
                state = self.header.state_of(self.number, piece)
                if state is None:
                    what = "the end" if self.number > self.header.blocks else f"block {self.number}"
                    raise self._damaged(f"the checksum of {what} is wrong")
                if state:
                    states.append(state)
            self.number += 1
            self.offset += length
            taken += length
        del self._buffer[:taken]
        return states

    def close(self) -> BackupHeader:
        """State that no bytes follow; return the header. Raise `BackupDamaged` unless the backup is whole."""
        if self._failure is not None:
            raise self._failure
        if self.header is None:
            what = "it is no backup: its header ends too early" if self._buffer else "it is empty"
            raise self._damaged(what)
        if not self.done:
            raise self._damaged(
                f"it ends in the middle, after {self.offset + len(self._buffer):,} of {self.header.total_bytes:,} bytes"
            )
        return self.header

    def _length(self, at: int) -> int | None:
        """Return the length of the piece at `at` in the buffer; None if it is not known yet."""
        if self.header is not None:
            return 0 if self.done else self.header.piece_bytes(self.number)
        head = bytes(self._buffer[at : at + _HEAD.size])
        if head[: len(_MAGIC)] != _MAGIC[: len(head)]:
            raise self._damaged("it is no backup: it begins with other bytes")
        if len(head) < _HEAD.size:
            return None
        _, version, length = _HEAD.unpack(head)
        if version > _VERSION:
            raise self._damaged(f"it has format {version}, this release reads {_VERSION}: use a newer one")
        if length > _MOST_HEADER_BYTES:
            raise self._damaged("the length of its header is impossible")
        whole: int = _HEAD.size + _DIGEST_BYTES + length
        return whole

    def _header(self, piece: bytes) -> BackupHeader:
        head, body = piece[: _HEAD.size], piece[_HEAD.size + _DIGEST_BYTES :]
        digest = piece[_HEAD.size : _HEAD.size + _DIGEST_BYTES]
        if blake2b(head + body, digest_size=_DIGEST_BYTES).digest() != digest:
            raise self._damaged("the checksum of the header is wrong")
        try:
            header = msgspec.msgpack.decode(body, type=BackupHeader)
        except (msgspec.MsgspecError, ValueError, OverflowError) as failure:
            raise self._damaged(f"the header cannot be decoded: {failure}") from None
        right = header.size >= 0 and 0 < header.block_bytes <= _MOST_BLOCK_BYTES and header.meta.index > 0
        if not right or header.meta.members.problem() is not None:
            raise self._damaged("the header contradicts itself")
        return header

    def _damaged(self, problem: str) -> BackupDamaged:
        self._failure = BackupDamaged(self.offset, problem)
        return self._failure
