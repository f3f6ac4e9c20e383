"""Pages of the reference, in Markdown, made from the docstrings of every public name.

A docstring is Markdown already: names in backticks, indented blocks as code. Fields are described by the string after
them, which only the source has; so fields are read from there.
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from raft_core.setting_help import SettingsDoc

PAGES = {
    "core": ("The protocol core", ["raft_core"]),
    "node": (
        "Nodes",
        ["raft_core.node.config", "raft_core.node.limits", "raft_core.node.api", "raft_core.node.status"],
    ),
    "adapters": ("Adapters", ["raft_trio", "raft_anyio"]),
    "state_machines": (
        "State machines",
        ["raft_core.state_machine", "raft_core.typed_state_machine", "raft_core.sessions"],
    ),
    "objects": ("Replicated objects", ["raft_objects"]),
    "stores": ("Stores", ["raft_storage", "raft_core.store"]),
    "testing": (
        "Testing tools",
        [
            "raft_testing.sim.runner",
            "raft_testing.sim.report",
            "raft_testing.workloads.registers",
            "raft_testing.linearizability.checker",
            "raft_testing.linearizability.history",
            "raft_testing.linearizability.models",
            "raft_testing.disk.store_conformance",
            "raft_testing.disk.crash_disk",
            "raft_testing.model_checker.search",
            "raft_testing.trace.records",
            "raft_testing.trace.replay",
        ],
    ),
}
SETTINGS = (
    "raft_core.node.config:NodeConfig",
    "raft_core.node.limits:NodeLimits",
    "raft_core.settings:Settings",
    "raft_core.node.security:TLS",
    "raft_core.sessions:SessionLimits",
)
IN_NANOSECONDS = {"tick_nanoseconds", "lifetime", "leader_wait"}  # the others say so by their default
UNITS = {"_KIB": "KiB", "_MIB": "MiB", "SECOND": "s", "MILLISECOND": "ms"}


def write(folder: Path) -> None:
    """Write all pages into `folder`, changing only those that differ."""
    folder.mkdir(exist_ok=True)
    texts = {name: _page(title, modules) for name, (title, modules) in PAGES.items()}
    texts["settings"] = _settings()
    for name, text in texts.items():
        file = folder / f"{name}.md"
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")


def _page(title: str, names: list[str]) -> str:
    return f"# {title}\n\n" + "\n".join(_module(importlib.import_module(name)) for name in names)


def _module(module: ModuleType) -> str:
    parts = [f"## {module.__name__}\n", inspect.getdoc(module) or "", ""]
    elsewhere = []
    for name in module.__all__:
        thing = getattr(module, name)
        home = getattr(thing, "__module__", module.__name__)
        if module.__name__ in ("raft_trio", "raft_anyio") and not str(home).startswith(module.__name__):
            elsewhere.append(f"`{name}`")
            continue
        parts += _entry(name, thing)
    if elsewhere:
        parts += ["Also exported, and described with the core and nodes: " + ", ".join(elsewhere) + ".", ""]
    return "\n".join(parts)


def _entry(name: str, thing: object) -> Iterator[str]:
    if inspect.isclass(thing) and issubclass(thing, enum.Enum):
        yield from (f"### {name}\n", _doc(thing), "")
        yield from (f"- `{member.name}`" for member in thing)
        yield ""
    elif inspect.isclass(thing):
        shape = f"({thing.__base__.__name__})" if issubclass(thing, BaseException) else _signature(thing)
        yield from (f"### {name}\n", f"```python\nclass {name}{shape}\n```\n", _doc(thing), "")
        yield from _members(thing)
    elif inspect.isroutine(thing):
        yield from (f"### {name}\n", f"```python\n{name}{_signature(thing)}\n```\n", _doc(thing), "")
    else:
        shown = repr(thing).replace("\n", " ")
        text = shown if len(shown) < 400 else shown[:400] + " …"
        yield from (f"### {name}\n", f"```text\n{text}\n```\n")


def _members(kind: type) -> Iterator[str]:
    for name, (annotation, default, text) in _fields(kind).items():
        shown = f"`{name}: {annotation}`" + (f" = `{default}`" if default else "")
        yield f"- {shown}" + (f"\n\n{_indented(text)}" if text else "")
    yield ""
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield from (f"#### {kind.__name__}.{name}\n", _doc(member), "")
        elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            prefix = "async " if inspect.iscoroutinefunction(function) else ""
            block = f"```python\n{prefix}{name}{_signature(function)}\n```\n"
            yield from (f"#### {kind.__name__}.{name}()\n", block, _doc(function), "")


def _fields(kind: type) -> dict[str, tuple[str, str, str]]:
    """Return annotation, default and description of each public field, as the source has them."""
    try:
        tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)).body
    found = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if node.target.id.startswith("_"):
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            text = inspect.cleandoc(after.value.value)
        found[node.target.id] = (ast.unparse(node.annotation), _default(node.value), text)
    return found


def _default(node: ast.expr | None) -> str:
    if node is None:
        return ""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "attrs.field":
        given = {word.arg: word.value for word in node.keywords}
        if "factory" in given:
            return f"{ast.unparse(given['factory'])}()"
        return _default(given.get("default"))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and ast.unparse(node.right) in UNITS:
        return f"{ast.unparse(node.left)} {UNITS[ast.unparse(node.right)]}"
    return ast.unparse(node)


def _settings() -> str:
    parts = ["# Settings\n", "All settings with their defaults, made from the classes.\n"]
    for path in SETTINGS:
        module, _, name = path.partition(":")
        kind = getattr(importlib.import_module(module), name)
        parts += [
            f"## {name}\n",
            _doc(kind),
            "",
            "| field | type | unit | default | meaning |",
            "| --- | --- | --- | --- | --- |",
        ]
        for field, (annotation, default, text) in _fields(kind).items():
            shown = f"`{default}`" if default else ""
            cells = (f"`{field}`", f"`{annotation}`", _unit(field, default), shown, " ".join(text.split()))
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("")
    return "\n".join(parts)


def _unit(field: str, default: str) -> str:
    """Return the unit of a setting; "" for a number of things, a text or a flag."""
    if field in IN_NANOSECONDS or default.endswith(("ms", " s")):
        return "ns"
    if field == "lowest_rate":
        return "bytes/s"
    if field.endswith("_percent"):
        return "%"
    return next((unit for unit in ("ticks", "bytes") if field.endswith(f"_{unit}")), "")


def _doc(thing: object) -> str:
    whole = vars(thing).get("__doc__") if inspect.isclass(thing) else None  # its fields have entries of their own here
    text = inspect.cleandoc(whole.text) if isinstance(whole, SettingsDoc) else inspect.getdoc(thing) or ""
    return re.sub(r"(?m)^(?=[#*+|>])", r"\\", re.sub(r"(\w)\*\*(\w)", r"\1\\*\\*\2", text))


def _indented(text: str) -> str:
    return "\n".join("  " + line if line else "" for line in text.splitlines())


def _signature(thing: object) -> str:
    try:
        text = str(inspect.signature(thing))  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return "(...)"
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)  # a default that is a class
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are texts
