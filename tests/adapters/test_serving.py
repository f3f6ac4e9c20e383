"""`serve` of both adapters: signals, failures and the end of the application; and what `open_node` takes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

import raft_anyio
import raft_trio
from raft_core.errors import CallerError, MachineBroken, Refused
from raft_core.node.config import NodeConfig
from raft_kv.demo.cluster import free_ports
from raft_objects import CommandFailed, Objects

from ..objects.cluster import BACKENDS, config, run
from ..objects.samples import Bank

backends = pytest.mark.parametrize("backend", BACKENDS, ids=["-".join(backend) for backend in BACKENDS])


def packaged(backend: tuple[str, str]) -> Any:
    return {"raft_trio": raft_trio, "raft_anyio": raft_anyio}[backend[0]]


def alone(tmp_path: Path) -> NodeConfig:
    return config(1, free_ports(1), tmp_path)


@backends
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_node_and_application_in_order(
    backend: tuple[str, str], number: signal.Signals, tmp_path: Path
) -> None:
    told: list[str] = []
    before = signal.getsignal(number)

    async def app(node: Any) -> None:
        await node.ready(timeout=20)
        try:
            signal.raise_signal(number)
            await anyio.sleep_forever()
        finally:
            told.append(node.status.phase)

    run(backend, lambda: packaged(backend).serve(alone(tmp_path), Bank(), app))

    assert told == ["running"]
    assert signal.getsignal(number) == before


STUBBORN = """
import sys
import anyio, {package}
from raft_core.node.config import NodeConfig
from tests.objects.samples import Bank

async def app(node):
    await node.ready(timeout=20)
    print("ready", flush=True)
    try:
        await anyio.sleep_forever()
    finally:
        print("cleaning", flush=True)
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

config = NodeConfig(1, {{1: "127.0.0.1:{port}"}}, data=sys.argv[1])
anyio.run({package}.serve, config, Bank(), app, backend="{loop}")
"""


@backends
def test_second_signal_ends_a_process_whose_application_does_not_end(backend: tuple[str, str], tmp_path: Path) -> None:
    script = STUBBORN.format(package=backend[0], loop=backend[1], port=free_ports(1)[0])
    command = [sys.executable, "-c", script, str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in ("ready", "cleaning"):
                assert process.stdout.readline().strip() == line
                process.send_signal(signal.SIGTERM)
            assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()


@backends
def test_application_that_returns_or_raises_ends_the_node(backend: tuple[str, str], tmp_path: Path) -> None:
    async def returns(node: Any) -> None:
        await node.ready(timeout=20)

    async def raises(node: Any) -> None:
        raise ZeroDivisionError

    run(backend, lambda: packaged(backend).serve(alone(tmp_path), Bank(), returns))
    with pytest.raises(ZeroDivisionError):
        run(backend, lambda: packaged(backend).serve(alone(tmp_path), Bank(), raises))


@backends
def test_broken_machine_is_raised_by_serve(backend: tuple[str, str], tmp_path: Path) -> None:
    bank = Bank()

    async def app(node: Any) -> None:
        await bank.bug("ada")

    with pytest.raises(MachineBroken) as caught:
        run(backend, lambda: packaged(backend).serve(alone(tmp_path), bank, app))
    assert isinstance(caught.value.__cause__, CommandFailed)


@backends
def test_open_node_takes_an_object_or_several(backend: tuple[str, str], tmp_path: Path) -> None:
    async def test() -> None:
        at = alone(tmp_path)
        for number in (1, 2):  # the second one reads what the first one left
            bank = Bank()
            async with packaged(backend).open_node(at, bank):
                assert await bank.deposit("ada", 5) == 5 * number
        bank = Bank()
        objects = Objects({"main": bank}, version=2)
        async with packaged(backend).open_node(at, objects) as node:
            await node.ready(timeout=20)
            assert bank.balance.here("ada") == 10
            await objects.enable(2)
            assert objects.enabled == 2
        with pytest.raises(Refused):
            await objects.enable(2)

    run(backend, test)


@backends
def test_objects_that_ran_before_are_refused(backend: tuple[str, str], tmp_path: Path) -> None:
    """Their state would be applied twice: once in memory, once from the disk."""

    async def test() -> None:
        at = alone(tmp_path)
        bank = Bank()
        objects = Objects({"bank": bank})
        async with packaged(backend).open_node(at, objects):
            await bank.deposit("ada", 5)
        for again in (objects, objects.machine, bank):
            with pytest.raises(CallerError):
                async with packaged(backend).open_node(at, again):
                    pass

    run(backend, test)


def test_class_in_place_of_an_instance_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(CallerError):
            async with raft_anyio.open_node(alone(tmp_path), Bank):  # type: ignore[arg-type]
                pass

    run(BACKENDS[0], test)
