"""A cluster that was restored, or recovered, grows like any other."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import anyio
import attrs
import pytest

from raft_anyio import NodeConfig, open_node
from raft_core.ids import NodeId
from raft_core.membership import AddVoter
from raft_core.settings import Settings
from raft_storage import FileStore, Location, Survivor, recover_from_quorum_loss, restore_backup

from .kit import Ledger

NAMES = {1: "one", 4: "four"}


def config(place: Path, number: int, addresses: dict[int, str], cluster: str, *, join: bool = False) -> NodeConfig:
    settings = attrs.evolve(Settings(), snapshot_entries=8, keep_entries=1, keep_bytes=1)
    data = place / NAMES[number]
    return NodeConfig(number, addresses, cluster=cluster, data=data, join=join, settings=settings)


async def old_cluster(place: Path, backup: Path) -> None:
    """Found a cluster of node 1 under its first disk; write, take snapshots, and back up."""
    async with open_node(config(place, 1, {1: "127.0.0.1:0"}, "old"), Ledger()) as node:
        for _ in range(30):
            await node.propose(b"a", timeout=10.0)
        with backup.open("wb") as file:
            async for piece in node.backup(timeout=10.0):
                file.write(piece)


@pytest.mark.parametrize("way", ["restored", "recovered"])
def test_node_joins_a_cluster_that_keeps_the_id_of_a_member_with_another_disk(tmp_path: Path, way: str) -> None:
    backup = tmp_path / "backup"
    anyio.run(old_cluster, tmp_path, backup)
    if way == "restored":
        shutil.rmtree(tmp_path / NAMES[1])
        restore_backup(backup, Location("file", os.fspath(tmp_path / NAMES[1])), node=1, cluster="new")
    else:
        os.rename(tmp_path / NAMES[1], tmp_path / "lost")
        survivor, target = (
            Survivor(tmp_path / "lost", "old"),
            FileStore.open(tmp_path / NAMES[1], node=1, cluster="new"),
        )
        recover_from_quorum_loss(survivor, target)
        survivor.close()
        target.close()

    anyio.run(grow, tmp_path)


async def grow(place: Path) -> None:
    async with open_node(config(place, 1, {1: "127.0.0.1:0"}, "new"), Ledger()) as first:
        addresses = {1: first.address, 4: "127.0.0.1:0"}
        async with open_node(config(place, 4, addresses, "new", join=True), Ledger()) as second:
            with anyio.fail_after(30):
                await first.propose(b"b")
                await first.change_members([AddVoter(NodeId(4))])
                await second.ready()
            assert await second.read(b"a", timeout=10.0) == b"30"
            assert second.status.core is not None
            assert second.status.core.members.voters == (1, 4)
