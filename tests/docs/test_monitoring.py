"""docs/monitoring.md names every metric, and no other."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from raft_core.node import metrics
from raft_core.node.measured import HistogramValue
from raft_kv.health import answers, process
from raft_kv.health.answers import PATHS, server_metrics
from raft_kv.status import ServerStatus
from tests.node.metric_lint import faults

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
NAME = re.compile(r"(?:raft|process)_[a-z0-9_]+")


def test_document_names_every_metric() -> None:
    source = "".join(map(inspect.getsource, (metrics, answers, process)))
    made = set(re.findall(r'"((?:raft|process)_[a-z0-9_]+)"', source)) - {"process_figures", "process_metrics"}
    made |= {f"raft_{name}_index" for name in ("commit", "applied", "last", "durable", "first", "snapshot")}
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in NAME.findall(row.split("|")[1])}
    assert named == made


def test_document_names_every_path() -> None:
    assert {path for path in PATHS if f"| `{path}` |" in PAGE} == set(PATHS)


def test_server_metrics_follow_conventions() -> None:
    found = [
        *server_metrics(ServerStatus(node=1), HistogramValue(), {("clients", "not_tls"): 1}),
        *process.process_metrics(process.process_figures()),
    ]
    assert list(faults(found)) == []
    assert len(found) >= 15
