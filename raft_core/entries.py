"""What the log is made of, and the order that elections compare it by.

What lives here: values only. An entry's checksum covers its kind and data; it is computed once, where the entry is
made, and travels with it to every disk.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Final, final

from raft_core.ids import NO_INDEX, NO_NODE, NO_TERM, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.structs import Value

__all__ = [
    "COMMAND",
    "ENTRY_OVERHEAD",
    "MEMBERS",
    "NOOP",
    "START",
    "Checksum",
    "Entry",
    "EntryKind",
    "HardState",
    "LogPosition",
    "SnapshotMeta",
    "checksum_matches",
    "checksum_of",
    "seal_commands",
]


class EntryKind(IntEnum):
    """What an entry's data is."""

    NOOP = 0  # empty; the first of every term (§8)
    COMMAND = 1  # for the state machine
    MEMBERS = 2  # a configuration, in force once appended (§6)


NOOP: Final = EntryKind.NOOP
COMMAND: Final = EntryKind.COMMAND
MEMBERS: Final = EntryKind.MEMBERS


class Checksum(StrEnum):
    """How entries are sealed. Told apart by length: 4 bytes and 32."""

    CRC32 = "crc32"
    SHA3_256 = "sha3-256"


_CRC_SEED: Final = tuple(zlib.crc32(bytes([kind])) for kind in EntryKind)


def checksum_of(kind: EntryKind, data: bytes, algorithm: Checksum = Checksum.CRC32) -> bytes:
    """The seal of an entry: over one byte of kind and the data."""
    if algorithm is Checksum.CRC32:
        return zlib.crc32(data, _CRC_SEED[kind]).to_bytes(4, "little")
    return hashlib.sha3_256(bytes([kind]) + data).digest()


def checksum_matches(kind: EntryKind, data: bytes, checksum: bytes) -> bool:
    """The seal fits kind and data, in whichever algorithm its length names."""
    if len(checksum) == 4:
        return zlib.crc32(data, _CRC_SEED[kind]).to_bytes(4, "little") == checksum
    return len(checksum) == 32 and checksum_of(kind, data, Checksum.SHA3_256) == checksum


ENTRY_OVERHEAD: Final = 32
"""Bytes that every entry is charged on top of its data, wherever bytes of the log are counted."""


@final
class Entry(Value, frozen=True, array_like=True):
    """One entry of the log. `index` and `term` name it for ever: no two entries share both (§5.3)."""

    index: Index
    term: Term
    kind: EntryKind
    data: bytes
    checksum: bytes

    @classmethod
    def make(
        cls,
        index: int,
        term: int,
        data: bytes = b"",
        kind: EntryKind | None = None,
        algorithm: Checksum = Checksum.CRC32,
    ) -> Entry:
        """A sealed entry; a command if it has data and a no-op if not, unless `kind` says otherwise."""
        chosen = kind if kind is not None else (COMMAND if data else NOOP)
        return cls(Index(index), Term(term), chosen, data, checksum_of(chosen, data, algorithm))


def seal_commands(
    first: int, term: Term, commands: Sequence[bytes], algorithm: Checksum = Checksum.CRC32
) -> tuple[Entry, ...]:
    """Sealed entries for `commands`, from index `first` on. The same as `Entry.make` for each, at half the cost."""
    if algorithm is not Checksum.CRC32:
        return tuple([Entry.make(first + at, term, data, COMMAND, algorithm) for at, data in enumerate(commands)])
    crc, seed = zlib.crc32, _CRC_SEED[COMMAND]
    return tuple(
        [
            Entry(Index(at), term, COMMAND, data, crc(data, seed).to_bytes(4, "little"))
            for at, data in enumerate(commands, first)
        ]
    )


@final
class LogPosition(Value, frozen=True, array_like=True):
    """A log's end, or any place in it: index and term."""

    index: Index
    term: Term

    def at_least_as_up_to_date_as(self, other: LogPosition) -> bool:
        """§5.4.1: the later last term wins; at equal terms the longer log."""
        if self.term != other.term:
            return self.term > other.term
        return self.index >= other.index


START: Final = LogPosition(NO_INDEX, NO_TERM)
"""Before the first entry."""


@final
class HardState(Value, frozen=True, array_like=True):
    """What must survive a crash besides the log: term and vote. `commit` only rides along and may lag (fig. 2)."""

    term: Term = NO_TERM
    vote: NodeId = NO_NODE
    commit: Index = NO_INDEX


@final
class SnapshotMeta(Value, frozen=True, array_like=True):
    """What a snapshot stands for: everything up to `index`, whose entry had `term`; `members` is the configuration
    in force at that index, `members_index` where it was appended, 0 where unknown (§7)."""

    index: Index
    term: Term
    members: Members
    members_index: Index = NO_INDEX

    @property
    def position(self) -> LogPosition:
        return LogPosition(self.index, self.term)
