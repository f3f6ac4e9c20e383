"""What a client's bytes are taken for: arrays, lines, garbage, and what is out of bounds."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_kv.resp import NULL_ARRAY, OK, Failure, Map, Reply, encode
from raft_kv.resp_parser import ParseFailure, Request, RequestLimits, RequestParser, TooLarge, split_inline

SMALL = RequestLimits(bulk_bytes=100, request_bytes=300, arguments=20, inline_bytes=80, passed_bytes=1000)


def array(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def parsed(data: bytes, limits: RequestLimits = SMALL) -> list[Request]:
    return RequestParser(limits).feed(data)


def failure(requests: list[Request]) -> str:
    last = requests[-1]
    assert isinstance(last, ParseFailure)
    return last.text


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.binary(max_size=30), min_size=1, max_size=5), max_size=6),
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
)
def test_requests_arrive_whole_however_their_bytes_are_cut(requests: list[list[bytes]], cuts: list[int]) -> None:
    data = b"".join(array(*request) for request in requests)
    parser, found, place, turn = RequestParser(), list[Request](), 0, 0
    while place < len(data):
        size = cuts[turn % len(cuts)]
        found += parser.feed(data[place : place + size])
        place, turn = place + size, turn + 1
    assert found == requests


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b"*2\r\n", b"$1\r\n", b"\r\n", b"*-1\r\n"]))))
def test_garbage_gives_requests_of_words_and_at_most_one_failure_which_is_final(pieces: list[bytes]) -> None:
    parser = RequestParser(SMALL)
    found = [request for piece in pieces for request in parser.feed(piece)]
    failures = [place for place, request in enumerate(found) if isinstance(request, ParseFailure)]
    assert failures in ([], [len(found) - 1])
    for request in found:
        if isinstance(request, list):
            assert request
            assert all(isinstance(word, bytes) for word in request)
    if failures:
        assert parser.feed(array(b"PING")) == []


_WORDS = st.one_of(st.binary(max_size=8), st.sampled_from([b"\r\n", b"a\r\n$1", b"$3", b"*2", b"x" * 1500]))
_PIECES = st.one_of(
    st.lists(_WORDS, min_size=1, max_size=4).map(lambda words: array(*words)),
    st.sampled_from([b"PING\r\n", b"*0\r\n", b"*1\r\n$x\r\n", b"*1\r\n$4\r\nPI", b"\r\n", b"*2\r\n$1\r\na\r\n", b"*x"]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_PIECES, max_size=6), st.integers(1, 5))
def test_parts_that_fit_are_the_requests_that_the_general_way_finds(pieces: list[bytes], most: int) -> None:
    """A parser that holds one byte already takes the general way."""
    data = b"".join(pieces)
    quick, general = RequestParser(), RequestParser()
    at_once = quick.feed(data, most)
    while quick.more:
        at_once += quick.feed(b"", most)
    slowly = general.feed(data[:1]) + general.feed(data[1:])
    assert at_once == slowly
    assert quick.held_bytes == general.held_bytes


WORDS = st.lists(st.binary(max_size=6) | st.sampled_from([b"\r\n", b"$1\r\na", b"v" * 1500]), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=8), st.integers(0, 30), st.integers(1, 10))
def test_pipeline_of_requests_with_as_many_words_is_the_same_requests(
    requests: list[list[bytes]], cut: int, most: int
) -> None:
    data = b"".join(array(*request) for request in requests)
    end = len(data) - min(cut, len(data))
    parser = RequestParser()
    found = parser.feed(data[:end], most)
    assert found == requests[: len(found)]
    assert len(found) <= most
    found += parser.feed(data[end:])
    assert found == requests


def test_requests_split_at_line_breaks_obey_small_limits_too() -> None:
    large = array(b"SET", b"a", b"x" * 101)
    found = parsed(array(b"PING") + large + array(b"PING"))
    assert [type(request) for request in found] == [list, TooLarge, list]


def test_a_good_request_before_a_bad_one_is_not_lost() -> None:
    requests = parsed(array(b"GET", b"a") + b"*1\r\n:5\r\n")
    assert requests[0] == [b"GET", b"a"]
    assert failure(requests) == "ERR Protocol error: expected '$', got ':'"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"*21\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*999999999999\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*x\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*" + b"1" * 40, "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n$999999\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$-1\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n*1000000\r\n", "ERR Protocol error: expected '$', got '*'"),
        (b"*30\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*20\r\n" + b"$120\r\n%b\r\n" % (b"x" * 120) * 20, "ERR Protocol error: request too large"),
        (b"x" * 2000, "ERR Protocol error: too big inline request"),
        (b'set a "b\r\n', "ERR Protocol error: unbalanced quotes in request"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_the_words_that_redis_users_know(data: bytes, text: str) -> None:
    assert failure(parsed(data)) == text


def test_a_length_beyond_what_is_passed_over_is_refused_before_its_bytes_arrive() -> None:
    parser = RequestParser(RequestLimits(bulk_bytes=10, passed_bytes=20))
    assert parser.feed(b"*2\r\n$3\r\nGET\r\n$21\r\n") == [ParseFailure("ERR Protocol error: invalid bulk length")]


_TOO_LARGE = {
    "argument": array(b"SET", b"a", b"x" * 101),
    "argument before others": array(b"SET", b"x" * 101, b"$1\r\n" * 5, b"", b"EX"),
    "together": array(*[b"x" * 70] * 5),
    "line": b"SET a " + b"x" * 200 + b"\r\n",
}


@pytest.mark.parametrize("large", _TOO_LARGE.values(), ids=_TOO_LARGE)
@pytest.mark.parametrize("step", [1, 7, 50, 10_000])
def test_a_request_that_is_too_large_is_passed_over_and_those_around_it_are_not(large: bytes, step: int) -> None:
    data = array(b"GET", b"a") + b"PING\r\n" + large + array(b"GET", b"b") + large + large + b"PING\r\n"
    parser, found = RequestParser(SMALL), list[Request]()
    for place in range(0, len(data), step):
        found += parser.feed(data[place : place + step])
        assert parser.held_bytes <= SMALL.request_bytes + step

    kinds = [type(request) if isinstance(request, TooLarge) else request for request in found]
    assert kinds == [[b"GET", b"a"], [b"PING"], TooLarge, [b"GET", b"b"], TooLarge, TooLarge, [b"PING"]]


_HIDDEN = array(b"FLUSHALL")
_HOLDERS = st.sampled_from([
    array(b"SET", b"a", b"x" * 90 + _HIDDEN * 3),
    array(*[b"x" * 70] * 4, _HIDDEN * 3),
    b"SET a " + b"x" * 90 + _HIDDEN + b"\n",
    array(b"GET", b"a"),
    array(b"SET", b"a", b"\r\n" + _HIDDEN),
    b"PING\r\n",
])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(_HOLDERS, max_size=4), st.lists(st.integers(1, 130), min_size=1, max_size=12))
def test_the_same_requests_are_found_however_the_bytes_are_cut(pieces: list[bytes], cuts: list[int]) -> None:
    """What lies in an argument is never taken for a request, not even in one that is passed over."""
    data = b"".join(pieces)
    slow = RequestParser(SMALL)
    byte_by_byte = [request for place in range(len(data)) for request in slow.feed(data[place : place + 1])]
    quick, found, place, turn = RequestParser(SMALL), list[Request](), 0, 0
    while place < len(data):
        size = cuts[turn % len(cuts)]
        found += quick.feed(data[place : place + size], 2)
        while quick.more:
            found += quick.feed(b"", 2)
        place, turn = place + size, turn + 1
    assert found == byte_by_byte


def test_a_request_within_one_that_is_passed_over_is_not_carried_out() -> None:
    large = array(b"SET", b"a", b"x" * 101 + _HIDDEN)
    parser, cut = RequestParser(SMALL), large.index(_HIDDEN)
    assert parser.feed(large[:cut]) == []
    found = parser.feed(large[cut:] + array(b"PING"))
    assert [request for request in found if not isinstance(request, TooLarge)] == [[b"PING"]]


def test_empty_requests_and_empty_lines_are_passed_over() -> None:
    assert parsed(b"*0\r\n*-1\r\n\r\n\n" + array(b"PING")) == [[b"PING"]]
    assert parsed(b"*-2\r\nPING\r\n" + array(b"GET", b"a") + b"*-99\r\n") == [[b"PING"], [b"GET", b"a"]]


def test_nothing_after_a_failure_is_carried_out() -> None:
    assert parsed(b"*-x\r\nPING\r\n") == [ParseFailure("ERR Protocol error: invalid multibulk length")]


def test_a_browser_that_was_lured_here_is_cut_off_without_a_word() -> None:
    assert parsed(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a b\r\n") == [ParseFailure("")]


def test_lines_and_arrays_may_be_mixed() -> None:
    assert parsed(b"PING\r\n" + array(b"GET", b"a") + b"get b\n") == [[b"PING"], [b"GET", b"a"], [b"get", b"b"]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"set  a b\r\n", [b"set", b"a", b"b"]),
        (b'set a "b c\\x41\\n\\""', [b"set", b"a", b'b cA\n"']),
        (b"set a 'b \\n \\''", [b"set", b"a", b"b \\n '"]),
        (b'set a ""', [b"set", b"a", b""]),
        (b'set a "b"c', None),
        (b"set a 'b", None),
    ],
)
def test_an_inline_command_is_split_as_redis_splits_it(line: bytes, words: list[bytes] | None) -> None:
    assert split_inline(line) == words


_REPLIES: list[tuple[Reply, bytes, bytes]] = [
    (OK, b"+OK\r\n", b"+OK\r\n"),
    (7, b":7\r\n", b":7\r\n"),
    (b"a\r\nb", b"$4\r\na\r\nb\r\n", b"$4\r\na\r\nb\r\n"),
    (None, b"$-1\r\n", b"_\r\n"),
    (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
    ([1, [b"x", None]], b"*2\r\n:1\r\n*2\r\n$1\r\nx\r\n$-1\r\n", b"*2\r\n:1\r\n*2\r\n$1\r\nx\r\n_\r\n"),
    (Map((("a", 1),)), b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
    (Failure("ERR two\r\nlines"), b"-ERR two  lines\r\n", b"-ERR two  lines\r\n"),
]


@pytest.mark.parametrize(("reply", "second", "third"), _REPLIES)
def test_a_reply_has_the_bytes_of_either_protocol(reply: Reply, second: bytes, third: bytes) -> None:
    assert (encode(reply, 2), encode(reply, 3)) == (second, third)
    for data in (second, third):
        reader = hiredis.Reader()
        reader.feed(data)
        assert reader.gets() is not False
        assert not reader.has_data()
