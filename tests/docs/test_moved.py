"""Names of release 0.1 say where they are now."""

from __future__ import annotations

import ast
import importlib
import zipfile
from pathlib import Path

import pytest

import raft_core
from tests.docs.moved import MOVED

WHEEL = Path(__file__).parents[1] / "compatibility" / "data" / "sansio_raft-0.1.0-py3-none-any.whl"
PUBLIC = (
    *("raft_core", "raft_storage", "raft_trio", "raft_anyio", "raft_core.effects", "raft_core.entries"),
    *("raft_core.errors", "raft_core.events", "raft_core.explain", "raft_core.ids", "raft_core.membership"),
    *("raft_core.messages", "raft_core.quorum", "raft_core.raft", "raft_core.recovered", "raft_core.requests"),
    *("raft_core.settings", "raft_core.status"),
)
"""Modules of release 0.1 which still exist."""


def offered_by_0_1(module: str) -> list[str]:
    """Return the `__all__` of the module in the wheel of release 0.1."""
    path = module.replace(".", "/")
    with zipfile.ZipFile(WHEEL) as wheel:
        names = set(wheel.namelist())
        text = wheel.read(f"{path}.py" if f"{path}.py" in names else f"{path}/__init__.py").decode()
    (found,) = [
        ast.literal_eval(line.value)
        for line in ast.parse(text).body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "__all__"
    ]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("old", MOVED)
def test_old_module_names_the_new_one(old: str) -> None:
    with pytest.raises(ImportError) as raised:
        importlib.import_module(old)

    assert MOVED[old] in str(raised.value)
    importlib.import_module(MOVED[old])


@pytest.mark.parametrize("module", PUBLIC)
def test_old_name_is_there_or_names_a_place_that_exists(module: str) -> None:
    here = importlib.import_module(module)
    for name in offered_by_0_1(module):
        if name in getattr(here, "__all__", ()):
            continue
        with pytest.raises(ImportError, match=f"{module}.{name} is now ") as raised:
            getattr(here, name)
        place, _, new = str(raised.value).partition(" is now ")[2].partition(",")[0].rpartition(".")
        if place.endswith(".Raft"):
            place, _, new = place.rpartition(".")
        assert hasattr(importlib.import_module(place), new), f"{place} has no {new}"


def test_import_statement_shows_the_new_place() -> None:
    with pytest.raises(ImportError, match=r"raft_core\.ids\.Index"):
        exec("from raft_core import Index")


def test_name_that_never_existed_is_no_attribute() -> None:
    assert not hasattr(raft_core, "Paxos")
