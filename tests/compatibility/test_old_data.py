"""Data directories that earlier releases wrote open with this one, and hold what they held."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from raft_core.ids import Index
from raft_core.sessions import Result, Sequence, SessionId, Sessions, decode_reply, encode_command
from raft_kv.demo.cluster import free_ports
from raft_storage import FileStore
from raft_trio import NodeConfig, open_node
from tests.compatibility import RELEASES, unpack
from tests.compatibility.processes import NEW, Servers

VOTERS = (1, 2, 4)
SNAPSHOTS = {1: 120, 2: 120, 3: 80, 4: 120}


class Counter:
    """The state machine that wrote the directories."""

    total = 0

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        return command

    def apply(self, index: Index, command: bytes) -> bytes:
        self.total += int(command)
        return b"%d" % self.total

    def query(self, request: bytes) -> bytes:
        return b"%d" % self.total

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"%d" % self.total])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.total = int(b"".join(chunks))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("node", SNAPSHOTS)
def test_store_recovers_old_directory(release: str, node: int, tmp_path: Path) -> None:
    unpack(release, tmp_path)

    store = FileStore.open(str(tmp_path / "counter" / f"node-{node}"), node=node, cluster="old")
    recovered = store.recover()
    snapshot = recovered.snapshot
    assert snapshot is not None
    reader = store.open_snapshot(snapshot)
    state = b"".join(reader.chunks())
    reader.close()
    store.close()

    assert snapshot.index == SNAPSHOTS[node]
    assert len(state) > 0
    assert recovered.entries
    assert recovered.entries[-1].index > snapshot.index


@pytest.mark.parametrize("release", RELEASES)
def test_cluster_starts_again_on_old_directories(release: str, tmp_path: Path) -> None:
    unpack(release, tmp_path)

    with Servers(tmp_path / "kv", (1, 2, 3)) as servers:
        for node in (1, 2, 3):
            servers.start(node, NEW)
        servers.wait_ready((1, 2, 3))
        with servers.client(2) as client:
            assert client.dbsize() == 205
            assert client.get("key:199") == b"value 199"
            assert client.get("key:7") is None
            assert client.get("n") == b"50"
            assert client.mget("counter", "text", "a", "b") == [b"41", b"hello", b"1", b"2"]
            assert int(client.ttl("expires")) > 10**8
            assert client.incr("n") == 51
        with servers.client(3) as client:
            assert client.get("n") == b"51"


@pytest.mark.parametrize("release", RELEASES)
def test_session_goes_on_after_upgrade(release: str, tmp_path: Path) -> None:
    """A command that the old release applied is not applied again, and the next one is."""
    unpack(release, tmp_path)
    noted = json.loads((tmp_path / "counter.json").read_text())

    trio.run(_continue_session, tmp_path / "counter", SessionId(noted["session"]))


async def _continue_session(directory: Path, session: SessionId) -> None:
    ports = dict(zip(VOTERS, free_ports(len(VOTERS)), strict=True))
    addresses = {node: f"127.0.0.1:{port}" for node, port in ports.items()}
    counters = {node: Counter() for node in VOTERS}
    async with AsyncExitStack() as stack:
        nodes = []
        for node in VOTERS:
            config = NodeConfig(node, addresses, cluster="old", data=directory / f"node-{node}")
            nodes.append(await stack.enter_async_context(open_node(config, Sessions(counters[node]))))
        again = encode_command(session, Sequence(120), Sequence(120), b"2")
        assert decode_reply(await nodes[0].propose(again, timeout=30.0)) == Result(b"140")
        following = encode_command(session, Sequence(121), Sequence(121), b"5")
        assert decode_reply(await nodes[1].propose(following, timeout=30.0)) == Result(b"145")
        assert await nodes[2].read(b"", timeout=30.0) == b"145"
