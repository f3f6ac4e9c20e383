"""Sessions that end together are forgotten in portions, which cannot be seen; a snapshot copies none at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core import sessions as sessions_module
from raft_core.ids import Index
from raft_core.sessions import (
    Sequence,
    SessionId,
    SessionLimits,
    Sessions,
    encode_command,
    encode_plain,
    encode_register,
)


class Last:
    """The last command."""

    def __init__(self) -> None:
        self.state = b""

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        return command

    def apply(self, index: Index, command: bytes) -> bytes:
        self.state = command
        return b"%d" % index

    def query(self, request: bytes) -> bytes:
        return self.state

    def snapshot(self) -> Iterator[bytes]:
        return iter([self.state])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.state = b"".join(chunks)


STEP = st.tuples(
    st.sampled_from(["register", "register", "command", "command", "plain"]),
    st.integers(0, 4),  # how much time has passed
    st.integers(0, 30),  # which session
    st.sampled_from([(3, 4), (30, 4), (30, 9), (2, 2)]),  # limits
)


def commands(steps: list[tuple[str, int, int, tuple[int, int]]]) -> Iterator[bytes]:
    now = 100
    for number, (what, passed, session, (most, lifetime)) in enumerate(steps, 1):
        now += passed
        stamping = Sessions(Last(), SessionLimits(max_sessions=most, max_results=10, lifetime=lifetime))
        if what == "register":
            command = encode_register()
        elif what == "plain":
            command = encode_plain(b"p%d" % number)
        else:
            command = encode_command(SessionId(1 + session), Sequence(number), Sequence(max(1, number - 5)), b"c")
        yield stamping.prepare(command, now)


@settings(deadline=None, max_examples=60)
@given(st.lists(STEP, max_size=25), st.integers(1, 3))
def test_which_ended_sessions_are_still_held_cannot_be_seen(
    steps: list[tuple[str, int, int, tuple[int, int]]], portion: int
) -> None:
    slow, fast = Sessions(Last()), Sessions(Last())
    given_up = sessions_module._PORTION
    try:
        for index, command in enumerate(commands(steps), 1):
            sessions_module._PORTION = 0 if index % portion else 1  # type: ignore[misc]
            answer = slow.apply(Index(index), command)
            sessions_module._PORTION = 1000  # type: ignore[misc]
            assert answer == fast.apply(Index(index), command)
            assert slow.open_sessions == fast.open_sessions
            assert b"".join(slow.snapshot()) == b"".join(fast.snapshot())
    finally:
        sessions_module._PORTION = given_up  # type: ignore[misc]


def registered(count: int) -> Sessions:
    machine = Sessions(Last(), SessionLimits(max_sessions=10**6, lifetime=1000))
    for index in range(1, count + 1):
        machine.apply(Index(index), machine.prepare(encode_register(), 5))
    return machine


def test_sessions_that_end_together_are_forgotten_in_portions() -> None:
    machine = registered(1000)

    held = []
    for index in range(1001, 1020):
        machine.apply(Index(index), machine.prepare(encode_plain(b"x"), 5000))
        held.append(len(machine._sessions))
        assert machine.open_sessions == 0

    assert held == [max(0, 1000 - 64 * (number + 1)) for number in range(19)]


def test_a_snapshot_of_sessions_shows_its_moment_while_they_are_used() -> None:
    machine = registered(3)
    whole = b"".join(machine.snapshot())
    chunks = machine.snapshot()
    for index, session in enumerate((1, 2, 1), 4):
        command = encode_command(SessionId(session), Sequence(index), Sequence(1), b"c")
        machine.apply(Index(index), machine.prepare(command, 6))
    machine.apply(Index(9), machine.prepare(encode_plain(b"x"), 5000))

    data = b"".join(chunks)
    assert data.startswith(whole[: len(whole)])
