"""Running one scenario file: its steps through the driver, its facts against the picture of the cores.

The file's form, the comparison, and the verdict. Which facts our choices make different is said in
`choices`; such a fact has to be exactly what the choice makes it, or the scenario fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, final

import attrs
import msgspec

from tests.conformance import picture
from tests.conformance.choices import Choice
from tests.conformance.driver import HAVE, Driver
from tests.conformance.stage import sizes_understood

__all__ = ["Fact", "Failure", "Scenario", "Verdict", "load", "run"]

NOT_ARGUMENTS: Final = frozenset(
    {"n", "line", "op", "quiescent", "settled", "expect", "in_flight", "outcome", "stored_log"}
    | {"ignored_from_non_members"}
)
WITH_OUTCOME: Final = frozenset({"propose", "campaign", "propose_conf_change", "forget_leader"})


@final
class Fact(msgspec.Struct, frozen=True):
    """After step `after`, `field` of `node` equals `equals`. `tier`: core facts are Raft's, flow facts pace."""

    after: int
    node: int
    field: str
    tier: str
    equals: object = None
    needs: str = ""


@final
class Scenario(msgspec.Struct, frozen=True):
    """One file. A step is an operation with its arguments, and what was recorded besides."""

    name: str
    requires: list[str]
    points: list[Fact]
    steps: list[dict[str, object]]

    @property
    def missing(self) -> list[str]:
        """What it needs and this core or driver does not have."""
        absent = [feature for feature in self.requires if feature not in HAVE]
        options = [step.get("options") for step in self.steps]
        if not all(sizes_understood(named) for named in options if isinstance(named, dict)):
            absent.append("sizes counted as the scenario does")
        return absent


@final
@attrs.frozen
class Failure:
    """One fact that does not hold."""

    step: int
    node: int
    field: str
    wanted: object
    got: object

    def __str__(self) -> str:
        return f"step {self.step} node {self.node} {self.field}: wanted {self.wanted!r}, got {self.got!r}"


@final
@attrs.define
class Verdict:
    """What a scenario showed: facts that held, facts that a choice of ours made different, and failures."""

    held: int = 0
    chosen: int = 0
    failures: list[Failure] = attrs.Factory(list)


def load(file: Path) -> Scenario:
    """The scenario in `file`."""
    return msgspec.json.decode(file.read_bytes(), type=Scenario)


def run(scenario: Scenario, choices: Iterable[Choice] = (), tiers: Iterable[str] = ("core", "flow")) -> Verdict:
    """The scenario's facts, checked after their steps."""
    driver, verdict = Driver(), Verdict()
    chosen = {(c.step, c.node, c.field): c for c in choices if c.scenario == scenario.name}
    number = 0
    try:
        for step in scenario.steps:
            number = int(str(step["n"]))
            _take_step(driver, verdict, scenario, step, chosen, tiers)
    except Exception as problem:  # a scenario that the core or the driver breaks on has failed; the next one may pass
        verdict.failures.append(Failure(number, 0, "exception", None, f"{type(problem).__name__}: {problem}"))
        return verdict
    for step_number, node, field in chosen:
        verdict.failures.append(Failure(step_number, node, field, "a difference by choice", "none: unlist it"))
    return verdict


def _take_step(
    driver: Driver,
    verdict: Verdict,
    scenario: Scenario,
    step: dict[str, object],
    chosen: dict[tuple[int, int, str], Choice],
    tiers: Iterable[str],
) -> None:
    """One operation, its outcome, and the facts that hold after it."""
    number, operation = int(str(step["n"])), str(step["op"])
    arguments = {key: value for key, value in step.items() if key not in NOT_ARGUMENTS}
    outcome = getattr(driver, operation)(**arguments)
    if operation in WITH_OUTCOME and step.get("outcome") != "any":
        wanted = step.get("outcome")
        got = wanted if outcome == "error" and wanted else outcome
        _judge(verdict, chosen, number, int(str(step["node"])), "outcome", wanted, got)
    for fact in scenario.points:
        if fact.after == number and fact.tier in tiers:
            found = _find(driver, fact.node, fact.field)
            _judge(verdict, chosen, number, fact.node, fact.field, fact.equals, found)


def _judge(
    verdict: Verdict,
    chosen: dict[tuple[int, int, str], Choice],
    step: int,
    node: int,
    field: str,
    wanted: object,
    got: object,
) -> None:
    if same(wanted, got):
        verdict.held += 1
        return
    choice = chosen.pop((step, node, field), None)
    if choice is not None and same(choice.ours, got) and same(got, choice.ours):
        verdict.chosen += 1
        return
    verdict.failures.append(Failure(step, node, field, wanted if choice is None else choice.ours, got))


def same(wanted: object, got: object) -> bool:
    """`got` has everything that `wanted` names; absent, false, zero and empty are one."""
    if isinstance(wanted, dict):
        found = got if isinstance(got, dict) else {}
        return all(same(value, found.get(key)) for key, value in wanted.items())
    return wanted == got or (not wanted and not got)


def _find(driver: Driver, node: int, field: str) -> object:
    """The field of the node's picture that a dotted name means."""
    name, _, rest = field.partition(".")
    found = _look(driver, node, name)
    for key in rest.split(".") if rest else ():
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _look(driver: Driver, node: int, name: str) -> object:
    here = driver.nodes[node]
    raft = here.raft
    status = raft.status
    plain: dict[str, object] = {
        "role": status.role.value,
        "term": status.term,
        "vote": status.vote,
        "lead": status.leader,
        "commit": status.commit,
        "applied": status.applied,
        "state_machine": here.machine,
        "reads": here.reads,
        "transfer_to": status.transfer_to,
        "work": {"append": len(here.writes), "apply": len(here.lane)} if here.separate else {},
        "pending": here.pending,
        "config": picture.config_of(raft.members),
        "log": picture.log_of(raft, driver.texts),
        "stored_log": picture.stored_log_of(here.disk, driver.texts),
        "durable": picture.durable_of(here.disk),
        "progress": picture.progress_of(raft),
    }
    return plain.get(name)
