"""The log of a server: one line for each event of its node, as text and as JSON."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from raft_core.effects import Alarm, AlarmKind, RoleChanged, RoleName
from raft_core.ids import ClusterId, Incarnation, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.node.status import NodeStatus, PeerStatus, Phase
from raft_core.recovered import Identity
from raft_core.status import Status
from raft_kv.config import ServeConfig
from raft_kv.demo.cluster import Cluster
from raft_kv.log_output import LOG, flush, log_to_stderr
from raft_kv.node_client import wait_until
from raft_kv.node_log import NodeLog

CONFIG = ServeConfig(id=1, peers={2: "h:2"}, join=True)
FIRST = Members.initial((NodeId(1), NodeId(2)))


class Kept(logging.Handler):
    """Keeps the level and the fields of each record."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.fields.append({"level": record.levelname, **getattr(record, "fields", {})})

    def take(self) -> list[dict[str, Any]]:
        taken, self.fields = self.fields, []
        return taken


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, own = root.handlers[:], root.level, LOG.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    LOG.setLevel(own)


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, level = Kept(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    yield handler
    LOG.removeHandler(handler)
    LOG.setLevel(level)


def status(
    *, member: bool = True, members: Members = FIRST, members_index: int = 1, snapshot: int = 0, connected: bool = False
) -> NodeStatus:
    core = Status(
        node=NodeId(1),
        role=RoleName.FOLLOWER,
        term=Term(3),
        vote=NodeId(0),
        leader=NodeId(2),
        commit=Index(9),
        applied=Index(9),
        first_index=Index(snapshot + 1),
        last_index=Index(9),
        last_term=Term(3),
        durable_index=Index(9),
        snapshot_index=Index(snapshot),
        log_bytes=0,
        last_write=WriteId(0),
        writes_under_way=0,
        members=members,
        members_index=Index(members_index),
    )
    return NodeStatus(
        node=NodeId(1),
        identity=Identity(NodeId(1), ClusterId("c"), Incarnation(1)),
        phase=Phase.RUNNING,
        role=RoleName.FOLLOWER,
        term=Term(3 if member else 0),
        leader=NodeId(2),
        leader_address="h:2",
        core=core if member else None,
        peers=(PeerStatus(NodeId(2), "h:2", connected, connected, 0, "" if connected else "refused"),),
        addresses=(),
        waiting_clients=0,
        waiting_bytes=0,
        forwarded=0,
        drops=(),
    )


def test_events_of_a_node_are_one_record_each(kept: Kept) -> None:
    log = NodeLog(CONFIG)
    log.started("h:6379", "h:7379")
    log.role_changed(RoleChanged(RoleName.FOLLOWER, Term(3), NodeId(2)))
    log.alarm(Alarm(AlarmKind.DISK_STALL, text="slow"))
    log.login_failed("", "10.0.0.9", 7)
    log.stopping("SIGTERM")
    log.stopped()

    records = kept.take()

    assert [(each["event"], each["level"], each.get("term")) for each in records] == [
        ("started", "INFO", None),
        ("role_changed", "INFO", 3),
        ("alarm", "WARNING", 3),
        ("login_failed", "WARNING", 3),
        ("stopping", "INFO", 3),
        ("stopped", "INFO", 3),
    ]
    assert records[0]["settings"]["election_timeout_seconds"] == 0.5
    assert (records[1]["role"], records[1]["leader"]) == ("follower", 2)
    assert records[2]["alarm"] == "disk_stall"
    assert (records[3]["user"], records[3]["address"], records[3]["others"]) == ("", "10.0.0.9", 7)


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        (status(member=False), status(member=False), []),
        (status(member=False), status(), ["members_changed"]),
        (status(), status(), []),
        (status(), status(connected=True), ["peer_found"]),
        (status(connected=True), status(connected=True), []),
        (status(connected=True), status(), ["peer_lost"]),
        (status(), status(snapshot=7), ["snapshot"]),
        (status(snapshot=7), status(snapshot=7), []),
        (status(), status(members=Members.initial((NodeId(1),)), members_index=5), ["members_changed"]),
    ],
)
def test_differences_of_status_are_logged(before: NodeStatus, after: NodeStatus, events: list[str], kept: Kept) -> None:
    log = NodeLog(CONFIG)
    log.observe(before)
    kept.take()

    log.observe(after)

    assert [each["event"] for each in kept.take()] == events


