"""The targets: every reader of bytes from a peer, a client or a disk. `TARGETS` has them by name.

A checksum stops nearly all mutations at the door. So where there is one, the contents are mutated and sealed anew:
such input is what a defect or an attacker could send, and it reaches the code behind.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from typing import Final
from unittest import mock

import msgspec

from raft_core.backup_format import BackupDamaged, BackupHeader, BackupReader
from raft_core.entries import COMMAND, MEMBERS, Entry, HardState, LogPosition, SnapshotMeta
from raft_core.errors import DiskError
from raft_core.ids import ClusterId, GroupId, Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.membership import AddLearner, Members
from raft_core.messages import (
    DATA,
    HEARTBEAT,
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    ReadIndex,
    RequestVote,
    TimeoutNow,
    VoteKind,
    VoteReply,
)
from raft_core.raft import Raft
from raft_core.requests import ChangeMembership, Propose
from raft_core.wal.blocks import NOWHERE, Position, frame_batch
from raft_core.wal.layout import Anchor, IdentityFile, segment_name
from raft_core.wal.reader import WalReader
from raft_core.wal.records import FORMAT_VERSION, MAGIC, Change, SegmentHeader, encode
from raft_core.wal.recovery import plan_recovery
from raft_core.wal.snapshot_file import SnapshotFileReader, SnapshotFileWriter, SnapshotHeader
from raft_core.wire import (
    WIRE_VERSION,
    Chunk,
    Forward,
    ForwardReply,
    Frame,
    FrameKind,
    FrameReader,
    Greeted,
    Hello,
    Limits,
    Link,
    LinkBroken,
    MessageReceived,
    Pull,
    encode_frame,
    encode_message,
    encode_payload,
)
from raft_kv import client_session_values as effects
from raft_kv import log_format
from raft_kv.client_session import Session
from raft_kv.commands import TABLE
from raft_kv.health.http_session import MOST_HEAD, HttpAnswer, HttpSession
from raft_kv.resp_parser import RequestLimits, RequestParser
from raft_kv.snapshot_format import SnapshotUnreadable, count_keys, read_snapshot
from raft_kv.state_machine import KeyValueMachine
from raft_kv.users import passwords
from raft_kv.users.access import Access
from raft_testing.disk.crash_disk import CrashDisk
from tests.fuzz import tls_target
from tests.fuzz.engine import Target

__all__ = ["TARGETS"]

_THREE: Final = Members.initial([1, 2, 3])
_META: Final = SnapshotMeta(Index(9), Term(4), _THREE, Index(2))
_LIMITS: Final = Limits(max_frame=64 * 1024, max_hello=4096)
_ONE: Final = Hello(
    WIRE_VERSION, ClusterId("blue"), NodeId(1), Incarnation(11), NodeId(2), Incarnation(22), True, (), "h:1",
    ((NodeId(3), "h:3"),), _THREE.encode(),
)  # fmt: skip
_TWO: Final = Hello(WIRE_VERSION, ClusterId("blue"), NodeId(2), Incarnation(22))
_ENTRIES: Final = (
    Entry.make(1, 1, _THREE.encode(), MEMBERS),
    Entry.make(2, 1, b"command" * 3, COMMAND),
    Entry.make(3, 2),
)
_AT: Final = LogPosition(Index(3), Term(2))
_MESSAGES: Final = (
    RequestVote(Term(3), NodeId(1), MessageId(1), VoteKind.REAL, _AT),
    RequestVote(Term(3), NodeId(1), MessageId(1), VoteKind.PRE, _AT),
    VoteReply(Term(3), NodeId(1), Incarnation(0), MessageId(1), VoteKind.REAL, True),
    AppendEntries(
        Term(2), NodeId(1), MessageId(1), DATA, Index(1), Term(1), Index(2), ReadId(1), _ENTRIES[1:], Index(3), 10**18
    ),
    AppendEntries(Term(2), NodeId(1), MessageId(2), HEARTBEAT, Index(0), Term(0), Index(1), ReadId(2)),
    AppendReply(Term(2), NodeId(1), Incarnation(0), MessageId(1), DATA, ReadId(1), Index(3)),
    InstallSnapshot(Term(4), NodeId(1), MessageId(3), _META, 10**18),
    ReadIndex(Term(2), NodeId(1), MessageId(4)),
    TimeoutNow(Term(2), NodeId(1), MessageId(5)),
)
_PAYLOADS: Final = (
    _ONE,
    Forward(7, 10**9, Propose(b"x" * 20)),
    Forward(8, 0, ChangeMembership((AddLearner(NodeId(4)),))),
    ForwardReply(7, b"result"),
    Pull(Index(9), Term(4), 0, 1000),
    Chunk(Index(9), Term(4), 0, 10, b"0123456789"),
)


def _cuts(data: bytes) -> Iterator[bytes]:
    """Cut the input into parts. Its first byte says how, so that mutations change the cuts too."""
    step = (1, 3, 17, 100, 1 << 20)[data[0] % 5] if data else 1
    if len(data) > 2000:
        step = max(step, 100)
    for start in range(1, len(data), step):
        yield data[start : start + step]


# Peers.


def _greeted() -> Link:
    link = Link(_TWO, dialer=False, limits=_LIMITS)
    (event,) = link.receive(encode_payload(_ONE))
    assert isinstance(event, Greeted)
    return link


def _frames(data: bytes) -> None:
    """A stream of frames on an open connection, however it arrives."""
    link = _greeted()
    for part in _cuts(data):
        link.receive(part)


def _handshake(data: bytes) -> None:
    """The first bytes of a connection, at both of its ends; the answer to a refusal can be encoded."""
    for dialer in (True, False):
        link = Link(_TWO, dialer=dialer, peer=NodeId(1) if dialer else NodeId(0), limits=_LIMITS)
        for part in _cuts(data):
            for event in link.receive(part):
                if isinstance(event, LinkBroken):
                    link.refusal(event)
                elif isinstance(event, Greeted):
                    link.hello()


def _payload(data: bytes) -> None:
    """The contents of one frame with a right checksum, its kind first, on a greeted connection."""
    if data:
        _greeted().receive(encode_frame(data[0], GroupId(0), data[1:]))


def _first(data: bytes) -> None:
    """The same as the first frame, a greeting."""
    Link(_TWO, dialer=False, limits=_LIMITS).receive(encode_frame(FrameKind.HELLO, GroupId(0), data))


def _core(data: bytes) -> None:
    """A message of a peer that does whatever it likes reaches the core, which must not raise."""
    raft = Raft.bootstrap(NodeId(2), _THREE, seed=1)
    raft.step()
    place = 0
    while place + 3 <= len(data):
        length = int.from_bytes(data[place + 1 : place + 3], "big")
        frame = encode_frame(data[place], GroupId(0), data[place + 3 : place + 3 + length])
        place += 3 + length
        for event in _greeted().receive(frame):
            if isinstance(event, MessageReceived) and not raft.stopped:
                raft.step(event.message)


def _contents(frames: bytes) -> list[bytes]:
    """The kind and the payload of each frame."""
    reader = FrameReader(max_first=1 << 16, max_later=1 << 16)
    return [bytes([frame.kind]) + frame.payload for frame in reader.feed(frames) if isinstance(frame, Frame)]


_MESSAGE_BYTES: Final = [encode_message(message) for message in _MESSAGES]
_PAYLOAD_BYTES: Final = [encode_payload(payload) for payload in _PAYLOADS]
_CONTENTS: Final = [each for frames in (*_MESSAGE_BYTES, *_PAYLOAD_BYTES) for each in _contents(frames)]
_SHORT: Final = [each[:1] + (len(each) - 1).to_bytes(2, "big") + each[1:] for each in _CONTENTS[: len(_MESSAGES)]]

# The disk.

_IDENTITY: Final = IdentityFile(ClusterId("c"), NodeId(1), Incarnation(7))
_HEADER: Final = SegmentHeader(
    MAGIC, FORMAT_VERSION, 1, ClusterId("c"), NodeId(1), Incarnation(7), 1, NOWHERE, Index(1), Index(1),  # type: ignore[arg-type]
    HardState(), None,
)  # fmt: skip
_CHANGES: Final = (
    Change(hard=HardState(Term(2), NodeId(3), Index(1)), entries=_ENTRIES),
    Change(truncate_from=Index(3)),
    Change(entries=(Entry.make(3, 3, b"again"),), drop_before=Index(2)),
)


def _batches(*payloads: bytes) -> bytes:
    """A segment of these payloads, each sealed as one batch."""
    data = b""
    for payload in payloads:
        data += frame_batch(payload, Position(1, len(data)), Position(1, len(data)))
    return data


def _wal(data: bytes) -> None:
    """The bytes of a segment, however they are read."""
    reader = WalReader(1)
    for part in _cuts(data):
        reader.feed(part)
    _ = reader.verdict


def _records(data: bytes) -> None:
    """Records with right checksums: the recovery of a log whose batches hold what it was not written for."""
    cut = data[0] * len(data) // 256 if data else 0
    segment = _batches(data[1:cut], data[cut:]) if cut > 1 else _batches(data[1:])
    files = {segment_name(1): segment + bytes(1024)}
    for anchor in (Anchor(1, NOWHERE), Anchor(1, Position(1, len(segment)))):  # type: ignore[arg-type]
        with suppress(DiskError):
            plan_recovery(list(files), files.__getitem__, _IDENTITY, anchor, merge_bytes=1 << 20)


def _snapshot_bytes(state: bytes, header: SnapshotHeader) -> bytes:
    disk = CrashDisk()
    file = disk.create("snapshot")
    writer = SnapshotFileWriter(file, header, rewrite=False)
    writer.write(state)
    writer.finish()
    file = disk.open("snapshot")
    return file.read_at(0, file.size())


def _snapshot(data: bytes) -> None:
    """The bytes of a snapshot file; with an odd first byte, its header is sealed anew."""
    body = data[1:]
    if data and data[0] % 2:
        head = body[:16]
        end = 20 + int.from_bytes(head[12:16], "little") % (1 << 16)
        body = head + zlib.crc32(body[20:end], zlib.crc32(head)).to_bytes(4, "little") + body[20:]
    file = CrashDisk().create("snapshot")
    if body:
        file.write_at(0, body)
    with suppress(DiskError):
        reader = SnapshotFileReader(file)
        reader.read(0, 1000)
        reader.verify()


def _sealed_header(body: bytes) -> bytes:
    """Return the header of a backup with these contents, whatever they are, and the right checksum."""
    head = struct.pack("<8sII", b"RAFTBACK", 1, len(body))
    return head + blake2b(head + body, digest_size=16).digest() + body


def _backup(data: bytes) -> None:
    """The bytes of a backup; with an odd first byte they are the contents of a header with the right checksum."""
    reader = BackupReader()
    with suppress(BackupDamaged):
        if data and data[0] % 2:
            reader.feed(_sealed_header(data[1:]) + bytes(600))
        for part in _cuts(data):
            reader.feed(part)
        reader.close()


_BACKUP_HEADER: Final = BackupHeader(ClusterId("c"), NodeId(1), Incarnation(7), _META, 10, "program 1", 4)
_BACKUP: Final = b"".join(
    _BACKUP_HEADER.piece(number, state) for number, state in enumerate((b"", b"0123", b"4567", b"89", b""))
)

# The key-value server.

_COMMANDS: Final = (
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    b'SET key "a value"\r\nGET key\r\nPING\r\n',
    b"*1\r\n$5\r\nMULTI\r\n*3\r\n$6\r\nAPPEND\r\n$1\r\nk\r\n$2\r\nxy\r\n*1\r\n$4\r\nEXEC\r\n",
    b"HELLO 3\r\nCLIENT LIST\r\nINFO\r\nRAFT STATUS\r\nCOMMAND DOCS get\r\n",
    b"SCAN 0 MATCH a*b?[c-d] COUNT 10\r\nKEYS *\r\nSETRANGE k 100 x\r\nINCRBY n 5\r\nEXPIRE k 10 NX\r\n",
    b"RAFT SESSION\r\nRAFT ONCE 1 1 SET k v\r\nWATCH k\r\nEVAL x 0\r\nMSET a 1 b 2\r\nDELEX k IFEQ v\r\n",
    b"ACL SETUSER root on >pw ~* +@all\r\nAUTH root pw\r\nACL SETUSER a on nopass %R~a* -@all +get\r\nACL LOG\r\n",
    b"RAFT BACKUP OPEN 1 2\r\nRAFT BACKUP READ 1 2 3\r\nRAFT ADD 4 h:1 LEARNER\r\nCLIENT KILL ID 3\r\n",
)
_WORDS: Final = (
    b"\r\n", b"$-1\r\n", b"*-1\r\n", b"*1\r\n", b"$0\r\n\r\n", b"SET", b"GET", b"MGET", b"APPEND", b"SETRANGE", b"SCAN",
    b"KEYS", b"MULTI\r\n", b"EXEC\r\n", b"WATCH", b"EXPIREAT", b"PX", b"KEEPTTL", b"IFEQ", b"RAFT", b"ONCE", b"CLIENT",
    b"CONFIG GET", b"HELLO", b"EVALSHA", b"SCRIPT LOAD", b"GETRANGE", b"INCRBY", b"RENAME", b"COUNT", b"MATCH", b"*",
    b"ACL SETUSER", b"AUTH", b"~*", b"+@all", b"%RW~", b"resetpass", *sorted(TABLE),
)  # fmt: skip
_REQUESTS: Final = RequestLimits(bulk_bytes=4096, request_bytes=16 * 1024)


def _resp(data: bytes) -> None:
    """The parser, with input cut anywhere; it holds no more than its limits allow."""
    parser = RequestParser(_REQUESTS)
    for part in _cuts(data):
        parser.feed(part)
    assert parser.held_bytes <= 4 * _REQUESTS.request_bytes


def _cheap_hash(password: bytes, salt: bytes, *_costs: int) -> bytes:
    """The hash of a password, without what makes it slow."""
    return blake2b(password, salt=salt[:16], digest_size=32).digest()


def _session(data: bytes) -> None:
    """A client of a server of one: its session, the log's format and the state machine behind it."""
    machine = KeyValueMachine()
    session = Session(1, effects.SessionLimits(requests=_REQUESTS), access=Access(machine))
    index = 0
    for part in _cuts(data):
        orders = session.receive(part, 1000)
        while orders and not isinstance(orders[-1], effects.Send | effects.Close):
            order = orders[-1]
            if isinstance(order, effects.Propose):
                index += 1
                entry = machine.prepare_with_wall(order.command, 10**15, 10**18)
                orders = session.answered(machine.apply(Index(index), entry), 1000)
            elif isinstance(order, effects.Read):
                orders = session.answered(machine.query(order.query), 1000)
            elif isinstance(order, effects.Pause):
                orders = session.resume(1000)
            elif isinstance(order, effects.OffLoop):
                with mock.patch.object(passwords, "_derive", _cheap_hash):
                    orders = session.answered(order.work(), 1000)
            elif isinstance(order, effects.Inspect):
                return
            else:
                orders = session.answered(b"", 1000)


