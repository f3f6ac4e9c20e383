"""Link: who may talk to whom, in whose name, and what a broken link says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.entries import Entry
from raft_core.errors import SettingsError
from raft_core.ids import ClusterId, GroupId, Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.messages import DATA, AppendEntries, ReadIndex, TimeoutNow
from raft_core.requests import Propose
from raft_core.settings import Settings
from raft_core.wire import (
    WIRE_VERSION,
    Chunk,
    Forward,
    ForwardReply,
    FrameKind,
    Greeted,
    Hello,
    Limits,
    Link,
    LinkBroken,
    LinkEvent,
    LinkFault,
    MessageReceived,
    PayloadReceived,
    Pull,
    encode_frame,
    encode_message,
    encode_payload,
    encode_refusal,
)

ONE = Hello(WIRE_VERSION, ClusterId("blue"), NodeId(1), Incarnation(11))
TWO = Hello(WIRE_VERSION, ClusterId("blue"), NodeId(2), Incarnation(22))
DISKS = {NodeId(1): Incarnation(11), NodeId(2): Incarnation(22)}


def dialled() -> Link:
    """Node 1's end of a connection that it opened to node 2."""
    return Link(ONE, dialer=True, peer=NodeId(2), incarnations=DISKS)


def accepted() -> Link:
    """Node 2's end of a connection that another node opened."""
    return Link(TWO, dialer=False, incarnations=DISKS)


def greeted() -> Link:
    """Node 2's end after node 1's hello."""
    link = accepted()
    assert link.receive(dialled().hello()) == [Greeted(to_two())]
    return link


def to_two(**fields: Any) -> Hello:
    """What node 1 says to node 2."""
    known: dict[str, Any] = {"to": NodeId(2), "to_incarnation": Incarnation(22)}
    return msgspec.structs.replace(ONE, **(known | fields))


def the_fault(events: list[LinkEvent]) -> LinkBroken:
    assert len(events) == 1
    assert isinstance(events[0], LinkBroken)
    return events[0]


MESSAGE = TimeoutNow(Term(3), NodeId(1), MessageId(5))


# Greetings.


def test_both_ends_greet_each_other_and_then_talk_in_both_directions() -> None:
    first, second = dialled(), accepted()

    assert second.receive(first.hello()) == [Greeted(to_two())]
    assert second.peer == 1
    answer = msgspec.structs.replace(TWO, to=NodeId(1), to_incarnation=Incarnation(11))
    assert first.receive(second.hello()) == [Greeted(answer)]
    assert first.greeting == answer

    assert second.receive(encode_message(MESSAGE)) == [MessageReceived(MESSAGE)]
    back = ReadIndex(Term(3), NodeId(2), MessageId(6))
    assert first.receive(encode_message(back)) == [MessageReceived(back)]


def test_an_end_that_knows_nobody_talks_to_anybody_of_its_cluster() -> None:
    stranger = Link(ONE, dialer=True)
    newcomer = Link(TWO, dialer=False)

    assert newcomer.receive(stranger.hello()) == [Greeted(ONE)]
    assert stranger.peer == 0
    assert isinstance(stranger.receive(newcomer.hello())[0], Greeted)
    assert stranger.peer == 2


def test_a_greeting_names_the_disk_that_was_met_even_where_none_was_expected() -> None:
    link = Link(TWO, dialer=False)
    link.receive(dialled().hello())
    other = dialled()
    assert isinstance(other.receive(link.hello())[0], Greeted)
    assert other.greeting is not None
    assert other.greeting.to_incarnation == 11


