"""Values and the garbage collector: what is not tracked must not be part of a cycle, or it stays for ever."""

from __future__ import annotations

import contextlib
import gc
import importlib
import pkgutil
import typing
from collections.abc import Iterator
from enum import Enum

import attrs
import msgspec
import pytest

import raft_core
from raft_core.effects import Refusal, RefusalReason
from raft_core.errors import NotLeader, StorageBroken
from raft_core.node.events import JobFailed
from raft_core.node.jobs import Lane
from raft_core.node.outcomes import result_of
from raft_core.structs import Value
from tests.docs.moved import MOVED

ATOMS = (int, str, bytes, bool, float, type(None))


def every_value() -> list[type[Value]]:
    """All classes of values of the library."""
    for module in pkgutil.walk_packages(raft_core.__path__, "raft_core."):
        if not module.name.endswith("__main__") and module.name not in MOVED:
            importlib.import_module(module.name)
    found: list[type[Value]] = []
    waiting = list(Value.__subclasses__())
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += kind.__subclasses__()
    return sorted((kind for kind in found if kind.__module__.startswith("raft_core")), key=lambda kind: kind.__name__)


def cannot_be_in_a_cycle(hint: object, above: tuple[object, ...] = ()) -> bool:
    """Whether everything of this type is made of values, numbers and texts only."""
    if hint in above or hint is ... or "Datum" in str(hint):  # a type that is made of itself
        return True
    above = (*above, hint)
    if isinstance(hint, typing.NewType):
        return cannot_be_in_a_cycle(hint.__supertype__, above)
    parts = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if parts:
        plain = origin in (tuple, frozenset, typing.Union, typing.Literal) or type(hint).__name__ == "UnionType"
        return plain and all(isinstance(part, ATOMS) or cannot_be_in_a_cycle(part, above) for part in parts)
    if not isinstance(hint, type):
        return False
    if issubclass(hint, (*ATOMS, Enum)):
        return True
    if issubclass(hint, msgspec.Struct) or attrs.has(hint):
        return all(cannot_be_in_a_cycle(field, above) for field in hints(hint))
    return False


def hints(kind: type) -> list[object]:
    return list(typing.get_type_hints(kind).values())


def test_there_are_many_values() -> None:
    assert len(every_value()) > 90


@pytest.mark.parametrize("kind", every_value(), ids=lambda kind: kind.__name__)
def test_a_value_is_untracked_only_if_it_cannot_be_part_of_a_cycle(kind: type[Value]) -> None:
    tracked = kind.__struct_config__.gc
    harmless = all(cannot_be_in_a_cycle(hint) for hint in hints(kind))

    assert tracked is not harmless, "say gc=True where a field may be part of a cycle, and nowhere else"


def test_what_may_be_part_of_a_cycle_is_told_from_what_may_not() -> None:
    assert cannot_be_in_a_cycle(tuple[int, ...] | None)
    assert not cannot_be_in_a_cycle(Iterator[bytes])
    assert not cannot_be_in_a_cycle(NotLeader | None)
    assert not cannot_be_in_a_cycle(list[int])


def count(kind: type) -> int:
    gc.collect()
    return sum(type(thing) is kind for thing in gc.get_objects())


def test_an_error_that_a_caller_was_told_does_not_stay_for_ever() -> None:
    before = count(NotLeader)
    for _ in range(20):
        with pytest.raises(NotLeader):
            result_of(Refusal(RefusalReason.NO_LEADER))

    assert count(NotLeader) <= before + 1  # the one that pytest still shows


def test_an_error_goes_at_once_with_whoever_caught_it_and_needs_no_collector() -> None:
    before = count(NotLeader)  # other tests have left theirs
    gc.disable()
    try:
        for _ in range(20):
            with contextlib.suppress(NotLeader):
                result_of(Refusal(RefusalReason.NO_LEADER))
        assert sum(type(thing) is NotLeader for thing in gc.get_objects()) <= before
    finally:
        gc.enable()


def test_a_value_that_holds_an_error_is_found_by_the_collector() -> None:
    def raise_it(failed: JobFailed) -> None:
        raise failed.error  # the frame knows the value, the value the error, and the error the frame

    before = count(StorageBroken)
    for _ in range(20):
        with pytest.raises(StorageBroken):
            raise_it(JobFailed(Lane.WRITE, StorageBroken("it is")))

    assert count(StorageBroken) <= before + 1
