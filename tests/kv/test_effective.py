"""The settings in force, wherever they are shown; and the election timeout given in seconds."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from raft_core.errors import SettingsError
from raft_core.node.limits import MILLISECOND, NodeLimits
from raft_core.settings import Settings
from raft_kv.config import ServeConfig
from raft_kv.effective import effective_settings, settings_in_words
from raft_kv.resp import Encoded
from raft_kv.serve_options import given_values, serve_config
from raft_kv.status import PeerStatus, ServerStatus
from raft_kv.status_replies import info_text, status_reply

SHOWN = effective_settings(ServeConfig(id=1, loop="trio"))


def settings_of(*flags: str, environ: dict[str, str] | None = None) -> Settings:
    given = given_values({"id": "1", "set": list(flags)}, environ or {})
    return serve_config(given).settings


# The settings in force.


def test_settings_that_matter_are_always_there() -> None:
    assert SHOWN["election_timeout_seconds"] == 0.5
    assert (SHOWN["election_ticks"], SHOWN["heartbeat_seconds"], SHOWN["tick_seconds"]) == (50, 0.05, 0.01)
    assert (SHOWN["store"], SHOWN["loop"], SHOWN["tls_peers"], SHOWN["inline_sync"]) == ("file", "trio", "off", False)
    assert "priority" not in SHOWN


def test_others_are_there_once_they_differ_from_their_default() -> None:
    config = ServeConfig(
        id=1,
        data="sqlite:d",
        settings=Settings(priority=2, lease_reads=True),
        host=NodeLimits(tick=20 * MILLISECOND, leader_wait=7, leases=True),
    )

    shown = effective_settings(config)

    assert (shown["priority"], shown["lease_reads"], shown["leader_wait"], shown["leases"]) == (2, True, 7, True)
    assert (shown["store"], shown["election_timeout_seconds"], shown["tick_seconds"]) == ("sqlite", 1.0, 0.02)
    assert not {"tick", "features", "address"} & shown.keys()


def test_words_tell_all_and_stand_what_another_release_leaves_out() -> None:
    words = settings_in_words(effective_settings(ServeConfig(id=1, loop="trio", settings=Settings(priority=2))))

    for part in ("0.5 to 1 s", "50 ticks", "10 ms", "store file", "loop trio", "TLS peers off", "priority=2"):
        assert part in words
    assert settings_in_words({"loop": "trio", "new_thing": 7}) == "loop trio, new_thing=7"


def test_raft_status_has_them_as_lines_in_resp2_and_as_a_map_in_resp3() -> None:
    status = ServerStatus(
        node=1, role="leader", voters=(1, 2), settings=SHOWN, peers=(PeerStatus(node=2, address="h:2", connected=True),)
    )

    reply = status_reply(status)

    assert isinstance(reply, Encoded)
    lines, values = parsed(reply.second), parsed(reply.third)
    assert {"role: leader", "voters: 1, 2", "learners: none", "settings election_timeout_seconds: 0.5"} <= set(lines)
    assert "peer 2: address h:2, connected 1, lacking none" in lines
    assert values["settings"]["election_timeout_seconds"] == "0.5"
    assert values["settings"]["inline_sync"] == 0
    assert values["peers"][0]["node"] == 2


def parsed(data: bytes) -> Any:
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(data)
    return reader.gets()


def test_info_has_them_as_a_section() -> None:
    text = info_text(ServerStatus(node=1, settings=SHOWN), ["settings"])

    assert "# Settings\r\n" in text
    assert "election_timeout_seconds:0.5\r\n" in text


# The election timeout in seconds.


def test_election_timeout_in_seconds_becomes_ticks() -> None:
    for given in (
        settings_of("election_timeout=1.5"),
        settings_of("election-timeout=1.5"),
        settings_of(environ={"RAFT_KV_SET": "election_timeout=1.5"}),
        serve_config({"id": 1, "settings": {"election_timeout": 1.5}}).settings,
    ):
        assert (given.election_ticks, given.heartbeat_ticks) == (150, 15)
    assert settings_of("election_timeout=1.5", "heartbeat_ticks=3").heartbeat_ticks == 3


def test_length_of_a_tick_counts() -> None:
    given = settings_of("election_timeout=2", "tick=20000000")

    assert given.election_ticks == 100


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "61", "0.01", "soon"])
def test_wrong_election_timeout_is_refused_with_its_origin(value: str) -> None:
    with pytest.raises(SettingsError, match=r"--set.*election_timeout"):
        settings_of(f"election_timeout={value}")


def test_election_timeout_is_given_once() -> None:
    with pytest.raises(SettingsError, match="election_ticks"):
        settings_of("election_timeout=1", "election_ticks=100")
