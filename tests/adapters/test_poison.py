"""A command at which the state machine raises: what callers hear, how the nodes end, and how the cluster comes back."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import anyio
import attrs
import pytest

import raft_anyio
from raft_core.effects import RefusalReason, UnknownReason
from raft_core.errors import InvariantBroken, MachineBroken, OutcomeUnknown, Refused, RequestError
from raft_core.ids import Index
from raft_core.node.config import NodeConfig

from .kit import Cluster, Ledger, Running, eventually


class Mended(Ledger):
    """The same machine after its mistake was found: what it did with all other commands is unchanged."""

    def apply(self, index: Index, command: bytes) -> bytes:
        if command == b"poison":
            self.applied = index
            return b"no such command"
        return super().apply(index, command)


async def poison(cluster: Cluster, at: int) -> list[Running]:
    """The nodes that have ended at the command that was proposed to node `at`; its caller was told why."""
    with pytest.raises(OutcomeUnknown) as told:
        await cluster[at].propose(b"poison", timeout=15.0)
    assert told.value.reason == UnknownReason.MACHINE_FAILED
    assert "ValueError" in str(told.value)
    return await ended(cluster)


async def ended(cluster: Cluster) -> list[Running]:
    """Those that have ended by themselves: a majority, since the last one may never learn that the entry is committed.
    All others are stopped."""
    count = len(cluster.running)
    await eventually(lambda: 2 * sum(node.ended.is_set() for node in cluster.running.values()) > count)
    nodes = [await cluster.stop(number) for number in sorted(cluster.running)]
    return [node for node in nodes if node.error is not None]


@pytest.mark.parametrize("at_leader", [True, False])
async def test_all_nodes_end_at_a_poisonous_command_and_come_back_equal_with_a_mended_machine(
    cluster: Cluster, *, at_leader: bool
) -> None:
    await cluster.start_all(3)
    await cluster.write(b"a")
    await cluster.agree(b"a")
    at = cluster.number_of(await cluster.leader() if at_leader else (await cluster.followers())[0])
    broken = await poison(cluster, at)
    for number in (1, 2, 3):
        await cluster.start(number)  # nothing was skipped: with the old machine they end at the same entry
    broken += await ended(cluster)
    indexes = set()
    for error in (node.error for node in broken):
        assert isinstance(error, MachineBroken)
        assert (error.machine, error.operation, error.command) == ("Ledger", "apply", b"poison")
        indexes.add(error.index)
    assert len(indexes) == 1

    for number in (1, 2, 3):
        await cluster.start(number, machine=Mended())
    assert await cluster.write(b"b") == b"2"
    await cluster.agree(b"a", b"b")
    logs = [running.machine.commands for running in cluster.running.values()]
    assert logs == [[b"a", b"b"]] * 3


async def test_whoever_asks_a_node_that_its_machine_has_ended_is_told_so(cluster: Cluster) -> None:
    await cluster.start_all(1)
    await cluster.write(b"a")
    (broken,) = await poison(cluster, 1)
    with pytest.raises(Refused) as told:
        await broken.up.propose(b"b")
    assert told.value.reason == RefusalReason.MACHINE_FAILED


async def test_a_machine_that_cannot_restore_its_snapshot_ends_its_node(cluster: Cluster) -> None:
    class Unreadable(Ledger):
        def restore(self, chunks: Iterable[bytes]) -> None:
            raise KeyError("version")

    cluster.settings = attrs.evolve(cluster.settings, snapshot_entries=5, keep_entries=1, keep_bytes=1)
    await cluster.start_all(1)
    for number in range(20):
        await cluster.write(b"%d" % number)
    await eventually(lambda: snapshot_of(cluster) > 0)
    await cluster.stop(1)
    broken = await cluster.start(1, machine=Unreadable())
    cluster.running.clear()
    with suppress(RequestError):
        await broken.up.ready()
    with anyio.fail_after(10):
        await broken.ended.wait()
    assert isinstance(broken.error, MachineBroken)
    assert broken.error.operation == "restore"
    assert isinstance(broken.error.__cause__, KeyError)


def snapshot_of(cluster: Cluster) -> int:
    core = cluster[1].status.core
    return 0 if core is None else core.snapshot_index


async def test_a_machine_whose_init_raises_keeps_its_node_from_starting(cluster: Cluster) -> None:
    class Unborn(Ledger):
        def init(self) -> Index:
            raise RuntimeError("no database")

    config = NodeConfig(1, {1: "127.0.0.1:0"}, data=cluster.directory / "1")
    with pytest.raises(MachineBroken) as broken:
        async with cluster.open_node(config, Unborn()):
            pass
    assert broken.value.operation == "init"


class Unspeakable(Exception):
    """An exception whose text raises as well."""

    def __str__(self) -> str:
        raise ValueError("not even that")


@pytest.mark.parametrize("failure", [Unspeakable(), KeyError("x" * 10_000_000)])
async def test_an_exception_that_cannot_be_shown_is_told_all_the_same(cluster: Cluster, failure: Exception) -> None:
    class Odd(Ledger):
        def prepare(self, command: bytes, now: int) -> bytes:
            raise failure

        def query(self, request: bytes) -> bytes:
            raise failure

    await cluster.start_all(1)
    await cluster.stop(1)
    await cluster.start(1, machine=Odd())
    for call, reason in (
        (cluster[1].propose(b"a", timeout=5.0), RefusalReason.PREPARE_FAILED),
        (cluster[1].read(b"a", timeout=5.0), RefusalReason.QUERY_FAILED),
    ):
        with pytest.raises(Refused) as told:
            await call
        assert told.value.reason == reason
        assert len(str(told.value)) < 1000


@pytest.mark.parametrize("uvloop", [False, True])
def test_a_machine_that_raises_more_than_an_exception_ends_its_node_on_asyncio(tmp_path: Path, *, uvloop: bool) -> None:
    """The event loop logs what a callback raises, and goes on: the node must not hang behind it."""
    if uvloop:
        pytest.importorskip("uvloop")

    class Fatal(BaseException):
        pass

    class Stubborn(Ledger):
        def apply(self, index: Index, command: bytes) -> bytes:
            raise Fatal

    async def run() -> None:
        config = NodeConfig(1, {1: "127.0.0.1:0"}, data=tmp_path / "1")
        with anyio.fail_after(20):
            async with raft_anyio.open_node(config, Stubborn()) as node:
                await node.ready()
                with pytest.raises(OutcomeUnknown) as told:
                    await node.propose(b"a", timeout=10.0)
                assert told.value.reason == UnknownReason.NODE_FAILED
                await node.wait_finished()

    with pytest.raises(InvariantBroken) as broken:
        anyio.run(run, backend="asyncio", backend_options={"use_uvloop": uvloop})
    assert isinstance(broken.value.__cause__, Fatal)
