"""The report and the picture of `python -m benchmarks compare`, from measurements made up here."""

from __future__ import annotations

from xml.etree import ElementTree

import attrs
import pytest

from benchmarks.compare import Run, ratios, report
from benchmarks.picture import picture
from benchmarks.tables import markdown

RUNS = [
    Run(number, shape, system, 20.0, {"per_second": rate, "p50_ms": 1000 / rate, "processor_us": 5.0, "errors": 0})
    for shape in ("SET in sequence", "SET, 64 clients")
    for number, rates in ((1, {"etcd": 100.0, "uvloop": 300.0}), (2, {"etcd": 50.0, "uvloop": 100.0}))
    for system, rate in rates.items()
]


def test_ratio_compares_only_within_one_repetition() -> None:
    alone = Run(3, "SET, 64 clients", "uvloop", 20.0, {"per_second": 1e9})
    assert ratios([*RUNS, alone], "SET, 64 clients", "uvloop", "etcd", "per_second") == [3.0, 2.0]
    assert ratios(RUNS, "SET in sequence", "uvloop", "etcd", "p50_ms") == pytest.approx([1 / 3, 1 / 2])


def test_report_shows_median_ratio_and_its_range() -> None:
    lines = report(RUNS).splitlines()
    (row,) = [line for line in lines if "uvloop" in line and "2.50x" in line]
    assert "(2.00 to 3.00)" in row


def test_longest_failover_that_never_ended_is_counted() -> None:
    runs = [Run(n, "failover-kill", "trio", 20.0, {"failover_ms": ms}) for n, ms in enumerate((50.0, 70.0, None))]
    assert "median 60.00, longest 70.00 of 3, 1 never" in report(runs)


def test_picture_is_well_formed_and_draws_every_system() -> None:
    root = ElementTree.fromstring(picture([attrs.asdict(run) for run in RUNS]))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("2.5x") == 2  # a time is drawn as its inverse: longer is faster
    assert texts.count("1.0x") == 2


def test_tables_have_ratios_goals_and_processor_time() -> None:
    lines = markdown([attrs.asdict(run) for run in RUNS]).splitlines()
    assert "| SET, 64 clients | ≥ 2x | 2.50x (2.00 to 3.00) |" in lines
    assert "| SET, 64 clients | 5 | 5 |" in lines
    assert len({line.count("|") for line in lines[:4]}) == 1
