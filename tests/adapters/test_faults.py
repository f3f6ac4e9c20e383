"""What becomes of a cluster when peers, connections, disks or machines misbehave."""

from __future__ import annotations

import os
import random
import resource
import socket
import threading
from contextlib import suppress

import anyio
import anyio.lowlevel
import attrs
import pytest
from anyio.abc import SocketStream

from raft_core.effects import RoleName
from raft_core.errors import DirectoryInUse, MachineBroken, OutcomeUnknown, StorageBroken
from raft_core.ids import Index
from raft_core.node.limits import MILLISECOND
from raft_storage.file_store import FileStore

from .kit import Cluster, Ledger, Valve, eventually


@pytest.mark.also_threads
async def test_a_peer_that_stops_reading_holds_nobody_up_and_catches_up_later(cluster: Cluster) -> None:
    await cluster.start_all(3, gates=True)
    slow = cluster.number_of((await cluster.followers())[0])
    cluster.gates[slow].hold()
    commands = [b"%d" % number + bytes(50_000) for number in range(50)]
    for command in commands:
        await cluster.write(command)
    cluster.gates[slow].open()
    await cluster.agree(*commands)


@pytest.mark.also_threads
async def test_a_cluster_goes_on_without_a_dead_peer_and_takes_it_back(cluster: Cluster) -> None:
    await cluster.start_all(3)
    await cluster.write(b"a")
    dead = cluster.number_of((await cluster.followers())[0])
    await cluster.stop(dead)
    await cluster.write(b"b")
    await cluster.start(dead)
    await cluster.write(b"c")
    await cluster.agree(b"a", b"b", b"c")


@pytest.mark.also_threads
async def test_a_leader_that_is_dead_is_replaced(cluster: Cluster) -> None:
    await cluster.start_all(3, gates=True)
    await cluster.write(b"a")
    leader = cluster.number_of(await cluster.leader())
    cluster.gates[leader].shut()  # no peer reaches it, so no vote either
    await cluster.stop(leader)
    assert await cluster.write(b"b") == b"2"
    assert cluster.number_of(await cluster.leader()) != leader


@pytest.mark.also_threads
async def test_a_leader_behind_a_half_open_line_is_replaced_and_comes_back(cluster: Cluster) -> None:
    await cluster.start_all(3, gates=True)
    await cluster.write(b"a")
    deaf = cluster.number_of(await cluster.leader())
    term = cluster[deaf].status.term
    cluster.gates[deaf].hold()
    others = [running.up for number, running in cluster.running.items() if number != deaf]
    await eventually(lambda: any(node.status.role is RoleName.LEADER and node.status.term > term for node in others))
    cluster.gates[deaf].open()
    await cluster.write(b"b")
    await cluster.agree(b"a", b"b")


@pytest.mark.also_threads
async def test_garbage_from_a_stranger_closes_its_connection_and_harms_nobody(cluster: Cluster) -> None:
    await cluster.start_all(3)
    rng = random.Random(7)
    host, _, port = (await cluster.leader()).address.rpartition(":")
    for garbage in (b"GET / HTTP/1.1\r\n\r\n" * 20, bytes(5000), b"\xff" * 5000, rng.randbytes(5000)):
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(garbage)
            assert await is_closed(stream)
    await cluster.write(b"a")
    await cluster.agree(b"a")


@pytest.mark.also_threads
async def test_a_stranger_who_says_nothing_is_sent_away(cluster: Cluster) -> None:
    cluster.host = attrs.evolve(cluster.host, hello_timeout=50 * MILLISECOND)
    await cluster.start_all(1)
    host, _, port = cluster[1].address.rpartition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        assert await is_closed(stream)


@pytest.mark.also_threads
async def test_more_connections_than_allowed_are_closed_and_the_node_goes_on(cluster: Cluster) -> None:
    cluster.host = attrs.evolve(cluster.host, max_connections=5)
    await cluster.start_all(1)
    assert await cluster.write(b"a") == b"1"  # a node that forms closes whatever it has
    host, _, port = cluster[1].address.rpartition(":")
    streams = [await anyio.connect_tcp(host, int(port)) for _ in range(10)]
    await eventually(lambda: dict(cluster[1].status.drops).get("too_many_connections", 0) >= 5)
    for stream in streams:
        await stream.aclose()
    assert await cluster.write(b"b") == b"2"


