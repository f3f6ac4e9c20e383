"""Codec: everything that travels comes back as it was, and nothing that makes no sense comes in."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.effects import RefusalReason, UnknownReason
from raft_core.entries import COMMAND, MEMBERS, NOOP, Checksum, Entry, LogPosition, SnapshotMeta
from raft_core.errors import FrameError
from raft_core.ids import MAX_INT63, ClusterId, GroupId, Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.membership import AddLearner, AddVoter, ChangeMode, Members, RemoveNode
from raft_core.messages import (
    COMMIT_UPDATE,
    DATA,
    HEARTBEAT,
    AppendEntries,
    AppendPurpose,
    AppendReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    TransferRefused,
    VoteKind,
    VoteReply,
)
from raft_core.requests import ChangeMembership, LeaveJoint, Propose, TransferLeadership
from raft_core.wire.codec import (
    MAX_REFUSAL,
    WireValue,
    decode,
    decode_version,
    encode_message,
    encode_payload,
    encode_refusal,
)
from raft_core.wire.frames import FrameKind, FrameReader, encode_frame
from raft_core.wire.payloads import BadFrame, Chunk, Forward, ForwardReply, Frame, Hello, Payload, Pull, Refuse

# Strategies. Numbers reach the limits of what may travel.

LIMIT = 2**63
NUMBERS = st.integers(0, 1000) | st.integers(0, LIMIT - 1)
NODES = st.integers(1, 9).map(NodeId) | st.integers(1, LIMIT - 1).map(NodeId)
TERMS, INDEXES, IDS = NUMBERS.map(Term), NUMBERS.map(Index), NUMBERS.map(MessageId)
INCARNATIONS, READS = NUMBERS.map(Incarnation), NUMBERS.map(ReadId)


@st.composite
def some_members(draw: st.DrawFn) -> Members:
    voters = draw(st.sets(NODES, min_size=1, max_size=5))
    learners = draw(st.sets(NODES, max_size=3)) - voters
    known = {node: draw(INCARNATIONS) for node in sorted(voters)}
    members = Members(
        voters=tuple(sorted(voters)),
        learners=tuple(sorted(learners)),
        incarnations=tuple(known.items()),
        highest_id=max(voters | learners),
        leases=draw(st.booleans()),
    )
    if draw(st.booleans()) and len(voters) > 1:
        joint = members.changed((RemoveNode(min(voters)),), ChangeMode.JOINT)
        assert isinstance(joint, Members)
        return joint
    return members


@st.composite
def appends(draw: st.DrawFn) -> AppendEntries:
    purpose = draw(st.sampled_from(AppendPurpose))
    prev_index, prev_term = draw(st.integers(0, 10**6)), draw(st.integers(0, 100))
    entries: list[Entry] = []
    term = prev_term
    for place in range(draw(st.integers(0, 4)) if purpose is DATA else 0):
        term += draw(st.integers(0, 3))
        kind = draw(st.sampled_from((NOOP, COMMAND, MEMBERS)))
        data = {
            NOOP: b"",
            COMMAND: draw(st.binary(max_size=40)),
            MEMBERS: draw(some_members()).encode() if kind is MEMBERS else b"",
        }[kind]
        entries.append(Entry.make(prev_index + 1 + place, term, data, kind, draw(st.sampled_from(Checksum))))
    last = draw(st.integers(term, LIMIT - 1))
    return AppendEntries(
        Term(last),
        draw(NODES),
        draw(IDS),
        purpose,
        Index(prev_index),
        Term(prev_term),
        draw(INDEXES),
        draw(READS),
        tuple(entries),
        draw(INDEXES),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> InstallSnapshot:
    index, term = draw(st.integers(1, LIMIT - 1)), draw(NUMBERS)
    members_index = draw(st.integers(0, index))
    meta = SnapshotMeta(Index(index), Term(term), draw(some_members()), Index(members_index))
    return InstallSnapshot(Term(draw(st.integers(term, LIMIT - 1))), draw(NODES), draw(IDS), meta)


@st.composite
def vote_requests(draw: st.DrawFn) -> RequestVote:
    last = draw(NUMBERS)
    return RequestVote(
        Term(draw(st.integers(last, LIMIT - 1))),
        draw(NODES),
        draw(IDS),
        draw(st.sampled_from(VoteKind)),
        LogPosition(draw(INDEXES), Term(last)),
    )


MESSAGES: st.SearchStrategy[Message] = st.one_of(
    appends(),
    st.builds(
        AppendReply,
        TERMS,
        NODES,
        INCARNATIONS,
        IDS,
        st.sampled_from(AppendPurpose),
        READS,
        INDEXES,
        INDEXES,
        INDEXES,
        TERMS,
        st.booleans(),
    ),
    vote_requests(),
    st.builds(VoteReply, TERMS, NODES, INCARNATIONS, IDS, st.sampled_from(VoteKind), st.booleans()),
    snapshots(),
    st.builds(SnapshotReply, TERMS, NODES, INCARNATIONS, IDS, INDEXES, INDEXES, st.booleans()),
    st.builds(TimeoutNow, TERMS, NODES, IDS),
    st.builds(TransferRefused, TERMS, NODES, IDS),
    st.builds(ReadIndex, TERMS, NODES, IDS),
    st.builds(ReadIndexReply, TERMS, NODES, IDS, INDEXES, st.booleans()),
)
ANY_NODES = st.integers(-5, LIMIT - 1).map(NodeId)
CHANGES = st.one_of(
    st.builds(AddVoter, ANY_NODES, INCARNATIONS),
    st.builds(AddLearner, ANY_NODES, INCARNATIONS, st.booleans()),
    st.builds(RemoveNode, ANY_NODES),
)
REQUESTS = st.one_of(
    st.builds(Propose, st.binary(max_size=50)),
    st.builds(ChangeMembership, st.lists(CHANGES, max_size=3).map(tuple), st.sampled_from(ChangeMode), INDEXES),
    st.just(LeaveJoint()),
    st.builds(TransferLeadership, ANY_NODES),
)
ANSWERS = st.one_of(
    st.builds(ForwardReply, NUMBERS, result=st.binary(max_size=50)),
    st.builds(ForwardReply, NUMBERS, refused=st.sampled_from(RefusalReason), leader=INDEXES.map(NodeId)),
    st.builds(ForwardReply, NUMBERS, unknown=st.sampled_from(UnknownReason), text=st.text(max_size=20)),
)


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    offset, data = draw(st.integers(0, 10**9)), draw(st.binary(max_size=100))
    return Chunk(draw(INDEXES), draw(TERMS), offset, offset + len(data) + draw(st.integers(0, 1000)), data)


PAYLOADS: st.SearchStrategy[Payload] = st.one_of(
    st.builds(
        Hello,
        NUMBERS,
        st.text(max_size=20).map(ClusterId),
        NODES,
        INCARNATIONS,
        NUMBERS.map(NodeId),
        INCARNATIONS,
        st.booleans(),
        st.sets(NODES, max_size=4).map(lambda nodes: tuple(sorted(nodes))),
        st.text(max_size=20),
        st.lists(st.tuples(NODES, st.text(max_size=20)), max_size=3).map(tuple),
        st.just(b"") | some_members().map(Members.encode),
    ),
    st.builds(Forward, NUMBERS, NUMBERS, REQUESTS),
    ANSWERS,
    st.builds(Pull, INDEXES, TERMS, NUMBERS, NUMBERS),
    chunks(),
    st.builds(Chunk, INDEXES, TERMS, NUMBERS, NUMBERS, st.just(b""), st.just(True)),
)


def frame_in(data: bytes) -> Frame:
    (frame,) = FrameReader(max_first=1 << 24, max_later=1 << 24).feed(data)
    assert not isinstance(frame, BadFrame)
    return frame


def received(data: bytes) -> WireValue:
    return decode(frame_in(data))


def refused(value: Message | Payload) -> str:
    """The text with which a well-formed but senseless value is turned away."""
    data = (
        encode_payload(value)
        if isinstance(value, Hello | Forward | ForwardReply | Pull | Chunk)
        else encode_message(value)
    )
    with pytest.raises(FrameError) as caught:
        received(data)
    return str(caught.value)


def changed(value: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(value, **fields)


# Round trips.


@settings(max_examples=300)
@given(MESSAGES)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert received(encode_message(message)) == message


@settings(max_examples=200)
@given(PAYLOADS)
def test_every_payload_comes_back_as_it_was(payload: Payload) -> None:
    assert received(encode_payload(payload)) == payload


def test_a_refusal_comes_back_short_and_readable() -> None:
    assert received(encode_refusal("wrong cluster")) == Refuse("wrong cluster")
    assert received(encode_refusal("a\nb\x1b[31m" + "x" * 1000)) == Refuse(("a�b�[31m" + "x" * 1000)[:MAX_REFUSAL])


def test_the_bytes_of_a_message_are_as_documented() -> None:
    request = AppendEntries(
        Term(5), NodeId(1), MessageId(9), DATA, Index(6), Term(4), Index(6), ReadId(0), (Entry.make(7, 5, b"hi"),)
    )
    expected = "9c 03 05 01 09 00 06 04 06 00 91 95 07 05 01 c4 02 68 69 c4 04 76 8b c9 67 00 00"
    assert frame_in(encode_message(request)).payload.hex(" ") == expected


def test_append_without_a_time_is_an_older_nodes() -> None:
    append = Term(5), NodeId(1), MessageId(9), HEARTBEAT, Index(6), Term(4), Index(6), ReadId(0)
    older = bytes.fromhex("9b 03 05 01 09 01 06 04 06 00 90 08")

    assert received(encode_frame(FrameKind.MESSAGE, GroupId(0), older)) == AppendEntries(*append, tip=Index(8))


def test_time_that_is_out_of_range_is_refused() -> None:
    append = Term(5), NodeId(1), MessageId(9), HEARTBEAT, Index(6), Term(4), Index(6), ReadId(0)
    for time in (-1, MAX_INT63 + 1):
        with pytest.raises(FrameError):
            received(encode_message(AppendEntries(*append, time=time)))


# No input raises anything but FrameError.


@settings(max_examples=300)
@given(st.integers(0, 255), st.binary(max_size=60))
def test_no_payload_raises_anything_but_a_frame_error(kind: int, payload: bytes) -> None:
    try:
        decode(Frame(kind, GroupId(0), payload))
    except FrameError:
        return


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@settings(max_examples=300)
@given(st.sampled_from(FrameKind), st.integers(0, 12), st.lists(JUNK, max_size=12))
def test_no_well_formed_nonsense_raises_anything_but_a_frame_error(kind: FrameKind, tag: int, junk: list[Any]) -> None:
    for data in (junk, [tag, *junk]):
        try:
            decode(Frame(kind, GroupId(0), msgspec.msgpack.encode(data)))
        except FrameError:
            continue


@settings(max_examples=200)
@given(MESSAGES, st.data())
def test_a_message_with_one_field_replaced_by_junk_is_checked_or_refused(message: Message, data: st.DataObject) -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(message))
    fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(JUNK)
    frame = Frame(FrameKind.MESSAGE, GroupId(0), msgspec.msgpack.encode(fields))
    try:
        value = decode(frame)
    except FrameError:
        return
    for name in ("term", "sender", "id"):
        assert 0 <= getattr(value, name) < LIMIT


@given(MESSAGES, st.data())
def test_a_truncated_message_is_refused(message: Message, data: st.DataObject) -> None:
    payload = frame_in(encode_message(message)).payload
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(FrameError):
        decode(Frame(FrameKind.MESSAGE, GroupId(0), payload[:cut]))


@given(MESSAGES)
def test_bytes_behind_a_message_are_refused(message: Message) -> None:
    with pytest.raises(FrameError):
        decode(Frame(FrameKind.MESSAGE, GroupId(0), frame_in(encode_message(message)).payload + b"\x00"))


@pytest.mark.parametrize("kind", list(FrameKind))
@pytest.mark.parametrize(
    "payload",
    [
        b"\x91" * 200_000,  # nested without end
        b"\x9c\x07\x01\x02\x03" + b"\x91" * 200_000,
        b"\xdd\xff\xff\xff\xff\x03",  # an array of four thousand million
        b"\x9a\x03\x01\x02\x03\x00\x00\x00\x00\x00\xdd\xff\xff\xff\xff",
        b"\x91\xc6\xff\xff\xff\xff",  # bytes without end
        b"\x94\x01\xa1\xff\x01\x01",  # text that is none
        b"\xc1",
        b"",
    ],
)
def test_bombs_are_refused(kind: FrameKind, payload: bytes) -> None:
    with pytest.raises(FrameError):
        decode(Frame(kind, GroupId(0), payload))


def test_an_unknown_kind_and_another_group_are_refused() -> None:
    with pytest.raises(FrameError, match="of kind 99"):
        decode(Frame(99, GroupId(0), b""))
    with pytest.raises(FrameError, match="for group 3"):
        decode(Frame(FrameKind.MESSAGE, GroupId(3), b""))


# What must hold in an append.

PLAIN = AppendEntries(
    Term(5),
    NodeId(1),
    MessageId(9),
    DATA,
    Index(6),
    Term(4),
    Index(6),
    ReadId(0),
    (Entry.make(7, 4, b"a"), Entry.make(8, 5, b"b")),
)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ((Entry.make(8, 4, b"a"),), "entry 8 follows 6"),
        ((Entry.make(6, 4, b"a"),), "entry 6 follows 6"),
        ((Entry.make(7, 4, b"a"), Entry.make(9, 4, b"b")), "entry 9 follows 7"),
        ((Entry.make(7, 4, b"a"), Entry.make(7, 4, b"b")), "entry 7 follows 7"),
        ((Entry.make(7, 5, b"a"), Entry.make(8, 4, b"b")), "entry 8 has term 4"),
        ((Entry.make(7, 3, b"a"),), "entry 7 has term 3"),
        ((Entry.make(7, 6, b"a"),), "entry 7 has term 6"),
        ((changed(Entry.make(7, 5, b"a"), data=b"b"),), "checksum of entry 7"),
        ((changed(Entry.make(7, 5, b"a"), checksum=b""),), "checksum of entry 7"),
        ((changed(Entry.make(7, 5, b""), kind=COMMAND),), "checksum of entry 7"),
        ((Entry.make(7, 5, b"data", NOOP),), "a no-op with data"),
        ((Entry.make(7, 5, b"data", MEMBERS),), "configuration in entry 7 does not decode"),
        ((Entry.make(7, 5, b"\x91" * 100_000, MEMBERS),), "configuration in entry 7 does not decode"),
        ((Entry.make(7, 5, Members().encode(), MEMBERS),), "no voters"),
        ((Entry.make(7, 5, Members(voters=(NodeId(2**63),), highest_id=NodeId(2**63)).encode(), MEMBERS),), "node id"),
    ],
)
def test_entries_that_cannot_follow_are_refused(entries: tuple[Entry, ...], text: str) -> None:
    assert text in refused(changed(PLAIN, entries=entries))


@pytest.mark.parametrize("purpose", [HEARTBEAT, COMMIT_UPDATE])
def test_only_data_carries_entries(purpose: AppendPurpose) -> None:
    assert "carries entries" in refused(changed(PLAIN, purpose=purpose))


def test_a_previous_position_of_a_later_term_is_refused() -> None:
    assert "later term" in refused(changed(PLAIN, entries=(), prev_term=6))


def test_the_last_index_still_fits() -> None:
    assert "out of range" in refused(changed(PLAIN, prev_index=LIMIT - 1, entries=(Entry.make(LIMIT, 5, b"a"),)))


# What must hold in every message and payload.

META = SnapshotMeta(Index(4), Term(2), Members.initial((1, 2, 3)), Index(1))
EXAMPLES: list[Message] = [
    PLAIN,
    AppendReply(Term(5), NodeId(1), Incarnation(3), MessageId(9), DATA, ReadId(0), Index(8)),
    RequestVote(Term(5), NodeId(1), MessageId(9), VoteKind.REAL, LogPosition(Index(8), Term(5))),
    VoteReply(Term(5), NodeId(1), Incarnation(3), MessageId(9), VoteKind.REAL, True),
    InstallSnapshot(Term(5), NodeId(1), MessageId(9), META),
    SnapshotReply(Term(5), NodeId(1), Incarnation(3), MessageId(9), Index(4), Index(4), True),
    TimeoutNow(Term(5), NodeId(1), MessageId(9)),
    TransferRefused(Term(5), NodeId(1), MessageId(9)),
    ReadIndex(Term(5), NodeId(1), MessageId(9)),
    ReadIndexReply(Term(5), NodeId(1), MessageId(9), Index(8), True),
]
PAYLOAD_EXAMPLES: list[Payload] = [
    Hello(1, ClusterId("c"), NodeId(1), Incarnation(2)),
    Forward(1, 2, LeaveJoint()),
    ForwardReply(1, result=b"x"),
    Pull(Index(1), Term(1), 0, 10),
    Chunk(Index(1), Term(1), 0, 3, b"abc"),
]


@pytest.mark.parametrize("value", [*EXAMPLES, *PAYLOAD_EXAMPLES], ids=lambda value: type(value).__name__)
def test_every_number_is_in_range(value: Message | Payload) -> None:
    numbers = [name for name in value.__struct_fields__ if type(getattr(value, name)) is int]
    assert numbers
    for name in numbers:
        for wrong in (-1, LIMIT):
            assert refused(changed(value, **{name: wrong})), name


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda value: type(value).__name__)
def test_every_message_names_its_sender(message: Message) -> None:
    assert refused(changed(message, sender=0)) == "a message names no sender"


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        (changed(META, index=0, members_index=0), "stands for nothing"),
        (changed(META, term=6), "later term"),
        (changed(META, index=-1), "out of range"),
        (changed(META, term=LIMIT), "out of range"),
        (changed(META, members_index=5), "younger"),
        (changed(META, members=Members()), "no voters"),
        (changed(META, members=attrs.evolve(META.members, voters=(NodeId(3), NodeId(1)))), "sorted"),
        (changed(META, members=attrs.evolve(META.members, learners=(NodeId(1),))), "voter and learner"),
        (
            changed(META, members=attrs.evolve(META.members, incarnations=((NodeId(1), Incarnation(-1)),))),
            "incarnation",
        ),
    ],
)
def test_a_snapshot_that_cannot_be_is_refused(meta: SnapshotMeta, text: str) -> None:
    assert text in refused(InstallSnapshot(Term(5), NodeId(1), MessageId(9), meta))


@pytest.mark.parametrize("position", [LogPosition(Index(1), Term(6)), LogPosition(Index(-1), Term(1))])
def test_a_candidate_whose_log_cannot_be_is_refused(position: LogPosition) -> None:
    assert refused(RequestVote(Term(5), NodeId(1), MessageId(9), VoteKind.PRE, position))


HELLO = Hello(1, ClusterId("c"), NodeId(1), Incarnation(2))


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (changed(HELLO, sender=0), "names no sender"),
        (changed(HELLO, founders=(NodeId(2), NodeId(1))), "not sorted"),
        (changed(HELLO, founders=(NodeId(1), NodeId(1))), "not sorted"),
        (changed(HELLO, founders=(NodeId(0),)), "node id"),
        (changed(HELLO, known=((NodeId(-1), "x"),)), "node id"),
        (changed(HELLO, founding=b"x"), "founding members"),
        (changed(HELLO, founding=Members().encode()), "no voters"),
        (ForwardReply(1), "one of"),
        (ForwardReply(1, result=b"", refused=RefusalReason.STALE), "one of"),
        (Forward(1, 1, TransferLeadership(NodeId(LIMIT))), "node id"),
        (Forward(1, 1, ChangeMembership((RemoveNode(NodeId(LIMIT)),))), "node id"),
        (Forward(1, 1, ChangeMembership((), expected=Index(-1))), "out of range"),
        (Chunk(Index(1), Term(1), 1, 3, b"abc"), "beyond the end"),
        (Chunk(Index(1), Term(1), 0, 3, b"abc", True), "that is gone"),
    ],
)
def test_a_payload_that_makes_no_sense_is_refused(payload: Payload, text: str) -> None:
    assert text in refused(payload)


def test_the_version_is_read_from_a_hello_of_any_shape() -> None:
    assert decode_version(msgspec.msgpack.encode([7, {"new": "shape"}, [1, 2]])) == 7
    assert decode_version(msgspec.msgpack.encode([7])) == 7
    with pytest.raises(FrameError):
        decode_version(msgspec.msgpack.encode({"version": 7}))
