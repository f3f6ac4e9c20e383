"""Three real servers under the eyes of a supervisor, of Prometheus and of a browser; then two of them are killed."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from raft_kv.demo.cluster import Cluster, free_ports
from raft_kv.node_client import wait_until
from tests.certificates import tls

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=6000 --dump-dom"
)
OPENER = build_opener(ProxyHandler({}))


class Watched:
    """A cluster and the URLs of its health ports."""

    def __init__(self, cluster: Cluster, ports: list[int]) -> None:
        self.cluster = cluster
        self.urls = {node: f"http://127.0.0.1:{port}" for node, port in enumerate(ports, 1)}

    def get(self, node: int, path: str) -> tuple[int, str]:
        try:
            with OPENER.open(f"{self.urls[node]}{path}", timeout=20) as reply:
                return reply.status, reply.read().decode()
        except HTTPError as failure:
            with failure:
                return failure.code, failure.read().decode()

    def is_ready(self, node: int) -> bool:
        return self.get(node, "/readyz?timeout=5")[0] == 200


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    ports = free_ports(3)
    others = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    flags = {node: ("--health", str(port), "--health-nodes", others) for node, port in enumerate(ports, 1)}
    with Cluster(tmp_path_factory.mktemp("health"), flags=flags) as cluster:
        cluster.found(3)
        cluster.wait_ready([1, 2, 3])
        yield Watched(cluster, ports)


def rows_of(page: str) -> dict[int, list[str]]:
    """The cells of the page's table of members, as a reader sees them."""
    rows = re.findall(r'<tr data-node="(\d+)">(.*?)</tr>', page)
    cells = {int(node): re.findall(r"<td[^>]*>(.*?)</td>", row) for node, row in rows}
    return {node: [re.sub(r"<[^>]*>", "", cell) for cell in row] for node, row in cells.items()}


def page_of(url: str, profile: Path) -> str:
    """The page after its script has run for some seconds, as markup."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *QUIET.split(), f"--user-data-dir={profile}", url]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout.decode()


def test_health_port_through_the_loss_of_a_majority(watched: Watched, tmp_path: Path) -> None:
    cluster = watched.cluster
    with redis.Redis(*cluster.members[2].address) as client:
        for number in range(50):
            client.set(f"key{number}", "x")
            client.get(f"key{number}")
    leader = cluster.wait_leader()

    for node in (1, 2, 3):
        assert watched.get(node, "/livez") == (200, "ok\n")
        assert wait_until(partial(watched.is_ready, node), 20.0)

    status, text = watched.get(2, "/metrics")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert status == 200
    assert samples["raft_requests_total", "write", "done", ""] == 50
    assert samples["raft_request_duration_seconds_count", "read"] >= 50
    assert samples["raft_sync_duration_seconds_count",] >= 1
    assert samples["raft_apply_duration_seconds_count",] >= 1
    assert samples["raft_kv_keys",] == 50
    assert samples["process_resident_memory_bytes",] > 10_000_000
    state = json.loads(watched.get(leader, "/status.json")[1])
    assert (state["role"], state["leader"]) == ("leader", leader)
    assert state["latencies"]["commit"]["count"] >= 1
    assert any(note["text"] == "leader" for note in state["notes"])

    if CHROMIUM is not None:
        assert wait_until(lambda: len(json.loads(watched.get(2, "/history.json")[1])) >= 2, 20.0)
        page = page_of(watched.urls[2], tmp_path / "one")
        rows = rows_of(page)
        assert {node: row[1] for node, row in rows.items()} == {
            node: "leader" if node == leader else "follower" for node in (1, 2, 3)
        }
        assert len({row[3] for row in rows.values()}) == 1  # one term, told by each node itself
        assert rows[2][4] == "this node"
        assert ">healthy<" in page
        assert page.count('class="line"') == 6  # every rate has its line

    alive = next(node for node in (1, 2, 3) if node != leader)
    for node in {1, 2, 3} - {alive}:
        cluster.kill(node)
    assert watched.get(alive, "/livez") == (200, "ok\n")
    assert wait_until(lambda: "[-]leader failed" in watched.get(alive, "/readyz")[1], 20.0)
    assert watched.get(alive, "/readyz")[0] == 503
    assert watched.get(alive, "/metrics")[0] == 200

    if CHROMIUM is not None:
        page = page_of(watched.urls[alive], tmp_path / "two")
        assert ">no leader<" in page
        assert {node: row[4] for node, row in rows_of(page).items()} == {
            node: "this node" if node == alive else "unreachable" for node in (1, 2, 3)
        }


def test_health_port_of_a_network_speaks_tls_and_shows_certificates(tmp_path: Path) -> None:
    own, (clients, peers, health) = tls(), free_ports(3)
    words = f"--id 1 --cluster test --listen 127.0.0.1:{clients} --peer-listen 127.0.0.1:{peers} --data {tmp_path}"
    words += f" --tls-certificate {own.certificate} --tls-key {own.key} --tls-authorities {own.authorities}"
    command = [sys.executable, "-m", "raft_kv", "serve", *words.split(), "--health", f"0.0.0.0:{health}"]
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=ssl.create_default_context(cafile=own.authorities)))

    def get(path: str) -> str:
        try:
            with opener.open(f"https://127.0.0.1:{health}{path}", timeout=10) as reply:
                text: str = reply.read().decode()
                return text
        except HTTPError as failure:
            failure.close()
        except OSError:
            pass
        return ""

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert wait_until(lambda: get("/readyz").startswith("ok"), 20.0)
            text, state = get("/metrics"), json.loads(get("/status.json"))
            with pytest.raises(HTTPError) as refused:
                OPENER.open(f"http://127.0.0.1:{health}/livez", timeout=10)
            refused.value.close()
            server.terminate()
            assert server.stderr is not None
            log = server.stderr.read()
        finally:
            server.kill()

    family = next(each for each in text_string_to_metric_families(text) if "certificate_expiry" in each.name)
    expiries = {sample.labels["certificate"]: sample.value for sample in family.samples}
    assert set(expiries) == {"peer", "client"}
    assert time.time() < expiries["client"] == expiries["peer"]
    assert state["certificates"] == expiries
    assert refused.value.code == 400
    assert "at the health port" in log
    assert f"https://0.0.0.0:{health}/" in log
    assert "insecure" not in log
