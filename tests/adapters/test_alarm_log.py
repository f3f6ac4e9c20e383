"""Alarms of an embedded node reach the log of a program that does not look for them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest

import raft_anyio
import raft_trio
from raft_core.node.config import NodeConfig

from .kit import Ledger


@pytest.mark.parametrize("logs", [True, False], ids=["logs", "does not"])
@pytest.mark.parametrize("package", [raft_anyio, raft_trio])
def test_alarms_are_logged_unless_the_program_handles_them(
    package: Any, logs: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("no space left for the log")

    async def main() -> None:
        config = NodeConfig(1, {1: "127.0.0.1:0"}, data=str(tmp_path / "data"), log_alarms=logs)
        async with package.open_node(config, Ledger()) as node:
            await node.ready()
            for _ in range(2):
                stream = await anyio.connect_tcp(*node.address.split(":"))
                await stream.send(b"GET / HTTP/1.1\r\n\r\n")
                await stream.aclose()
            with anyio.fail_after(5):
                async for alarm in node.alarms():
                    seen.append(alarm.text)
                    break
            await node.propose(b"it lives")

    broken, logger = Broken(), logging.getLogger("raft")
    logger.addHandler(caplog.handler)  # before the one that raises
    logger.addHandler(broken)
    try:
        anyio.run(main, backend="trio" if package is raft_trio else "asyncio")
    finally:
        logger.removeHandler(broken)
        logger.removeHandler(caplog.handler)
    logged = [record for record in caplog.records if record.name == "raft"]
    assert bool(logged) is logs
    assert all(record.levelno == logging.WARNING and seen[0] in record.getMessage() for record in logged[:1])
