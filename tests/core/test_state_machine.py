"""State machines: what a class must have, and what it need not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from raft_core.errors import CallerError
from raft_core.node.config import NodeConfig
from raft_core.state_machine import StateMachine, latest_time, preparer, require_machine
from raft_storage.open import open_disk


class Counter(StateMachine):
    total = 0

    def apply(self, index: int, command: bytes) -> bytes:
        self.total += int(command)
        return b"%d" % self.total

    def query(self, request: bytes) -> bytes:
        return b"%d" % self.total

    def snapshot(self) -> Iterable[bytes]:
        return [b"%d" % self.total]

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.total = int(b"".join(chunks))


class Unfinished:
    def apply(self, index: int, command: bytes) -> bytes:
        return b""


class Silent(StateMachine):
    def apply(self, index: int, command: bytes) -> bytes:
        return b""

    def snapshot(self) -> Iterable[bytes]:
        return []

    def restore(self, chunks: Iterable[bytes]) -> None: ...


def test_four_methods_make_a_machine() -> None:
    machine = Counter()

    require_machine(machine)
    assert machine.init() == 0
    assert preparer(machine)(b"7", 5, 5) == b"7"
    assert latest_time(machine) == 0


def test_machine_without_queries_refuses_them() -> None:
    with pytest.raises(NotImplementedError):
        Silent().query(b"")


def test_subclass_without_apply_is_no_machine() -> None:
    class Empty(StateMachine): ...

    with pytest.raises(TypeError):
        Empty()  # type: ignore[abstract]


def test_object_that_lacks_methods_is_refused_before_the_disk_is_touched(tmp_path: Path) -> None:
    config = NodeConfig(1, {1: "127.0.0.1:0"}, data=tmp_path / "data")

    with pytest.raises(CallerError) as refusal:
        open_disk(config, Unfinished())  # type: ignore[arg-type]
    assert all(f"{name}()" in str(refusal.value) for name in ("init", "prepare", "query", "snapshot", "restore"))
    assert not (tmp_path / "data").exists()
