"""Odd arguments and values: they are an error at the caller, never the end of a node, and never a damaged table."""

from __future__ import annotations

import enum
import inspect
import json
import pydoc
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from raft_core.errors import CallerError
from raft_objects import CommandError, Objects, Replicated, command, query
from raft_objects.counters import Counter
from raft_objects.lock_table import LockTable
from raft_objects.map_table import Change, MapTable
from raft_objects.maps import Watch
from raft_objects.queue_table import QueueTable
from raft_objects.rate_table import RateTable
from raft_objects.sets import Set
from raft_objects.shards import ShardedDict

from .samples import Bank, Driver, Order

ENDLESS = [float("inf"), 1e300]


def tables() -> tuple[Any, ...]:
    objects = Objects()
    made = (
        objects.add("locks", LockTable()),
        objects.add("jobs", QueueTable[str]()),
        objects.add("map", MapTable[str]()),
        objects.add("rates", RateTable()),
    )
    return (Driver(objects), *made)


@pytest.mark.parametrize("seconds", ENDLESS)
def test_endless_duration_is_an_error_at_the_caller(seconds: float) -> None:
    """It once raised `OverflowError`, which no command declares: it ended all nodes, again after each start."""
    driver, _, jobs, settings, _ = tables()
    driver.do(jobs.put, "a")
    calls: list[Callable[[], Any]] = [
        lambda: driver.do(jobs.put, "b", delay=seconds),
        lambda: driver.do(jobs.take, seconds),
        lambda: driver.do(settings.put, "a", "b", ttl=seconds),
        lambda: driver.do(settings.compare_and_set, "a", "b", expected=0, ttl=seconds),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="finite"):
            call()

    assert driver.ask(settings.get, "a") is None
    message = driver.do(jobs.take, 5.0)
    assert message.item == "a"
    calls = [
        lambda: driver.do(jobs.extend, message.number, message.receipt, seconds),
        lambda: driver.do(jobs.give_back, message.number, message.receipt, delay=seconds),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="finite"):
            call()
    assert driver.do(jobs.acknowledge, message.number, message.receipt)


