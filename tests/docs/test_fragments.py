"""Fragments of the guides are carried out as they stand there: those of objects on one node that all of them share."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Final

import anyio
import pytest
import yaml

import raft_objects
from raft_anyio import CallerError, NodeConfig, OutcomeUnknown, Refused, open_node
from raft_core import Applied, Apply, Effect, Event, Persist, Persisted, Proposed, Raft, Tick
from raft_core.effects import RoleName
from raft_core.membership import Members
from raft_core.node.events import TimerFired
from raft_core.settings import Settings
from raft_kv.users.file import users_of_file
from raft_objects import Objects, Replicated, blocking, command
from raft_objects.entries import entry_of, take_old_fields
from raft_objects.queue_table import QueueTable
from raft_objects.queues import Queue
from raft_objects.running import open_objects
from raft_storage import FileStore
from tests.adapters.kit import Ledger
from tests.docs.blocks import blocks, fragment
from tests.node.cluster import Cluster

DOCS: Final = Path(__file__).parents[2] / "docs"
LONGEST: Final = 20.0


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
    work, objects = Work(), Objects({})
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
    names = ("locks", "queue", "map", "schedule", "barrier", "rate", "counters")
    locks, queue, settings, schedules, barriers, rates, counters = (
        Fragment(fragment("objects.md", name), space) for name in names
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


def test_first_program_of_that_page_and_its_parts_for_threads_run(tmp_path: Path) -> None:
    addresses = '{1: "a:7101", 2: "b:7101", 3: "c:7101"}'
    program = fragment("objects.md", "bank")
    own = program.replace(addresses, '{1: "127.0.0.1:0"}').replace('"bank-1"', repr(str(tmp_path / "bank")))
    assert own != program
    space = offered()
    Fragment(own, space)
    anyio.run(space["main"])

    config = NodeConfig(1, {1: "127.0.0.1:0"}, data=tmp_path / "bank")
    bank = space["Bank"]()
    Fragment(
        fragment("objects.md", "threads"),
        {**space, "bank": bank, "table": space["LockTable"](), "blocking": blocking, "config": config},
    )
    reopened = space["Bank"]()
    with blocking.open_objects(config, Objects({"bank": reopened, "locks": space["LockTable"]()})) as cluster:
        assert cluster.call(reopened.balance, "ada") == 15


def test_worker_of_that_page_ends_once_the_cluster_is_closed(tmp_path: Path) -> None:
    config, work = NodeConfig(1, {1: "127.0.0.1:0"}, data=tmp_path / "jobs"), Work()
    table = QueueTable[str]()
    jobs = Queue(table)
    with blocking.open_objects(config, Objects({"jobs": table})) as cluster:
        space = {**offered(), "cluster": cluster, "jobs": jobs, "work": work.note("work")}
        space |= {"Refused": Refused, "OutcomeUnknown": OutcomeUnknown, "CallerError": CallerError}
        Fragment(fragment("objects.md", "worker"), space)
        thread = threading.Thread(target=space["worker"])
        thread.start()
        cluster.call(jobs.put, "the job")
        deadline = time.monotonic() + LONGEST
        while "work" not in work.done and time.monotonic() < deadline:
            time.sleep(0.01)
    thread.join(LONGEST)

    assert work.done["work"] == [("the job",)]
    assert not thread.is_alive()


def test_error_of_that_page_is_made_anew_from_its_arguments() -> None:
    space = offered()
    Fragment(fragment("objects.md", "too few"), space)

    failure = space["TooFew"](*space["TooFew"]("ada", 3).args)
    assert (failure.account, failure.left) == ("ada", 3)


def test_unit_test_of_that_page_passes() -> None:
    space = offered()
    Fragment(fragment("objects.md", "bank"), space)

    code = compile(fragment("objects.md", "unit test"), "unit test", "exec")
    exec(code, {**space, "raft_objects": raft_objects})


def test_versions_of_that_page_are_declared_as_written() -> None:
    class Orders(Replicated):
        @command
        def order(self, item: str) -> None: ...

    space = {**offered(), "Annotated": Annotated, "Orders": Orders}
    Fragment(fragment("objects.md", "versions"), space)
    assert space["objects"].version == 2


def test_old_fields_of_that_page_rename_and_drop() -> None:
    space: dict[str, Any] = {"Replicated": Replicated}
    exec(fragment("objects.md", "old fields"), space)
    fields = {"balances": {"ada": 5}, "notes": ["paid"]}
    bank = space["Bank"]()
    object.__setattr__(bank, "accounts", {})
    take_old_fields(entry_of("bank", bank, 1, (), 1), fields)

    assert fields == {"accounts": {"ada": 5}}


def test_fragments_of_other_pages_run_on_a_node(tmp_path: Path) -> None:
    shown: list[tuple[object, ...]] = []
    pages = {
        "using-a-node.md": ["features", "shown"],
        "monitoring.md": ["metrics", "registry"],
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
            for page, names in pages.items():
                for name in names:
                    for part in Fragment(fragment(page, name), space).parts():
                        with anyio.move_on_after(0.2):  # some show what happens for ever
                            await part.run()
            assert await node.read(b"refund") == b"1"
            assert "raft_" in str(space["text"])
            assert any(len(words) == 3 for words in shown), "a change of role has three words"

    anyio.run(main)


def test_fragments_of_pages_about_the_parts_below_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tls: dict[str, Any] = {}
    Fragment(fragment("security.md", "tls"), tls)
    assert tls["config"].tls.authorities == "ca.crt"

    node = Cluster(1)[1]
    node.start()
    handle = {"host": node.host, "events": [TimerFired()], "now": 1, "wall": 1}
    Fragment(fragment("adapters.md", "handle"), handle)
    assert isinstance(handle["effects"], list)

    start: dict[str, Any] = {"FileStore": FileStore, "Raft": Raft, "Members": Members, "secrets": secrets}
    text = fragment("embedding.md", "start").replace("stock-1", str(tmp_path / "stock-1"))
    new = FileStore.open(str(tmp_path / "stock-1"), node=1, cluster="stock")
    new.close()
    found: dict[str, Any] = {}
    for founders in ({1: new.identity.incarnation}, {}):  # the first start, and a restart
        exec(text, start | {"founders": founders}, found)
        found["store"].close()
        assert found["recovered"].formed
        assert found["core"].status.members.voters == (1,)

    rules = next(block for block in blocks(DOCS / "monitoring.md") if block.mark == "checked: rules")
    (group,) = yaml.safe_load(rules.text)["groups"]
    named = set(re.findall(r"\braft_\w+?(?=_bucket|\b)", " ".join(rule["expr"] for rule in group["rules"])))
    assert named <= set(re.findall(r"`(raft_\w+)`", (DOCS / "monitoring.md").read_text("utf-8")))


class OwnLoop:
    """The loop of a program around a core of one node, whose disk and clock are as quick as they can be."""

    def __init__(self) -> None:
        self.core = Raft.bootstrap(1, members=[1], seed=1)
        self.inbox: deque[Event] = deque()
        self.writes: list[Persist] = []
        self.applied: list[bytes] = []
        self.store = SimpleNamespace(write=lambda batch: None)

    @property
    def stopped(self) -> bool:
        return bool(self.applied)

    def wait_for_sockets(self, until: object) -> None:
        if self.core.status.role is RoleName.LEADER:
            self.inbox.append(Proposed(request=7, commands=[b"hello"]))
        self.inbox.append(Tick())

    def _carry_out_all(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self.writes.append(effect)
            elif isinstance(effect, Apply):
                self.applied += [command for _, command in effect.commands]
                self.inbox.append(Applied(effect.upto, [b"ok"] * len(effect.commands)))


def test_loop_of_the_page_about_embedding_elects_and_applies() -> None:
    loop = OwnLoop()
    space = {"self": loop, "wait_for_sockets": loop.wait_for_sockets, "next_tick": 0, "Persisted": Persisted}

    Fragment(fragment("embedding.md", "loop"), space)

    assert loop.applied == [b"hello"]


def test_dump_of_pysyncobj_is_sent_as_the_page_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table: dict[str, Any] = {"data": {"colour": "blue"}}
    dump = SimpleNamespace(consumers=[{"counter": 5}, table, {"data": ["a", "b"]}])
    read: list[object] = []
    work = Work()
    space = {
        "Money": Work,
        "visits": SimpleNamespace(add=work.waiting("add")),
        "settings": SimpleNamespace(put=work.waiting("put")),
        "jobs": SimpleNamespace(put=work.waiting("job")),
    }

    def read_that(path: str, *, classes: list[type]) -> object:
        read.append((path, classes))
        return dump

    monkeypatch.setattr("raft_objects.pysyncobj_dump.read_dump", read_that)
    anyio.run(Fragment(fragment("coming-from-pysyncobj.md", "dump"), space).run)

    assert read == [("full.dump", [Work])]
    assert work.done == {"add": [(5,)], "put": [("colour", "blue")], "job": [("a",), ("b",)]}


def test_file_of_users_is_made_as_the_page_does(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(DOCS / "operations.md") if block.mark == "shell"]
    shell = f'raft-kv() {{ "{sys.executable}" -m raft_kv "$@"; }}\n{block.text}'
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}

    subprocess.run(["bash", "-ec", shell], cwd=tmp_path, env=environment, input=b"a-long-password\n", check=True)

    users = users_of_file(str(tmp_path / "rescue.acl"))
    assert users is not None
    assert "rescue" in str(users.grants)
