"""Who may import whom: the rooms of the house and the order within the core, read from the sources."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("raft_core", "raft_storage", "raft_trio", "raft_anyio", "raft_kv")

MAY_IMPORT: dict[str, set[str]] = {
    "raft_core": {"raft_core", "attrs", "cattrs", "msgspec"},
    "raft_storage": {"raft_core", "raft_storage", "attrs", "msgspec", "mdbx", "rocksdict"},
    "raft_trio": {"raft_core", "raft_storage", "raft_trio", "attrs", "trio"},
    "raft_anyio": {"raft_core", "raft_storage", "raft_anyio", "attrs", "anyio"},
    "raft_kv": {
        *PACKAGES,
        "attrs",
        "cattrs",
        "msgspec",
        "trio",
        "anyio",
        "sniffio",
        "hiredis",
        "rich",
        "redis",
        "uvloop",
    },
}

PURE = {  # what the core may use of the standard library: nothing that reads, writes, waits or knows the time
    "__future__",
    "abc",
    "array",
    "base64",
    "binascii",
    "bisect",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "difflib",
    "enum",
    "errno",
    "functools",
    "hashlib",
    "heapq",
    "html",
    "inspect",
    "io",
    "ipaddress",
    "itertools",
    "json",
    "math",
    "operator",
    "random",
    "re",
    "string",
    "struct",
    "textwrap",
    "types",
    "typing",
    "zlib",
}

DESCRIBES_ARGUMENTS = "raft_core.testing.command_line"  # and has them parsed, and done, by `__main__`

# The protocol's modules, from the ground up: each imports only from those above it.
ORDER = (
    "_value",
    "ids",
    "errors",
    "membership",
    "entries",
    "quorum",
    "messages",
    "events",
    "effects",
    "settings",
    "transitions",
    "validation",
    "recovered",
    "log",
    "configurations",
    "outbox",
    "progress",
    "reads",
    "requests",
    "compaction",
    "server",
    "stale",
    "roles.replication",
    "roles.reading",
    "roles.reconfiguration",
    "roles.handover",
    "roles.follower",
    "roles.candidate",
    "roles.leader",
    "status",
    "explain",
    "_state",
    "raft",
    "invariants",
)
BESIDE = (
    "machine",
    "typed",
    "sessions",
    "storage",
    "salvage",
    "explain",
    "trace",
    "recorder",
    "_freeze",
)  # may use the protocol


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    """Every module of a package by its dotted name."""
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(), str(path))


def imported(tree: ast.Module) -> set[str]:
    """Every module that is imported anywhere in the file, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def standard(name: str) -> bool:
    return name in sys.stdlib_module_names


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_downwards(package: str) -> None:
    for name, tree in modules(package):
        rooms = {module.split(".")[0] for module in imported(tree)}
        strange = {room for room in rooms if not standard(room)} - MAY_IMPORT[package]
        if package == "raft_core" and name == "raft_core.testing.__main__":
            strange -= {"rich"}
        assert not strange, f"{name} imports {sorted(strange)}"


def test_the_core_uses_nothing_that_reads_writes_waits_or_knows_the_time() -> None:
    for name, tree in modules("raft_core"):
        if name == "raft_core.testing.__main__":
            continue  # the command line of the simulator
        used = {module.split(".")[0] for module in imported(tree)}
        strange = {room for room in used if standard(room)} - PURE
        if name == DESCRIBES_ARGUMENTS:
            strange -= {"argparse"}
        assert not strange, f"{name} imports {sorted(strange)}"


FORBIDDEN_CALLS = {"open", "input", "print", "exec", "eval", "breakpoint"}


def test_the_core_opens_prints_and_awaits_nothing() -> None:
    for name, tree in modules("raft_core"):
        if name == "raft_core.testing.__main__":
            continue
        for node in ast.walk(tree):
            assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor), name
            assert not isinstance(node, ast.Global), f"{name} has global state"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS, f"{name} calls {node.func.id}"


