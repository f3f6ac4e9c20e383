"""Entries, their seals, and the order that elections compare logs by."""

from __future__ import annotations

import msgspec
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
    first_mismatch,
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


@pytest.mark.parametrize("algorithm", Checksum)
def test_first_mismatch_of_several_is_found(algorithm: Checksum) -> None:
    entries = [Entry.make(index, 1, b"%d" % index, algorithm=algorithm) for index in range(1, 6)]
    assert first_mismatch([]) is None
    assert first_mismatch(entries) is None
    assert first_mismatch([*entries, Entry.make(6, 1, b"6")]) is None
    for place, entry in enumerate(entries):
        wrong = msgspec.structs.replace(entry, data=b"other")
        assert first_mismatch([*entries[:place], wrong, *entries[place + 1 :]]) is wrong


def test_checksums_whose_lengths_are_wrong_do_not_match_together() -> None:
    one, two = Entry.make(1, 1, b"one"), Entry.make(2, 1, b"two")
    both = one.checksum + two.checksum
    short = msgspec.structs.replace(one, checksum=both[:3])
    long = msgspec.structs.replace(two, checksum=both[3:])
    assert first_mismatch([short, long]) is short


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