def _entry(data: bytes) -> None:
    """Entries of the log that no session of this release writes: the machine answers with an error."""
    machine = KeyValueMachine()
    cut = data[0] * len(data) // 256 if data else 0
    for index, entry in enumerate((data[1:cut], data[cut:]), 1):
        machine.apply(Index(index), entry)
        machine.prepare_with_wall(entry, 10**15, 10**18)
        machine.query(entry)
        machine.is_long(entry)
    state = list(machine.snapshot())
    machine.restore(state)


def _kv_snapshot(data: bytes) -> None:
    """The state in a snapshot of the key-value machine."""
    for read in (read_snapshot, count_keys):
        with suppress(SnapshotUnreadable):
            read(_cuts(data))


def _states() -> list[bytes]:
    machine = KeyValueMachine()
    calls = [[b"SET", b"k%d" % number, b"v" * number] for number in range(9)]
    calls += [[b"SET", b"long", b"x" * 1000, b"PX", b"5"]]
    entry = log_format.stamp(log_format.encode_entry(log_format.Calls(2, calls)), 7)
    machine.apply(Index(1), entry)
    machine.apply(Index(2), log_format.stamp(log_format.encode_entry(log_format.OpenSession()), 8))
    return [b"\x04" + b"".join(machine.snapshot())]


