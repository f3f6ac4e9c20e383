"""What waits for a client: its pieces, when it is too much, and when the client is given up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.errors import CallerError
from raft_core.node.descriptors import RESERVED
from raft_kv.client_session import Session
from raft_kv.client_session_values import Close, Inspect, Send
from raft_kv.config import ServeConfig
from raft_kv.fd_limit import within_descriptors
from raft_kv.output_buffer import (
    CHECK_INTERVAL,
    MAX_UNSENT_BYTES,
    PIECE_BYTES,
    WRITE_STALL_TIMEOUT,
    OutputBuffer,
)

CHECKS = WRITE_STALL_TIMEOUT // CHECK_INTERVAL


def buffer() -> OutputBuffer:
    return OutputBuffer(Session(1))


def drain(output: OutputBuffer) -> list[bytes]:
    pieces = []
    while piece := output.next_piece():
        pieces.append(piece)
        output.wrote(piece)
    return pieces


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3 * PIECE_BYTES), max_size=8))
def test_what_is_sent_comes_out_whole_and_in_order_in_pieces(sizes: list[int]) -> None:
    output = buffer()
    chunks = [bytes([number]) * size for number, size in enumerate(sizes)]

    for chunk in chunks:
        output.take([Send(chunk)])
    pieces = drain(output)

    assert b"".join(pieces) == b"".join(chunks)
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    assert not output.busy


def test_small_replies_travel_together() -> None:
    output = buffer()
    output.take([Send(b"+OK\r\n")])
    output.take([Send(b"")])
    output.take([Send(b":1\r\n"), Inspect()])

    assert output.next_piece() == b"+OK\r\n:1\r\n"
    assert output.next_piece() == b""


def test_the_next_command_waits_while_too_much_is_unsent_and_goes_on_when_it_is_written() -> None:
    output = buffer()
    output.take([Send(b"x" * MAX_UNSENT_BYTES)])
    assert not output.over_limit
    output.take([Send(b"y")])
    assert output.over_limit

    output.wrote(output.next_piece())

    assert not output.over_limit


def test_session_that_has_closed_closes_its_output() -> None:
    output = buffer()
    output.take([Inspect()])
    assert not output.closed
    output.take([Send(b"a"), Close()])
    assert output.closed
    assert output.unsent == 1


def test_a_conversation_is_busy_until_its_last_reply_is_written() -> None:
    output = buffer()
    assert not output.busy
    assert output.take([Inspect()]) == Inspect()
    assert output.busy
    assert output.take([Send(b"reply")]) is None
    assert output.busy
    piece = output.next_piece()
    assert output.busy
    output.wrote(piece)
    assert not output.busy


def test_only_a_client_that_takes_nothing_of_what_waits_is_given_up() -> None:
    output = buffer()
    assert not any(output.stalled() for _ in range(3 * CHECKS))  # it has asked for nothing

    output.take([Send(b"x" * 4 * PIECE_BYTES)])
    for _ in range(3):  # slow, but reading
        output.wrote(output.next_piece())
        assert not any(output.stalled() for _ in range(CHECKS))

    assert output.stalled()


def test_clients_leave_descriptors_for_the_disk_and_the_peers() -> None:
    config = ServeConfig(id=1, max_clients=100)

    assert within_descriptors(config, None) == (config, "")
    assert within_descriptors(config, 10_000) == (config, "")
    enough, told = within_descriptors(config, 100 + RESERVED)
    assert (enough.max_clients, told) == (100, "")
    assert enough.host.max_connections < config.host.max_connections

    fewer, told = within_descriptors(config, 99 + RESERVED)
    assert fewer.max_clients == 99
    assert "99" in told

    with pytest.raises(CallerError):
        within_descriptors(config, RESERVED)
