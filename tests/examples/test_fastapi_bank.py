"""The FastAPI example: three processes, every code of its table, the hint at the leader, and the loss of a majority."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from raft_kv.demo.cluster import free_ports

from .processes import EXAMPLES, ended, line_with, started

BROKEN = """
import sys
import fastapi_bank
from raft_anyio import NodeConfig
from raft_objects import command

class Broken(fastapi_bank.Bank):
    @command
    def deposit(self, account: str, cents: int) -> int:
        return cents // 0

fastapi_bank.Bank = Broken
raft, http, data = sys.argv[1:]
sys.exit(fastapi_bank.serve(NodeConfig(1, {1: f"127.0.0.1:{raft}"}, data=data), int(http), 5.0))
"""


def asked(port: int, path: str, method: str = "GET") -> tuple[int, Any, Any]:
    """Return status, body and headers."""
    request = Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urlopen(request, timeout=20) as response:
            return response.status, json.load(response), response.headers
    except HTTPError as failure:
        with failure:
            return failure.code, json.load(failure), failure.headers


def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except (URLError, ConnectionError):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def healthy(port: int) -> bool:
    return asked(port, "/health")[0] == 200


@pytest.mark.slow
def test_fastapi_bank_on_three_nodes(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    ports = free_ports(6)
    raft, http = ports[:3], ports[3:]
    nodes = {}
    for node in (1, 2, 3):
        nodes[node] = started(
            "fastapi_bank.py", f"--node={node}", f"--raft={','.join(map(str, raft))}",
            f"--http={http[node - 1]}", f"--data={tmp_path / str(node)}", "--patience=5",
        )  # fmt: skip
    with ended(*nodes.values()):
        leader = eventually(lambda: asked(http[0], "/health")[1]["leader"])
        for port in http:
            eventually(partial(healthy, port))

        assert asked(http[0], "/accounts/ada/deposits?cents=500", "POST")[:2] == (200, {"balance": 500})
        code, body, headers = asked(http[1], "/accounts/ada")
        assert (code, body) == (200, {"balance": 500})
        assert headers["X-Leader"] == f"http://127.0.0.1:{http[leader - 1]}"
        assert asked(http[2], "/accounts/bob")[0] == 404
        assert asked(http[2], "/accounts/ada/deposits?cents=-1", "POST")[0] == 422
        assert asked(http[2], "/accounts/ada/withdrawals?cents=900", "POST")[0] == 409
        assert asked(http[2], "/accounts/ada?stale=true")[0] == 200

        survivor = leader % 3 + 1
        for node in {1, 2, 3} - {survivor}:
            nodes[node].send_signal(signal.SIGTERM)
            assert line_with(nodes[node], "in order")
            assert nodes[node].wait(30) in (0, -signal.SIGTERM)  # uvicorn ends by the signal that it was sent
        code, _, headers = asked(http[survivor - 1], "/accounts/ada/deposits?cents=1", "POST")
        assert code in (503, 504)  # which one depends on whether it led for a moment
        assert (code == 503) == (headers["Retry-After"] == "1")
        nodes[survivor].send_signal(signal.SIGINT)
        assert line_with(nodes[survivor], "in order")


@pytest.mark.slow
def test_process_ends_with_status_1_if_its_node_fails(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    raft, http = free_ports(2)
    program = tmp_path / "broken.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(EXAMPLES)!r})\n{BROKEN}", "utf-8")
    node = started(str(program), str(raft), str(http), str(tmp_path / "data"))
    with ended(node):
        eventually(partial(healthy, http))
        with suppress(OSError):  # answered, or the connection ends with the process
            assert asked(http, "/accounts/ada/deposits?cents=500", "POST")[0] >= 500
        assert node.wait(30) == 1
