"""The tables of docs/reading-the-code.md name every module of the key-value server, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_module_of_the_server_is_in_the_tables() -> None:
    text = (ROOT / "docs" / "reading-the-code.md").read_text("utf-8")
    part = text.partition("## The key-value server")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z_.]+)`", part))
    package = ROOT / "raft_kv"
    modules = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    assert modules | packages <= named | {"users"}
    whole = {f"{path.parent.name}.{path.stem}" for path in package.glob("*/*.py")}
    inner = {path.stem for path in (package / "commands").glob("*.py")}
    assert named <= modules | packages | whole | inner | {"raft_kv"}
