"""The command that says what the simulator reaches by itself: what it counts, and what it calls a failure."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from raft_core.effects import Effect, RoleName
from raft_core.events import LocalEvent
from raft_core.messages import Message
from tests.testing import simulated_coverage
from tests.testing.simulated_coverage import EXCLUDED, IMPOSSIBLE, OMITTED, Module, Reached, judge, main, measure

CORE = Path(__file__).resolve().parents[2] / "raft_core"


def everything() -> Counter[str]:
    """Every message and every event at every role, and every effect, once."""
    kinds = [kind.__name__ for kind in (*get_args(Message), *get_args(LocalEvent))]
    met = Counter(f"{kind} at {role.value}" for kind in kinds for role in RoleName)
    met.update(kind.__name__ for kind in get_args(Effect))
    return met


def reached(met: Counter[str], *, missed: int = 0, failures: tuple[str, ...] = ()) -> Reached:
    module = Module("raft_core.raft", 100, missed, 40, missed, tuple(map(str, range(missed))))
    return Reached((module,), met, failures)


def test_nothing_is_missing_where_everything_was_met() -> None:
    assert judge(everything()) == []


@pytest.mark.parametrize("missing", ["TimeoutNow at leader", "AppendReply at pre_candidate", "Persist"])
def test_a_pair_or_an_effect_that_was_never_met_is_named(missing: str) -> None:
    met = everything()
    del met[missing]

    assert judge(met) == [missing]


def test_an_event_is_missing_where_no_role_met_it() -> None:
    met = everything()
    for role in RoleName:
        del met[f"SnapshotFailed at {role.value}"]

    assert judge(met) == ["SnapshotFailed"]


def test_what_is_said_to_be_impossible_is_a_message_at_a_role_with_a_reason() -> None:
    messages = {kind.__name__ for kind in get_args(Message)}

    for (message, role), reason in IMPOSSIBLE.items():
        assert message in messages
        assert role in {name.value for name in RoleName}
        assert reason


def test_every_exclusion_has_something_to_exclude() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(CORE.rglob("*.py")))

    for pattern, reason in EXCLUDED.items():
        assert re.search(pattern, text, re.MULTILINE), pattern
        assert reason


def test_every_omitted_module_exists() -> None:
    for pattern, reason in OMITTED.items():
        assert list(CORE.parent.glob(pattern)), pattern
        assert reason


def test_percentages_are_of_statements_and_branches_and_of_branches_alone() -> None:
    found = reached(everything(), missed=7)

    assert found.percent == pytest.approx(90.0)
    assert found.branch_percent == pytest.approx(82.5)


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        (reached(everything()), 0, "100.00%"),
        (reached(everything(), missed=4), 1, "less than 95% reached"),
        (reached(everything(), failures=("seed 4: two leaders",)), 1, "seed 4: two leaders"),
        (reached(Counter()), 1, "never met: AppendEntries at follower"),
    ],
)
def test_the_exit_status_says_whether_enough_was_reached(
    found: Reached,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(simulated_coverage, "measure", lambda seeds, workers: found)

    assert main(["--seeds", "3", "--least", "95", "--missing"]) == status
    assert said in capsys.readouterr().out


def test_a_seed_reaches_most_of_the_core_and_none_of_the_tool() -> None:
    found = measure([10_006], workers=1)  # a short one

    modules = {module.name: module for module in found.modules}
    assert found.failures == ()
    assert modules["raft_core.roles.leader"].percent > 50
    assert modules["raft_core.ids"].statements_missed == 0  # lines that run while it is imported are counted too
    assert not [name for name in modules if name.startswith("raft_testing")]
    assert found.met["AppendEntries at follower"] > 100


def test_wrong_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--seeds", "0"])

    assert ended.value.code == 2
    assert "at least one seed" in capsys.readouterr().err
