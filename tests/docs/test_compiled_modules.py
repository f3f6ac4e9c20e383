"""What `setup.py` compiles: modules of logic that exist, and no class that would cease to be a value."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compiled() -> list[Path]:
    lists = {
        ast.unparse(line.targets[0]): ast.literal_eval(line.value)
        for line in ast.parse((ROOT / "setup.py").read_text()).body
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.List)
    }
    return [ROOT / name for name in (*lists["CORE"], *lists["NODE"], *lists["KV"])]


def classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]


def test_no_module_of_values_is_compiled(compiled: list[Path]) -> None:
    assert len(compiled) > 30
    for path in compiled:
        for kind in classes(path):
            bases = {ast.unparse(base) for base in kind.bases}
            assert not bases & {"Value", "Struct", "msgspec.Struct", "ABC"}, f"{path.name}: {kind.name}"
            marks = {ast.unparse(mark).partition("(")[0] for mark in kind.decorator_list}
            assert not marks & {"frozen", "define", "attrs.frozen", "attrs.define"}, f"{path.name}: {kind.name}"


def test_every_part_of_a_compiled_state_can_be_made_without_its_init(compiled: list[Path]) -> None:
    """Copies of a core, its recordings and the model checker depend on it."""
    for path in compiled:
        if {"node", "wire", "wal", "raft_kv"} & set(path.parts):
            continue
        for kind in classes(path):
            if any(isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "__slots__" for line in kind.body):
                marks = [ast.unparse(mark) for mark in kind.decorator_list]
                assert "mypyc_attr(allow_interpreted_subclasses=True)" in marks, f"{path.name}: {kind.name}"
