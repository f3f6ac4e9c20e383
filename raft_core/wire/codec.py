"""Codec: encodes messages and payloads, decodes them, and checks them before they are let in.

The `encode_…` functions return whole frames. `decode` returns a value of valid type and meaning, or raises
`FrameError`; it raises nothing else, whatever the bytes. Payloads are MessagePack arrays of the fields in the order of
declaration. An encoded message depends on the message only, so it may be encoded once and sent to several peers.

The checks belong here and not in the core: after `decode` an `AppendEntries` holds consecutive entries with matching
checksums, every number fits 63 bits, and a configuration keeps its own rules.
"""

from __future__ import annotations

from typing import Final, TypeAlias, TypeVar, assert_never

import msgspec

from raft_core.entries import (
    COMMAND,
    MEMBERS,
    Entry,
    SnapshotMeta,
    all_commands,
    checksum_matches,
    first_mismatch,
    follow_in_order,
)
from raft_core.errors import FrameError
from raft_core.features import features_problem
from raft_core.ids import MAX_INT63, GroupId, Index, Term
from raft_core.membership import Members, MembersUndecodable, RemoveNode
from raft_core.messages import (
    DATA,
    AppendEntries,
    AppendFields,
    AppendReply,
    AppendReplyFields,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    TransferRefused,
    VoteReply,
)
from raft_core.requests import ChangeMembership, LeaveJoint, Propose, TransferLeadership
from raft_core.structs import fields_of
from raft_core.wire.frames import FrameKind, encode_frame
from raft_core.wire.metadata import metadata_problem
from raft_core.wire.payloads import (
    Chunk,
    Forward,
    ForwardReply,
    Frame,
    Hello,
    HelloVersion,
    Payload,
    Pull,
    Refuse,
)

__all__ = [
    "MAX_REFUSAL",
    "WireValue",
    "decode",
    "decode_version",
    "encode_message",
    "encode_payload",
    "encode_refusal",
]

MAX_REFUSAL: Final = 500
"""Characters of a refusal's text that are sent, and of a received one that are shown."""

_GROUP: Final = GroupId(0)


WireValue: TypeAlias = Message | Payload | Refuse
"""Every value that a frame can hold."""

# Names of this module, which may be compiled: see `raft_core.compiled`.
_AppendEntries: Final = AppendEntries
_AppendReply: Final = AppendReply
_DATA: Final = DATA
_NO_GROUP: Final = 0
_MESSAGE_KIND: Final = int(FrameKind.MESSAGE)
_fields_of: Final = fields_of

_encode: Final = msgspec.msgpack.Encoder().encode
_MESSAGE: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)
_HELLO: Final = msgspec.msgpack.Decoder(Hello)
_VERSION: Final = msgspec.msgpack.Decoder(HelloVersion)
_REFUSE: Final = msgspec.msgpack.Decoder(Refuse)
_FORWARD: Final = msgspec.msgpack.Decoder(Forward)
_FORWARD_REPLY: Final = msgspec.msgpack.Decoder(ForwardReply)
_PULL: Final = msgspec.msgpack.Decoder(Pull)
_CHUNK: Final = msgspec.msgpack.Decoder(Chunk)

_KINDS: Final[dict[type[Payload], FrameKind]] = {
    Hello: FrameKind.HELLO,
    Forward: FrameKind.FORWARD,
    ForwardReply: FrameKind.FORWARD_REPLY,
    Pull: FrameKind.PULL,
    Chunk: FrameKind.CHUNK,
}


# To bytes.


def encode_message(message: Message) -> bytes:
    """Return the frame of `message`; the same bytes for every peer."""
    return encode_frame(_MESSAGE_KIND, _GROUP, _encode(message))


def encode_payload(payload: Payload) -> bytes:
    """Return the frame of a greeting, a forwarded request, its reply, or a chunk of a snapshot."""
    return encode_frame(_KINDS[type(payload)], _GROUP, _encode(payload))


def encode_refusal(text: str, *, line_end: bool = False) -> bytes:
    """Return the frame that tells the peer the reason for closing the connection.

    With `line_end` it ends like a line and header of text protocols: a server of such a protocol answers it.
    """
    return encode_frame(FrameKind.REFUSE, _GROUP, _encode(Refuse(_readable(text) + ("\r\n\r\n" if line_end else ""))))


# From bytes.


