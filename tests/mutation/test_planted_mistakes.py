"""The catalogue of mutants follows the code: each can be planted, and says what mistake it is.

Running them is the business of `python -m tests.mutation`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.catalogue import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_planted(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")

    assert text.count(mutant.old) == 1, f"{mutant.name} no longer fits {mutant.file}: the catalogue follows the code"
    compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")
    assert mutant.old != mutant.new
    assert mutant.mistake.endswith((".", ")."))
    assert all((ROOT / test.partition("::")[0]).exists() for test in mutant.tests)


def test_there_are_many_mutants_and_their_names_differ() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
