"""A node of a program enables a feature, uses it for good, and does not open with a version that lacks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
import trio

import raft_anyio
import raft_trio
from raft_core.errors import CallerError, FeatureUnknown, MembershipRefused
from raft_core.node.config import NodeConfig
from raft_core.settings import Settings
from tests.node.cluster import LogMachine

RUNS: list[tuple[ModuleType, Callable[..., Any]]] = [(raft_trio, trio.run), (raft_anyio, anyio.run)]


def config(directory: Path, *features: str) -> NodeConfig:
    return NodeConfig(1, {1: "127.0.0.1:0"}, data=directory, settings=Settings(features=features))


@pytest.mark.parametrize(("adapter", "run"), RUNS, ids=["trio", "anyio"])
def test_feature_is_enabled_once_and_needed_from_then_on(
    adapter: ModuleType, run: Callable[[Callable[[], Awaitable[None]]], None], tmp_path: Path
) -> None:
    async def use(*features: str, enable: str = "", used: tuple[str, ...]) -> None:
        async with adapter.open_node(config(tmp_path / "data", *features), LogMachine()) as node:
            await node.ready(timeout=20)
            if enable:
                assert node.features == ()
                with pytest.raises(MembershipRefused):
                    await node.enable_features("blue", timeout=20)
                with pytest.raises(CallerError):
                    await node.enable_features("no such name")
                with pytest.raises(CallerError):
                    await node.enable_features()
                await node.enable_features(enable, timeout=20)
            assert node.features == used
            assert node.status.features == features
            assert node.status.core.features == used

    run(partial(use, used=()))  # the older version of the program
    run(partial(use, "red", enable="red", used=("red",)))
    with pytest.raises(FeatureUnknown, match=r"red"):
        run(partial(use, used=()))
    run(partial(use, "green", "red", used=("red",)))
