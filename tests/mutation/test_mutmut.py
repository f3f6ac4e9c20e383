"""The list of reviewed survivors follows the code; running mutants is the business of `python -m
tests.mutation.mutmut_run`."""

from __future__ import annotations

import importlib
import inspect
from types import FunctionType, MethodType

import pytest

from tests.mutation import mutmut_run as mutation


def source_of(function: str) -> str:
    """The lines of `raft_core.module.Class.function`, each without its indentation."""
    parts = function.split(".")
    modules = [part for part in parts if part == part.lower() and not part.startswith("_")]
    for count in range(len(modules), 1, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:]:
            found = getattr(found, name)
        found = found.fget if isinstance(found, property) else found
        assert isinstance(found, FunctionType | MethodType), function
        return " ".join(line.strip() for line in inspect.getsource(found).splitlines())
    raise AssertionError(function)


@pytest.mark.parametrize("survivor", sorted(mutation.listed()), ids=lambda survivor: survivor[0])
def test_a_survivor_in_the_list_is_a_mutant_of_the_code_as_it_is(survivor: mutation.Survivor) -> None:
    function, old, new = survivor

    assert old in source_of(function), f"{function} has changed: the list follows the code"
    assert old != new


def test_each_survivor_has_a_reason() -> None:
    text = mutation.LIST.read_text("utf-8")

    assert mutation.listed()
    for paragraph in text.split("\n\n"):
        if "→" in paragraph:
            assert not paragraph.splitlines()[-1].startswith("- "), paragraph


def test_properties_become_methods_that_can_be_mutated() -> None:
    source = """
class Box:
    @property
    def size(self) -> int:
        if self.empty():
            return 0
        return 3

    def empty(self) -> bool:
        return False
"""
    changed = mutation.without_properties(source)

    names: dict[str, type] = {}
    exec(changed, names)
    assert names["Box"]().size == 3
    assert "    def property_size(self) -> int:" in changed
    assert "@property" not in changed
