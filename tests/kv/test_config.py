"""The configuration of `raft-kv serve` from flags, variables and a file; every wrong value is refused by its origin."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import attrs
import pytest

from raft_core.entries import Checksum
from raft_core.errors import SettingsError
from raft_core.ids import MAX_INT63, NodeId
from raft_core.node.config import NodeConfig
from raft_core.node.limits import NodeLimits
from raft_core.node.security import TLS
from raft_kv import cli
from raft_kv.cli import main
from raft_kv.config import ServeConfig
from raft_kv.serve_options import OPTIONS, given_values, serve_config
from raft_kv.server import run
from raft_kv.users import passwords
from raft_kv.users.file import users_of_file
from raft_storage import FileStore


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServeConfig]:
    """The configurations that would have been served."""
    configs: list[ServeConfig] = []
    monkeypatch.setattr(cli, "_run", lambda config, warnings=(): configs.append(config))
    return configs


def test_flags_make_a_configuration(served: list[ServeConfig]) -> None:
    flags = "--id 2 --cluster c --listen h:1 --peer-listen h:2 --peer 1=h:3 --peer 3=h:4 --data d --loop uvloop"
    flags += " --insecure"
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
        'id = 4\npeer-listen = "h:2"\ninsecure = true\njoin = true\n[peers]\n1 = "h:3"\n'
        "[settings]\nelection_ticks = 60\n"
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
        flags = ["--config", str(path), "--id", str(node), "--peer-listen", f"{host}:7379", "--insecure"]
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
        ("", "--id"),
        ("--id 0", "positive"),
        ("--id 9223372036854775808", "below 2**63"),
        ("--id 99999999999999999999999", "below 2**63"),
        ("--id " + "9" * 5000, "--id: "),
        ("--id 1 --peer 9223372036854775808=h:1", "below 2**63"),
        ("--id 1 --peer 0=h:1", "positive"),
        ("--id 1 --cluster caf\udce9", "UTF-8"),
        ("--id 1 --advertise caf\udce9:1", "not an address"),
        ("--id 1 --peer 2=caf\udce9:1", "not an address"),
        ("--id 1 --listen a..b:1", "not an address"),
        ("--id 1 --data caf\0", "--data"),
        ("--id x", "--id: 'x'"),
        ("--id 1 --listen nowhere", "host:port"),
        ("--id 1 --peer 2", "--peer 2"),
        ("--id 1 --peer x=h:1", "--peer x=h:1"),
        ("--id 1 --join", "--join"),
        ("--id 1 --loop curio", "--loop"),
        ("--id 6 --peer 6=127.0.0.1:1234", "node 6"),
        ("--id 6 --peer 6=127.0.0.1:7379", "node 6"),
        ("--id 6 --peer 6=h:1234 --peer 7=i:1", "node 6"),
        ("--id 6 --join --peer 6=h:1234", "node 6"),
        ("--id 1 --peer 2=h:1 --peer 2=i:1", "--peer 2=i:1"),
        ("--id 1 --peer 2=h:1 --peer 02=i:1", "--peer 02=i:1"),
        ("--id 1 --peer 2=h:1 --peer 3=h:1", "h:1"),
        ("--id 1 --peer 2=127.0.0.1:7379", "127.0.0.1:7379"),
        ("--id 1 --peer 2=127.0.0.1:6379", "--peer 2"),
        ("--id 1 --peer 2=h:0", "h:0"),
        ("--id 1 --listen h:5 --peer-listen h:5", "--peer-listen"),
        ("--id 1 --listen 999.1.1.1:5", "--listen"),
        ("--id 1 --peer 2=999.1.1.1:5", "--peer 2"),
        ("--id 1 --advertise 10.0.0:5", "--advertise"),
        ("--id 1 --set nonsense=1", "--set nonsense=1"),
        ("--id 1 --set election_ticks=soon", "--set election_ticks=soon"),
        ("--id 1 --set election_ticks=1", "--set election_ticks=1"),
        ("--id 1 --request-timeout 0", "--request-timeout"),
        ("--id 1 --max-clients 0", "max-clients"),
    ],
)
def test_wrong_flags_are_named_with_status_2(
    flags: str, complaint: str, served: list[ServeConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *flags.split()]) == 2
    told = capsys.readouterr().err
    assert told.startswith("raft-kv: ")
    assert complaint in told
    assert not served


def test_missing_or_invalid_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", str(tmp_path / "nope.toml")]) == 1
    assert "nope.toml" in capsys.readouterr().err
    path = tmp_path / "bad.toml"
    path.write_text("id = ")
    assert main(["serve", "--config", str(path)]) == 2
    assert "bad.toml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("colour = 3", "colour"),
        ("lisen = 'h:1'", "lisen"),
        ("peers = 3", "peers"),
        ("listen = 6379", "listen"),
        ("join = 3", "join"),
        ("max-clients = 1.5", "max-clients"),
        ("max-clients = true", "max-clients"),
        ("request-timeout = 'soon'", "request-timeout"),
        ("request-timeout = 0", "request-timeout"),
        ("peer-listen = 'h:1'\npeer_listen = 'h:2'", "peer_listen"),
        ("config = 'other.toml'", "config"),
        ("[peers]\n2 = 7", "peers.2"),
        ("[peers]\nx = 'h:1'", "peers.x"),
        ("[peers]\n2 = 'h:1'\n3 = 'h:1'", "peers.2"),
        ("settings = 1", "settings"),
        ("[settings]\nelection-tick = 3", "settings.election-tick"),
        ("[settings]\nelection-ticks = 1", "settings.election-ticks"),
        ("[settings]\nchecksum = 'md5'", "settings.checksum"),
        ("[host]\nfounders = [1]", "host.founders"),
        ("[host]\ntick = 'x'", "host.tick"),
    ],
)
def test_wrong_value_in_a_file_is_named_with_file_and_key(
    text: str, origin: str, tmp_path: Path, served: list[ServeConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f"id = 1\n{text}\n")
    assert main(["serve", "--config", str(path)]) == 2
    assert f"{path}: {origin}" in capsys.readouterr().err
    assert not served


# Environment variables.

SAMPLES = {
    "id": ("7", "8"),
    "cluster": ("from-flag", "from-variable"),
    "listen": ("h:1", "h:2"),
    "peer-listen": ("h:3", "h:4"),
    "health": ("h:7", "8379"),
    "users": ("one", "two"),
    "max-clients-per-address": ("13", "14"),
    "max-connection-rate": ("3.5", "4.5"),
    "max-memory": ("2mb", "3gb"),
    "health-nodes": ("http://h:7,http://i:7", "https://h:8"),
    "advertise": ("h:5", "h:6"),
    "peer": ("2=i:1", "2=i:2"),
    "tls-certificate": ("flag.crt", "variable.crt"),
    "tls-key": ("flag.key", "variable.key"),
    "tls-authorities": ("flag.ca", "variable.ca"),
    "tls-client-authorities": ("flag.ca", "variable.ca"),
    "tls-peers": ("accept", "off"),
    "tls-clients": ("off", "accept"),
    "tls-minimum": ("1.2", "1.3"),
    "data": ("flag", "variable"),
    "loop": ("asyncio", "uvloop"),
    "request-timeout": ("1.5", "2.5"),
    "max-clients": ("11", "12"),
    "redis-role": ("raft", "master"),
    "log-format": ("json", "text"),
    "log-level": ("debug", "error"),
    "set": ("election_ticks=77", "election_ticks=78"),
}
"""For each option two values; one is not its default."""
SWITCHES = ("insecure", "join", "stop-at-eof", "verbose")
FIELDS = {"peer": "peers", "set": "settings"}
SECURE = {f"RAFT_KV_TLS_{name}": name for name in ("CERTIFICATE", "KEY", "AUTHORITIES")}
"""Without these, a node listens on loopback only, and other options of TLS are of no use."""
SOURCES = {"config", "dns", "expect"}
"""Options from which others are filled in; see `tests/kv/test_deploy.py`."""


def made(flags: dict[str, object], environ: dict[str, str]) -> ServeConfig:
    """The configuration of node 1, or as given."""
    return serve_config(given_values({"id": "1", **flags}, environ))


def test_every_option_of_serve_is_tried_here_and_is_a_field() -> None:
    names = {option.name for option in OPTIONS}
    assert names == {*SAMPLES, *SWITCHES, *SOURCES}
    fields = {field.name for field in attrs.fields(ServeConfig)} - {"host"}
    assert {FIELDS.get(name, name.replace("-", "_")) for name in names} - SOURCES == fields


@pytest.mark.parametrize("name", SAMPLES)
def test_flag_overrides_variable_which_overrides_file_which_overrides_default(name: str, tmp_path: Path) -> None:
    flag, variable = SAMPLES[name]
    field = FIELDS.get(name, name.replace("-", "_"))
    given: object = [flag] if name in FIELDS else flag
    own = f"RAFT_KV_{name.replace('-', '_').upper()}"
    others = {"RAFT_KV_INSECURE": "true", **{key: given for key, given in SECURE.items() if key != own}}
    environ = {**others, own: variable}

    def value(config: ServeConfig) -> object:
        found: object = getattr(config, field)
        return found

    by_flag, by_variable = (
        made({name.replace("-", "_"): given}, others),
        serve_config(given_values({}, {"RAFT_KV_ID": "1", **environ})),
    )
    both = made({name.replace("-", "_"): given}, environ)
    assert value(both) == value(by_flag) != value(by_variable)

    path = tmp_path / "node.toml"
    table, _, key = {"peer": "peers.2", "set": "settings.election_ticks"}.get(name, "").partition(".")
    number = name in ("id", "request-timeout") or (name.startswith("max-") and name != "max-memory")
    text = f"[{table}]\n{key} = '{flag.partition('=')[2]}'" if table else f"{name} = {flag if number else repr(flag)}"
    path.write_text(text if name == "id" else f"id = 1\n{text}")
    only_file = serve_config(given_values({"config": str(path)}, others))
    assert value(only_file) == value(by_flag)
    assert value(serve_config(given_values({}, {"RAFT_KV_CONFIG": str(path), **environ}))) == value(by_variable)


@pytest.mark.parametrize("name", SWITCHES)
def test_switch_can_be_turned_on_by_a_variable_and_off_by_a_flag(name: str, served: list[ServeConfig]) -> None:
    field, variable = name.replace("-", "_"), f"RAFT_KV_{name.replace('-', '_').upper()}"
    environ = {"RAFT_KV_ID": "1", "RAFT_KV_PEER": "2=h:1", variable: "true"}
    assert main(["serve"], environ) == 0
    assert main(["serve", f"--no-{name}"], environ) == 0
    assert main(["serve"], {**environ, variable: ""}) == 0
    assert [getattr(config, field) for config in served] == [True, False, False]


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("--listen 10.0.0.1:6379", "listen"),
        ("--peer-listen 0.0.0.0:7379", "peer-listen"),
        ("--health 0.0.0.0:8379", "health 0.0.0.0:8379"),
        ("--health h:8379 --tls-certificate c --tls-key k --tls-authorities a --tls-clients off", "health h:8379"),
        ("--listen 10.0.0.1:6379 --tls-certificate c --tls-key k --tls-authorities a --tls-clients off", "listen"),
        ("--tls-certificate c", "tls-key"),
        ("--tls-key k", "tls-certificate"),
        ("--tls-peers accept", "tls-certificate"),
        ("--tls-certificate c --tls-key k", "authorities"),
        ("--tls-certificate c --tls-key k --tls-authorities a --tls-minimum 1.1", "TLS"),
        ("--tls-certificate c --tls-key k --tls-authorities a --tls-peers perhaps", "tls-peers"),
    ],
)
def test_port_is_not_open_to_others_without_tls_unless_insecure(
    flags: str, name: str, served: list[ServeConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--id", "1", *flags.split()]) == 2
    assert name in capsys.readouterr().err
    assert not served
    if "listen" in name or "health" in name:
        assert main(["serve", "--id", "1", *flags.split(), "--insecure"]) == 0


def test_certificate_secures_both_ports(served: list[ServeConfig]) -> None:
    flags = "--id 1 --listen h:1 --peer-listen h:2 --tls-certificate c --tls-key k --tls-authorities a"
    assert main(["serve", *flags.split()]) == 0
    assert main(["serve", *flags.split(), "--tls-client-authorities", "b", "--tls-peers", "accept"]) == 0
    first, second = served
    assert not first.health_uses_tls
    assert first.peer_tls() == TLS(certificate="c", key="k", authorities="a")
    assert first.client_tls() == TLS(certificate="c", key="k")
    assert first.node_config().tls == first.peer_tls()
    assert second.peer_tls() == TLS(certificate="c", key="k", authorities="a", mode="accept")
    assert second.client_tls() == TLS(certificate="c", key="k", authorities="b")


@pytest.mark.parametrize(("health", "clients", "secure", "protected"), [
    ("h:3", "require", True, True), ("h:3", "accept", True, False), ("h:3", "off", False, False),
    ("0.0.0.0:3", "require", True, True), ("8379", "require", False, True), ("localhost:3", "off", False, True),
    ("[::1]:3", "accept", False, True),
])  # fmt: skip
def test_health_port_speaks_tls_on_addresses_of_a_network(
    health: str, clients: str, secure: bool, protected: bool
) -> None:
    files = {"tls_certificate": "c", "tls_key": "k", "tls_authorities": "a"}
    config = made({"health": health, "tls_clients": clients, **files}, {"RAFT_KV_INSECURE": "true"})
    assert (config.health_uses_tls, config.health_is_protected) == (secure, protected)


@pytest.mark.parametrize(("text", "reason"), [
    (None, "cannot read"), ("", "no user"), ("user alice on +@all", "administrator"),
    ("# all of them\n\nuser alice on nopass ~* +@all\nuser bob on +@nonsense", "line 4"),
    ("user alice on nopass ~* +@all\nuser alice on", "line 2"), ("user alice on >secret ~* +@all", "line 1"),
    ("alice on", "line 1"),
])  # fmt: skip
def test_file_of_users_is_checked_before_anything_is_written(
    text: str | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users, data = tmp_path / "users.acl", tmp_path / "data"
    if text is not None:
        users.write_text(text)
    assert main(["serve", "--id", "1", "--data", str(data), "--users", str(users)], {}) == 2
    told = capsys.readouterr().err
    assert str(users) in told
    assert reason in told
    assert "secret" not in told
    assert not data.exists()


def test_variable_takes_several_values(served: list[ServeConfig]) -> None:
    environ = {
        "RAFT_KV_ID": "1",
        "RAFT_KV_PEER": "2=h:1, 3=h:2",
        "RAFT_KV_SET": "election_ticks=70 leader_wait=9",
    }
    assert main(["serve", "--set", "election_ticks=80"], environ) == 0
    assert served[0].peers == {2: "h:1", 3: "h:2"}
    assert (served[0].settings.election_ticks, served[0].host.leader_wait) == (80, 9)


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_flag_has_a_variable_and_the_help_shows_both_with_the_default(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    _, *parts = capsys.readouterr().out.partition("\n\nexamples")[0].split("\n  --")
    shown = {part.split()[0].strip(","): " ".join(part.split()) for part in parts}
    options = [option for option in cli.COMMANDS[command].options if not option.positional]
    assert set(shown) == {option.name for option in options}
    for option in options:
        if option.name == "i-understand-what-may-be-lost":  # a decision of a person
            continue
        assert option.variable.startswith("RAFT_KV_")
        assert option.variable.endswith(option.name.replace("-", "_").upper())
        assert f"${option.variable}" in shown[option.name]
        assert option.default in shown[option.name]


def test_no_two_options_share_a_variable() -> None:
    variables = [option.variable for each in cli.COMMANDS.values() for option in each.options if option.variable]
    assert len(set(variables)) == len(variables)


def test_shown_defaults_are_the_defaults() -> None:
    plain = made({}, {})
    for option in OPTIONS:
        if option.default and option.name not in ("advertise", "data", "loop", "tls-peers", "tls-clients"):
            assert getattr(made({option.field: option.default}, {}), option.field) == getattr(plain, option.field)


def test_default_loop_is_fastest_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raft_kv.config.find_spec", lambda name: object() if name == "uvloop" else None)
    assert made({}, {}).loop == "uvloop"
    monkeypatch.setattr("raft_kv.config.find_spec", lambda name: None)
    assert made({}, {}).loop == "trio"
    assert made({"loop": "asyncio"}, {}).loop == "asyncio"


@pytest.mark.parametrize(
    ("name", "value"),
    [("ID", "x"), ("MAX_CLIENTS", "0"), ("JOIN", "perhaps"), ("PEER", "2=h:1 3"), ("SET", "tikc=3"), ("LISTEN", "h")],
)
def test_wrong_variable_is_named(
    name: str, value: str, served: list[ServeConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve"], {"RAFT_KV_ID": "1", f"RAFT_KV_{name}": value}) == 2
    assert f"RAFT_KV_{name}" in capsys.readouterr().err
    assert not served


def test_all_wrong_values_are_named_at_once(served: list[ServeConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--id", "x"], {"RAFT_KV_MAX_CLIENTS": "many"}) == 2
    told = capsys.readouterr().err
    assert "--id" in told
    assert "RAFT_KV_MAX_CLIENTS" in told
    assert not served


def test_mistakes_of_different_kinds_in_a_file_are_named_at_once(
    served: list[ServeConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        """
        id = 1
        colour = "red"
        listen = "10.0.0.1:6379"
        log-level = "loud"
        data = "tape:x"
        [settings]
        election-tick = 50
        heartbeat-ticks = 500
        [host]
        tick = 0
        """,
        "utf-8",
    )
    assert main(["serve", "--config", str(file)]) == 2
    told = capsys.readouterr().err
    for word in ("colour", "election-tick:", "tick", "listen", "loud", "tape"):
        assert word in told, told
    assert len(told.splitlines()) == len(set(told.splitlines()))

    file.write_text('id = 1\ncolour = 3\nlisten = "10.0.0.1:6379"\n[settings]\nheartbeat_ticks = 500\n', "utf-8")
    assert main(["serve", "--config", str(file)]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 3
    for word in ("colour", "heartbeat_ticks", "listen"):
        assert word in told
    assert not served


def test_unknown_variable_is_warned_about_but_not_those_of_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(cli, "_run", lambda _, warnings: warned.extend(warnings))
    kubernetes = ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_6379_TCP", "PORT_6379_TCP_ADDR", "SERVICE_PORT_REDIS")
    environ = {f"RAFT_KV_{name}": "x" for name in kubernetes}
    assert (
        main(["serve", "--id", "1"], {**environ, "RAFT_KV_LISTN": "h:1", "RAFT_KV_DEMO_NODES": "5", "OTHER": "x"}) == 0
    )
    assert len(warned) == 1
    assert "RAFT_KV_LISTN" in warned[0]


# The data location.


def configured(way: str, location: str, tmp_path: Path) -> tuple[list[str], dict[str, str], str]:
    """Give the location in one of three ways; also return how an error names it."""
    if way == "flag":
        return ["--data", location], {}, "--data"
    if way == "variable":
        return [], {"RAFT_KV_DATA": location}, "RAFT_KV_DATA"
    path = tmp_path / "node.toml"
    path.write_text(f"data = {location!r}")
    return ["--config", str(path)], {}, f"{path}: data"


WAYS = ("flag", "variable", "file")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["", "file:", "sqlite:", "rocksdb:", "mdbx:"])
def test_data_takes_a_location_in_every_way(way: str, kind: str, tmp_path: Path, served: list[ServeConfig]) -> None:
    if kind == "mdbx:":
        pytest.importorskip("mdbx")
    flags, environ, _ = configured(way, f"{kind}{tmp_path}/d", tmp_path)
    assert main(["serve", "--id", "1", *flags], environ) == 0
    assert served[0].directory == served[0].node_config().data == f"{kind}{tmp_path}/d"


@pytest.mark.parametrize("way", WAYS)
def test_unknown_kind_of_store_is_refused_by_its_origin(
    way: str, tmp_path: Path, served: list[ServeConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    flags, environ, origin = configured(way, "postgres:x", tmp_path)
    assert main(["serve", "--id", "1", *flags], environ) == 2
    told = capsys.readouterr().err
    assert origin in told
    assert "sqlite" in told
    assert not served


@pytest.mark.parametrize("way", WAYS)
def test_missing_package_of_a_store_is_refused_with_the_command_that_installs_it(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    flags, environ, origin = configured(way, f"rocksdb:{tmp_path}/d", tmp_path)
    assert main(["serve", "--id", "1", *flags], environ) == 2
    told = capsys.readouterr().err
    assert origin in told
    assert "pip install" in told
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("way", WAYS)
def test_location_of_another_kind_of_store_is_refused_with_both_remedies(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FileStore.open(tmp_path / "d", node=1, cluster="raft-kv").close()
    flags, environ, origin = configured(way, f"sqlite:{tmp_path}/d", tmp_path)
    places = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"]
    assert main(["serve", "--id", "1", *places, *flags], environ) == 1
    told = capsys.readouterr().err
    assert origin in told
    assert f"file:{tmp_path}/d" in told
    assert "raft-kv migrate" in told


def test_old_name_of_a_command_is_answered_by_the_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["salvage", "--cluster", "c"]) == 2
    assert "recover-from-quorum-loss" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["verify nowhere", "restore nowhere --new-cluster n --data d", "migrate --from nowhere --to sqlite:d"]
)
def test_missing_data_are_named_as_missing(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    told = capsys.readouterr().err
    assert "there is n" in told
    assert "never move a directory" not in told
    assert not list(tmp_path.iterdir())


def test_misspelled_command_is_answered_by_the_likely_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["servve", "--id", "1"]) == 2
    assert "did you mean serve?" in capsys.readouterr().err
    assert main(["nonsense"]) == 2
    assert "recover-from-quorum-loss" in capsys.readouterr().err


def test_examples_of_the_help_keep_their_lines() -> None:
    """A backslash that a string swallowed joins two lines of a command, with the blanks of the second between them."""
    for name, command in cli.COMMANDS.items():
        for line in (command.description + command.examples).splitlines():
            assert len(line) <= 125, (name, line)
            assert not re.search(r"[^#|] {7,}--", line.strip()), (name, line)


def test_file_of_users_made_as_the_help_says_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(passwords, "_COST", 10)
    rule = f"#{passwords.hash_password(b'pw')}"
    shown = re.findall(r'echo "(.*)" >>? users.acl', cli.COMMANDS["hash-password"].examples)
    lines = [re.sub(r"\$\(.*?\)", lambda _: rule, line) for line in shown]
    file = tmp_path / "users.acl"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    assert len(lines) == 2
    users_of_file(str(file))


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)])
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


def test_loop_whose_package_is_missing_is_refused_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    config = ServeConfig(id=1, loop="uvloop", data=str(tmp_path / "d"))
    with pytest.raises(SettingsError, match="pip install uvloop"):
        run(config)
    assert not (tmp_path / "d").exists()
