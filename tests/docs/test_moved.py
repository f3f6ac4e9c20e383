"""Names of release 0.1 say what they are called now."""

from __future__ import annotations

import importlib

import pytest

from tests.docs.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_old_module_names_the_new_one(old: str) -> None:
    with pytest.raises(ImportError) as raised:
        importlib.import_module(old)

    assert MOVED[old] in str(raised.value)
    importlib.import_module(MOVED[old])
