"""Bytes that no peer sends: damaged frames, wrong greetings, invalid contents, harmless lies.

`ODDITIES` are functions that make the bytes of one rogue peer on one connection. Each returns a list of pieces to send;
an empty one if it has nothing for this node. Every wrong number is within reach of a careful check. A rogue peer that
lies plausibly about votes or entries is beyond any protocol without signatures, and is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from struct import Struct
from typing import Final, TypeAlias, final

import attrs
import msgspec

from raft_core.entries import LogPosition, SnapshotMeta
from raft_core.ids import MAX_INT63, GroupId, Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.membership import AddVoter, Members, RemoveNode
from raft_core.messages import (
    DATA,
    HEARTBEAT,
    AppendEntries,
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
from raft_core.node.status import NodeStatus
from raft_core.requests import ChangeMembership, Propose, TransferLeadership
from raft_core.sessions import Sequence, SessionId, encode_command
from raft_core.settings import Settings
from raft_core.wire.codec import encode_message, encode_payload, encode_refusal
from raft_core.wire.frames import FrameKind, encode_frame
from raft_core.wire.handshake import Limits
from raft_core.wire.payloads import WIRE_VERSION, Chunk, Forward, ForwardReply, Hello, Pull
from raft_testing.rng import Rng

__all__ = ["ODDITIES", "Oddity", "Victim", "late_answer"]

_HEADER: Final = Struct("<HBBIIII")
_CRC: Final = Struct("<I")
_GROUP: Final = GroupId(0)
_HUGE: Final = 1 << 63
_FAR: Final = 1 << 40


@final
@attrs.frozen
class Victim:
    """Whom a stranger talks to, and under which number it does."""

    status: NodeStatus
    stranger: NodeId
    settings: Settings

    @property
    def term(self) -> Term:
        """The node's term."""
        return self.status.term

    @property
    def formed(self) -> bool:
        """True if the node knows the members."""
        return self.status.core is not None and not self.status.core.members.empty

    def hello(self, **other: object) -> bytes:
        """Return a valid greeting, except for the fields in `other`."""
        cluster, features = self.status.identity.cluster, self.status.features
        disk = Incarnation(self.stranger)
        greeting = Hello(WIRE_VERSION, cluster, self.stranger, disk, formed=False, features=features)
        return encode_payload(msgspec.structs.replace(greeting, **other))


Oddity: TypeAlias = Callable[[Victim, Rng], list[bytes]]


# What is no frame.


def noise(victim: Victim, rng: Rng) -> list[bytes]:
    return [rng.random.randbytes(1 + rng.below(400)) for _ in range(1 + rng.below(3))]


