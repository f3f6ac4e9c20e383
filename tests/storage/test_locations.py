"""Locations: which store keeps a node's data, where, and what is said when it cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from raft_core.errors import SettingsError, WrongDirectory
from raft_core.node.config import NodeConfig
from raft_kv.demo import demo_location
from raft_kv.serve_options import serve_config
from raft_kv.state_machine import KeyValueMachine
from raft_storage import FileStore, Location, PackageMissing, UnknownStore, open_store, parse_location
from raft_storage.location import KINDS, kind_at
from raft_storage.open import open_disk
from raft_storage.sqlite_store import SqliteStore


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("/var/lib/raft", Location("file", "/var/lib/raft")),
        ("data", Location("file", "data")),
        ("file:data", Location("file", "data")),
        ("sqlite:data", Location("sqlite", "data")),
        ("rocksdb:/var/x", Location("rocksdb", "/var/x")),
        ("mdbx:a:b", Location("mdbx", "a:b")),
        ("./odd:name", Location("file", "./odd:name")),
        ("file:odd:name", Location("file", "odd:name")),
        ("/a/b:c", Location("file", "/a/b:c")),
    ],
)
def test_location_is_a_kind_and_a_directory(text: str, location: Location) -> None:
    assert parse_location(text) == location
    assert parse_location(str(location)) == location


def test_path_that_is_not_text_is_a_directory_of_files() -> None:
    assert parse_location(Path("sqlite:x")) == Location("file", "sqlite:x")


@pytest.mark.parametrize("text", ["postgres:x", "SQLITE:x", "http://x"])
def test_unknown_scheme_is_refused_by_type(text: str) -> None:
    with pytest.raises(UnknownStore):
        parse_location(text)
    with pytest.raises(UnknownStore):
        serve_config({"id": 1, "data": text})


@pytest.mark.parametrize("text", ["", "sqlite:", "file:", "sqlite:\0"])
def test_location_without_a_directory_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_location(text)


@pytest.mark.parametrize(("kind", "package"), [("sqlite", "sqlite3"), ("rocksdb", "rocksdict"), ("mdbx", "mdbx")])
def test_missing_package_is_refused_by_type(
    kind: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PackageMissing):
        open_store(Location(kind, str(tmp_path)), node=1)
    with pytest.raises(PackageMissing):
        serve_config({"id": 1, "data": f"{kind}:{tmp_path}"})
    assert list(tmp_path.iterdir()) == []


def test_location_that_another_kind_occupies_is_refused_and_untouched(tmp_path: Path) -> None:
    FileStore.open(tmp_path / "file", node=1, cluster="c").close()
    SqliteStore.open(tmp_path / "sqlite", node=1, cluster="c").close()
    for held in ("file", "sqlite"):
        assert kind_at(str(tmp_path / held)) == held
        before = sorted((path.name, path.read_bytes()) for path in (tmp_path / held).iterdir())
        for kind in KINDS:
            if kind != held:
                with pytest.raises(WrongDirectory):
                    open_store(Location(kind, str(tmp_path / held)), node=1, cluster="c")
        assert sorted((path.name, path.read_bytes()) for path in (tmp_path / held).iterdir()) == before
    with pytest.raises(WrongDirectory):
        FileStore.open(tmp_path / "sqlite", node=1, cluster="c")
    with pytest.raises(WrongDirectory):
        SqliteStore.open(tmp_path / "file", node=1, cluster="c")


def test_directory_that_does_not_exist_or_is_empty_has_no_kind(tmp_path: Path) -> None:
    assert kind_at(str(tmp_path / "nowhere")) is None
    assert kind_at(str(tmp_path)) is None


def test_node_opens_the_store_that_its_data_names(tmp_path: Path) -> None:
    for data, kind in ((str(tmp_path / "a"), FileStore), (f"sqlite:{tmp_path / 'b'}", SqliteStore)):
        config = NodeConfig(1, {1: "127.0.0.1:0"}, data=data)
        recovered, lanes = open_disk(config, KeyValueMachine())
        assert recovered.boot == 1
        assert type(lanes._store) is kind
        lanes.close(seconds=5)


def test_demo_takes_a_kind_with_or_without_a_directory() -> None:
    assert demo_location("") == ("file", None)
    assert demo_location("there") == ("file", Path("there"))
    assert demo_location("sqlite:") == ("sqlite", None)
    assert demo_location("sqlite:there") == ("sqlite", Path("there"))
    with pytest.raises(UnknownStore):
        demo_location("postgres:")
