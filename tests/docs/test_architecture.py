"""The order of the packages and of the modules within the core, read from the sources."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "raft_core",
    "raft_storage",
    "raft_testing",
    "raft_tls",
    "raft_trio",
    "raft_anyio",
    "raft_objects",
    "raft_kv",
)

MAY_IMPORT: dict[str, set[str]] = {
    "raft_core": {"raft_core", "attrs", "cattrs", "msgspec", "mypy_extensions"},
    "raft_storage": {"raft_core", "raft_storage", "attrs", "msgspec", "mdbx", "rocksdict"},
    "raft_testing": {"raft_core", "raft_storage", "raft_testing", "attrs", "cattrs", "msgspec"},
    "raft_tls": {"raft_core", "raft_tls", "attrs"},
    "raft_trio": {"raft_core", "raft_storage", "raft_tls", "raft_trio", "attrs", "trio"},
    "raft_anyio": {"raft_core", "raft_storage", "raft_tls", "raft_anyio", "attrs", "anyio"},
    "raft_objects": {"raft_core", "raft_anyio", "raft_objects", "raft_testing", "attrs", "msgspec", "anyio", "cronsim"},
    "raft_kv": {
        "raft_core",
        "raft_storage",
        "raft_tls",
        "raft_trio",
        "raft_anyio",
        "raft_kv",
        "attrs",
        "cryptography",
        "cattrs",
        "msgspec",
        "trio",
        "anyio",
        "h11",
        "hiredis",
        "rich",
    },
}

PURE = {  # what pure packages may use of the standard library: nothing that reads, writes, waits or knows the time
    "__future__",
    "abc",
    "array",
    "ast",
    "base64",
    "binascii",
    "bisect",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "datetime",
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
PURE_PACKAGES = ("raft_core", "raft_testing")
BY_STRING = {
    "raft_testing.__main__",  # takes names of users' classes as arguments
    "raft_storage.location",  # an engine's package is an extra: it may be missing
}
OWN_FILES = {"raft_testing.trace.html": {"importlib"}}  # reads its page's style and script, which are in the package
COMMAND_LINE = {"raft_testing.__main__", "raft_testing.cli"}  # may parse arguments, start processes and print

# The modules of the protocol, from the ground up: each imports only from those above it.
ORDER = (
    "_moved",
    "compiled",
    "structs",
    "ids",
    "errors",
    "features",
    "membership",
    "membership_history",
    "entries",
    "quorum",
    "requests",
    "messages",
    "events",
    "effects",
    "setting_help",
    "setting_types",
    "settings",
    "roles.transitions",
    "validation",
    "recovered",
    "log",
    "state_values",
    "outbox",
    "progress",
    "pending",
    "apply",
    "snapshots",
    "server",
    "roles.role",
    "roles.replication",
    "roles.read_index",
    "roles.proposals",
    "roles.membership_change",
    "roles.leadership_transfer",
    "roles.follower",
    "roles.candidate",
    "roles.leader",
    "status",
    "explain",
    "quiet",
    "state_codec",
    "raft",
    "invariants",
)
BESIDE = {  # modules of the core that may use the protocol, and that the protocol does not use
    "state_machine",
    "typed_state_machine",
    "backup_format",
    "session_table",
    "sessions",
    "store",
    "quorum_loss",
    "explain",
    "describe",
    "recorder",
}

MOVED = {"testing", "host", "machine", "typed", "storage", "salvage", "trace"}
"""Modules of release 0.1 that only say where they went."""

LOWER: dict[str, set[str]] = {  # parts of the core, and what their modules may not import
    "raft_core.wire": {"raft_core.node", "raft_core.wal", "raft_core.raft"},
    "raft_core.wal": {"raft_core.node", "raft_core.wire", "raft_core.raft"},
    "raft_core.roles": {"raft_core.node", "raft_core.wire", "raft_core.wal", "raft_core.raft"},
}

FORBIDDEN_CALLS = {"open", "input", "print", "exec", "eval", "breakpoint"}


@cache
def modules(package: str) -> tuple[tuple[str, ast.Module], ...]:
    """Return every module of a package with its dotted name."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found.append((name, ast.parse(path.read_text(), str(path))))
    return tuple(found)


def pure_modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PURE_PACKAGES:
        for name, tree in modules(package):
            if name not in COMMAND_LINE:
                yield name, tree


