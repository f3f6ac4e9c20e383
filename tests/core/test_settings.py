"""Settings check themselves, and say what is wrong."""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest

from raft_core.errors import SettingsError
from raft_core.membership import Members
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.settings import Settings

NUMBERS = [field.name for field in attrs.fields(Settings) if field.type in ("int", int)]


def test_the_defaults_agree_with_each_other() -> None:
    assert Settings() == Settings()
    assert len(NUMBERS) > 20


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_may_be_negative(name: str) -> None:
    values: dict[str, Any] = {name: -1}

    with pytest.raises(SettingsError, match=name):
        Settings(**values)


WRONG_TYPES: list[tuple[object, str]] = [
    (60.5, "write 60"),
    (60.0, "write 60"),
    ("60", "write 60"),
    ("many", "'many'"),
    (True, "True"),
    (None, "None"),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (b"60", "bytes"),
    (2**63, "below 2"),
]


@pytest.mark.parametrize(("value", "told"), WRONG_TYPES, ids=[repr(value) for value, _ in WRONG_TYPES])
@pytest.mark.parametrize("name", NUMBERS)
def test_number_of_another_type_is_refused_with_its_name_and_a_remedy(name: str, value: object, told: str) -> None:
    values: dict[str, Any] = {name: value}

    with pytest.raises(SettingsError) as refusal:
        Settings(**values)

    assert name in str(refusal.value)
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "told"),
    [("false", "write False"), ("Yes", "write True"), (0, "write False"), (1, "write True"), (2, "2")],
)
@pytest.mark.parametrize("name", [field.name for field in attrs.fields(Settings) if field.type in ("bool", bool)])
def test_switch_that_is_no_bool_is_refused(name: str, value: object, told: str) -> None:
    values: dict[str, Any] = {name: value}

    with pytest.raises(SettingsError) as refusal:
        Settings(**values)

    assert name in str(refusal.value)
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("checksum", "crc32"), ("checksum", 1), ("features", "shop-refunds"), ("features", 5), ("features", (1,))],
)
def test_other_setting_of_another_type_is_refused(name: str, value: object) -> None:
    values: dict[str, Any] = {name: value}

    with pytest.raises(SettingsError, match=name):
        Settings(**values)


def test_types_are_checked_also_once_they_are_resolved() -> None:
    attrs.resolve_types(Settings)  # as cattrs does, in a process that reads settings from a file

    for wrong in (60.5, "60", True):
        with pytest.raises(SettingsError, match="election_ticks"):
            Settings(election_ticks=wrong)  # type: ignore[arg-type]


CONTRADICTIONS: list[tuple[str, dict[str, Any]]] = [
    ("heartbeat_ticks.*election_ticks", {"heartbeat_ticks": 50}),
    ("short_ticks", {"short_ticks": 51}),
    ("lease_reads.*check_quorum and pre_vote", {"lease_reads": True, "check_quorum": False}),
    ("lease_reads.*check_quorum and pre_vote", {"lease_reads": True, "pre_vote": False}),
    ("clock_drift_percent", {"clock_drift_percent": 100}),
    ("election_ticks", {"election_ticks": 1}),
    ("max_inflight_messages", {"max_inflight_messages": 0}),
]


@pytest.mark.parametrize(("text", "values"), CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_refused_with_a_reason(text: str, values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=text):
        Settings(**values)


def test_leases_need_a_cluster_that_was_formed_with_them() -> None:
    recovered = Recovered.fresh(1, Members.initial([1]))

    with pytest.raises(SettingsError):
        Raft(Settings(lease_reads=True), recovered, random.Random(1))


def test_a_cluster_with_leases_needs_loyal_nodes() -> None:
    recovered = Recovered.fresh(1, Members.initial([1], leases=True))

    with pytest.raises(SettingsError, match="check_quorum and pre_vote"):
        Raft(Settings(check_quorum=False), recovered, random.Random(1))


def test_a_core_needs_a_positive_node_id() -> None:
    with pytest.raises(SettingsError, match="0"):
        Raft(Settings(), Recovered.fresh(0), random.Random(1))