def another_protocol(victim: Victim, rng: Rng) -> list[bytes]:
    return [
        rng.choice((b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\xf5", b"\xf5S", b"*1\r\n$4\r\nPING\r\n"))
    ]


def nothing_at_all(victim: Victim, rng: Rng) -> list[bytes]:
    return [b"\xf5"] if rng.chance(0.5) else [b""]


def half_a_frame(victim: Victim, rng: Rng) -> list[bytes]:
    frame = victim.hello()
    return [frame[: 1 + rng.below(len(frame) - 1)]]


def damaged_frame(victim: Victim, rng: Rng) -> list[bytes]:
    frame = bytearray(victim.hello())
    frame[rng.below(len(frame))] ^= 1 << rng.below(8)
    return [bytes(frame)]


def damage_after_the_greeting(victim: Victim, rng: Rng) -> list[bytes]:
    frame = bytearray(encode_message(ReadIndex(victim.term, victim.stranger, MessageId(1))))
    frame[rng.below(len(frame))] ^= 1 << rng.below(8)
    return _after_greeting(victim, bytes(frame))


def a_frame_too_large(victim: Victim, rng: Rng) -> list[bytes]:
    frame = victim.hello()
    magic, kind, flags, group, _, crc, _ = _HEADER.unpack_from(frame)
    if rng.chance(0.5):
        return [_sealed(magic, kind, flags, group, Limits().max_hello + 1, crc)]
    most = Limits.of(victim.settings).max_frame
    return _after_greeting(victim, _sealed(magic, FrameKind.MESSAGE, flags, group, most + 1, crc))


def _sealed(*fields: int) -> bytes:
    """Return a frame's header with a valid checksum of its own."""
    head = _HEADER.pack(*fields, 0)[: -_CRC.size]
    return head + _CRC.pack(zlib.crc32(head))


# Greetings.


def no_greeting(victim: Victim, rng: Rng) -> list[bytes]:
    return [encode_message(ReadIndex(victim.term, victim.stranger, MessageId(1)))]


def a_refusal(victim: Victim, rng: Rng) -> list[bytes]:
    refusal = encode_refusal("I do not\nlike you")
    return [refusal] if rng.chance(0.5) else _after_greeting(victim, refusal)


def another_version(victim: Victim, rng: Rng) -> list[bytes]:
    payload = msgspec.msgpack.encode([WIRE_VERSION + 1 + rng.below(5), {"of": "another shape"}])
    return [encode_frame(FrameKind.HELLO, _GROUP, payload)]


def another_cluster(victim: Victim, rng: Rng) -> list[bytes]:
    return [victim.hello(cluster="another" if rng.chance(0.5) else "another" * 20)]


def the_wrong_address(victim: Victim, rng: Rng) -> list[bytes]:
    return [victim.hello(to=NodeId(victim.status.node + 1))]


def your_own_name(victim: Victim, rng: Rng) -> list[bytes]:
    return [victim.hello(sender=victim.status.node)]


def your_disk_is_another(victim: Victim, rng: Rng) -> list[bytes]:
    """Address another disk of the node. One without a cluster must believe it, and end: leave it out."""
    if not victim.formed:
        return []
    return [victim.hello(to=victim.status.node, to_incarnation=Incarnation(victim.status.identity.incarnation + 1))]


def a_member_on_another_disk(victim: Victim, rng: Rng) -> list[bytes]:
    core = victim.status.core
    if core is None or not core.members.incarnations:
        return []
    node, disk = rng.choice(core.members.incarnations)
    return [victim.hello(sender=node, incarnation=Incarnation(disk + 1))]


def a_greeting_that_is_none(victim: Victim, rng: Rng) -> list[bytes]:
    payload = rng.choice((b"", b"\x80", b"\x91" * 3000, b"\x92\x01\xc0", rng.random.randbytes(40), b"\x91\xa1x"))
    return [encode_frame(FrameKind.HELLO, _GROUP, payload)]


def two_greetings(victim: Victim, rng: Rng) -> list[bytes]:
    return _after_greeting(victim, victim.hello())


def a_friend_who_says_nothing_more(victim: Victim, rng: Rng) -> list[bytes]:
    """Greet as a friend and then say nothing. It may even tell an address at which no node answers."""
    known = (
        (NodeId(victim.stranger + 50_000), "n0:1"),
        (victim.status.node, "n0:2"),
        (NodeId(victim.stranger + 1), ""),
    )
    return [victim.hello(address=rng.choice(("", "n0:1", "n" * 301)), known=known)]


# After a greeting.


def _after_greeting(victim: Victim, *frames: bytes) -> list[bytes]:
    return [victim.hello(), *frames]


def an_unknown_frame(victim: Victim, rng: Rng) -> list[bytes]:
    if rng.chance(0.5):
        return _after_greeting(victim, encode_frame(99, _GROUP, b"\x90"))
    return _after_greeting(victim, encode_frame(FrameKind.MESSAGE, GroupId(5), b"\x90"))


def contents_that_do_not_decode(victim: Victim, rng: Rng) -> list[bytes]:
    kind = rng.choice([kind for kind in FrameKind if kind is not FrameKind.HELLO])
    payload = rng.choice((b"", b"\xc1", b"\x94\x07\x01\x02", b"\x91" * 5000, rng.random.randbytes(60)))
    return _after_greeting(victim, encode_frame(kind, _GROUP, payload))


def in_the_name_of_another(victim: Victim, rng: Rng) -> list[bytes]:
    message = ReadIndex(victim.term, NodeId(1), MessageId(1))
    return _after_greeting(victim, encode_message(message))


def answers_to_nothing(victim: Victim, rng: Rng) -> list[bytes]:
    """Send valid messages of this term, as a node without any part in the cluster."""
    term, me, disk, number = victim.term, victim.stranger, Incarnation(victim.stranger), MessageId(1)
    said: list[Message] = [
        AppendReply(term, me, disk, number, DATA, ReadId(0), Index(_FAR)),
        AppendReply(term, me, disk, number, DATA, ReadId(0), Index(0), Index(9), Index(8), Term(1), ok=False),
        VoteReply(term, me, disk, number, VoteKind.REAL, granted=True),
        VoteReply(Term(term + 1), me, disk, number, VoteKind.PRE, granted=True),
        SnapshotReply(term, me, disk, number, Index(3), Index(3), ok=True),
        TransferRefused(term, me, number),
        ReadIndex(term, me, number),
        ReadIndexReply(term, me, number, Index(_FAR), ok=True),
        TimeoutNow(term, me, number),
    ]
    return _after_greeting(victim, *[encode_message(message) for message in rng.some(said, 0.5)])


def numbers_at_the_end(victim: Victim, rng: Rng) -> list[bytes]:
    """Send messages with the highest possible numbers: none may end a cluster."""
    term, me, disk, number = (
        Term(MAX_INT63),
        victim.stranger,
        Incarnation(MAX_INT63),
        MessageId(MAX_INT63),
    )
    now, read, far, none = victim.term, ReadId(MAX_INT63), Index(MAX_INT63), Index(0)
    members = Members.initial((1,))
    said: list[Message] = [
        VoteReply(term, me, disk, number, VoteKind.REAL, granted=False),
        VoteReply(Term(now + 1), me, disk, number, VoteKind.REAL, granted=False),
        VoteReply(term, me, disk, number, VoteKind.PRE, granted=True),
        AppendReply(term, me, disk, number, DATA, read, far, far, far, term, ok=False),
        AppendReply(now, me, disk, number, HEARTBEAT, read, far),
        SnapshotReply(term, me, disk, number, far, far, ok=False),
        RequestVote(term, me, number, VoteKind.REAL, LogPosition(far, Term(term - 1))),
        RequestVote(term, me, number, VoteKind.TRANSFER, LogPosition(far, Term(term - 1))),
        AppendEntries(term, me, number, HEARTBEAT, none, Term(0), none, read, (), far),
        AppendEntries(now, me, number, HEARTBEAT, far, now, far, read, (), far),
        AppendEntries(term, me, number, DATA, far, term, far, read),
        InstallSnapshot(term, me, number, SnapshotMeta(far, term, members, far)),
        TimeoutNow(term, me, number),
        TransferRefused(term, me, number),
        ReadIndex(term, me, number),
        ReadIndexReply(term, me, number, far, ok=True),
    ]
    return _after_greeting(victim, *[encode_message(message) for message in rng.some(said, 0.5)])


def requests_that_are_refused(victim: Victim, rng: Rng) -> list[bytes]:
    """Send valid forwards to be refused, and a reply without a request."""
    unknown = encode_command(SessionId(1 << 40), Sequence(1), Sequence(1), b"of a session that never was")
    payloads: tuple[Forward | ForwardReply, ...] = (
        Forward(1, 1, Propose(unknown)),
        Forward(2, 0, Propose(unknown)),
        Forward(3, 0, Propose(bytes(victim.settings.max_entry_bytes + 1))),
        Forward(4, 0, ChangeMembership((AddVoter(NodeId(0)),))),
        Forward(5, 0, ChangeMembership((RemoveNode(NodeId(0)), RemoveNode(NodeId(0))))),
        Forward(6, 0, TransferLeadership(victim.stranger)),
        Forward(7, 0, TransferLeadership(NodeId(-1))),
        ForwardReply(1 << 50, result=b"yes"),
    )
    return _after_greeting(victim, *[encode_payload(payload) for payload in rng.some(payloads, 0.4)])


def pieces_of_snapshots(victim: Victim, rng: Rng) -> list[bytes]:
    """Pull data that does not exist, or too much of it; send chunks without a pull."""
    core = victim.status.core
    place = (Index(1), Term(1)) if core is None else (core.snapshot_index, victim.term)
    payloads: tuple[Pull | Chunk, ...] = (
        Pull(Index(0), Term(0), 0, 100),
        Pull(Index(0), Term(0), 0, 0),
        Pull(Index(-1), Term(0), 0, 0),
        Pull(Index(_FAR), Term(3), 0, 100),
        Pull(*place, 0, 100),
        Pull(*place, _FAR, 100),
        Chunk(Index(7), Term(1), 0, 10, b"0123456789"),
        Chunk(Index(7), Term(1), 0, 10, b"", gone=True),
        Chunk(Index(0), Term(0), 0, 0, b"", gone=True),
        Chunk(Index(7), Term(1), 0, 10, b"01", gone=True),
        Chunk(Index(7), Term(1), 5, 10, b"0123456789"),
        Chunk(Index(-7), Term(1), 0, 10, b""),
    )
    said = [encode_payload(payload) for payload in rng.some(payloads, 0.3)]
    return _after_greeting(victim, *said * rng.choice((1, 1, 20)))


def late_answer(term: Term, sender: NodeId, rng: Rng) -> Message:
    """Return a reply of this term to a forgotten question, or an offer of an earlier leader.

    It is so late that it has no effect on any node.
    """
    disk, number = Incarnation(0), MessageId(1)
    offer = InstallSnapshot(Term(term - 1), sender, number, SnapshotMeta(Index(1), Term(1), Members.initial((1,))))
    if term > 1 and rng.chance(0.2):
        return offer
    said: tuple[Message, ...] = (
        AppendReply(term, sender, disk, number, DATA, ReadId(0), Index(0)),
        SnapshotReply(term, sender, disk, number, Index(0), Index(0), ok=False),
        TransferRefused(term, sender, number),
        ReadIndex(term, sender, number),
        ReadIndexReply(term, sender, number, Index(0), ok=False),
    )
    return rng.choice(said)


ODDITIES: Final[tuple[Oddity, ...]] = (
    noise,
    another_protocol,
    nothing_at_all,
    half_a_frame,
    damaged_frame,
    damage_after_the_greeting,
    a_frame_too_large,
    no_greeting,
    a_refusal,
    another_version,
    another_cluster,
    the_wrong_address,
    your_own_name,
    your_disk_is_another,
    a_member_on_another_disk,
    a_greeting_that_is_none,
    two_greetings,
    a_friend_who_says_nothing_more,
    an_unknown_frame,
    contents_that_do_not_decode,
    in_the_name_of_another,
    answers_to_nothing,
    numbers_at_the_end,
    numbers_at_the_end,
    requests_that_are_refused,
    pieces_of_snapshots,
)
