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

NUMBERS = [field.name for field in attrs.fields(Settings) if str(field.type) == "int"]


def test_the_defaults_agree_with_each_other() -> None:
    assert Settings() == Settings()
    assert len(NUMBERS) > 20


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_may_be_negative(name: str) -> None:
    values: dict[str, Any] = {name: -1}

    with pytest.raises(SettingsError, match=name):
        Settings(**values)


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
