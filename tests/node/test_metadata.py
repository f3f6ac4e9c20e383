"""Metadata of members: told in greetings, shown in the status, and refused where a greeting cannot carry it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from raft_core.errors import FrameError, SettingsError
from raft_core.ids import ClusterId, GroupId, Incarnation, NodeId
from raft_core.node.config import NodeConfig
from raft_core.node.events import ConnectionClosed
from raft_core.wire import encode_payload
from raft_core.wire.codec import decode
from raft_core.wire.frames import FrameKind
from raft_core.wire.payloads import WIRE_VERSION, Frame, Hello
from tests.node.test_peers import HELLO, OTHER, THIRD, Net

ZONE = (("http", "10.0.0.2:8000"), ("zone", "b"))


def decoded(payload: bytes) -> object:
    return decode(Frame(int(FrameKind.HELLO), GroupId(0), payload))


TELLING = msgspec.structs.replace(HELLO, metadata=ZONE)


def test_metadata_of_greeting_is_in_status_even_after_peer_is_gone() -> None:
    net = Net()
    connection = net.accept(1, TELLING)
    assert {peer.node: peer.metadata for peer in net.peers.status()} == {OTHER: ZONE, THIRD: ()}

    net.peers.on_closed(ConnectionClosed(connection))
    assert net.peers.status()[0].metadata == ZONE
    net.accept(3, HELLO)
    assert net.peers.status()[0].metadata == ()


def test_forgotten_stranger_leaves_no_metadata() -> None:
    net = Net()
    net.accept(1, TELLING)
    net.peers.addresses.forget(OTHER)
    assert net.peers.addresses.metadata == {}


def test_hello_carries_metadata_and_may_lack_it() -> None:
    hello = Hello(WIRE_VERSION, ClusterId("c"), NodeId(2), Incarnation(22), metadata=ZONE)
    whole = msgspec.msgpack.encode(hello)
    assert decoded(whole) == hello
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(whole)[:13])
    assert decoded(older) == msgspec.structs.replace(hello, metadata=())
    assert encode_payload(hello)


WRONG: dict[str, tuple[tuple[str, str], ...]] = {
    "unsorted": (("b", ""), ("a", "")),
    "double": (("a", ""), ("a", "")),
    "many": tuple((f"{number:02}", "") for number in range(17)),
    "nameless": (("", "x"),),
    "long name": (("n" * 65, ""),),
    "unprintable": (("a\n", ""),),
    "long value": (("a", "v" * 257),),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_hello_with_wrong_metadata_breaks_the_connection(wrong: str) -> None:
    data = msgspec.msgpack.encode(msgspec.structs.replace(HELLO, metadata=WRONG[wrong]))
    with pytest.raises(FrameError):
        decoded(data)


@pytest.mark.parametrize("wrong", sorted(WRONG.keys() - {"unsorted", "double"}))
def test_config_refuses_what_greeting_cannot_carry(wrong: str, tmp_path: Path) -> None:
    members: dict[int, str] = {1: "127.0.0.1:7101"}
    given: dict[str, Any] = {"metadata": dict(WRONG[wrong])}
    with pytest.raises(SettingsError):
        NodeConfig(1, members, data=tmp_path, **given)
