"""`ObjectWorkload`: commands that use their place in the log, and the command that repeats a run."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from raft_core.node.limits import SECOND
from raft_objects import Objects, Replicated, command, query
from raft_objects.simulated import ObjectModel, ObjectWorkload, Seen
from raft_testing.__main__ import main, open_file_store
from raft_testing.rng import Rng
from raft_testing.sim.runner import run_seed
from raft_testing.workloads.registers import Asked

from .fire import SHORT


class Tokens(Replicated):
    """Fencing tokens, and draws."""

    def __init__(self) -> None:
        self.last: int = 0
        self.drawn: list[int] = []

    @command
    def take(self) -> int:
        self.last = self.index
        return self.index

    @command
    def draw(self) -> int:
        self.drawn.append(self.random.randrange(1000))
        return self.drawn[-1]

    @query
    def newest(self) -> int:
        return self.last


class Takers(ObjectWorkload):
    @classmethod
    def parts(cls) -> dict[str, Replicated]:
        return {"tokens": Tokens(), "others": Tokens()}

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        tokens = self.part(Tokens, rng.choice(("tokens", "others")))
        if rng.chance(0.3):
            return self.call(tokens.newest)
        return self.call(rng.choice((tokens.take, tokens.draw)))

    def broken(self, seen: list[Seen], end: Objects) -> list[str]:
        taken = [one for one in seen if one.kind == "take" and one.told is not None]
        assert taken
        return [f"{one.result} was taken at {one.index}" for one in taken if one.result != one.index]


class Losers(Takers):
    """Breaks its promise at once."""

    def broken(self, seen: list[Seen], end: Objects) -> list[str]:
        return ["lost"]


def test_results_may_depend_on_the_place_in_the_log() -> None:
    report = run_seed(
        3,
        open_store=open_file_store,
        machine=Takers.machine,
        workload=Takers,
        profile=attrs.evolve(SHORT, chaos=8 * SECOND),
    )

    assert not report.failed, report.violation
    assert report.command.endswith(f" --machine {__name__}:Takers.machine --workload {__name__}:Takers")


def test_model_goes_along_the_log_only() -> None:
    model, workload = ObjectModel(Takers.parts), Takers()
    tokens = workload.part(Tokens, "tokens")
    asked, entry = workload.call(tokens.take), workload.objects.prepare(workload.call(tokens.take).data, 5)

    state, answer = model.step(model.initial("tokens"), "take", (7, entry))

    assert isinstance(answer, bytes)
    assert workload.decoded("tokens", "take", answer) == 7
    for argument in ((7, entry), (6, entry), asked.data):
        after, _ = model.step(state, "take", argument)
        assert model.step(after, "take", (9, entry)) == (None, b"impossible")
    assert model.step(state, "take", (8, entry))[0] is not None


def test_page_of_a_failure_names_the_given_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    subject = f"--machine {__name__}:Losers.machine --workload {__name__}:Losers"
    few = ["--seconds", "2", "--operations", "10", "--faults", "none", "--no-shrink", "--page", str(page)]

    assert main(["simulate", "--seed", "1", "--seeds", "1", "--workers", "1", *few, *subject.split()]) == 1

    printed = capsys.readouterr()
    assert subject in printed.out
    text = page.read_text(encoding="utf-8")
    assert subject in text
    assert re.search(r"client \d  (tokens|others)\.(take|draw|newest)\(\) → \d+ \(index \d+\)", text)
    assert "smaller" not in printed.err