@pytest.mark.parametrize(
    ("hello", "fault", "words"),
    [
        (to_two(version=2), LinkFault.WRONG_VERSION, ("version 2", "version 1")),
        (to_two(version=0), LinkFault.WRONG_VERSION, ("version 0", "version 1")),
        (to_two(cluster="green"), LinkFault.WRONG_CLUSTER, ("'green'", "'blue'")),
        (to_two(to=NodeId(3)), LinkFault.WRONG_ADDRESSEE, ("node 3", "node 2")),
        (to_two(sender=NodeId(2)), LinkFault.WRONG_PEER, ("node 2",)),
        (to_two(to_incarnation=Incarnation(23)), LinkFault.WRONG_INCARNATION, ("23", "22")),
        (to_two(incarnation=Incarnation(12)), LinkFault.WRONG_INCARNATION, ("12", "11", "new id")),
        (to_two(incarnation=Incarnation(0)), LinkFault.WRONG_INCARNATION, ("11",)),
        (to_two(sender=NodeId(0)), LinkFault.BAD_FRAME, ("sender",)),
    ],
)
def test_a_hello_from_the_wrong_place_is_refused_with_a_reason(
    hello: Hello, fault: LinkFault, words: tuple[str, ...]
) -> None:
    link = accepted()

    broken = the_fault(link.receive(encode_payload(hello)))

    assert broken.fault is fault
    assert all(word in broken.text for word in words)
    assert link.broken
    assert link.greeting is None
    assert link.receive(encode_payload(to_two())) == []


def test_a_hello_without_declared_incarnations_is_good() -> None:
    assert isinstance(
        accepted().receive(encode_payload(to_two(to=NodeId(0), to_incarnation=Incarnation(0))))[0], Greeted
    )


def test_a_node_that_no_configuration_names_is_greeted() -> None:
    unknown = Hello(WIRE_VERSION, ClusterId("blue"), NodeId(9), Incarnation(99), NodeId(2))
    assert accepted().receive(encode_payload(unknown)) == [Greeted(unknown)]


def test_another_node_than_was_dialled_is_refused() -> None:
    link = Link(ONE, dialer=True, peer=NodeId(3), incarnations=DISKS)
    broken = the_fault(link.receive(encode_payload(TWO)))
    assert broken.fault is LinkFault.WRONG_PEER
    assert "node 2 answers where node 3 was dialled" in broken.text


def test_a_future_hello_is_recognised_whatever_its_shape() -> None:
    payload = msgspec.msgpack.encode([9, {"cluster": "blue"}, None])
    broken = the_fault(accepted().receive(encode_frame(FrameKind.HELLO, GroupId(0), payload)))
    assert broken.fault is LinkFault.WRONG_VERSION
    assert "version 9" in broken.text


def test_a_long_cluster_name_does_not_fill_the_log() -> None:
    broken = the_fault(accepted().receive(encode_payload(to_two(cluster="\n" * 50_000))))
    assert len(broken.text) < 300
    assert broken.text.isprintable()


def test_a_configuration_learned_meanwhile_counts() -> None:
    disks: dict[NodeId, Incarnation] = {}
    link = Link(TWO, dialer=False, incarnations=disks)
    disks[NodeId(1)] = Incarnation(12)
    assert the_fault(link.receive(encode_payload(to_two()))).fault is LinkFault.WRONG_INCARNATION


# Order.


@pytest.mark.parametrize(
    "frame",
    [
        encode_message(MESSAGE),
        encode_payload(Pull(Index(1), Term(1), 0, 1)),
        encode_frame(99, GroupId(0), b""),
    ],
)
def test_nothing_comes_before_the_hello(frame: bytes) -> None:
    assert the_fault(accepted().receive(frame)).fault is LinkFault.OUT_OF_ORDER


def test_a_replayed_hello_breaks_the_link() -> None:
    assert the_fault(greeted().receive(dialled().hello())).fault is LinkFault.OUT_OF_ORDER


def test_a_message_in_the_name_of_another_breaks_the_link_and_keeps_what_came_before() -> None:
    false = TimeoutNow(Term(3), NodeId(3), MessageId(5))
    link = greeted()

    events = link.receive(encode_message(MESSAGE) + encode_message(false) + encode_message(MESSAGE))

    text = "node 1 sends a message in the name of node 3"
    assert events == [MessageReceived(MESSAGE), LinkBroken(LinkFault.WRONG_SENDER, text)]
    assert link.receive(encode_message(MESSAGE)) == []


