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
from raft_kv.output_buffer import LOOK_SECONDS, MAX_UNSENT_BYTES, PATIENCE_SECONDS, PIECE_BYTES, Conversation

PATIENCE = PATIENCE_SECONDS // LOOK_SECONDS


class Flag:
    """A loop's event, without the loop."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        self.is_set = True

    async def wait(self) -> None:
        raise AssertionError("nobody waits in these tests")


def conversation() -> Conversation[Flag]:
    return Conversation(Session(1), Flag)


def drain(talk: Conversation[Flag]) -> list[bytes]:
    pieces = []
    while piece := talk.next_piece():
        pieces.append(piece)
        talk.wrote(piece)
    return pieces


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3 * PIECE_BYTES), max_size=8))
def test_what_is_sent_comes_out_whole_and_in_order_in_pieces(sizes: list[int]) -> None:
    talk = conversation()
    chunks = [bytes([number]) * size for number, size in enumerate(sizes)]

    for chunk in chunks:
        talk.take([Send(chunk)])
    pieces = drain(talk)

    assert b"".join(pieces) == b"".join(chunks)
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    assert not talk.busy


def test_small_replies_travel_together() -> None:
    talk = conversation()
    talk.take([Send(b"+OK\r\n")])
    talk.take([Send(b"")])
    talk.take([Send(b":1\r\n"), Inspect()])

    assert talk.next_piece() == b"+OK\r\n:1\r\n"
    assert talk.next_piece() == b""


def test_the_next_command_waits_while_too_much_is_unsent_and_goes_on_when_it_is_written() -> None:
    talk = conversation()
    talk.take([Send(b"x" * MAX_UNSENT_BYTES)])
    assert not talk.crowded
    talk.take([Send(b"y")])
    assert talk.crowded

    room = talk.room()
    talk.wrote(talk.next_piece())

    assert room.is_set
    assert not talk.crowded


def test_a_writer_hears_of_more_and_of_the_end() -> None:
    talk = conversation()
    more = talk.more()
    talk.take([Inspect()])
    assert not more.is_set
    talk.take([Send(b"a"), Close()])
    assert more.is_set
    assert talk.closed
    assert not talk.ended
    more = talk.more()
    talk.end()
    assert more.is_set
    assert talk.ended


def test_a_conversation_is_busy_until_its_last_reply_is_written() -> None:
    talk = conversation()
    assert not talk.busy
    assert talk.take([Inspect()]) == Inspect()
    assert talk.busy
    assert talk.take([Send(b"reply")]) is None
    assert talk.busy
    piece = talk.next_piece()
    assert talk.busy
    talk.wrote(piece)
    assert not talk.busy


def test_only_a_client_that_takes_nothing_of_what_waits_is_given_up() -> None:
    talk = conversation()
    assert not any(talk.stalled() for _ in range(3 * PATIENCE))  # it has asked for nothing

    talk.take([Send(b"x" * 4 * PIECE_BYTES)])
    for _ in range(3):  # slow, but reading
        talk.wrote(talk.next_piece())
        assert not any(talk.stalled() for _ in range(PATIENCE))

    assert talk.stalled()


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

    with pytest.raises(CallerError, match="raise the limit"):
        within_descriptors(config, RESERVED)