def test_argument_of_another_type_is_refused_before_anything_is_sent() -> None:
    driver, locks, jobs, settings, rates = tables()
    calls: list[Callable[[], Any]] = [
        lambda: driver.do(locks.acquire, 5, "client", "owner", True),
        lambda: driver.do(locks.acquire, "l", "client", "owner", True, share=1.0),
        lambda: driver.do(jobs.put, "b", priority=0.5),
        lambda: driver.do(jobs.put, "b", delay=Decimal("NaN")),
        lambda: driver.do(settings.put, 5, "b"),
        lambda: driver.do(settings.put, "a", "b", ttl="5"),
        lambda: driver.do(rates.take, b"mails", 1, period=1, burst=1, patience=0),
        lambda: driver.ask(settings.scan, b"a"),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert driver.log == []


@pytest.mark.parametrize("name", ["", "\0", "/", "a b", "ü" * 1000, "\U0010ffff", "None"])
def test_names_of_any_characters_are_names(name: str) -> None:
    driver, locks, _, settings, rates = tables()
    driver.do(locks.open_client, "client", 1000)

    assert driver.do(locks.acquire, name, "client", "owner", True)
    assert driver.do(settings.put, name, "value")
    assert driver.ask(settings.scan) == [(name, driver.ask(settings.get, name))]
    assert driver.do(rates.take, name, 1, period=5, burst=1, patience=0).granted
    copy = tables()[0]
    copy.objects.restore(driver.objects.snapshot())
    assert copy.state() == driver.state()


@pytest.mark.parametrize("name", ["", 5, None])
def test_object_without_a_text_for_a_name_is_refused(name: Any) -> None:
    with pytest.raises(CallerError):
        Objects({name: Counter()})


class Notes(Replicated):
    """Texts that come from elsewhere."""

    def __init__(self) -> None:
        self.count: int = 0

    @command
    def parse(self, text: str) -> Any:
        self.count += 1
        return json.loads(text)

    @command
    def fail(self, text: str) -> None:
        raise ValueError(json.loads(text))


def test_text_that_no_utf_8_can_hold_is_an_error_at_the_caller() -> None:
    driver = Driver(Objects({"notes": (notes := Notes())}))
    with pytest.raises(ValueError, match="surrogates"):
        driver.do(notes.parse, '"\\ud800"')
    with pytest.raises(ValueError, match="str"):
        driver.do(notes.fail, '"\\ud800"')

    assert notes.count == 0
    assert driver.do(notes.parse, '"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize("power", [4299, 4300, 50_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_whole_numbers_have_no_end(power: int, sign: int) -> None:
    driver = Driver(Objects({"count": (count := Counter())}))
    assert driver.do(count.add, sign * 10**power) == sign * 10**power
    twin = Driver(Objects({"count": (other := Counter())}))
    twin.objects.restore(driver.objects.snapshot())

    assert other.count == count.count


def test_items_that_are_not_equal_to_themselves_are_kept_in_snapshots() -> None:
    driver = Driver(Objects({"set": (items := Set[float]())}))
    assert driver.do(items.add, float("nan"))
    assert driver.do(items.add, 1.0)
    twin = Driver(Objects({"set": (others := Set[float]())}))
    twin.objects.restore(driver.objects.snapshot())

    assert twin.state() == driver.state()
    assert driver.do(items.pop) is not twin.do(others.pop)
    assert twin.do(others.pop) == driver.do(items.pop) == 1.0


# A watch that reads in the loop, while a thread applies.


def test_watch_takes_no_change_for_compacted_that_is_just_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, _, _, settings, _ = tables()
    object.__setattr__(settings, "history", 2)
    for value in range(4):
        driver.do(settings.put, "a", str(value))
    watch: Watch[str] = Watch(settings, None, None, "", 2)  # type: ignore[arg-type]
    seen: list[Change[str] | None] = []
    steps = {"__setitem__": ShardedDict.__setitem__, "__delitem__": ShardedDict.__delitem__}

    def look_then(step: Any) -> Callable[..., None]:
        def looking(self: Any, *args: Any) -> None:
            if self is settings.changes and len(seen) < 2:
                seen.append(watch._next_kept())
            step(self, *args)
            if self is settings.changes:
                seen.append(watch._next_kept())

        return looking

    for name, step in steps.items():
        monkeypatch.setattr(ShardedDict, name, look_then(step))
    driver.do(settings.put, "a", "4")
    seen.append(watch._next_kept())

    assert [one.value for one in seen if one is not None] == ["2", "3", "4"]


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    OWN = enum.auto()
    ALL = READ | WRITE | OWN


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


class Files(Replicated):
    def __init__(self) -> None:
        self.rights: dict[str, Rights] = {}

    @command
    def allow(self, name: str, rights: Rights) -> Rights:
        self.rights[name] = rights
        return rights

    @command
    def mark(self, bits: Bits) -> Bits:
        return bits

    @command
    def refuse(self, which: int) -> None:
        """Raise an error."""
        raise (Bare, Whole)[which]("ada", 5)

    @query
    def size(self, prefix: str = "") -> int:
        """Return how many files there are."""
        return len(self.rights)


class Bare(CommandError):
    """Keeps no more of its arguments than a text."""

    def __init__(self, who: str, count: int) -> None:
        super().__init__(f"{who} has {count}")
        self.who = who


class Whole(CommandError):
    def __init__(self, who: str, count: int) -> None:
        super().__init__(who, count)
        self.who = who


@pytest.mark.parametrize("rights", [Rights.READ | Rights.OWN, Rights.ALL, Rights(0), Rights.WRITE])
def test_combined_flag_comes_out_as_it_was_put_in(rights: Rights) -> None:
    driver = Driver(Objects({"files": (files := Files())}, development=True))
    assert driver.do(files.allow, "a", rights) == rights
    restored = Objects({"files": (other := Files())})
    restored.restore(driver.objects.snapshot())
    assert other.rights == {"a": rights}


def test_flag_without_names_is_an_error_at_the_caller() -> None:
    driver = Driver(Objects({"files": (files := Files())}))
    assert driver.do(files.mark, Bits.ONE | Bits.TWO) == Bits(3)
    with pytest.raises(CallerError):
        driver.do(files.mark, Bits(9))


def test_error_that_would_lose_an_attribute_is_found_in_development() -> None:
    driver = Driver(Objects({"files": (files := Files())}, development=True))
    with pytest.raises(Whole) as caught:
        driver.do(files.refuse, 1)
    assert caught.value.who == "ada"
    with pytest.raises(CallerError, match="who"):
        driver.do(files.refuse, 0)


def test_methods_show_their_parameters_and_text() -> None:
    assert str(inspect.signature(Files.size)) == "(self, prefix: 'str' = '') -> 'int'"
    assert list(inspect.signature(Files().size).parameters) == ["prefix"]
    assert list(inspect.signature(Bank().deposit).parameters) == ["account", "amount", "fee"]
    for shown in (Files, Files.size):
        text = pydoc.plain(pydoc.render_doc(shown)).replace("'str'", "str")  # Python 3.14 shows no quotation marks
        assert "size(self, prefix: str = '')" in text
        assert "how many files" in text


def test_item_of_a_table_without_its_class_is_told_the_remedy() -> None:
    driver = Driver(Objects({"jobs": (jobs := QueueTable[Any]())}))
    assert driver.do(jobs.put, "text") == 1
    driver = Driver(Objects({"jobs": (jobs := QueueTable())}))
    with pytest.raises(CallerError, match="QueueTable"):
        driver.do(jobs.put, Order(1, Any, []))  # type: ignore[arg-type]
