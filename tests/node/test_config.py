"""What a person says to start a node, checked before anything is opened."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from raft_core.errors import CallerError, SettingsError
from raft_core.node.config import NodeConfig, deadline_after, join_address, split_address
from raft_core.node.limits import MILLISECOND, SECOND, NodeLimits
from raft_core.node.reaching import ListenFailed, dial_failure, listen_failure
from raft_core.settings import Settings


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("10.0.0.7:7400", "10.0.0.7", 7400), ("[::1]:0", "::1", 0), ("db.example:65535", "db.example", 65535)],
)
def test_an_address_is_taken_apart_and_put_together_again(text: str, host: str, port: int) -> None:
    assert split_address(text) == (host, port)
    assert join_address(host, port) == text


@pytest.mark.parametrize(
    "text", ["999.1.1.1:1", "1.2.3:1", "10.0.0.256:7379", "a:b:1", "[::::]:1", "1:1", "[10.0.0]:1", "10.0.0.1.:1"]
)
def test_host_that_looks_like_an_ip_address_is_one(text: str) -> None:
    with pytest.raises(SettingsError):
        split_address(text)


@pytest.mark.parametrize("text", ["", "host", ":1", "host:", "host:x", "host:65536", "host:-1", "host:1²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="host:port"):
        split_address(text)


def test_a_timeout_becomes_a_deadline_and_none_stays_none() -> None:
    assert deadline_after(5, 2.0) == 5 + 2 * SECOND
    assert deadline_after(5, None) == 0
    assert deadline_after(5, math.inf) > 5 + 10**9 * SECOND - 1
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(CallerError):
            deadline_after(5, wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: NodeConfig(0, {0: "h:1"}, data="d"),
        lambda: NodeConfig(1 << 63, {1 << 63: "h:1"}, data="d"),
        lambda: NodeConfig(1, {1: "h:1", 1 << 63: "h:2"}, data="d"),
        lambda: NodeConfig(1, {1: "h:1"}, data="d", known={1 << 63: "h:2"}),
        lambda: NodeConfig(1, {1: "h:1"}, cluster="", data="d"),
        lambda: NodeConfig(1, {1: "h"}, data="d"),
        lambda: NodeConfig(1, {1: "h:1"}),
        lambda: NodeConfig(1, {}, data="d", listen="h:1"),
        lambda: NodeConfig(1, {2: "h:2", 3: "h:3"}, data="d", listen="h:1"),
        lambda: NodeConfig(1, {2: "h:2", 3: "h:3"}, data="d", join=True),
        lambda: NodeConfig(1, {1: "h:1", 2: "nowhere"}, data="d"),
        lambda: NodeConfig(1, {1: "nowhere"}, data="d", listen="h:1"),
        lambda: NodeConfig(1, {1: "0.0.0.0:1"}, data="d", listen="h:1"),
        lambda: NodeConfig(1, {1: "h:0"}, data="d", listen="h:1"),
        lambda: NodeConfig(1, {1: "h:1", 2: "H:1"}, data="d"),
        lambda: NodeConfig(1, {1: "g:1", 2: "h:1"}, data="d", listen="h:1"),
        lambda: NodeConfig(1, {1: "h:1"}, data="d", known={2: "h:1"}),
        lambda: NodeConfig(1, {1: "h:1", 2: "g:2", 3: "g:2"}, data="d"),
        lambda: NodeConfig(1, {1: "h:1", 2: "g:0"}, data="d"),
        lambda: NodeConfig(1, {1: "h:1", 2: "0.0.0.0:7"}, data="d"),
        lambda: NodeConfig(1, {1: "h:1"}, data="d", limits=NodeLimits(leases=True), settings=Settings(pre_vote=False)),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(wrong: Callable[[], NodeConfig]) -> None:
    with pytest.raises(SettingsError):
        wrong()


WRONG_TYPES: list[tuple[str, dict[str, Any]]] = [
    ("node", {"node": "1"}),
    ("node", {"node": True}),
    ("node id", {"members": {1: "a:1", "2": "b:1"}}),
    ("an address", {"members": {1: 7101}}),
    ("an address", {"known": {2: None}}),
    ("cluster", {"cluster": 7}),
    ("join", {"join": "false"}),
    ("insecure", {"insecure": "no"}),
    ("listen", {"listen": 7101}),
    ("machine_blocks", {"machine_blocks": 1}),
    ("recorder_bytes", {"recorder_bytes": 1e6}),
    ("metadata", {"metadata": {"zone": 7}}),
    ("metadata", {"metadata": {7: "b", "zone": "b"}}),
    ("settings", {"settings": {"election_ticks": 100}}),
    ("limits", {"limits": Settings()}),
]


@pytest.mark.parametrize(("told", "values"), WRONG_TYPES, ids=[str(values) for _, values in WRONG_TYPES])
def test_value_of_another_type_is_refused_with_its_name(told: str, values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=told):
        NodeConfig(**{"node": 1, "members": {1: "a:1"}, "data": "d", **values})


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(NodeLimits) if field.type in ("int", int)])
def test_limit_of_another_type_is_refused_with_its_name(name: str) -> None:
    for wrong in (0.5, "60", True, math.nan, None, -1):
        values: dict[str, Any] = {name: wrong}
        with pytest.raises(SettingsError, match=name):
            NodeLimits(**values)


@pytest.mark.parametrize("wrong", [None, 5, [("a", "b")]], ids=repr)
def test_mapping_that_is_none_is_refused_by_its_name(wrong: Any) -> None:
    for name in ("members", "known", "metadata"):
        values: dict[str, Any] = {"members": {1: "a:1"}, "data": "d", name: wrong}
        with pytest.raises(SettingsError, match=name):
            NodeConfig(1, **values)
    for name in ("peers", "metadata"):
        with pytest.raises(SettingsError, match=name):
            NodeLimits(**{name: wrong})


def test_founders_that_are_no_node_ids_are_refused() -> None:
    for wrong in (5, ["1"], [0], [True]):
        values: dict[str, Any] = {"founders": wrong}
        with pytest.raises(SettingsError):
            NodeLimits(**values)


def test_length_of_a_tick_has_one_truth() -> None:
    slow = NodeLimits(tick=20 * MILLISECOND)
    for settings in (Settings(), Settings(tick_nanoseconds=20 * MILLISECOND)):
        config = NodeConfig(1, {1: "a:1"}, data="d", settings=settings, limits=slow)
        assert config.limits.settings_of_core(config.settings).tick_nanoseconds == 20 * MILLISECOND
    for limits in (slow, NodeLimits()):
        with pytest.raises(SettingsError, match=r"tick_nanoseconds.*tick="):
            NodeConfig(1, {1: "a:1"}, data="d", settings=Settings(tick_nanoseconds=7), limits=limits)


def test_one_table_of_all_nodes_serves_each_of_them() -> None:
    members = {1: "a:1", 2: "b:1", 3: "c:1"}
    for node, listen in ((1, ""), (2, "0.0.0.0:1"), (3, "10.0.0.3:7")):
        limits = NodeConfig(node, members, data="d", listen=listen).node_limits(listen)
        others = {number: address for number, address in members.items() if number != node}
        assert (limits.address, limits.peers, limits.founders) == (members[node], others, (1, 2, 3))


def test_node_that_joins_founds_nothing() -> None:
    members = {1: "a:1", 2: "b:1"}
    for config in (
        NodeConfig(4, {**members, 4: "d:1"}, data="d", join=True),
        NodeConfig(4, members, data="d", join=True, listen="d:1"),
        NodeConfig(4, data="d", join=True, listen="d:1", known=members),
    ):
        limits = config.node_limits(config.listening_address)
        assert (limits.address, limits.peers, limits.founders) == ("d:1", members, ())


@pytest.mark.parametrize("old", ["peers", "founders", "advertise", "host"])
def test_keyword_of_release_0_1_names_its_successor(old: str) -> None:
    named: dict[str, Any] = {old: {1: "h:1"}}
    with pytest.raises(SettingsError) as refusal:
        NodeConfig(1, {1: "h:1"}, data="d", **named)
    assert f"{old}=" in str(refusal.value)
    assert any(new in str(refusal.value) for new in ("members=", "limits="))


def refused(strerror: str) -> OSError:
    return ConnectionRefusedError(errno.ECONNREFUSED, strerror)


def test_reason_of_a_failed_dial_is_the_one_at_the_bottom() -> None:
    many = OSError("all attempts to connect failed")
    many.__cause__ = BaseExceptionGroup("", [refused("Connection refused"), refused("Connection refused")])
    unresolved = OSError(-2, "Name or service not known")

    assert dial_failure(many) == "Connection refused"
    assert dial_failure(unresolved) == "Name or service not known"
    assert dial_failure(ValueError("embedded null byte")) == "embedded null byte"
    assert dial_failure(TimeoutError()) == "TimeoutError"


@pytest.mark.parametrize("number", [errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, -2])
def test_address_that_cannot_be_listened_at_is_named(number: int) -> None:
    failure = listen_failure("h:1", OSError(number, "because"))

    assert isinstance(failure, ListenFailed)
    assert (failure.address, failure.errno) == ("h:1", number)
    assert "h:1" in str(failure)


def test_others_are_told_the_own_address_of_members_or_where_the_node_listens() -> None:
    chosen = NodeConfig(1, {1: "h:0", 2: "i:2"}, data="d").node_limits("h:77")
    assert (chosen.address, dict(chosen.peers), chosen.founders) == ("h:77", {2: "i:2"}, (1, 2))
    elsewhere = NodeConfig(1, {1: "h:9"}, data="d", listen="0.0.0.0:1")
    assert elsewhere.node_limits("0.0.0.0:1").address == "h:9"


@pytest.mark.parametrize("everywhere", ["0.0.0.0:7379", "[::]:7379", "[0:0::0]:7379"])
def test_wildcard_address_is_not_advertised(everywhere: str) -> None:
    """It told them that address, and each of them then dialled itself there."""
    config = NodeConfig(1, {1: everywhere}, data="d")
    assert config.node_limits(everywhere).address == ""
    for here in ("10.0.0.0:7379", "[::1]:7379", "[fe00::]:1", "a:0"):
        assert config.node_limits(here).address == here
