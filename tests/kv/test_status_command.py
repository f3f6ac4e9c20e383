"""`raft-kv status`: what it shows of nodes, and its exit status."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from rich.console import Console

from raft_core.effects import RoleName
from raft_core.explain import Explanation, Reason
from raft_core.ids import ClusterId, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.node.status import NodeStatus, Phase
from raft_core.raft import Raft
from raft_core.recovered import Identity
from raft_core.status import Status
from raft_kv.cli import main
from raft_kv.demo.cluster import Cluster, free_ports
from raft_kv.node_client import NodeReport, wait_until
from raft_kv.status import status_of_node
from raft_kv.status_command import _shown, exit_status

LED = NodeReport({"node": 1, "leader": 2})
ALONE = NodeReport({"node": 1, "leader": 0})
DOWN = NodeReport(error="refused")


@pytest.mark.parametrize(
    ("reports", "status"),
    [([LED], 0), ([DOWN, LED], 0), ([ALONE, LED], 0), ([ALONE], 3), ([ALONE, DOWN], 3), ([DOWN], 1), ([DOWN, DOWN], 1)],
)
def test_exit_status_says_whether_a_leader_is_known(reports: list[NodeReport], status: int) -> None:
    assert exit_status(reports) == status


def printed(*reports: dict[str, object]) -> str:
    """What the command shows of nodes that say this."""
    console = Console(file=io.StringIO(), width=200)
    console.print(_shown({f"n{number}:1": NodeReport(each) for number, each in enumerate(reports)}))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_node_that_was_removed_has_no_role_in_the_table() -> None:
    peers = [{"node": node, "connected": 1} for node in (1, 2, 3)]
    common = {"role": "follower", "voters": [1, 2, 3], "peers": peers}
    assert "no member" in printed({"node": 4, **common})
    assert "no member" not in printed({"node": 3, **common})
    assert " waits " in printed({"node": 4, "role": "follower", "phase": "running", "voters": []})


CORE = Raft.bootstrap(1, [1, 2, 3], seed=1).status


def told(core: Status | None, *explanations: Explanation) -> tuple[str, ...]:
    """The sentences of RAFT EXPLAIN for node 1."""
    seen = NodeStatus(
        node=NodeId(1), identity=Identity(NodeId(1), ClusterId("c")), phase=Phase.RUNNING, role=RoleName.FOLLOWER,
        term=Term(1), leader=NodeId(2), leader_address="", core=core, peers=(), addresses=(), waiting_clients=0,
        waiting_bytes=0, forwarded=0, drops=(),
    )  # fmt: skip
    return status_of_node(seen, explanations).reasons


def test_sentence_about_a_follower_does_not_read_as_if_it_led() -> None:
    follows = Explanation("leader", Reason.FOLLOWS_LEADER, "node 2 leads", (NodeId(2),))
    assert told(CORE, follows) == ("does not lead: node 2 leads",)


def test_removed_node_says_which_entry_leaves_it_out() -> None:
    without = attrs.evolve(CORE, members=Members((NodeId(2), NodeId(3))), members_index=Index(9))
    stranger = Explanation("leader", Reason.NOT_A_MEMBER, "this node is not (yet, or no longer) a member")
    (sentence,) = told(without, stranger)
    assert "entry 9" in sentence
    assert "2, 3" in sentence


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running cluster of one."""
    with Cluster(tmp_path_factory.mktemp("status")) as cluster:
        cluster.found(1)
        cluster.wait_ready([1])
        yield f"127.0.0.1:{cluster.members[1].port}"


def seen(arguments: list[str], environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    status = main(["status", "--json", *arguments], environ)
    return status, json.loads(capsys.readouterr().out)


def test_json_has_status_and_reasons_of_each_node(node: str, capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    status, shown = seen([node, f"127.0.0.1:{port}"], {}, capsys)
    assert status == 0
    one, none = shown["nodes"]
    assert one["address"] == node
    assert {name: one["status"][name] for name in ("node", "role", "leader", "voters", "listen")} == {
        "node": 1, "role": "leader", "leader": 1, "voters": [1], "listen": node,
    }  # fmt: skip
    assert len(one["reasons"]) == 1
    assert set(none) == {"address", "error"}


def test_addresses_come_from_a_variable_too(node: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, shown = seen([], {"RAFT_KV_STATUS_ADDRESSES": node}, capsys)
    assert (status, shown["nodes"][0]["address"]) == (0, node)


def test_table_has_a_row_for_each_node_and_its_members(node: str, capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    assert main(["status", node, f"127.0.0.1:{port}", node], {}) == 0
    head, first, second, *rest = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["address", "node", "role"]
    assert first.split()[:3] == [node, "1", "leader"]
    assert second.split()[0] == f"127.0.0.1:{port}"
    assert any("voters 1" in line for line in rest)
    assert any(line.startswith("settings of node 1: election timeout 0.5 to 1 s") for line in rest)


def test_unreachable_node_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    assert main(["status", f"127.0.0.1:{port}"], {}) == 1
    assert f"127.0.0.1:{port}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "origin"),
    [(["nowhere"], "nowhere"), (["--interval", "0"], "--interval"), (["--timeout", "soon"], "--timeout")],
)
def test_wrong_arguments_are_status_2(arguments: list[str], origin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", *arguments], {}) == 2
    assert origin in capsys.readouterr().err


@pytest.mark.parametrize("answer", [b"-ERR unknown command\r\n" * 3, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_server_of_another_kind_is_reported_as_such(answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)
                while connection.recv(1000):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        status, shown = seen([f"127.0.0.1:{listener.getsockname()[1]}"], {}, capsys)
        thread.join(10)
    assert status == 1
    assert "this is" in shown["nodes"][0]["error"]


def test_watch_looks_again_and_ends_with_the_last_status(node: str) -> None:
    command = [sys.executable, "-m", "raft_kv", "status", "--watch", "--json", "--interval", "0.05", node]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            times = [json.loads(process.stdout.readline())["time"] for _ in range(3)]
            process.send_signal(2)
            process.communicate(timeout=10)
        finally:
            process.kill()
    assert times == sorted(set(times))
    assert process.returncode == 0


def test_node_without_a_leader_is_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.founders = (1, 2)
        cluster._add(1)
        cluster._add(2)
        cluster.start(1)
        address = f"127.0.0.1:{cluster.members[1].port}"
        assert wait_until(lambda: main(["status", address], {}) != 1, 20.0)
        capsys.readouterr()
        status, shown = seen([address], {}, capsys)
    assert status == 3
    assert shown["nodes"][0]["status"]["phase"] == "forming"
