"""The MDBX store: its pinned settings, torn meta pages, and commits that fail."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import pytest

mdbx = pytest.importorskip("mdbx")

from raft_core.effects import Persist  # noqa: E402 - none of it without the package
from raft_core.entries import Entry, HardState  # noqa: E402
from raft_core.errors import LogDamaged, LogLost, StorageBroken  # noqa: E402
from raft_core.ids import Term, WriteId  # noqa: E402
from raft_storage.mdbx_store import DATABASE, MdbxEngine, MdbxStore  # noqa: E402

PAGE = 4096


def open_at(directory: Path) -> MdbxStore:
    return MdbxStore.open(directory, node=1, cluster="c")


def append(first: int, last: int) -> Persist:
    entries = tuple(Entry.make(index, 1, b"%d" % index * 30) for index in range(first, last + 1))
    return Persist(WriteId(first), hard=HardState(Term(1)), entries=entries)


def test_environment_syncs_every_commit(tmp_path: Path) -> None:
    for _ in range(2):  # made, and opened again
        store = open_at(tmp_path)
        assert isinstance(store.engine, MdbxEngine)
        flags = store.engine.flags()
        for unsafe in ("MDBX_NOMETASYNC", "MDBX_SAFE_NOSYNC", "MDBX_UTTERLY_NOSYNC", "MDBX_WRITEMAP"):
            assert not flags & int(getattr(mdbx.MDBXEnvFlags, unsafe)), unsafe
        assert flags & int(mdbx.MDBXEnvFlags.MDBX_EXCLUSIVE)
        store.close()


def test_torn_meta_page_of_an_acknowledged_commit_is_noticed(tmp_path: Path) -> None:
    """MDBX falls back to the meta page before it, which is one write older; the mark knows better."""
    store = open_at(tmp_path / "whole")
    store.recover()
    for index in range(1, 6):
        store.write([append(index, index)])
    store.close()
    refused = []
    for page in range(3):
        shutil.copytree(tmp_path / "whole", tmp_path / str(page))
        with (tmp_path / str(page) / DATABASE).open("r+b") as file:
            file.seek(page * PAGE + 16)
            file.write(bytes(240))
        try:
            store = open_at(tmp_path / str(page))
        except (LogLost, LogDamaged):
            refused.append(page)
            continue
        assert [entry.index for entry in store.recover().entries] == [1, 2, 3, 4, 5]
        store.close()
    assert len(refused) == 1


def test_failed_commit_is_freed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_at(tmp_path)
    store.recover()
    store.write([append(1, 1)])

    def fails(self: object) -> bool:
        self._txn = None  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mdbx.mdbx.TXN, "commit", fails)
        with pytest.raises(StorageBroken):
            store.write([append(2, 2)])
    gc.collect()  # an exception while a transaction is freed would fail this test
    store.close()
    store = open_at(tmp_path)
    assert [entry.index for entry in store.recover().entries] == [1]
    store.close()
