"""Backups of the key-value server: under load, continued, verified, restored, and refused when they are damaged."""

from __future__ import annotations

from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from raft_core.backup_format import BackupReader
from raft_core.membership import Members
from raft_kv.backup import VerifyOptions, run_verify
from raft_kv.cli import main
from raft_kv.demo.cluster import Cluster
from raft_kv.demo.load import Load
from raft_kv.node_client import NodeConnection, wait_until
from raft_kv.snapshot_format import SnapshotUnreadable, count_keys
from raft_kv.state_machine import KeyValueMachine
from raft_storage import Location, restore_backup, verify_backup
from raft_storage.location import KINDS

KEYS = 20_000
PAGE = 500


def fill(node: NodeConnection) -> None:
    for start in range(0, KEYS, PAGE):
        words = [word for key in range(start, start + PAGE) for word in (b"kept:%d" % key, b"%d" % key + b"." * 90)]
        assert node.say("MSET", *words) == b"OK"


def contents(node: NodeConnection) -> dict[bytes, bytes]:
    """Every key with its value, read from the node."""
    found: dict[bytes, bytes] = {}
    cursor = b"0"
    while True:
        reply = node.say("SCAN", cursor, "COUNT", 1000)
        assert isinstance(reply, list)
        cursor, keys = reply
        if keys:
            values = node.say("MGET", *keys)
            assert isinstance(values, list)
            found |= dict(zip(keys, values, strict=True))
        if cursor == b"0":
            return found


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes], dict[bytes, bytes]]:
    """A directory with a backup taken under load, what was acknowledged before it, and all that was there after it."""
    place = tmp_path_factory.mktemp("backup")
    with Cluster(place / "old", overrides=["snapshot_entries=2000"]) as cluster:
        cluster.found(3)
        cluster.wait_ready([1, 2, 3])
        leader = cluster.wait_leader()
        follower = cluster.members[leader % 3 + 1]
        with closing(NodeConnection(cluster.members[leader].address, 10.0)) as node:
            fill(node)
            load = Load(cluster.addresses, 4)
            load.start()
            assert wait_until(lambda: load.acknowledged > 100, 20.0)
            before = contents(node)
            address = f"127.0.0.1:{follower.port}"
            assert main(["backup", "--from", address, str(place / "under-load")], {}) == 0
            assert wait_until(lambda: load.acknowledged > 200, 20.0)
            load.stop()
            after = contents(node)

        assert main(["backup", "--from", address, str(place / "quiet")], {}) == 0
        data = (place / "quiet").read_bytes()
        (place / "continued.part").write_bytes(data[: len(data) * 2 // 3])
        asked: list[tuple[bytes | str | int, ...]] = []
        with pytest.MonkeyPatch.context() as patch:
            say = NodeConnection.say

            def heard(self: NodeConnection, *words: bytes | str | int) -> object:
                asked.append(words)
                return say(self, *words)

            patch.setattr(NodeConnection, "say", heard)
            assert main(["backup", "--from", address, str(place / "continued")], {}) == 0
        assert len(asked) < verify_backup(place / "quiet").pieces * 2 // 3
        cluster.stop([1, 2, 3])
    return place, before, after


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_backup_under_load_is_restored_key_by_key(
    kind: str, story: tuple[Path, dict[bytes, bytes], dict[bytes, bytes]]
) -> None:
    place, before, after = story
    new = place / f"new-{kind}"
    new.mkdir()
    location = f"{kind}:{new / 'node-1'}"
    arguments = ["restore", str(place / "under-load"), "--new-cluster", "restored", "--data", location]
    assert main(arguments, {}) == 0

    with Cluster(new, name="restored", store=kind, loop="asyncio" if kind == "sqlite" else "trio") as cluster:
        cluster.found(1)
        cluster.wait_ready([1])
        with closing(NodeConnection(cluster.members[1].address, 10.0)) as node:
            restored = contents(node)
            assert node.say("SET", "written", "later") == b"OK"

    assert restored.keys() >= before.keys()  # linearizable: all that was acknowledged before the command began
    assert restored.keys() <= after.keys()
    assert all(after[key] == value for key, value in restored.items())  # no key is written twice
    assert main(["verify", location], {}) == 0


def test_interrupted_backup_continues_to_the_same_bytes(
    story: tuple[Path, dict[bytes, bytes], dict[bytes, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    place, _, _ = story

    assert (place / "continued").read_bytes() == (place / "quiet").read_bytes()
    assert not (place / "continued.part").exists()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-1], id="truncated"),
        pytest.param(lambda data: data[: len(data) // 2], id="half"),
        pytest.param(lambda data: data + b"x", id="longer"),
        pytest.param(lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], id="a bit"),
        pytest.param(lambda data: b"REDIS0011" + data, id="foreign"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
def test_damaged_backup_is_refused_with_the_place_and_leaves_nothing(
    damage: object,
    story: tuple[Path, dict[bytes, bytes], dict[bytes, bytes]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, _, _ = story
    assert callable(damage)
    bad = tmp_path / "bad"
    bad.write_bytes(damage((place / "quiet").read_bytes()))
    target = tmp_path / "data" / "node"

    assert main(["restore", str(bad), "--new-cluster", "restored", "--data", str(target)], {}) == 1
    assert "at byte" in capsys.readouterr().err
    assert not target.exists()
    assert not target.with_name("node.restoring").exists()
    assert main(["verify", str(bad)], {}) == 1


def test_old_cluster_name_and_used_directory_are_refused(
    story: tuple[Path, dict[bytes, bytes], dict[bytes, bytes]], tmp_path: Path
) -> None:
    backup = str(story[0] / "quiet")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("", "utf-8")

    assert main(["restore", backup, "--new-cluster", "demo", "--data", str(tmp_path / "new")], {}) == 1
    assert main(["restore", backup, "--new-cluster", "other", "--data", str(tmp_path / "used")], {}) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("node", "names"), [("1", "--cluster other --cluster demo --renew"), ("9", "--cluster other\n")]
)
def test_restore_tells_which_certificate_the_node_needs(
    node: str,
    names: str,
    story: tuple[Path, dict[bytes, bytes], dict[bytes, bytes]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["restore", str(story[0] / "quiet"), "--new-cluster", "other", "--data", str(tmp_path / "n"), "--id", node]
    assert main(words, {}) == 0
    assert f"raft-kv certs node {node} {names}" in capsys.readouterr().err


def test_verify_tells_keys_and_leaves_every_store_as_it_was(
    story: tuple[Path, dict[bytes, bytes], dict[bytes, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, _, after = story
    header = verify_backup(place / "quiet")
    assert header.cluster == "demo"
    assert header.meta.members.voters == (1, 2, 3)
    assert run_verify(VerifyOptions(file=[str(place / "quiet")])) == 0
    assert f"{len(after):,} keys" in capsys.readouterr().err

    for kind in [kind for kind in KINDS if kind != "mdbx" or find_spec("mdbx")]:  # no wheel for Python 3.14
        location = Location(kind, str(tmp_path / kind))
        _, recovered = restore_backup(place / "quiet", location, node=7, cluster="other")
        assert recovered.snapshot is not None
        assert recovered.snapshot.position == header.meta.position
        assert recovered.snapshot.members.voters == (7,)  # a node that joins gets these
        assert recovered.hard.term > header.meta.term
        assert Members.decode(recovered.entries[-1].data).voters == (7,)
        files = {path: path.read_bytes() for path in Path(location.directory).rglob("*") if path.is_file()}
        assert main(["verify", str(location)], {}) == 0
        assert f"{len(after):,} keys" in capsys.readouterr().err
        assert files == {path: path.read_bytes() for path in Path(location.directory).rglob("*") if path.is_file()}
    for path in (tmp_path / "sqlite").rglob("snapshot*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert main(["verify", f"sqlite:{tmp_path / 'sqlite'}"], {}) == 1


def test_counting_keys_refuses_what_restoring_would_refuse() -> None:
    machine = KeyValueMachine()
    state = b"".join(machine.snapshot())

    assert count_keys([state]) == 0
    for wrong in (b"", state[:-1], state + b"x", b"x" + state):
        with pytest.raises(SnapshotUnreadable):
            count_keys([wrong])


def test_pieces_of_a_backup_are_replies_of_bounded_size(
    story: tuple[Path, dict[bytes, bytes], dict[bytes, bytes]],
) -> None:
    reader = BackupReader()
    reader.feed((story[0] / "quiet").read_bytes())
    header = reader.header

    assert header is not None
    assert header.blocks > 4
    assert max(header.piece_bytes(number) for number in range(1, header.pieces)) < 300_000