def test_the_core_rolls_no_dice_but_those_it_was_given() -> None:
    """`random.Random(seed)` may be made; the functions of the module share one hidden, unseeded generator."""
    for name, tree in modules("raft_core"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "random":
                assert {alias.name for alias in node.names} <= {"Random"}, name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
                assert node.attr == "Random", f"{name} uses random.{node.attr}"


PROTOCOL_DICE = {"raft_core.server"}


def test_the_protocol_draws_random_and_nothing_else_from_its_dice() -> None:
    """Only the sequence of `random()` is the same in every version of Python."""
    drawn = set()
    for name, tree in modules("raft_core"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "rng":
                assert node.attr == "random", f"{name} draws rng.{node.attr}"
                drawn.add(name)

    assert drawn == PROTOCOL_DICE


def test_within_the_protocol_a_module_imports_only_from_those_below_it() -> None:
    rank = {f"raft_core.{name}": place for place, name in enumerate(ORDER)}
    seen = set()
    for name, tree in modules("raft_core"):
        if name not in rank:
            continue
        seen.add(name)
        for module in imported(tree):
            if module in rank and module != name:
                assert rank[module] < rank[name], f"{name} imports {module}, which stands above it"
            below = module in rank or not module.startswith("raft_core.") or module.rpartition(".")[0] in rank
            assert below or module == "raft_core.roles", f"{name} imports {module}, which is not of the protocol"

    assert seen == set(rank), "the order names every module of the protocol"


def test_every_module_of_the_core_has_a_place_in_the_order() -> None:
    rooms = {"roles", "host", "wire", "wal", "testing"}
    top = {name.split(".")[1] for name, _ in modules("raft_core") if "." in name}

    assert top - rooms - set(BESIDE) <= {name.split(".")[0] for name in ORDER}


def test_roles_do_not_know_one_another() -> None:
    roles = {"raft_core.roles.follower", "raft_core.roles.candidate", "raft_core.roles.leader"}
    for name, tree in modules("raft_core"):
        if name in roles:
            assert not (imported(tree) & (roles - {name})), name


LOWER: dict[str, set[str]] = {  # rooms of the core, and what none of their modules may import
    "raft_core.wire": {"raft_core.host", "raft_core.wal", "raft_core.testing", "raft_core.raft"},
    "raft_core.wal": {"raft_core.host", "raft_core.wire", "raft_core.testing", "raft_core.raft"},
    "raft_core.host": {"raft_core.testing"},
    "raft_core.roles": {"raft_core.host", "raft_core.wire", "raft_core.wal", "raft_core.testing", "raft_core.raft"},
}


@pytest.mark.parametrize("room", LOWER)
def test_the_rooms_of_the_core_import_only_downwards(room: str) -> None:
    for name, tree in modules("raft_core"):
        if name.startswith(room):
            for module in imported(tree):
                assert not any(module == bad or module.startswith(f"{bad}.") for bad in LOWER[room]), (
                    f"{name} imports {module}"
                )


def test_the_adapters_do_not_know_each_other() -> None:
    for package, other in (("raft_trio", "anyio"), ("raft_anyio", "trio")):
        for name, tree in modules(package):
            rooms = {module.split(".")[0] for module in imported(tree)}
            assert not rooms & {other, f"raft_{other}"}, name


def test_an_adapter_never_looks_at_the_protocol_itself() -> None:
    """It knows effects by their type alone: terms, roles and messages are the core's."""
    secret = {"raft_core.raft", "raft_core.messages", "raft_core.roles", "raft_core.log", "raft_core.server"}
    for package in ("raft_trio", "raft_anyio"):
        for name, tree in modules(package):
            used = imported(tree)
            assert not any(module == bad or module.startswith(f"{bad}.") for module in used for bad in secret), name


def test_every_module_says_what_lives_in_it() -> None:
    for package in PACKAGES:
        for name, tree in modules(package):
            if tree.body:
                assert ast.get_docstring(tree), f"{name} has no paragraph at its top"


def test_no_module_of_the_core_is_too_long_to_be_read_in_one_sitting() -> None:
    for path in sorted((ROOT / "raft_core").rglob("*.py")):
        lines = len(path.read_text().splitlines())
        assert lines <= 520, f"{path.relative_to(ROOT)} has {lines} lines"
