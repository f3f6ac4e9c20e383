"""Entries, their seals, and the order that elections compare logs by."""

from __future__ import annotations

import pytest

from raft_core.entries import (
    COMMAND,
    MEMBERS,
    NOOP,
    Checksum,
    Entry,
    EntryKind,
    LogPosition,
    SnapshotMeta,
    checksum_matches,
    checksum_of,
)
from raft_core.ids import Index, Term
from raft_core.membership import Members


@pytest.mark.parametrize("algorithm", Checksum)
@pytest.mark.parametrize("kind", EntryKind)
@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256))])
def test_a_seal_fits_what_it_was_made_for(algorithm: Checksum, kind: EntryKind, data: bytes) -> None:
    seal = checksum_of(kind, data, algorithm)

    assert len(seal) == (4 if algorithm is Checksum.CRC32 else 32)
    assert checksum_matches(kind, data, seal)


@pytest.mark.parametrize("algorithm", Checksum)
def test_a_seal_betrays_every_flipped_bit_and_another_kind(algorithm: Checksum) -> None:
    data = b"some data"
    seal = checksum_of(COMMAND, data, algorithm)

    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        assert not checksum_matches(COMMAND, bytes(flipped), seal)
    assert not checksum_matches(MEMBERS, data, seal)
    assert not checksum_matches(COMMAND, data, seal[:-1])
    assert not checksum_matches(COMMAND, data, b"")


def test_an_entry_without_data_is_a_noop_and_one_with_data_a_command_unless_told() -> None:
    assert Entry.make(1, 1).kind is NOOP
    assert Entry.make(1, 1, b"x").kind is COMMAND
    assert Entry.make(1, 1, b"", COMMAND).kind is COMMAND


def test_a_log_with_the_later_last_term_is_more_up_to_date_whatever_its_length() -> None:
    def at(index: int, term: int) -> LogPosition:
        return LogPosition(Index(index), Term(term))

    assert at(1, 2).at_least_as_up_to_date_as(at(9, 1))
    assert not at(9, 1).at_least_as_up_to_date_as(at(1, 2))
    assert at(5, 2).at_least_as_up_to_date_as(at(5, 2))
    assert at(6, 2).at_least_as_up_to_date_as(at(5, 2))
    assert not at(4, 2).at_least_as_up_to_date_as(at(5, 2))


def test_a_snapshot_stands_at_a_position() -> None:
    meta = SnapshotMeta(Index(7), Term(3), Members.initial([1]))

    assert meta.position == LogPosition(Index(7), Term(3))