def decode(frame: Frame) -> WireValue:
    """Return the frame's value, checked. Raise `FrameError`, and nothing else."""
    group, kind = int(frame.group), frame.kind
    if group != _NO_GROUP:
        raise FrameError(f"a frame is for group {group}, and this node has only group 0")
    if kind == _MESSAGE_KIND:
        message = _decoded(_MESSAGE, frame.payload, "a message")
        _check_message(message)
        return message
    if kind == FrameKind.HELLO:
        hello = _decoded(_HELLO, frame.payload, "a hello")
        _check_hello(hello)
        return hello
    if kind == FrameKind.REFUSE:
        return Refuse(_readable(_decoded(_REFUSE, frame.payload, "a refusal").text))
    if kind == FrameKind.FORWARD:
        forward = _decoded(_FORWARD, frame.payload, "a forwarded request")
        _check_forward(forward)
        return forward
    if kind == FrameKind.FORWARD_REPLY:
        reply = _decoded(_FORWARD_REPLY, frame.payload, "an answer to a forwarded request")
        _check_forward_reply(reply)
        return reply
    if kind == FrameKind.PULL:
        pull = _decoded(_PULL, frame.payload, "a pull")
        _require(_fits(pull.index | pull.term | pull.offset | pull.length), "a number in a pull is out of range")
        return pull
    if kind == FrameKind.CHUNK:
        chunk = _decoded(_CHUNK, frame.payload, "a chunk")
        _check_chunk(chunk)
        return chunk
    raise FrameError(f"a frame is of kind {kind}, which this version does not know")


def decode_version(payload: bytes) -> int:
    """Return the version of a hello of any version, past or future. Raise `FrameError` if it has none."""
    return _decoded(_VERSION, payload, "a hello").version


_Decoded = TypeVar("_Decoded")


def _decoded(decoder: msgspec.msgpack.Decoder[_Decoded], payload: bytes, what: str) -> _Decoded:
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, OverflowError) as failure:
        raise FrameError(f"{what} does not decode: {failure}") from None
    except RecursionError:
        raise FrameError(f"{what} does not decode: it is nested too deeply") from None


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise FrameError(text)


def _fits(numbers: int) -> bool:
    """Check numbers joined by `|`: none is negative, and none needs more than 63 bits."""
    return 0 <= numbers <= MAX_INT63


# Checks of messages; hottest first.


def _check_message(message: Message) -> None:
    kind = type(message)
    if kind is _AppendEntries:
        _check_append(message)  # type: ignore[arg-type]
    elif kind is _AppendReply:
        _check_append_reply(message)  # type: ignore[arg-type]
    else:
        _check_rare(message)
    if message.sender <= 0:
        raise FrameError("a message names no sender")


def _check_append(request: AppendEntries) -> None:
    fields: AppendFields = _fields_of(request)
    last, sender, number, purpose, index, term, commit, read, entries, tip, time = fields
    numbers = last | sender | number | index | term | commit | read | tip | time
    if not 0 <= numbers <= MAX_INT63:
        raise FrameError("a number in an append is out of range")
    if term > last:
        raise FrameError("an append names a position of a later term than its own")
    if not entries:
        return
    if purpose is not _DATA:
        raise FrameError("a heartbeat or an announcement carries entries")
    if index + len(entries) > MAX_INT63:
        raise FrameError("an entry's index is out of range")
    plain = follow_in_order(entries, index, term) and all_commands(entries) and first_mismatch(entries) is None
    if not plain or entries[-1].term > last:
        _check_each(entries, index, term, last)


def _check_each(entries: tuple[Entry, ...], index: Index, term: Term, last: Term) -> None:
    """Check entries that are not plain commands one by one. Raise `FrameError` for the first one that is wrong."""
    for entry in entries:
        here, its_term, kind = entry.index, entry.term, entry.kind
        if here != index + 1:
            raise FrameError(f"entry {here} follows {index} in an append")
        if not term <= its_term <= last:
            raise FrameError(f"entry {here} has term {its_term}, which cannot stand at its place")
        if not checksum_matches(kind, entry.data, entry.checksum):
            raise FrameError(f"the checksum of entry {here} does not match what the entry says")
        if kind is not COMMAND:
            _check_special(entry)
        index, term = here, its_term


def _check_special(entry: Entry) -> None:
    if entry.kind is MEMBERS:
        _check_members_entry(entry)
    elif entry.data:
        raise FrameError(f"entry {entry.index} is a no-op with data")


def _check_members_entry(entry: Entry) -> None:
    try:
        members = Members.decode(entry.data)
    except (MembersUndecodable, ValueError, OverflowError, RecursionError) as failure:
        raise FrameError(f"the configuration in entry {entry.index} does not decode: {failure}") from None
    _check_members(members)


def _check_members(members: Members) -> None:
    problem = members.problem()
    _require(problem is None, f"a configuration is wrong: {problem}")
    _require(bool(members.voters), "a configuration has no voters")
    _require(_fits(members.highest_id), "a node id is out of range")  # it bounds all others
    for _, incarnation in members.incarnations:
        _require(_fits(incarnation), "an incarnation is out of range")