def test_payloads_for_the_host_pass() -> None:
    payloads = (
        Forward(1, 2, Propose(b"x")),
        ForwardReply(1, result=b"y"),
        Pull(Index(1), Term(1), 0, 10),
        Chunk(Index(1), Term(1), 0, 1, b"z"),
    )
    link = greeted()
    events = link.receive(b"".join(encode_payload(payload) for payload in payloads))
    assert events == [PayloadReceived(payload) for payload in payloads]


def test_an_unknown_kind_breaks_the_link() -> None:
    broken = the_fault(greeted().receive(encode_frame(99, GroupId(0), b"")))
    assert broken.fault is LinkFault.BAD_FRAME
    assert "kind 99" in broken.text


# Refusals.


@pytest.mark.parametrize("link", [accepted(), greeted()], ids=["before the hello", "after it"])
def test_a_refusal_from_the_other_side_says_why_and_is_not_answered(link: Link) -> None:
    broken = the_fault(link.receive(encode_refusal("wrong cluster")))
    assert broken == LinkBroken(LinkFault.REFUSED, "the other side refuses: wrong cluster")
    assert link.refusal(broken) == b""


def test_a_refusal_travels_to_the_other_side() -> None:
    first, second = dialled(), Link(msgspec.structs.replace(TWO, cluster=ClusterId("green")), dialer=False)
    broken = the_fault(second.receive(first.hello()))
    told = the_fault(first.receive(second.refusal(broken)))
    assert told == LinkBroken(LinkFault.REFUSED, f"the other side refuses: {broken.text}")


# Limits.


def test_a_stranger_has_a_smaller_limit_than_a_peer() -> None:
    limits = Limits(max_frame=100_000, max_hello=2_000)
    big = encode_payload(to_two(address="x" * 3_000))
    assert "at most 2000" in the_fault(Link(TWO, dialer=False, limits=limits).receive(big)).text

    link = Link(TWO, dialer=False, limits=limits)
    link.receive(encode_payload(to_two()))
    assert len(link.receive(encode_payload(ForwardReply(1, result=bytes(90_000))))) == 1
    assert "at most 100000" in the_fault(link.receive(encode_payload(ForwardReply(1, result=bytes(100_000))))).text


def test_a_full_message_of_any_settings_fits_its_limit() -> None:
    chosen = Settings(max_message_bytes=10_000_000, max_entry_bytes=20_000_000)
    limits = Limits.of(chosen)
    entries = tuple(
        Entry(Index(2**62 + place), Term(2**62), Entry.make(1, 1).kind, b"", bytes(32)) for place in range(1, 10)
    )
    small = AppendEntries(Term(1), NodeId(1), MessageId(1), DATA, Index(0), Term(0), Index(0), ReadId(0), entries)
    per_entry = len(msgspec.msgpack.encode(small)) / len(entries)
    assert chosen.max_message_bytes / 32 * per_entry + 4096 < limits.max_frame
    assert chosen.max_entry_bytes + 4096 < limits.max_frame


@pytest.mark.parametrize("wrong", [0, 1023, 1 << 32])
def test_limits_check_themselves(wrong: int) -> None:
    with pytest.raises(SettingsError, match="max_frame"):
        Limits(max_frame=wrong)
    with pytest.raises(SettingsError, match="max_hello"):
        Limits(max_hello=wrong)


# No input raises.

SCRIPT = [dialled().hello(), *[encode_message(MESSAGE)] * 3, encode_payload(Pull(Index(1), Term(1), 0, 1))]


@settings(max_examples=100)
@given(st.lists(st.integers(1, 120), max_size=30))
def test_the_cuts_of_the_stream_make_no_difference(cuts: list[int]) -> None:
    stream, link, events, at = b"".join(SCRIPT), accepted(), list[LinkEvent](), 0
    for cut in [*cuts, len(stream)]:
        events += link.receive(stream[at : at + cut])
        at += cut
    assert events == accepted().receive(stream)
    assert len(events) == 5


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_stream_gives_a_true_beginning_and_then_breaks(data: st.DataObject) -> None:
    stream = b"".join(SCRIPT)
    honest = accepted().receive(stream)
    damaged = bytearray(stream)
    damaged[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))

    events = accepted().receive(bytes(damaged))

    assert isinstance(events[-1], LinkBroken)
    assert events[:-1] == honest[: len(events) - 1]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=40)), max_size=5), st.booleans())
