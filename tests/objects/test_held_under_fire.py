"""`on_error="hold"` in the simulator: commands that raise everywhere, and an operator who skips them, under faults.

More seeds: `python -m tests.objects.test_held_under_fire FIRST:END`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import pytest

from raft_core.node.limits import SECOND
from raft_core.state_machine import StateMachine
from raft_objects import CommandFailed, CommandHeld, CommandRefused, Objects, Replicated, command, query
from raft_objects.calls import encode_skip
from raft_objects.simulated import ObjectWorkload
from raft_testing.__main__ import open_file_store
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.linearizability.history import Datum, Fate, Operation
from raft_testing.linearizability.models import SequentialModel
from raft_testing.rng import Rng
from raft_testing.sim.simulation import Simulation
from raft_testing.workloads.registers import Asked

PROFILE = Profile(chaos=20 * SECOND, operations=200, mean_interval=5 * SECOND)
_REFUSED = b"refused"


class Ledger(Replicated):
    """Numbers in the order of their adding. Those that `poison` got raise after they were added."""

    undo = False

    def __init__(self) -> None:
        self.lines: list[int] = []

    @command
    def add(self, number: int) -> int:
        self.lines.append(number)
        return len(self.lines)

    @command
    def poison(self, number: int) -> int:
        self.lines.append(-number)
        raise ZeroDivisionError

    @query
    def count(self) -> int:
        return len(self.lines)


class Holding:
    """The objects of one node. A refused query is an answer of its own: the simulator takes an exception for a bug."""

    def __init__(self, living: list[Holding]) -> None:
        self.objects = Objects({"ledger": Ledger()}, on_error="hold", development=True)
        self.init = self.objects.init
        self.prepare = self.objects.prepare
        self.latest_time = self.objects.latest_time
        self.snapshot = self.objects.snapshot
        self.restore = self.objects.restore
        self.apply = self.objects.apply
        living.append(self)

    def query(self, request: bytes) -> bytes:
        try:
            return self.objects.query(request)
        except CommandFailed:
            return _REFUSED


class Anything:
    """A model in which every answer is right: here the promise alone is checked."""

    def initial(self, key: Datum) -> Datum:
        return None

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        return None, None

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        return True


@final
class Operators(ObjectWorkload):
    """Clients that add numbers, poison a few, read; and skip the command at which some replica holds."""

    def __init__(self, living: Sequence[Holding]) -> None:
        super().__init__()
        self.living = living
        self.kinds: Counter[str] = Counter()
        self.answers: dict[bytes, Any] = {}
        self._skips = 0

    @classmethod
    def parts(cls) -> dict[str, Replicated]:
        return {"ledger": Ledger()}

    @property
    def model(self) -> SequentialModel:
        return Anything()

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        ledger = self.part(Ledger, "ledger")
        held = [one.objects.held.index for one in self.living if one.objects.held is not None]
        # A client with a session repeats a skip until it is answered, but carried out once no leader takes it again.
        if held and client % 4 == 3 and rng.chance(0.25 if number < PROFILE.operations * 2 // 3 else 0.9):
            self._skips += 1
            body = bytearray(encode_skip(rng.choice((max(held), *held))))
            body[1:9] = self._skips.to_bytes(8, "little")  # no two are equal; the leader writes the time there
            return Asked("skip", f"skip {number}", bytes(body), bytes(body))
        if rng.chance(0.25):
            asked = self.call(ledger.count)
        elif rng.chance(0.06) and number < PROFILE.operations * 2 // 3:
            asked = self.call(ledger.poison, number)
        else:
            asked = self.call(ledger.add, number)
        return Asked(asked.kind, str(number), asked.data, asked.data, asked.reads)

    def result(self, asked: Asked, answer: bytes) -> Datum:
        said: Any = "done" if asked.kind == "skip" else "refused"
        if answer != _REFUSED and asked.kind != "skip":
            try:
                said = self.decoded("ledger", asked.kind, answer)
            except (CommandHeld, CommandRefused) as failure:
                said = type(failure).__name__
        assert isinstance(asked.argument, bytes)
        self.answers[asked.argument] = said
        self.kinds[f"{asked.kind} {said if isinstance(said, str) else 'answered'}"] += 1
        return None

    def as_placed(self, asked: Asked, index: int, command: bytes) -> Datum:
        return asked.argument

    def broken_promises(self, history: Iterable[Operation], machine: StateMachine) -> list[str]:
        """What was acknowledged is there once, what raised is not; what was refused is not. A read is not too old."""
        assert isinstance(machine, Holding)
        last = machine.objects.entry("ledger").instance
        assert isinstance(last, Ledger)
        lines = Counter(last.lines)
        wrong = [f"{number} is there {count} times" for number, count in lines.items() if count > 1 or number < 0]
        places = {number: place for place, number in enumerate(last.lines, 1)}
        known: list[tuple[int, int]] = []  # told, and how many lines there were at least
        reads: list[tuple[int, int, int]] = []
        for one in history:
            assert isinstance(one.argument, bytes)
            if one.kind == "skip":
                continue
            said = self.answers.get(one.argument)
            if one.kind == "read count":
                if one.fate is Fate.ANSWERED and isinstance(said, int):
                    reads.append((one.invoked_at, one.returned_at or 0, said))
                continue
            number = self.arguments(one.argument[:1] + bytes(8) + one.argument[9:])["number"]
            if one.fate is Fate.REFUSED and number in places:
                wrong.append(f"{number} was refused and is there")
            if one.fate is Fate.ANSWERED and isinstance(said, int):
                if places.get(number) != said:
                    wrong.append(f"{number} was said to be line {said}, and is line {places.get(number)}")
                known.append((one.returned_at or 0, said))
        for asked, told, count in reads:
            least = max((lines for at, lines in known if at < asked), default=0)
            if not least <= count <= len(last.lines):
                wrong.append(f"{count} lines were read at {told}, when there were {least} at least")
        return wrong


def fire(seed: int) -> tuple[str, Counter[str]]:
    """Run a seed. Return what is wrong, and how often which answer was given."""
    living: list[Holding] = []
    operators = Operators(living)
    simulation = Simulation(
        seed,
        machine=lambda: Holding(living),
        workload=operators,
        open_store=open_file_store,
        profile=PROFILE,
        only=frozenset(Fault) - {Fault.MACHINE},
    )
    violation = simulation.run()
    return "" if violation is None else violation.text, operators.kinds


def test_replicas_that_hold_and_skip_stay_equal_and_lose_nothing() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(4):
        wrong, seen = fire(seed)
        assert wrong == "", seed
        kinds += seen
    assert kinds["add CommandHeld"], kinds
    assert kinds["poison CommandHeld"], kinds
    assert kinds["read count refused"], kinds
    assert kinds["skip done"], kinds
    assert kinds["add answered"] > 100, kinds


def changes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Objects, "_take_back", lambda self, instance, before: None)


def snapshot_of_a_replica_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Objects.snapshot

    def snapshot(self: Objects) -> Iterable[bytes]:
        held, self._held = self._held, None
        try:
            return taken(self)
        finally:
            self._held = held

    monkeypatch.setattr(Objects, "snapshot", snapshot)


@pytest.mark.parametrize(
    ("bug", "seeds"), [(changes_stay, range(3)), (snapshot_of_a_replica_that_holds, range(15, 35))]
)
def test_planted_bug_in_holding_is_found(
    bug: Callable[[pytest.MonkeyPatch], None], seeds: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    assert any(fire(seed)[0] for seed in seeds)


if __name__ == "__main__":
    first, end = map(int, (sys.argv[1] if len(sys.argv) > 1 else "0:20").split(":"))
    total: Counter[str] = Counter()
    for number in range(first, end):
        text, found = fire(number)
        total += found
        if text:
            print(f"seed {number}: {text[:2000]}", flush=True)
    print(dict(total))