@pytest.mark.also_threads
async def test_a_node_without_a_free_file_descriptor_accepts_again_when_there_is_one(cluster: Cluster) -> None:
    cluster.host = attrs.evolve(cluster.host, hello_timeout=50 * MILLISECOND)
    await cluster.start_all(1)
    await cluster.write(b"a")
    host, _, port = cluster[1].address.rpartition(":")
    clients = [socket.socket() for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        for client in clients:
            client.connect((host, int(port)))
        for _ in range(50):
            assert await cluster[1].read(b"a", timeout=5.0) == b"1"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for client in clients:
        client.close()
    async with await anyio.connect_tcp(host, int(port)) as stream:
        assert await is_closed(stream)


@pytest.mark.also_threads
@pytest.mark.parametrize("nonsense", ["\0:1", "a..b:1", "x" * 300 + ":1", "ünknown.invalid:1"])
async def test_an_address_that_makes_no_sense_only_fails_to_be_dialled(cluster: Cluster, nonsense: str) -> None:
    cluster.founders = (1, 2)
    await cluster.start(1, peers={2: nonsense})
    await eventually(lambda: any(peer.last_error for peer in cluster[1].status.peers))
    assert cluster.running[1].error is None


@pytest.mark.also_threads
async def test_a_disk_that_takes_long_stops_neither_heartbeats_nor_reads(cluster: Cluster) -> None:
    cluster.settings = attrs.evolve(cluster.settings, stall_ticks=0)
    await cluster.start_all(3)
    await cluster.write(b"a")
    leader = await cluster.leader()
    number, before = cluster.number_of(leader), leader.status
    for running in cluster.running.values():
        running.valve.open.clear()
    hung: list[bytes] = []

    async def propose() -> None:
        hung.append(await leader.propose(b"b"))

    async with anyio.create_task_group() as group:
        group.start_soon(propose)
        for _ in range(20):  # longer together than any election timeout: each waits for heartbeats to be answered
            assert await leader.read(b"a", timeout=10.0) == b"1"
            await anyio.sleep(0.02)
        assert hung == []
        assert (leader.status.term, leader.status.role) == (before.term, RoleName.LEADER)
        for running in cluster.running.values():
            running.valve.open.set()
    assert hung == [b"2"]
    assert cluster.number_of(await cluster.leader()) == number


async def test_a_node_with_a_hung_disk_can_be_left_in_bounded_time(cluster: Cluster) -> None:
    cluster.host = attrs.evolve(cluster.host, stop_timeout=100 * MILLISECOND)
    await cluster.start_all(1)
    await cluster.write(b"a")
    hung = cluster.running[1]
    hung.valve.open.clear()
    outcomes: list[Exception] = []

    async def propose() -> None:
        try:
            await hung.up.propose(b"b")
        except OutcomeUnknown as unknown:
            outcomes.append(unknown)

    async with anyio.create_task_group() as group:
        group.start_soon(propose)
        await eventually(lambda: hung.up.status.waiting_clients == 1)
        await cluster.stop(1)
    assert len(outcomes) == 1
    assert not hung.valve.closed  # the thread that hangs in it may still use it
    hung.valve.open.set()
    await eventually(lambda: not lane_threads())
    hung.valve.close()


async def test_a_disk_that_fails_ends_its_node_with_the_error_and_loses_nothing(cluster: Cluster) -> None:
    await cluster.start_all(3)
    await cluster.write(b"a")
    leader = await cluster.leader()
    failing = cluster.running.pop(cluster.number_of(leader))
    failing.valve.broken = True
    with suppress(OutcomeUnknown):  # the others may commit what the broken disk did not take
        await leader.propose(b"b", timeout=10.0)
    with anyio.fail_after(10):
        await failing.ended.wait()
    assert isinstance(failing.error, StorageBroken)
    assert failing.valve.closed
    await cluster.write(b"c")
    logs = [running.machine.commands for running in cluster.running.values()]
    await eventually(lambda: all(commands[:1] == [b"a"] and commands[-1] == b"c" for commands in logs))


async def test_a_failing_node_cancels_the_block_that_uses_it(cluster: Cluster) -> None:
    valve = Valve(FileStore.open(cluster.directory / "1", node=1, cluster="test", segment_bytes=1 << 17))
    cluster.founders = (1,)

    async def use() -> None:
        async with cluster.open_node(cluster.config(1, valve), Ledger()):
            valve.broken = True
            await anyio.sleep_forever()

    with pytest.raises(StorageBroken):
        await use()
    assert valve.closed


async def test_an_exception_of_the_machine_ends_the_node_and_skips_no_entry(cluster: Cluster) -> None:
    await cluster.start_all(1)
    await cluster.write(b"a")
    running = cluster.running[1]
    with pytest.raises(OutcomeUnknown):
        await running.up.propose(b"poison")
    with anyio.fail_after(10):
        await running.ended.wait()
    assert isinstance(running.error, MachineBroken)
    assert isinstance(running.error.__cause__, ValueError)
    assert running.machine.commands == [b"a"]


async def test_what_the_block_raises_leaves_it_as_it_is(cluster: Cluster) -> None:
    valve = Valve(FileStore.open(cluster.directory / "1", node=1, cluster="test", segment_bytes=1 << 17))
    cluster.founders = (1,)
    with pytest.raises(KeyError, match="mine"):
        async with cluster.open_node(cluster.config(1, valve), Ledger()):
            raise KeyError("mine")
    assert valve.closed


@pytest.mark.also_threads
async def test_an_address_that_is_taken_is_told_and_the_store_is_closed(cluster: Cluster) -> None:
    await cluster.start_all(1)
    valve = Valve(FileStore.open(cluster.directory / "2", node=2, cluster="test", segment_bytes=1 << 17))
    config = attrs.evolve(cluster.config(2, valve), listen=cluster[1].address, members={2: "127.0.0.1:1"})
    with pytest.raises(OSError, match="in use"):
        async with cluster.open_node(config, Ledger()):
            pass
    assert valve.closed


@pytest.mark.also_threads
async def test_a_data_directory_that_is_in_use_is_refused(cluster: Cluster) -> None:
    await cluster.start_all(1)
    config = attrs.evolve(cluster.config(1, cluster.running[1].valve), store=None, data=cluster.directory / "1")
    with pytest.raises(DirectoryInUse):
        async with cluster.open_node(config, Ledger()):
            pass
    await cluster.write(b"a")


@pytest.mark.also_threads
async def test_a_whole_cluster_that_restarts_still_has_every_acknowledged_command(cluster: Cluster) -> None:
    await cluster.start_all(3)
    commands = [b"%d" % number for number in range(20)]
    for command in commands:
        await cluster.write(command)
    for number in (1, 2, 3):
        await cluster.stop(number)
    for number in (1, 2, 3):
        await cluster.start(number)
    await cluster.write(b"last")
    await cluster.agree(*commands, b"last")


async def test_a_long_replay_lets_others_run_all_the_while(cluster: Cluster) -> None:
    await cluster.start_all(1)
    async with anyio.create_task_group() as group:
        await cluster.leader()
        for number in range(300):
            group.start_soon(cluster[1].propose, b"%d" % number)
    await cluster.stop(1)
    cluster.settings = attrs.evolve(cluster.settings, max_apply_bytes=1)
    machine = Watched()
    async with anyio.create_task_group() as group:
        group.start_soon(machine.watch)
        await cluster.start(1, machine=machine)
        await eventually(lambda: len(machine.commands) == 300)
        group.cancel_scope.cancel()
    assert len(set(machine.seen)) > 100


class Watched(Ledger):
    """Notes at each command how often another task has run."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self.seen: list[int] = []

    async def watch(self) -> None:
        while True:
            self.turns += 1
            await anyio.lowlevel.checkpoint()

    def apply(self, index: Index, command: bytes) -> bytes:
        self.seen.append(self.turns)
        return super().apply(index, command)


@pytest.mark.also_threads
async def test_a_node_that_is_far_behind_is_given_a_snapshot(cluster: Cluster) -> None:
    cluster.settings = attrs.evolve(cluster.settings, snapshot_entries=40, keep_entries=4, keep_bytes=1)
    cluster.host = attrs.evolve(cluster.host, chunk_bytes=300)
    await cluster.start_all(3)
    await cluster.write(b"first")
    behind = cluster.number_of((await cluster.followers())[0])
    await cluster.stop(behind)
    commands = [b"%d" % number for number in range(200)]
    for command in commands:
        await cluster.write(command)
    running = await cluster.start(behind)
    await cluster.agree(b"first", *commands)
    assert running.machine.restored > 0


@pytest.mark.also_threads
async def test_a_node_that_ends_leaves_no_thread_behind(cluster: Cluster) -> None:
    await cluster.start_all(3)
    await cluster.write(b"a")
    assert lane_threads()
    for number in (1, 2, 3):
        await cluster.stop(number)
    await eventually(lambda: not lane_threads())
    assert not cluster.running


async def test_nodes_that_have_ended_leave_no_descriptor_open(cluster: Cluster) -> None:
    """One that gave a snapshot and one that was given it, in both directions."""
    cluster.settings = attrs.evolve(cluster.settings, snapshot_entries=40, keep_entries=4, keep_bytes=1)
    await cluster.start_all(3)
    await cluster.write(b"a")
    for number in (1, 2, 3):
        await cluster.stop(number)
    before = len(os.listdir("/proc/self/fd"))  # with what the event loop has opened for itself by now
    for number in (1, 2, 3):
        await cluster.start(number)
    behind = cluster.number_of((await cluster.followers())[0])
    await cluster.stop(behind)
    for number in range(100):
        await cluster.write(b"%d" % number)
    running = await cluster.start(behind)
    await eventually(lambda: running.machine.restored > 0)
    for number in (1, 2, 3):
        await cluster.stop(number)
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def is_closed(stream: SocketStream) -> bool:
    """The other side has closed the connection, after whatever it had to say."""
    with anyio.fail_after(10), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            await stream.receive()
    return True


def lane_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("node ")]
