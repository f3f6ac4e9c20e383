"""The two packages have the same face, and each stands without the other's event loop."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import raft_anyio
import raft_trio
from raft_core import errors
from raft_core.node import events as values
from raft_core.node.config import NodeConfig

PACKAGES = (raft_trio, raft_anyio)

ONE_NODE = """
import sys
from pathlib import Path
from typing import Any
import {library}
from {package} import NodeConfig, Settings, open_node

FAST = Settings(election_ticks=10, heartbeat_ticks=1)

class Machine:
    init = lambda self: 0
    prepare = lambda self, command, now: command
    apply = lambda self, index, command: command
    query = lambda self, request: request
    snapshot = lambda self: iter(())
    restore = lambda self, chunks: None

async def main():
    config = NodeConfig(1, {{1: "127.0.0.1:0"}}, data=sys.argv[1], settings=FAST)
    async with open_node(config, Machine()) as node:
        assert await node.propose(b"a", timeout=20.0) == b"a"

{library}.run({main})
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & {{"anyio", "asyncio", "trio"}}))
"""


def modules(package: object) -> dict[str, Path]:
    file = inspect.getsourcefile(package)  # type: ignore[arg-type]
    assert file is not None
    return {path.name: path for path in Path(file).parent.glob("*.py")}


def test_both_packages_have_the_same_files_and_export_the_same_names() -> None:
    shared = modules(raft_trio).keys() & modules(raft_anyio).keys()
    assert shared == {"__init__.py", "connections.py", "loop.py", "node.py", "serving.py"}
    assert raft_trio.__all__ == raft_anyio.__all__


def _methods_of(node: type) -> Iterator[Any]:
    for base in node.__mro__:
        yield from vars(base).values()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_package_exports_what_methods_of_node_take_and_raise(package: Any) -> None:
    """A service needs no second import: classes of arguments and results, and every error that it may catch."""
    needed: set[str] = set()
    for method in (*_methods_of(package.Node), package.open_node, NodeConfig):
        for hint in getattr(inspect.unwrap(method), "__annotations__", {}).values():
            needed |= set(re.findall(r"[A-Z][A-Za-z]+", str(hint)))
    raised = {name for name in errors.__all__ if name not in ("PeerError", "FrameError", "RaftStopped", "invariant")}
    plain = {"AsyncGenerator", "AsyncIterator", "Callable", "Done", "Mapping", "None", "PathLike", "Reply", "Self"}
    plain |= {"Sequence"}
    inner = {"Answered", "Asking", "Caller", "Credentials", "Loop", "NodeCore", "NodeLoop", "NodeRequest", "Request"}

    assert needed - plain - inner <= set(package.__all__)
    assert raised <= set(package.__all__)
    assert {"AddVoter", "AddLearner", "RemoveNode", "ChangeMode"} <= set(package.__all__)


def test_both_nodes_have_the_same_methods_with_the_same_signatures_and_promises() -> None:
    def face(package: object) -> dict[str, tuple[str, str | None]]:
        node = package.Node  # type: ignore[attr-defined]
        members = {name: getattr(node, name) for name in dir(node) if not name.startswith("_")}
        return {
            name: (str(inspect.signature(member)) if callable(member) else "property", inspect.getdoc(member))
            for name, member in members.items()
        }

    assert face(raft_trio) == face(raft_anyio)
    assert inspect.signature(raft_trio.open_node) == inspect.signature(raft_anyio.open_node)
    assert raft_trio.open_node.__doc__ == raft_anyio.open_node.__doc__


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_an_adapter_knows_nothing_of_the_protocol(package: object) -> None:
    """It takes from the core what its own face shows and what it trades with the host, and asks no effect its type."""
    allowed = {"effects", "errors", "events", "node", "settings", "state_machine"}
    shown = {"_moved", "entries", "explain", "membership", "requests", "store"}
    for name, path in modules(package).items():
        source = path.read_text()
        for found in ast.walk(ast.parse(source)):
            if isinstance(found, ast.ImportFrom) and (found.module or "").startswith("raft_core"):
                module = (found.module or "").split(".")[1]
                assert module in allowed or (name == "__init__.py" and module in shown), f"{name} imports {module}"
        effects = [effect.__name__ for effect in values.NodeEffect.__args__]
        assert len(effects) == 9
        assert not [effect for effect in effects if f"is {effect}" in source or f"{effect}(" in source]


@pytest.mark.parametrize(
    ("package", "library", "main", "loaded"),
    [
        ("raft_trio", "trio", "main", {"trio"}),
        ("raft_anyio", "anyio", "main", {"anyio", "asyncio"}),
        ("raft_anyio", "anyio", 'main, backend="trio"', {"anyio", "asyncio", "trio"}),
    ],
)
def test_an_adapter_needs_no_other_event_loop(
    package: str, library: str, main: str, loaded: set[str], tmp_path: Path
) -> None:
    program = ONE_NODE.format(package=package, library=library, main=main)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= loaded, f"{package} loaded {done.stdout}"