@cache
def imported(tree: ast.AST) -> frozenset[str]:
    """Return every module that is imported anywhere in the file, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def standard(name: str) -> bool:
    return name in sys.stdlib_module_names


def begins_with(module: str, prefixes: set[str]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_downwards(package: str) -> None:
    for name, tree in modules(package):
        used = {module.split(".")[0] for module in imported(tree)}
        strange = {one for one in used if not standard(one)} - MAY_IMPORT[package]
        if name in COMMAND_LINE:
            strange -= {"rich"}
        assert not strange, f"{name} imports {sorted(strange)}"


def circle(uses: dict[str, set[str]]) -> list[str]:
    """Return modules each of which imports the next, and the last the first; empty where there are none."""
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        for used in sorted(uses[name]):
            found = visit(used)
            if found:
                return found
        path.pop()
        done.add(name)
        return []

    return next((found for name in sorted(uses) if (found := visit(name))), [])


@pytest.mark.parametrize("package", PACKAGES)
def test_package_has_no_circular_imports(package: str) -> None:
    """What only the type checker or a function imports counts as well."""
    trees = dict(modules(package))
    uses = {name: set(imported(tree) & set(trees)) - {name} for name, tree in trees.items()}
    for name in uses:
        uses[name] = {used for used in uses[name] if not name.startswith(f"{used}.")}  # a module's own package

    assert not circle(uses)


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_imported_by_string(package: str) -> None:
    for name, tree in modules(package):
        if name in BY_STRING:
            continue
        for node in ast.walk(tree):
            called = node.func if isinstance(node, ast.Call) else None
            text = (
                called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
            )
            assert text not in {"import_module", "__import__"}, f"{name} imports a module by a string"


def test_pure_packages_use_no_module_that_reads_writes_waits_or_tells_time() -> None:
    for name, tree in pure_modules():
        used = {module.split(".")[0] for module in imported(tree)}
        strange = {one for one in used if standard(one)} - PURE - OWN_FILES.get(name, set())
        assert not strange, f"{name} imports {sorted(strange)}"


def test_pure_packages_do_no_io() -> None:
    for name, tree in pure_modules():
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Global), f"{name} has global state"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS, f"{name} calls {node.func.id}"


def test_only_the_loop_shared_by_adapters_awaits() -> None:
    """It awaits what an adapter hands in; that it imports no event loop is checked with all other imports."""
    for name, tree in pure_modules():
        if name == "raft_core.node.loop":
            continue
        for node in ast.walk(tree):
            assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor), name


def test_pure_packages_draw_no_global_random_numbers() -> None:
    """`random.Random(seed)` may be made; the functions of the module share one hidden, unseeded generator."""
    for name, tree in pure_modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "random":
                assert {alias.name for alias in node.names} <= {"Random"}, name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
                assert node.attr == "Random", f"{name} uses random.{node.attr}"


def test_protocol_draws_only_random_from_its_generator() -> None:
    """Only the sequence of `random()` is the same in every version of Python."""
    drawn = set()
    for name, tree in modules("raft_core"):
        if name.startswith("raft_core.node"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "rng":
                assert node.attr == "random", f"{name} draws rng.{node.attr}"
                drawn.add(name)

    assert len(drawn) == 1, f"one module draws: {sorted(drawn)}"


def test_protocol_modules_import_only_from_below() -> None:
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


def test_every_module_of_the_core_has_a_place() -> None:
    parts = {"roles", "node", "wire", "wal"}
    top = {name.split(".")[1] for name, _ in modules("raft_core") if "." in name}

    assert top - parts - BESIDE - MOVED <= {name.split(".")[0] for name in ORDER}


def test_roles_do_not_import_one_another() -> None:
    roles = {"raft_core.roles.follower", "raft_core.roles.candidate", "raft_core.roles.leader"}
    for name, tree in modules("raft_core"):
        if name in roles:
            assert not (imported(tree) & (roles - {name})), name


@pytest.mark.parametrize("part", LOWER)
def test_parts_of_the_core_import_only_downwards(part: str) -> None:
    for name, tree in modules("raft_core"):
        if name.startswith(part):
            for module in imported(tree):
                assert not begins_with(module, LOWER[part]), f"{name} imports {module}"


def test_adapters_do_not_know_each_other() -> None:
    for package, other in (("raft_trio", "anyio"), ("raft_anyio", "trio")):
        for name, tree in modules(package):
            used = {module.split(".")[0] for module in imported(tree)}
            assert not used & {other, f"raft_{other}"}, name


def test_adapters_never_look_at_the_protocol() -> None:
    """They know effects by type alone: terms, roles and messages are decided below them."""
    secret = {"raft_core.raft", "raft_core.messages", "raft_core.roles", "raft_core.log", "raft_core.server"}
    for package in ("raft_trio", "raft_anyio"):
        for name, tree in modules(package):
            assert not any(begins_with(module, secret) for module in imported(tree)), name


def test_every_module_has_a_docstring() -> None:
    for package in PACKAGES:
        for name, tree in modules(package):
            if tree.body:
                assert ast.get_docstring(tree), name


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_is_too_long_to_read_in_one_sitting(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        lines = sum(line.strip() != '"""' for line in path.read_text().splitlines())  # closing quotes are not code
        assert lines <= 520, f"{path.relative_to(ROOT)} has {lines} lines"