def _check_append_reply(reply: AppendReply) -> None:
    fields: AppendReplyFields = _fields_of(reply)
    term, sender, incarnation, number, _, read, match, rejected, hint_index, hint_term, _, lease = fields
    numbers = term | sender | incarnation | number | read | match | rejected | hint_index | hint_term | lease
    if not 0 <= numbers <= MAX_INT63:
        raise FrameError("a number in a reply is out of range")


def _check_rare(message: Message) -> None:
    numbers = message.term | message.sender | message.id
    if isinstance(message, RequestVote):
        numbers |= message.last.index | message.last.term
        _require(message.last.term <= message.term, "a candidate's log is of a later term than its election")
    elif isinstance(message, VoteReply):
        numbers |= message.incarnation
    elif isinstance(message, SnapshotReply):
        numbers |= message.incarnation | message.index | message.match
    elif isinstance(message, ReadIndexReply):
        numbers |= message.index
    elif isinstance(message, InstallSnapshot):
        numbers |= message.time
        _check_snapshot(message.meta)
        _require(message.meta.term <= message.term, "a snapshot is of a later term than its leader")
    elif isinstance(message, TimeoutNow | TransferRefused | ReadIndex | AppendEntries | AppendReply):
        pass  # the first three have no more fields; the last two are checked above
    else:
        assert_never(message)
    _require(_fits(numbers), "a number in a message is out of range")


def _check_snapshot(meta: SnapshotMeta) -> None:
    _require(_fits(meta.index | meta.term | meta.members_index), "a number of a snapshot is out of range")
    _require(meta.index > 0, "a snapshot stands for nothing")
    _require(meta.members_index <= meta.index, "a snapshot's configuration is younger than the snapshot")
    _check_members(meta.members)


# Checks of other payloads.


def _check_hello(hello: Hello) -> None:
    numbers = hello.version | hello.sender | hello.incarnation | hello.to | hello.to_incarnation | hello.highest
    _require(_fits(numbers), "a number in a hello is out of range")
    _require(hello.sender > 0, "a hello names no sender")
    founders = hello.founders
    _require(founders == tuple(sorted(set(founders))), "the founders in a hello are not sorted")
    problem = features_problem(hello.features)
    _require(problem is None, f"a hello is wrong: {problem}")
    problem = metadata_problem(hello.metadata)
    _require(problem is None, f"a hello is wrong: {problem}")
    for node in (*founders, *(node for node, _ in hello.known)):
        _require(0 < node <= MAX_INT63, "a node id in a hello is out of range")
    if hello.founding:
        try:
            _check_members(Members.decode(hello.founding))
        except (ValueError, OverflowError, RecursionError) as failure:
            raise FrameError(f"the founding members in a hello do not decode: {failure}") from None


def _check_forward(forward: Forward) -> None:
    _require(_fits(forward.id | forward.budget), "a number in a forwarded request is out of range")
    request = forward.request
    if isinstance(request, ChangeMembership):
        # An invalid node id is an operator's mistake: the leader's answer says so, and the link lives.
        _require(_fits(request.expected), "a number in a forwarded change is out of range")
        for change in request.changes:
            _require(-MAX_INT63 <= change.node <= MAX_INT63, "a node id is out of range")
            _require(isinstance(change, RemoveNode) or _fits(change.incarnation), "an incarnation is out of range")
        problem = features_problem(request.features)
        _require(problem is None, f"a forwarded change is wrong: {problem}")
    elif isinstance(request, TransferLeadership):
        _require(-MAX_INT63 <= request.to <= MAX_INT63, "a node id is out of range")
    elif isinstance(request, Propose | LeaveJoint):
        pass
    else:
        assert_never(request)


def _check_forward_reply(reply: ForwardReply) -> None:
    _require(_fits(reply.id | reply.leader | reply.index), "a number in an answer is out of range")
    given = (reply.result is not None) + (reply.refused is not None) + (reply.unknown is not None)
    _require(given == 1, "an answer must be one of a result, a refusal and an uncertainty")


def _check_chunk(chunk: Chunk) -> None:
    _require(_fits(chunk.index | chunk.term | chunk.offset | chunk.size), "a number in a chunk is out of range")
    if chunk.gone:
        _require(not chunk.data, "a chunk of a snapshot that is gone has bytes")
        return
    _require(chunk.offset + len(chunk.data) <= chunk.size, "a chunk reaches beyond the end of its snapshot")


def _readable(text: str) -> str:
    """Return text from a peer in a form fit for one line of a log."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:MAX_REFUSAL])
