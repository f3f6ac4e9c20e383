"""What can be said to `raft-kv serve`, in flags and in a file, and what is answered to nonsense."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft_core.entries import Checksum
from raft_core.errors import SettingsError
from raft_core.ids import MAX_INT63, NodeId
from raft_core.node.config import NodeConfig
from raft_core.node.limits import NodeLimits
from raft_kv import cli
from raft_kv.cli import main
from raft_kv.config import ServeConfig, read_file, serve_config


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServeConfig]:
    """The configurations that would have been served."""
    configs: list[ServeConfig] = []
    monkeypatch.setattr(cli, "_run", configs.append)
    return configs


def test_flags_make_a_configuration(served: list[ServeConfig]) -> None:
    flags = "--id 2 --cluster c --listen h:1 --peer-listen h:2 --peer 1=h:3 --peer 3=h:4 --data d --loop uvloop"
    settings = "--set election_ticks=70 --set pre-vote=false --set checksum=sha3-256 --set leader_wait=7"
    assert main(["serve", *flags.split(), *settings.split(), "--request-timeout", "2.5", "--verbose"]) == 0
    (config,) = served
    assert (config.id, config.cluster, config.listen, config.peer_listen) == (2, "c", "h:1", "h:2")
    assert config.peers == {1: "h:3", 3: "h:4"}
    assert (config.data, config.loop, config.request_timeout, config.verbose) == ("d", "uvloop", 2.5, True)
    assert (config.settings.election_ticks, config.settings.pre_vote) == (70, False)
    assert config.settings.checksum is Checksum.SHA3_256
    assert config.host.leader_wait == 7
    assert dict(config.node_config().members) == {1: "h:3", 2: "h:2", 3: "h:4"}


def test_a_file_says_the_same_and_flags_win_over_it(served: list[ServeConfig], tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(
        'id = 4\npeer-listen = "h:2"\njoin = true\n[peers]\n1 = "h:3"\n[settings]\nelection_ticks = 60\n'
        "lease-reads = false\n[host]\ntick = 20_000_000\n"
    )
    assert main(["serve", "--config", str(path), "--set", "heartbeat_ticks=6", "--data", "x"]) == 0
    (config,) = served
    assert (config.id, config.join, config.data, config.peers) == (4, True, "x", {1: "h:3"})
    assert (config.settings.election_ticks, config.settings.heartbeat_ticks, config.host.tick) == (60, 6, 20_000_000)
    assert config.node_config().join


def test_one_file_with_all_peers_serves_each_node(served: list[ServeConfig], tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text('[peers]\n1 = "a:7379"\n2 = "b:7379"\n3 = "c:7379"\n')
    for node, host in ((1, "a"), (2, "b"), (3, "c")):
        flags = ["--config", str(path), "--id", str(node), "--peer-listen", f"{host}:7379"]
        assert main(["serve", *flags]) == 0
    assert [sorted(config.node_config().members) for config in served] == [[1, 2, 3]] * 3
    assert not list(tmp_path.glob("raft-kv-*"))


def test_a_node_alone_needs_nothing_but_its_number(served: list[ServeConfig]) -> None:
    assert main(["serve", "--id", "1"]) == 0
    assert served[0].directory == "raft-kv-1"
    assert served[0].redis_role == "master"
    assert dict(served[0].node_config().members) == {1: "127.0.0.1:7379"}


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("", "Give --id"),
        ("--id 0", "positive"),
        ("--id 9223372036854775808", "below 2**63"),
        ("--id 99999999999999999999999", "below 2**63"),
        ("--id " + "9" * 5000, "id cannot be"),
        ("--id 1 --peer 9223372036854775808=h:1", "below 2**63"),
        ("--id 1 --peer 0=h:1", "positive"),
        ("--id 1 --cluster caf\udce9", "UTF-8"),
        ("--id 1 --advertise caf\udce9:1", "not an address"),
        ("--id 1 --peer 2=caf\udce9:1", "not an address"),
        ("--id 1 --listen a..b:1", "not an address"),
        ("--id 1 --data caf\0", "--data"),
        ("--id x", "id cannot be 'x'"),
        ("--id 1 --listen nowhere", "host:port"),
        ("--id 1 --peer 2", "NAME=VALUE"),
        ("--id 1 --peer x=h:1", "a peer's number cannot be 'x'"),
        ("--id 1 --join", "at least one peer"),
        ("--id 1 --loop curio", "loop is one of"),
        ("--id 6 --peer 6=127.0.0.1:1234", "node 6"),
        ("--id 6 --peer 6=127.0.0.1:7379", "node 6"),
        ("--id 6 --peer 6=h:1234 --peer 7=i:1", "node 6"),
        ("--id 6 --join --peer 6=h:1234", "node 6"),
        ("--id 1 --peer 2=h:1 --peer 2=i:1", "twice"),
        ("--id 1 --peer 2=h:1 --peer 02=i:1", "twice"),
        ("--id 1 --peer 2=h:1 --peer 3=h:1", "h:1"),
        ("--id 1 --peer 2=127.0.0.1:7379", "127.0.0.1:7379"),
        ("--id 1 --peer 2=127.0.0.1:6379", "--peer 2"),
        ("--id 1 --peer 2=h:0", "h:0"),
        ("--id 1 --listen h:5 --peer-listen h:5", "--peer-listen"),
        ("--id 1 --listen 999.1.1.1:5", "--listen"),
        ("--id 1 --peer 2=999.1.1.1:5", "--peer 2"),
        ("--id 1 --advertise 10.0.0:5", "--advertise"),
        ("--id 1 --set nonsense=1", "no setting 'nonsense'"),
        ("--id 1 --set election_ticks=soon", "election_ticks cannot be 'soon'"),
        ("--id 1 --set election_ticks=1", "election_ticks must be at least 2"),
        ("--id 1 --request-timeout 0", "positive number of seconds"),
        ("--id 1 --max-clients 0", "max-clients"),
    ],
)
def test_nonsense_is_answered_in_one_line_and_status_2(
    flags: str, complaint: str, served: list[ServeConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *flags.split()]) == 2
    told = capsys.readouterr().err
    assert told.startswith("raft-kv: ")
    assert complaint in told
    assert not served


def test_a_file_that_is_not_there_or_not_right_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", str(tmp_path / "nope.toml")]) == 1
    assert "nope.toml" in capsys.readouterr().err
    path = tmp_path / "bad.toml"
    path.write_text("id = ")
    with pytest.raises(SettingsError, match=r"bad\.toml is not a TOML file"):
        read_file(path)
    path.write_text("colour = 3")
    with pytest.raises(SettingsError, match="unknown names colour; known are advertise"):
        read_file(path)
    with pytest.raises(SettingsError, match="peers is a table"):
        serve_config({"id": 1, "peers": 3})


@pytest.mark.parametrize("command", [[], ["serve"], ["demo"]])
def test_help_is_worth_reading(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out) > 200


@pytest.mark.parametrize("number", [0, -1, MAX_INT63 + 1])
def test_an_impossible_node_id_is_refused_in_the_same_words_wherever_it_is_named(number: int) -> None:
    refusals = set()
    for naming in (
        lambda: NodeLimits(founders=(NodeId(number),)),
        lambda: NodeConfig(number, {number: "h:1"}, data="d"),
        lambda: ServeConfig(id=number),
    ):
        with pytest.raises(SettingsError) as refusal:
            naming()
        refusals.add(str(refusal.value))

    assert refusals == {f"a node id is a positive number below 2**63, not {number}"}


def test_the_role_that_redis_clients_hear_is_a_setting(served: list[ServeConfig]) -> None:
    assert main(["serve", "--id", "1", "--redis-role", "raft"]) == 0
    assert served[0].redis_role == "raft"
    assert main(["serve", "--id", "1", "--redis-role", "slave"]) == 2
