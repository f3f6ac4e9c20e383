"""`raft-kv doctor` on six set-ups of real processes and files, each broken in its own way."""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from raft_kv.cli import main
from raft_kv.demo.cluster import Cluster, free_ports
from raft_kv.node_client import NodeConnection, wait_until
from tests.certificates import tls


@pytest.mark.slow
def test_six_broken_set_ups_are_told_with_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def found(*words: str) -> dict[tuple[str, str], str]:
        """What is not right, by check and level, with text and remedy."""
        capsys.readouterr()
        status = main(["doctor", "--json", *words], {})
        told = json.loads(capsys.readouterr().out)
        bad = [each for each in told if each["level"] in ("warning", "wrong")]
        assert status == (1 if any(each["level"] == "wrong" for each in bad) else 3 if bad else 0)
        assert all(each["remedy"] for each in bad)
        return {(each["check"], each["level"]): f"{each['subject']} {each['text']} {each['remedy']}" for each in bad}

    def tells(check: str, level: str, *words: str, among: tuple[str, ...]) -> bool:
        text = found(*among).get((check, level), "")
        return bool(text) and all(word in text for word in words)

    with Cluster(tmp_path / "one") as cluster, Cluster(tmp_path / "other", name="other") as other:
        cluster.found(3)
        other.found(1)
        cluster.wait_ready([1, 2, 3])
        other.wait_ready([1])
        sources = {node: f"127.0.0.1:{member.port}" for node, member in cluster.members.items()}
        every = tuple(word for source in sources.values() for word in ("--from", source))
        assert wait_until(lambda: found(*every) == {}, 20.0), found(*every)

        # 1. Nodes of two clusters.
        stranger = f"127.0.0.1:{other.members[1].port}"
        assert tells("cluster", "wrong", "other", among=("--from", sources[1], "--from", stranger))

        # 2. A node that joins, and advertises an address at which it cannot be dialled.
        (nowhere,) = free_ports(1)
        cluster.flags = {4: ("--advertise", f"127.0.0.1:{nowhere}")}
        cluster.join(4)
        with closing(NodeConnection(cluster.members[1].address, 10.0)) as node:
            assert wait_until(lambda: node.say("RAFT", "ADD", 4, f"127.0.0.1:{nowhere}") == b"OK", 20.0)
            assert wait_until(partial(tells, "address", "wrong", "node 4", among=every), 20.0), found(*every)
            assert node.say("RAFT", "REMOVE", 4) == b"OK"
        cluster.forget(4)

        # 3. A voter is down: one more, and nothing works.
        cluster.kill(3)
        assert wait_until(partial(tells, "quorum", "warning", among=every), 20.0), found(*every)
        assert ("reachable", "wrong") in found(*every)

        # 4. No quorum.
        cluster.kill(2)
        assert wait_until(partial(tells, "quorum", "wrong", among=every), 20.0), found(*every)

    # 5. A byte of a stopped node's log has changed.
    data = str(tmp_path / "one" / "node-3")
    assert ("data", "wrong") not in found("--data", data)
    segment = min(Path(data).rglob("*.log"))
    content = bytearray(segment.read_bytes())
    content[40] ^= 1
    segment.write_bytes(content)
    assert tells("data", "wrong", segment.name, among=("--data", data)), found("--data", data)

    # 6. The certificate of the configuration has expired.
    expired = tls(place="expired")
    named = {"tls-certificate": expired.certificate, "tls-key": expired.key, "tls-authorities": expired.authorities}
    lines = ["id = 1", 'cluster = "test"', f'data = "{tmp_path / "new"}"']
    lines += [f'{name} = "{path}"' for name, path in named.items()]
    (tmp_path / "node.toml").write_text("\n".join(lines), "utf-8")
    config = ("--config", str(tmp_path / "node.toml"))
    assert tells("certificate", "wrong", "expired", among=config), found(*config)