def test_waiting_joiner_is_told_the_command_that_adds_it(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(1)
    log = NodeLog(CONFIG)
    log.started("h:6379", "h:7379")
    log.alarm(Alarm(AlarmKind.WAITING, text="not a member"))
    assert "RAFT ADD 1 h:7379" in capsys.readouterr().err


def test_line_of_text_has_time_level_node_and_term(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(4)
    log = NodeLog(CONFIG)
    log.started("h:6379", "h:7379")
    log.role_changed(RoleChanged(RoleName.LEADER, Term(3), NodeId(1)))
    first, second = capsys.readouterr().err.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO node=4 raft-kv ", first)
    assert re.match(r"\S+Z INFO node=4 term=3 ", second)


def test_json_has_the_fields_of_the_event_and_those_of_other_packages(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(4, "json")
    log = NodeLog(CONFIG)
    log.role_changed(RoleChanged(RoleName.LEADER, Term(3), NodeId(1)))
    try:
        raise ValueError("caf\udce9\nsecond line")
    except ValueError:
        log.client_defect(7)
    logging.getLogger("asyncio").warning("slow %s", "step")

    role, defect, other = map(json.loads, capsys.readouterr().err.splitlines())

    assert {name: role[name] for name in ("level", "node", "term", "event", "role")} == {
        "level": "info", "node": 4, "term": 3, "event": "role_changed", "role": "leader",
    }  # fmt: skip
    assert (defect["level"], defect["client"]) == ("error", 7)
    assert "ValueError" in defect["exception"]
    assert (other["logger"], other["message"], other["node"]) == ("asyncio", "slow step", 4)


@pytest.mark.parametrize(("level", "count"), [("debug", 2), ("info", 0)])
def test_clients_are_logged_on_level_debug(level: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(1, "text", level)
    log = NodeLog(CONFIG)
    log.client_connected(1, b"h:1")
    log.client_left(1)
    assert len(capsys.readouterr().err.splitlines()) == count


def records_of(process: subprocess.Popen[str], until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Read records up to one that meets the condition."""
    assert process.stderr is not None
    found = []
    for line in process.stderr:
        found.append(json.loads(line))
        if until(found[-1]):
            break
    return found


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_server_writes_nothing_but_json_from_start_to_stop(tmp_path: Path, loop: str) -> None:
    places = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--data", str(tmp_path / "d"), "--loop", loop]
    command = [sys.executable, "-m", "raft_kv", "serve", "--id", "1", "--log-format", "json", *places]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            records = records_of(process, lambda each: each.get("role") == "leader")
            process.send_signal(signal.SIGTERM)
            out, rest = process.communicate(timeout=10)
        finally:
            process.kill()
    records += map(json.loads, rest.splitlines())
    events = [each["event"] for each in records]
    assert events[0] == "started"
    assert {"role_changed", "members_changed", "stopping"} <= set(events)
    assert events[-1] == "stopped"
    assert out == ""
    assert process.returncode == 0


def test_reason_of_a_failed_start_is_json_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    flags = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--data", str(tmp_path / "file")]
    command = [sys.executable, "-m", "raft_kv", "serve", "--id", "1", "--log-format", "json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (record,) = map(json.loads, done.stderr.splitlines())
    assert (record["level"], record["event"]) == ("error", "failed")
    assert "--data" in record["message"]


@pytest.mark.slow
def test_peers_and_snapshots_are_logged_by_a_cluster(tmp_path: Path) -> None:
    with Cluster(tmp_path, overrides=("snapshot_entries=20",)) as three:
        three.found(3)
        three.wait_ready([1, 2, 3])
        with redis.Redis(*three.members[1].address) as client:
            for number in range(50):
                client.set("a", number)

        def logged(*words: str) -> bool:
            lines = three.members[1].log.read_text("utf-8", "replace").splitlines()
            return any(all(word in line for word in words) for line in lines)

        assert wait_until(lambda: logged("snapshot up to"), 10.0)
        assert wait_until(lambda: logged("connected to node 2"), 10.0)
        three.kill(2)
        assert wait_until(lambda: logged("lost node 2"), 10.0)
    flush()
