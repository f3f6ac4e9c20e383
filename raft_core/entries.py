"""Entries, log positions, hard state and snapshot metadata: the values a log consists of.

An entry's checksum covers its kind and data. It is computed once, on the leader, and stored on every disk.

Passes over many entries are functions of this module, which is never compiled: the interpreter specialises the reading
of an entry's fields, and a compiled loop reads each of them by its name, at three times the cost.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from itertools import accumulate, repeat
from typing import Final, final

from raft_core.ids import NO_INDEX, NO_NODE, NO_TERM, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.structs import Value

__all__ = [
    "COMMAND",
    "COMMAND_SEED",
    "CRC_BYTES",
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
    "all_commands",
    "bytes_of",
    "checksum_matches",
    "checksum_of",
    "commands_of",
    "first_mismatch",
    "follow_in_order",
    "running_totals",
    "seal_commands",
]


class EntryKind(IntEnum):
    """The kind of an entry's data."""

    NOOP = 0  # empty; the first of every term (§8)
    COMMAND = 1  # for the state machine
    MEMBERS = 2  # a configuration, in force once appended (§6)


NOOP: Final = EntryKind.NOOP
COMMAND: Final = EntryKind.COMMAND
MEMBERS: Final = EntryKind.MEMBERS


class Checksum(StrEnum):
    """The checksum algorithm of an entry, recognised by length: 4 or 32 bytes."""

    CRC32 = "crc32"
    SHA3_256 = "sha3-256"


_CRC_SEED: Final = tuple(zlib.crc32(bytes([kind])) for kind in EntryKind)
COMMAND_SEED: Final = _CRC_SEED[COMMAND]
"""The CRC of a command's kind, where the CRC of its data begins."""
CRC_BYTES: Final = struct.Struct("<I").pack
"""The bytes of a CRC in an entry."""


def checksum_of(kind: EntryKind, data: bytes, algorithm: Checksum = Checksum.CRC32) -> bytes:
    """Return the checksum of an entry, over one byte of kind and the data."""
    if algorithm is Checksum.CRC32:
        return zlib.crc32(data, _CRC_SEED[kind]).to_bytes(4, "little")
    return hashlib.sha3_256(bytes([kind]) + data).digest()


def checksum_matches(kind: EntryKind, data: bytes, checksum: bytes) -> bool:
    """Return whether the checksum matches kind and data, by the algorithm of its length."""
    if len(checksum) == 4:
        return zlib.crc32(data, _CRC_SEED[kind]).to_bytes(4, "little") == checksum
    return len(checksum) == 32 and checksum_of(kind, data, Checksum.SHA3_256) == checksum


def first_mismatch(entries: Sequence[Entry]) -> Entry | None:
    """Return the first entry whose checksum does not match; as `checksum_matches` for each, at half of its own cost."""
    crc, seeds = zlib.crc32, _CRC_SEED
    found = [entry.checksum for entry in entries]
    expected = [crc(entry.data, seeds[entry.kind]) for entry in entries]
    if b"".join(found) == struct.pack(f"<{len(expected)}I", *expected) and {4}.issuperset(map(len, found)):
        return None
    for entry in entries:
        if not checksum_matches(entry.kind, entry.data, entry.checksum):
            return entry
    return None


ENTRY_OVERHEAD: Final = 32
"""Bytes counted for each entry in addition to its data, wherever bytes of the log are counted."""


@final
class Entry(Value, frozen=True, array_like=True):
    """One entry of the log, identified for ever by `index` and `term` (§5.3)."""

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
        """Return an entry with its checksum. Without `kind`: a command if it has data, else a no-op."""
        chosen = kind if kind is not None else (COMMAND if data else NOOP)
        return cls(Index(index), Term(term), chosen, data, checksum_of(chosen, data, algorithm))


def seal_commands(
    first: int, term: Term, commands: Sequence[bytes], algorithm: Checksum = Checksum.CRC32
) -> tuple[Entry, ...]:
    """Return entries for `commands` from index `first` on, as `Entry.make` for each, at a third of the cost."""
    if algorithm is not Checksum.CRC32:
        return tuple([Entry.make(first + at, term, data, COMMAND, algorithm) for at, data in enumerate(commands)])
    if len(commands) == 1:
        data = commands[0]
        return (Entry(Index(first), term, COMMAND, data, CRC_BYTES(zlib.crc32(data, COMMAND_SEED))),)
    checksums = map(CRC_BYTES, map(zlib.crc32, commands, repeat(COMMAND_SEED)))
    indexes = range(first, first + len(commands))
    return tuple(map(Entry, indexes, repeat(term), repeat(COMMAND), commands, checksums))  # type: ignore[arg-type]


def follow_in_order(entries: Sequence[Entry], index: Index, term: Term) -> bool:
    """Return whether the entries' indexes continue after `index`, and terms never fall, beginning with `term`."""
    here: int = index
    for entry in entries:
        here += 1
        if entry.index != here or entry.term < term:
            return False
        term = entry.term
    return True


def all_commands(entries: Sequence[Entry]) -> bool:
    """Return whether every entry is a command."""
    return [entry.kind for entry in entries].count(COMMAND) == len(entries)


def bytes_of(entries: Sequence[Entry]) -> int:
    """Return the bytes that the entries count."""
    return sum([len(entry.data) for entry in entries]) + ENTRY_OVERHEAD * len(entries)


def running_totals(entries: Sequence[Entry], before: int) -> list[int]:
    """Return for each entry the bytes up to it, `before` included."""
    sizes = [len(entry.data) + ENTRY_OVERHEAD for entry in entries]
    sizes[0] += before
    return list(accumulate(sizes))


def commands_of(entries: Sequence[Entry]) -> tuple[tuple[Index, bytes], ...]:
    """Return index and data of each command among the entries."""
    return tuple([(entry.index, entry.data) for entry in entries if entry.kind is COMMAND])


@final
class LogPosition(Value, frozen=True, array_like=True):
    """A position in a log: index and term."""

    index: Index
    term: Term

    def at_least_as_up_to_date_as(self, other: LogPosition) -> bool:
        """Compare two log ends: the later term wins; at equal terms the longer log (§5.4.1)."""
        if self.term != other.term:
            return self.term > other.term
        return self.index >= other.index


START: Final = LogPosition(NO_INDEX, NO_TERM)
"""The position before the first entry."""


@final
class HardState(Value, frozen=True, array_like=True):
    """The state which must survive a crash besides the log: term and vote (fig. 2). `commit` may lag behind."""

    term: Term = NO_TERM
    vote: NodeId = NO_NODE
    commit: Index = NO_INDEX


@final
class SnapshotMeta(Value, frozen=True, array_like=True):
    """Metadata of a snapshot (§7): it covers the log up to `index`, whose entry had `term`.

    `members` is the configuration at `index`, `members_index` the index of its entry, 0 if unknown.
    """

    index: Index
    term: Term
    members: Members
    members_index: Index = NO_INDEX

    @property
    def position(self) -> LogPosition:
        """The position of the last entry that the snapshot covers."""
        return LogPosition(self.index, self.term)