def _entries() -> list[bytes]:
    calls = [[b"SET", b"k", b"v", b"EXAT", b"99"], [b"INCR", b"n"], [b"MGET", b"k", b"n"], [b"SCAN", b"0"]]
    made = [
        log_format.encode_entry(log_format.Calls(3, calls)),
        log_format.encode_entry(log_format.Transaction(2, [(b"k", 0)], calls)),
        log_format.encode_entry(log_format.Once(1, 1, 2, False, [], calls[:1])),
        log_format.encode_entry(log_format.OpenSession()),
        log_format.encode_query(log_format.Query(2, [], calls, False), 5),
        log_format.encode_query(log_format.Versions([b"k"]), 5),
    ]
    return [b"\x00" + each for each in made]


# HTTP.


def _http(data: bytes) -> None:
    """The health port's side of a connection; it holds no more than a head."""
    session = HttpSession()
    for part in _cuts(data):
        session.receive(part)
        for _ in range(64):
            if session.next_request() is None:
                break
            session.answer(HttpAnswer(200, b"ok"))
        session.taken()
        if session.closed:
            return
    session.receive(b"")
    session.next_request()


_HTTP: Final = (
    b"\x04GET /readyz?verbose HTTP/1.1\r\nHost: h\r\n\r\nHEAD / HTTP/1.0\r\n\r\n",
    b"\x04POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    b"\x04GET /a%20b?x=1&y=2;z HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"\x04GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * MOST_HEAD + b"\r\n\r\n",
)
_HTTP_WORDS: Final = (b"GET ", b"HTTP/1.1", b"\r\n\r\n", b"Host:", b"Content-Length: ", b"chunked", b"?", b"&", b"%")


