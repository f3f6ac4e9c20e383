"""`raft-kv doctor`: what it finds in set-ups that are broken, each in its own way, and its exit status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from raft_core.settings import Settings
from raft_kv.cli import main
from raft_kv.config import ServeConfig
from raft_kv.demo.cluster import Cluster, free_ports
from raft_kv.doctor.disk import DiskFacts, check_data, check_disk, look_at_disk
from raft_kv.doctor.finding import Finding, Level, exit_status, note, right, warning, wrong
from raft_kv.doctor.nodes import Examined, check_nodes, examine, survives
from raft_kv.doctor.settings import check_settings, machine_memory
from raft_kv.effective import effective_settings
from raft_kv.node_client import NodeConnection, NodeReport
from raft_kv.version import version
from raft_storage import Location, open_store

GIB = 1024**3
GOOD = DiskFacts("/data", 100 * GIB, 10_000, "ext4", sync=0.001, slowest=0.002, rate=1e8)


def status(node: int, **changes: Any) -> dict[str, object]:
    """The status of a node of a healthy cluster of three, led by node 1."""
    peers = [
        {"node": peer, "address": f"n{peer}:7379", "connected": 1, "match": 90, "active": 1}
        for peer in (1, 2, 3)
        if peer != node
    ]
    whole = {
        "node": node, "cluster": "c", "role": "leader" if node == 1 else "follower", "term": 4, "leader": 1,
        "commit": 90, "applied": 90, "last_index": 90, "members_index": 1, "voters": [1, 2, 3], "outgoing": [],
        "learners": [], "listen": f"n{node}:6379", "version": "1.0", "wall_milliseconds": 10**12, "peers": peers,
        "users": 0, "max_memory": 0,
    }  # fmt: skip
    return whole | changes


def seen(*statuses: dict[str, object], ahead: float = 0.0) -> list[Examined]:
    return [Examined(str(each["listen"]), NodeReport(each), ahead, 0.001) for each in statuses]


def judged(nodes: Sequence[Examined], dial: str = "") -> list[Finding]:
    return check_nodes(nodes, "1.0", lambda _: dial)


def bad(findings: Sequence[Finding]) -> set[tuple[str, Level]]:
    return {(each.check, each.level) for each in findings if each.level in (Level.WARNING, Level.WRONG)}


def test_healthy_cluster_is_right_in_every_check() -> None:
    findings = judged(seen(status(1), status(2), status(3)))

    assert {each.level for each in findings} == {Level.RIGHT}
    assert {each.check for each in findings} >= {"reachable", "versions", "clock", "quorum", "members", "address"}
    assert exit_status(findings) == 0


def test_settings_of_the_members_are_shown_and_compared() -> None:
    usual = effective_settings(ServeConfig(id=1))
    slow = effective_settings(ServeConfig(id=2, settings=Settings(election_ticks=100, max_entry_bytes=1 << 21)))

    alike = judged(seen(status(1, settings=usual), status(2, settings=usual), status(3)))
    unlike = judged(seen(status(1, settings=usual), status(2, settings=slow)))

    assert [each.subject for each in alike if each.check == "settings"] == ["node 1, 2"]
    assert bad(alike) == set()
    assert bad(unlike) == {("settings", Level.WARNING)}
    warned = [each.subject for each in unlike if each.level is Level.WARNING]
    assert [subject.partition(":")[0] for subject in warned] == ["election_timeout_seconds", "max_entry_bytes"]


def test_heartbeat_longer_than_the_election_timeout_of_another_is_wrong() -> None:
    quick = effective_settings(ServeConfig(id=1))
    slow = effective_settings(ServeConfig(id=2, settings=Settings(election_ticks=2000, heartbeat_ticks=200)))
    medium = effective_settings(ServeConfig(id=2, settings=Settings(election_ticks=150, heartbeat_ticks=15)))

    findings = judged(seen(status(1, settings=quick), status(2, settings=slow)))
    (told,) = [each for each in findings if each.level is Level.WRONG]
    assert told.subject == "node 2 and node 1"
    assert {level for _, level in bad(judged(seen(status(1, settings=quick), status(2, settings=medium))))} == {
        Level.WARNING
    }


BROKEN: list[tuple[str, list[Examined], set[tuple[str, Level]]]] = [
    ("no leader", seen(status(2, leader=0), status(3, leader=0)), {("quorum", Level.WRONG)}),
    ("one knows none", seen(status(1), status(2, leader=0)), {("quorum", Level.WRONG)}),
    (
        "a voter is down",
        seen(status(1, peers=[{"node": 2, "address": "n2:1", "connected": 1, "match": 90, "active": 1}])),
        {("quorum", Level.WARNING)},
    ),
    ("no quorum is left", seen(status(1, peers=[])), {("quorum", Level.WRONG)}),
    ("two releases", seen(status(1), status(2, version="2.0")), {("versions", Level.WARNING)}),
    ("a wrong clock", seen(status(1), ahead=-120.0), {("clock", Level.WARNING)}),
    ("four voters", seen(status(1, voters=[1, 2, 3, 1])), {("members", Level.WARNING)}),
    ("one voter", seen(status(1, voters=[1])), {("members", Level.WARNING)}),
    ("joint", seen(status(1, outgoing=[1, 2])), {("members", Level.WARNING)}),
    ("older members", seen(status(1, members_index=9), status(2)), {("members", Level.WARNING)}),
    ("two clusters", seen(status(1), status(2, cluster="other")), {("cluster", Level.WRONG)}),
    ("one id twice", seen(status(1), status(1, listen="n9:6379")), {("cluster", Level.WRONG)}),
    ("a lagging node", seen(status(1, last_index=10**6, commit=10**6)), {("lag", Level.WARNING)}),
    ("a node is down", [Examined("n1:1", NodeReport(error="refused"))], {("reachable", Level.WRONG)}),
]


@pytest.mark.parametrize(("nodes", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_broken_cluster_is_told_with_a_remedy(nodes: list[Examined], expected: set[tuple[str, Level]]) -> None:
    findings = judged(nodes)

    assert bad(findings) >= expected
    assert all(each.remedy for each in findings if each.level in (Level.WARNING, Level.WRONG))
    assert exit_status(findings) == (1 if Level.WRONG in {level for _, level in expected} else 3)


def test_older_node_beside_users_or_a_limit_of_memory_is_told() -> None:
    older = status(3)
    del older["users"], older["max_memory"]

    for changes in ({"users": 2}, {"max_memory": GIB}, {"users": 1, "max_memory": GIB}):
        findings = judged(seen(status(1, **changes), status(2), older))

        (told,) = [each for each in findings if each.check == "entries"]
        assert told.level is Level.WRONG
        assert "node 3" in told.subject
        assert ("users" in told.text, "--max-memory" in told.text) == ("users" in changes, "max_memory" in changes)
        assert told.remedy
        assert bad(judged(seen(status(1, **changes), status(2, **changes)))) == set()
    assert bad(judged(seen(status(1), status(2), older))) == set()


def test_removed_node_is_no_fault() -> None:
    """Others still know its address, because it is in their `--peer`, and nothing listens there any more."""
    gone = [status(1)["peers"][0], {"node": 3, "address": "n3:7379", "connected": 0, "lacking": None}]  # type: ignore[index]
    after = {"members_index": 9, "voters": [1, 2], "peers": gone}
    ours = {"node": 1, "address": "n1:7379", "connected": 1, "active": 1}
    two = status(2, **after) | {"peers": [ours, gone[1]]}

    findings = judged(seen(status(1, **after), two), "refused")

    assert bad(findings) == {("members", Level.WARNING)}, "two voters"
    assert not [each for each in findings if "node 3" in each.subject + each.text]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"members_index": 9, "voters": [1, 2], "leader": 0}, "stop"),  # it applied its removal
        ({"members_index": 0, "voters": [], "leader": 0}, "RAFT ADD 3"),
        ({"members_index": 1, "leader": 0, "version": "0.9"}, "stop"),  # it was down when it was removed
    ],
)
def test_node_that_is_no_member_is_told_and_no_fault(changes: dict[str, Any], word: str) -> None:
    peers = [{"node": 2, "address": "n2:7379", "connected": 1, "match": 90, "active": 1}]
    members = {"members_index": 9, "voters": [1, 2], "peers": peers}

    findings = judged(seen(status(1, **members), status(2, **members, role="follower"), status(3, **changes)))

    assert bad(findings) == {("members", Level.WARNING)}, "two voters"
    (told,) = [each for each in findings if each.level is Level.NOTE]
    assert told.subject == "n3:6379"
    assert word in told.remedy


def test_lost_majority_is_told_with_the_voters_that_answer() -> None:
    findings = judged(seen(status(2, leader=0)))
    (told,) = [each for each in findings if each.check == "quorum"]
    assert "2 of voters 1, 2, 3 must run, and only 2 of them" in told.text


def test_waiting_node_alone_is_no_cluster_without_a_leader() -> None:
    waits = status(4, members_index=0, voters=[], leader=0, phase="running", peers=[])
    findings = judged(seen(waits))
    assert bad(findings) == set()
    assert any("RAFT ADD 4" in each.remedy for each in findings)
    founder = status(1, members_index=0, voters=[], leader=0, phase="forming", peers=[])
    assert ("quorum", Level.WRONG) in bad(judged(seen(founder)))


def test_address_that_a_node_cannot_dial_is_told() -> None:
    lost = [{"node": 2, "address": "n2:1", "connected": 0}, {"node": 3, "address": "", "connected": 0}]

    findings = judged(seen(status(1, peers=lost)), "timed out")

    addresses = [each for each in findings if each.check == "address"]
    assert [each.level for each in addresses] == [Level.WRONG, Level.WRONG]
    assert "timed out" in addresses[0].text
    assert ("address", Level.WRONG) not in bad(judged(seen(status(1)), "timed out"))


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({"free_bytes": GIB // 10}, "room", Level.WARNING),
        ({"free_files": 3}, "room", Level.WARNING),
        ({"filesystem": "tmpfs"}, "file system", Level.WRONG),
        ({"filesystem": "nfs4"}, "file system", Level.WARNING),
        ({"failure": "Permission denied"}, "disk", Level.WRONG),
        ({"sync": 0.03}, "disk speed", Level.WARNING),
        ({"slowest": 0.6}, "disk speed", Level.WRONG),
    ],
)
def test_unfit_disk_is_told_with_a_remedy(changes: dict[str, Any], check: str, level: Level) -> None:
    assert {each.level for each in check_disk(GOOD, needed=GIB, election=0.5)} == {Level.RIGHT}

    findings = list(check_disk(attrs.evolve(GOOD, **changes), needed=GIB, election=0.5))

    assert bad(findings) == {(check, level)}
    assert all(each.remedy for each in findings if each.level is not Level.RIGHT)


def test_disk_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    facts = look_at_disk(str(tmp_path / "not" / "yet"))

    assert facts.directory == str(tmp_path)
    assert facts.free_bytes > 0
    assert facts.failure or 0 < facts.sync <= facts.slowest
    assert not list(tmp_path.iterdir())


def test_data_are_verified_and_damage_is_told(tmp_path: Path) -> None:
    location = Location("file", str(tmp_path / "node"))
    assert [each.level for each in check_data(location)[0]] == [Level.NOTE]
    store = open_store(location, node=1, cluster="c")
    store.recover()
    assert [each.level for each in check_data(location)[0]] == [Level.NOTE]  # in use
    store.close()
    assert [each.level for each in check_data(location)[0]] == [Level.RIGHT]
    other = check_data(Location("sqlite", location.directory))[0]
    assert [each.level for each in other] == [Level.WRONG, Level.RIGHT]

    assert [each.level for each in check_data(location, owner=("c", 1))[0]] == [Level.RIGHT]
    for stranger in (("c", 4), ("other", 1)):
        assert [each.level for each in check_data(location, owner=stranger)[0]] == [Level.WRONG, Level.RIGHT]

    identity = tmp_path / "node" / "identity"
    identity.write_bytes(bytes([identity.read_bytes()[0] ^ 1]) + identity.read_bytes()[1:])
    assert [each.level for each in check_data(location)[0]] == [Level.WRONG]


def test_data_of_another_node_or_cluster_than_the_configuration_are_told(tmp_path: Path) -> None:
    location = Location("file", str(tmp_path / "node"))
    open_store(location, node=4, cluster="shop").close()
    assert bad(check_data(location, owner=("shop", 4))[0]) == set()
    for owner in (("shop", 1), ("other", 4)):
        assert bad(check_data(location, owner=owner)[0]) == {("data", Level.WRONG)}


def test_doctor_compares_data_with_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("raft_kv.doctor.command.look_at_disk", lambda _: GOOD)
    open_store(Location("file", str(tmp_path / "node")), node=4, cluster="shop").close()
    file = tmp_path / "node.toml"
    file.write_text(f'id = 1\ncluster = "other"\ndata = "{tmp_path / "node"}"\n', "utf-8")
    assert main(["doctor", "--config", str(file)], {}) == 1
    assert "node 4 of cluster 'shop'" in capsys.readouterr().out


def test_limit_of_memory_beyond_the_machines_is_told() -> None:
    limited = ServeConfig(id=1, max_memory="4gb")
    assert ("settings", Level.WARNING) in bad(check_settings(limited, memory=2 * GIB))
    assert not bad(check_settings(limited, memory=8 * GIB))
    assert not bad(check_settings(limited, memory=0)), "unknown"
    assert machine_memory() > 2**20


@pytest.mark.parametrize(("count", "failures"), [(2, 0), (3, 1), (4, 1), (5, 2), (6, 2)])
def test_number_of_failures_is_told_as_it_is(count: int, failures: int) -> None:
    assert f" {failures} failure" in survives(count, "voters")


@pytest.mark.parametrize(
    ("text", "check", "level"),
    [
        ("[settings]\nelection_ticks = 10\nheartbeat_ticks = 5", "settings", Level.WARNING),
        ("[settings]\nelection_ticks = 1000", "settings", Level.WARNING),
        ("[settings]\nlog_max_bytes = 1000000", "settings", Level.WARNING),
        ('peer-listen = "0.0.0.0:7379"\ninsecure = true', "address", Level.WRONG),
        ('[peers]\n2 = "10.0.0.2:7379"\n3 = "10.0.0.3:7379"', "address", Level.WRONG),
        ('[peers]\n2 = "127.0.0.1:7380"', "members", Level.WARNING),
        ("insecure = true", "certificate", Level.WARNING),
        ('listen = "10.0.0.1:6379"', "configuration", Level.WRONG),
        ('listen = "nonsense"', "configuration", Level.WRONG),
        ("elections = 3", "configuration", Level.WRONG),
    ],
)
def test_settings_that_do_not_go_together_are_told(
    text: str,
    check: str,
    level: Level,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("raft_kv.doctor.command.look_at_disk", lambda _: GOOD)
    monkeypatch.setattr("raft_kv.doctor.settings.dials", lambda _: "")
    file = tmp_path / "node.toml"
    plain, table, settings = text.partition("[")
    file.write_text(f'id = 1\ndata = "{tmp_path / "node"}"\n{plain}\n{table}{settings}\n', "utf-8")

    status = main(["doctor", "--config", str(file), "--json"], {})

    findings = json.loads(capsys.readouterr().out)
    assert {"check": check, "level": level.value}.items() <= next(
        each for each in findings if each["level"] in ("warning", "wrong")
    ).items()
    assert status == (1 if level is Level.WRONG else 3)


def test_right_configuration_and_its_peers_are_told() -> None:
    config = ServeConfig(id=1, peers={2: "127.0.0.1:7380", 3: "127.0.0.1:7381"})

    assert {each.level for each in check_settings(config, sync=0.001, dial=lambda _: "")} == {Level.RIGHT}
    assert {each.level for each in check_settings(config, dial=lambda _: "Connection refused")} == {Level.NOTE}
    assert {each.level for each in check_settings(config, dial=lambda _: "no such name")} == {Level.WRONG}
    assert ("settings", Level.WARNING) in bad(check_settings(config, sync=0.2, dial=lambda _: ""))


def test_exit_status_is_that_of_the_worst_finding() -> None:
    fine, told = right("a", "b", "c"), note("a", "b", "c")

    assert exit_status([]) == exit_status([fine, told]) == 0
    assert exit_status([fine, warning("a", "b", "c", "d")]) == 3
    assert exit_status([warning("a", "b", "c", "d"), wrong("a", "b", "c", "d"), fine]) == 1


def test_running_node_is_looked_at_and_one_that_is_down_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (nowhere,) = free_ports(1)
    with Cluster(tmp_path) as cluster:
        cluster.found(1)
        cluster.wait_ready([1])
        address = f"127.0.0.1:{cluster.members[1].port}"
        with closing(NodeConnection(cluster.members[1].address)) as node:
            assert node.say("PING") == b"PONG"
        found = examine(address, 3.0)
        assert found.status["version"] == version()
        assert abs(found.ahead) < 1.0 + found.uncertain
        assert main(["doctor", "--from", address], {}) == 3  # one voter
        assert "RAFT ADD" in capsys.readouterr().out
        assert main(["doctor", "--from", f"127.0.0.1:{nowhere}"], {}) == 1
