"""Moving a running cluster of processes to TLS, and then to another authority, under load: no request fails.

`tests/adapters/test_tls.py` does the same to nodes in a program, on every loop.
"""

from __future__ import annotations

import re
import shutil
import signal
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import attrs
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from raft_kv.client_tls import TLS_VARIABLES, use_tls
from raft_kv.demo.cluster import Cluster, free_ports
from raft_kv.node_client import wait_until
from tests.certificates import CLUSTER, files
from tests.kv.test_refusals import PING, say

OPENER = build_opener(ProxyHandler({}))


@attrs.define(eq=False)
class Loader:
    """A client of one node: it writes and reads its key without pause, on one connection, and tries nothing twice."""

    client: redis.Redis
    key: str
    done: threading.Event = attrs.field(factory=threading.Event)
    answered: int = 0
    failed: list[str] = attrs.field(factory=list)
    thread: threading.Thread = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        try:
            while not self.done.is_set():
                number = self.client.incr(self.key)
                if self.client.get(self.key) != b"%d" % number:
                    self.failed.append(f"{self.key} is not {number}")
                self.answered += 1
                self.done.wait(0.005)  # leave the processor to the servers
        except redis.RedisError as failure:
            self.failed.append(repr(failure))


def client(cluster: Cluster, node: int, own: Path | None) -> redis.Redis:
    host, port = cluster.members[node].address
    once = Retry(NoBackoff(), 0)
    if own is None:
        return redis.Redis(host, port, retry=once, socket_timeout=10)
    return redis.Redis(
        host, port, retry=once, socket_timeout=10, ssl=True, ssl_ca_certs=str(files() / "both.crt"),
        ssl_certfile=f"{own}.crt", ssl_keyfile=f"{own}.key",
    )  # fmt: skip


@contextmanager
def load(cluster: Cluster, nodes: Sequence[int], own: Path | None) -> Iterator[None]:
    """Clients of these nodes, with this certificate or without TLS, during the block. None of their requests fails."""
    loaders = [Loader(client(cluster, node, own), f"load:{node}") for node in nodes]
    try:
        assert wait_until(lambda: all(each.answered for each in loaders), 20.0), [each.failed for each in loaders]
        yield
        before = [each.answered for each in loaders]

        def going_on() -> bool:
            return all(each.answered > then for each, then in zip(loaders, before, strict=True))

        assert wait_until(going_on, 20.0), [each.failed for each in loaders]
    finally:
        for each in loaders:
            each.done.set()
            each.thread.join(20)
            each.client.close()
    assert [each.failed for each in loaders] == [[] for _ in loaders]


def restart(cluster: Cluster, node: int, own: Path | None) -> None:
    """Restart the node as an operator does, while clients of the others go on."""
    others = [other for other in (1, 2, 3) if other != node]
    with load(cluster, others, own):
        cluster.stop([node])
        cluster.start(node)
        cluster.wait_ready([node])


def secure_peers(health: int) -> int:
    with OPENER.open(f"http://127.0.0.1:{health}/metrics", timeout=10) as reply:
        return len(re.findall(r"^raft_peer_secure{.*} 1$", reply.read().decode(), re.MULTILINE))


def context(own: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.load_cert_chain(f"{own}.crt", f"{own}.key")
    return made


def put(directory: Path, name: str, source: Path) -> None:
    """Replace a file as an operator does: at once."""
    shutil.copy(source, directory / f"new-{name}")
    (directory / f"new-{name}").replace(directory / name)


@pytest.mark.slow
def test_processes_move_to_tls_and_to_another_authority_without_a_failed_request(tmp_path: Path) -> None:
    health = dict(zip((1, 2, 3), free_ports(3), strict=True))
    old, new = files() / "client-alice", files() / "other" / "node-4"
    mine = {node: tmp_path / f"node-{node}-tls" for node in (1, 2, 3)}

    def flags(node: int, *words: str) -> tuple[str, ...]:
        return ("--health", str(health[node]), *words)

    def with_tls(node: int, peers: str, clients: str) -> tuple[str, ...]:
        named = [f"--tls-certificate={mine[node]}/crt", f"--tls-key={mine[node]}/key"]
        named += [f"--tls-authorities={mine[node]}/ca", f"--tls-client-authorities={mine[node]}/ca"]
        return flags(node, *named, f"--tls-peers={peers}", f"--tls-clients={clients}")

    for node, place in mine.items():
        place.mkdir()
        put(place, "ca", files() / "ca.crt")
        put(place, "crt", files() / f"node-{node}.crt")
        put(place, "key", files() / f"node-{node}.key")

    try:
        with Cluster(tmp_path / "cluster", name=CLUSTER) as cluster:
            cluster.flags = {node: flags(node) for node in (1, 2, 3)}
            cluster.found(3)
            cluster.wait_ready([1, 2, 3])

            # From plain connections to TLS: first both kinds are taken, then the clients move, then none without.
            for node in (1, 2, 3):
                cluster.flags = {**cluster.flags, node: with_tls(node, "accept", "accept")}
                restart(cluster, node, None)
            for node in (1, 2, 3):
                assert wait_until(partial(lambda node: secure_peers(health[node]) == 2, node), 20.0)
            use_tls(dict(zip(TLS_VARIABLES, (str(files() / "both.crt"), f"{old}.crt", f"{old}.key"), strict=True)))
            for node in (1, 2, 3):
                cluster.flags = {**cluster.flags, node: with_tls(node, "require", "require")}
                restart(cluster, node, old)
            assert "takes nothing but TLS" in say(cluster.members[2].address, PING, None)

            # From the old authority to the new one, without a restart.
            def reread(node: int) -> None:
                process = cluster.members[node].process
                assert process is not None
                process.send_signal(signal.SIGHUP)

            def served(node: int, own: Path) -> bool:
                return "+PONG" in say(cluster.members[node].address, PING, context(own))

            with load(cluster, (1, 2, 3), old):
                for node in (1, 2, 3):  # all trust both authorities
                    put(mine[node], "ca", files() / "both.crt")
                    reread(node)
                    assert wait_until(partial(served, node, new), 20.0)
                for node in (1, 2, 3):  # each gets its new certificate
                    put(mine[node], "crt", files() / "other" / f"node-{node}.crt")
                    put(mine[node], "key", files() / "other" / f"node-{node}.key")
                    reread(node)
                for node in (1, 2, 3):  # none trusts the old authority any more
                    put(mine[node], "ca", files() / "other" / "ca.crt")
                    reread(node)
                    assert wait_until(lambda node=node: not served(node, old), 20.0)  # type: ignore[misc]
            use_tls(dict(zip(TLS_VARIABLES, (str(files() / "both.crt"), f"{new}.crt", f"{new}.key"), strict=True)))
            restart(cluster, 1, new)  # its connections are made anew
            assert wait_until(lambda: secure_peers(health[1]) == 2, 20.0)

            with client(cluster, 2, new) as last:
                assert all(int(last.get(f"load:{node}") or 0) > 10 for node in (1, 2, 3))
    finally:
        use_tls({})
