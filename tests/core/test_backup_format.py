"""The format of a backup: pieces that are made and checked, whole or in parts, and every kind of damage."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_core.backup_format import BackupDamaged, BackupHeader, BackupReader
from raft_core.entries import SnapshotMeta
from raft_core.ids import ClusterId, Incarnation, Index, NodeId, Term
from raft_core.membership import Members

META = SnapshotMeta(Index(90), Term(3), Members.initial([1, 2, 3]), Index(1))


def header_of(size: int, block: int = 4) -> BackupHeader:
    return BackupHeader(ClusterId("c"), NodeId(2), Incarnation(77), META, size, "program 1", block)


def pieces_of(state: bytes, block: int = 4) -> list[bytes]:
    header = header_of(len(state), block)
    cut = [state[start : start + block] for start in range(0, len(state), block)]
    return [
        header.piece(0),
        *(header.piece(number, data) for number, data in enumerate(cut, 1)),
        header.piece(len(cut) + 1),
    ]


def read(data: bytes, step: int = 1 << 20) -> bytes:
    reader = BackupReader()
    states = [state for start in range(0, len(data), step) for state in reader.feed(data[start : start + step])]
    assert reader.close() == header_of(sum(map(len, states)))
    return b"".join(states)


@pytest.mark.parametrize("size", [0, 1, 4, 5, 13])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_backup_is_read_however_it_is_cut(size: int, step: int) -> None:
    state = bytes(range(size))
    pieces = pieces_of(state)

    assert read(b"".join(pieces), step) == state
    assert len(pieces) == header_of(size).pieces
    assert sum(map(len, pieces)) == header_of(size).total_bytes


def test_every_flipped_bit_is_noticed_at_its_piece() -> None:
    pieces = pieces_of(b"0123456789")
    data = b"".join(pieces)
    starts = [sum(map(len, pieces[:number])) for number in range(len(pieces))]

    for place in range(len(data)):
        for bit in range(8):
            wrong = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            reader = BackupReader()
            with pytest.raises(BackupDamaged) as caught:
                _ = reader.feed(wrong), reader.close()
            assert caught.value.offset == max(start for start in starts if start <= place)
            with pytest.raises(BackupDamaged):
                reader.feed(b"")


def test_every_cut_and_every_longer_one_is_noticed() -> None:
    data = b"".join(pieces_of(b"0123456789"))

    for wrong in (*(data[:end] for end in range(len(data))), data + b"x", data + data):
        with pytest.raises(BackupDamaged):
            read(wrong)


def test_piece_of_another_place_or_backup_is_not_accepted() -> None:
    one, other = pieces_of(b"01230123"), pieces_of(b"012301234")

    for wrong in ([one[0], one[2], one[1], one[3]], [one[0], other[1]], [one[0], one[1], one[1]], [one[0], one[3]]):
        with pytest.raises(BackupDamaged):
            BackupReader().feed(b"".join(wrong))


@pytest.mark.parametrize(
    "changes",
    [
        {"size": -1},
        {"block_bytes": 0},
        {"block_bytes": 1 << 40},
        {"meta": SnapshotMeta(Index(0), Term(0), Members())},
        {"meta": SnapshotMeta(Index(1), Term(1), Members(voters=(NodeId(2), NodeId(1)), highest_id=NodeId(2)))},
    ],
)
def test_header_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    header = msgspec.structs.replace(header_of(8), **changes)

    with pytest.raises(BackupDamaged):
        BackupReader().feed(header.piece(0))


def test_newer_format_is_refused_with_advice() -> None:
    piece = bytearray(pieces_of(b"")[0])
    piece[8] = 2

    with pytest.raises(BackupDamaged, match="newer"):
        BackupReader().feed(bytes(piece))


@given(st.binary(max_size=400), st.integers(0, 60), st.integers(1, 50))
def test_reader_raises_one_error_and_holds_one_piece(noise: bytes, keep: int, step: int) -> None:
    data = b"".join(pieces_of(b"0123456789"))[:keep] + noise
    reader = BackupReader()
    with suppress(BackupDamaged):
        for start in range(0, len(data), step):
            reader.feed(data[start : start + step])
            assert len(reader._buffer) <= 16 + 16 + 1024 * 1024
        reader.close()
    assert 0 <= reader.offset <= len(data)