def _all(*targets: Target) -> dict[str, Target]:
    return {target.name: target for target in targets}


_STREAMS: Final = [b"\x04" + each for each in (*_MESSAGE_BYTES, *_PAYLOAD_BYTES)]
_SEGMENT: Final = _batches(encode([_HEADER, _CHANGES[0]]), encode(_CHANGES[1:]))
_SNAPSHOT: Final = _snapshot_bytes(bytes(300), SnapshotHeader(ClusterId("c"), _META, 100))
_BACKUPS: Final = [b"\x04" + _BACKUP, b"\x01" + msgspec.msgpack.encode(_BACKUP_HEADER)]

TARGETS: Final = _all(
    Target("resp", [b"\x04" + each for each in _COMMANDS], _resp, ("raft_kv/resp_parser",), _WORDS),
    Target("session", [b"\x04" + each for each in _COMMANDS], _session, ("raft_kv/",), _WORDS, seconds=0.1),
    Target("entry", _entries(), _entry, ("raft_kv/",), _WORDS[5:], seconds=0.1),
    Target("kv-snapshot", _states(), _kv_snapshot, ("raft_kv/snapshot_format", "raft_kv/keyspace")),
    Target("frames", _STREAMS, _frames, ("raft_core/wire/",)),
    Target("handshake", _STREAMS, _handshake, ("raft_core/wire/",)),
    Target("payload", _CONTENTS, _payload, ("raft_core/wire/", "raft_core/membership")),
    Target("greeting", [_contents(_PAYLOAD_BYTES[0])[0][1:]], _first, ("raft_core/wire/",)),
    Target("core", _SHORT, _core, ("raft_core/",), seconds=0.1),
    Target("wal", [b"\x04" + _SEGMENT], _wal, ("raft_core/wal/",)),
    Target("records", [b"\x00" + encode([_HEADER, *_CHANGES])], _records, ("raft_core/wal/",), seconds=0.1),
    Target("snapshot", [b"\x00" + _SNAPSHOT, b"\x01" + _SNAPSHOT], _snapshot, ("raft_core/wal/",)),
    Target(
        "backup",
        [b"\x04" + _BACKUP, b"\x01" + msgspec.msgpack.encode(_BACKUP_HEADER)],
        _backup,
        ("raft_core/",),
    ),
    Target("http", _HTTP, _http, ("raft_kv/health/",), _HTTP_WORDS),
    Target("tls", tls_target.SEEDS, tls_target.run, ("raft_tls/",), seconds=0.1),
)
"""All targets by name. The time of `session`, `entry`, `core`, `records` and `tls` is that of many steps."""
