"""The catalogue of mutants follows the code: each has one place in it, and says what mistake it is.

To run them: `python -m tests.mutation`.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tests.mutation.catalogue import MUTANTS, Mutant
from tests.mutation.planting import CannotBePlanted, planted

ROOT = Path(__file__).parents[2]

SOURCE = '''
LIMIT: Final = {"depth": 2, "width": 3}

class Box:
    """A box."""

    def put(self, item: bytes) -> None:
        # a comment that says why
        if len(item) > self.limit and not self.closed:  # another one
            raise ValueError(f"{item!r} is too large")
        self.items.append(item)
        self.count += 1

    def take(self) -> bytes:
        self.count -= 1
        return self.items.pop(
            0
        )
'''


def mutant(function: str, old: str, new: str) -> Mutant:
    return Mutant("example", "An example.", "box.py", function, old, new, ())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_can_be_planted(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")

    compile(planted(mutant, source), mutant.file, "exec")
    assert mutant.old != mutant.new
    assert mutant.mistake.endswith((".", ")."))
    assert all((ROOT / test.partition("::")[0]).exists() for test in mutant.tests)


def test_there_are_many_mutants_and_their_names_differ() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize(
    ("function", "old", "new", "line"),
    [
        ("Box.put", "len(item) > self.limit", "False", "if False and (not self.closed):"),
        ("Box.put", "self.items.append(item); self.count += 1", "self.count += 1", "self.count += 1"),
        ("Box.put", "if len(item) > self.limit and not self.closed:\n    ...", "if item:\n    ...", "if item:"),
        ("Box.put", "raise ValueError(...)", "raise KeyError(...)", "raise KeyError(f'{item!r} is too large')"),
        ("Box.take", "self.items.pop(0)", "self.items.pop()", "return self.items.pop()"),
        ("Box.take", "self.count -= 1", "", "def take(self) -> bytes:"),
        ("LIMIT", "2", "9", "LIMIT: Final = {'depth': 9, 'width': 3}"),
        ("", "class Box:\n    ...", "class Box(list):\n    ...", "class Box(list):"),
    ],
)
def test_mistake_is_planted_whatever_the_formatting(function: str, old: str, new: str, line: str) -> None:
    changed = planted(mutant(function, old, new), SOURCE).splitlines()

    assert line in [text.strip() for text in changed]
    assert "raise" in "".join(changed)


@pytest.mark.parametrize(
    ("function", "old"),
    [
        ("Box.drop", "self.count -= 1"),  # no such function
        ("Box.take", "self.count += 1"),  # in another function
        ("Box", "self.items"),  # twice
        ("Box.take", "self.count -="),  # no code
    ],
)
def test_place_that_is_gone_or_not_unique_is_an_error(function: str, old: str) -> None:
    with pytest.raises(CannotBePlanted):
        planted(mutant(function, old, "pass"), SOURCE)


def test_catalogue_quotes_no_line_as_it_is_formatted() -> None:
    one = MUTANTS[0]
    source = (ROOT / one.file).read_text(encoding="utf-8")
    spread = source.replace(
        "self.vote = request.sender", "self.vote = (\n                request.sender\n            )"
    )

    assert spread != source
    assert planted(attrs.evolve(one), spread) == planted(one, source)
