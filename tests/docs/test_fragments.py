"""Fragments of the guides are carried out as they stand there: those of objects on one node that all of them share."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Final

import anyio
import pytest

import raft_objects
from raft_anyio import NodeConfig, open_node
from raft_core.settings import Settings
from raft_objects import Objects, Replicated, blocking, command
from raft_objects.running import open_objects
from tests.adapters.kit import Ledger

DOCS: Final = Path(__file__).parents[2] / "docs"
LONGEST: Final = 20.0


def fragments(page: str) -> list[str]:
    """Return the page's blocks of Python that are no programs of their own."""
    text = (DOCS / page).read_text("utf-8")
    return [block for mark, block in re.findall(r"(<!--.*-->\n)?^```python\n(.*?)^```", text, re.M | re.S) if not mark]


class Fragment:
    """A block in two parts: the statements before the first one that awaits, and the others."""

    def __init__(self, code: str, space: dict[str, Any]) -> None:
        self.space = space
        tree = ast.parse(code)
        waits = (ast.Await, ast.AsyncFor, ast.AsyncWith)
        defines = (ast.AsyncFunctionDef, ast.FunctionDef, ast.ClassDef)
        awaits = [
            not isinstance(statement, defines) and any(isinstance(each, waits) for each in ast.walk(statement))
            for statement in tree.body
        ]
        first = awaits.index(True) if True in awaits else len(awaits)
        before = ast.Module(tree.body[:first], [])
        self._after = ast.Module(tree.body[first:], [])
        exec(compile(before, "fragment", "exec"), space)

    def parts(self) -> list[Fragment]:
        """Return the statements of the second part, each alone."""
        return [Fragment(ast.unparse(statement), self.space) for statement in self._after.body]

    async def run(self) -> None:
        """Carry out the second part."""
        code = compile(self._after, "fragment", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, self.space)
        if inspect.isawaitable(result):
            await result


class Work:
    """What the fragments call: each call is noted, with its arguments."""

    def __init__(self) -> None:
        self.done: dict[str, list[tuple[object, ...]]] = {}

    def waiting(self, name: str) -> Callable[..., Awaitable[None]]:
        async def call(*arguments: object, **named: object) -> None:
            self.note(name)(*arguments, *named.values())

        return call

    def note(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.done.setdefault(name, []).append(arguments)


def offered() -> dict[str, Any]:
    """Return every name that a module of `raft_objects` offers."""
    names = [info.name for info in pkgutil.iter_modules(raft_objects.__path__)]
    modules = [importlib.import_module(f"raft_objects.{name}") for name in names]
    return {name: getattr(module, name) for module in modules for name in getattr(module, "__all__", ())}


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await anyio.sleep(0.01)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_fragments_of_the_page_about_objects_run_on_one_node(loop: str, tmp_path: Path) -> None:
    code, work, objects = fragments("objects.md"), Work(), Objects({})
    space: dict[str, Any] = {
        **offered(),
        "objects": objects,
        "Job": str,
        "report": "the report",
        "store": SimpleNamespace(write=work.waiting("write")),
        "write_report": work.waiting("write_report"),
        "schedule": work.waiting("schedule"),
        "work": work.note("work"),
        "print": work.note("print"),
        "invoice": SimpleNamespace(number="7"),
    }
    words = ("Locks(", "Queue(", "Map(", "Schedules(", "Barriers(", "RateLimiter(", "visits")
    locks, queue, settings, schedules, barriers, rates, counters = (
        Fragment(next(block for block in code if f"= {word}" in block or f"{word} = " in block), space)
        for word in words
    )

    async def main() -> None:
        config = NodeConfig(1, {1: "127.0.0.1:0"}, data=tmp_path / "node")
        with anyio.fail_after(LONGEST):
            async with open_objects(config, objects):
                await space["jobs"].put("another report")  # the page's own is put for later
                for fragment in (locks, queue, rates, counters):
                    await fragment.run()
                async with anyio.create_task_group() as group:  # three parties meet
                    for _ in range(3):
                        group.start_soon(barriers.run)
                async with anyio.create_task_group() as group:  # these two go on for ever
                    group.start_soon(settings.run)
                    group.start_soon(schedules.run)
                    await until(lambda: work.done.get("print"))
                    group.cancel_scope.cancel()

    anyio.run(main, backend=loop)
    assert [arguments[0] for arguments in work.done["write"]] == ["the report"]
    assert len(work.done["write_report"]) == 1
    assert len(work.done["schedule"]) == 1
    assert work.done["work"] == [("another report",)]
    assert work.done["print"][0][1:] == ("colour", "blue")


def test_first_program_of_that_page_and_its_part_for_threads_run(tmp_path: Path) -> None:
    code = fragments("objects.md")
    addresses = '{1: "a:7101", 2: "b:7101", 3: "c:7101"}'
    (program,) = [block for block in code if addresses in block]
    own = program.replace(addresses, '{1: "127.0.0.1:0"}').replace('"bank-1"', repr(str(tmp_path / "bank")))
    space = offered()
    Fragment(own, space)
    anyio.run(space["main"])

    config = NodeConfig(1, {1: "127.0.0.1:0"}, data=tmp_path / "bank")
    bank = space["Bank"]()
    Fragment(
        next(block for block in code if "with blocking." in block),
        {**space, "bank": bank, "table": space["LockTable"](), "blocking": blocking, "config": config},
    )
    reopened = space["Bank"]()
    with blocking.open_objects(config, Objects({"bank": reopened, "locks": space["LockTable"]()})) as cluster:
        assert cluster.call(reopened.balance, "ada") == 15


def test_unit_test_of_that_page_passes() -> None:
    page = (DOCS / "objects.md").read_text("utf-8")
    block = page.partition("<!-- example: unit test -->\n```python\n")[2].partition("```")[0]
    space = offered()
    program = next(one for one in fragments("objects.md") if "class Bank" in one)
    Fragment(program, space)

    assert "deposit" in block
    exec(compile(block, "unit test", "exec"), {**space, "raft_objects": raft_objects})


def test_versions_of_that_page_are_declared_as_written() -> None:
    class Orders(Replicated):
        @command
        def order(self, item: str) -> None: ...

    space = {**offered(), "Annotated": Annotated, "Orders": Orders}
    Fragment(next(block for block in fragments("objects.md") if "Since(2)" in block), space)
    assert space["objects"].version == 2


def test_fragments_of_other_pages_run_on_a_node(tmp_path: Path) -> None:
    shown: list[tuple[object, ...]] = []
    pages = {
        "using-a-node.md": ['if "shop-refunds"', "node.status.role"],
        "monitoring.md": ["prometheus_text(", "REGISTRY.register"],
    }

    async def main() -> None:
        settings = Settings(features=("shop-refunds",))
        config = NodeConfig(1, {1: "127.0.0.1:0"}, data=tmp_path / "node", settings=settings)
        async with open_node(config, Ledger()) as node:
            await node.ready()
            space = {
                "Settings": Settings,
                "NodeConfig": NodeConfig,
                "node": node,
                "members": {1: "127.0.0.1:0"},
                "refund": b"refund",
                "print": lambda *words: shown.append(words),
            }
            for page, starts in pages.items():
                for start in starts:
                    (code,) = [block for block in fragments(page) if start in block]
                    for part in Fragment(code, space).parts():
                        with anyio.move_on_after(0.2):  # some show what happens for ever
                            await part.run()
            assert await node.read(b"refund") == b"1"
            assert "raft_" in str(space["text"])
            assert any(len(words) == 3 for words in shown), "a change of role has three words"

    anyio.run(main)