def test_no_sequence_of_frames_raises(frames: list[tuple[int, bytes]], after_hello: bool) -> None:
    link = greeted() if after_hello else accepted()
    stream = b"".join(encode_frame(kind, GroupId(0), payload) for kind, payload in frames)
    events = link.receive(stream)
    assert all(not isinstance(event, LinkBroken) for event in events[:-1])
    assert link.broken == (bool(events) and isinstance(events[-1], LinkBroken))


# Versions.


def ranged(lowest: int, highest: int, *, sender: int = 1) -> Hello:
    return Hello(lowest, ClusterId("blue"), NodeId(sender), Incarnation(11), highest=highest)


@pytest.mark.parametrize(
    ("theirs", "ours", "agreed"),
    [
        ((1, 0), (1, 1), 1),  # release 0.1.0
        ((1, 1), (1, 1), 1),
        ((1, 2), (1, 1), 1),
        ((1, 2), (1, 3), 2),
        ((2, 4), (1, 3), 3),
        ((1, 0), (1, 5), 1),
    ],
)
def test_two_nodes_talk_in_the_highest_version_that_both_speak(
    theirs: tuple[int, int], ours: tuple[int, int], agreed: int
) -> None:
    link = Link(ranged(*ours, sender=2), dialer=False)
    (greeted,) = link.receive(Link(ranged(*theirs), dialer=True).hello())
    assert isinstance(greeted, Greeted)
    assert link.version == agreed


@pytest.mark.parametrize(("theirs", "ours"), [((2, 3), (1, 1)), ((1, 0), (2, 3)), ((1, 2), (3, 3))])
def test_nodes_without_a_common_version_part(theirs: tuple[int, int], ours: tuple[int, int]) -> None:
    link = Link(ranged(*ours, sender=2), dialer=False)
    assert the_fault(link.receive(Link(ranged(*theirs), dialer=True).hello())).fault is LinkFault.WRONG_VERSION


# Features.


def test_a_peer_without_a_feature_that_the_cluster_uses_is_refused_and_told() -> None:
    required: list[str] = []
    ours = Link(msgspec.structs.replace(TWO, features=("blue", "red")), dialer=False, required=required)
    required.append("red")  # enabled after the connection was made

    broken = the_fault(ours.receive(Link(ONE, dialer=True).hello()))

    assert broken.fault is LinkFault.FEATURE_MISSING
    assert "node 1" in broken.text
    assert "red" in broken.text
    theirs = dialled()
    told = the_fault(theirs.receive(ours.refusal(broken)))
    assert told.fault is LinkFault.REFUSED
    assert "red" in told.text


def test_a_peer_with_all_features_that_the_cluster_uses_is_greeted() -> None:
    hello = to_two(features=("blue", "red"))
    link = Link(TWO, dialer=False, required=["red"])

    assert link.receive(encode_payload(hello)) == [Greeted(hello)]


@pytest.mark.parametrize(
    "features", [("b", "a"), ("a", "a"), ("A",), ("",), ("a" * 65,), tuple(f"f{n:03}" for n in range(65))]
)
def test_features_in_a_hello_are_bounded_and_sorted(features: tuple[str, ...]) -> None:
    assert the_fault(accepted().receive(encode_payload(to_two(features=features)))).fault is LinkFault.BAD_FRAME


def test_a_hello_without_features_is_that_of_release_0_1_0() -> None:
    raw = msgspec.msgpack.decode(msgspec.msgpack.encode(to_two()))
    old = encode_frame(FrameKind.HELLO, GroupId(0), msgspec.msgpack.encode(raw[:-2]))

    (greeting,) = accepted().receive(old)

    assert isinstance(greeting, Greeted)
    assert greeting.hello.features == ()
