"""`raft-kv status`: show how nodes stand, once or again and again, as a table or as JSON.

Exit status, for scripts: 0 if a node that answered knows a leader, 1 if no node answered, 3 if nodes answered and none
knows a leader. (2 is a wrong command line.)
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, final

import attrs
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raft_core.errors import SettingsError
from raft_core.node.config import split_address
from raft_kv.effective import settings_in_words
from raft_kv.node_client import NodeReport, report_of

__all__ = ["StatusOptions", "exit_status", "run_status"]

_COLUMNS: Final = ("node", "role", "term", "leader", "commit", "applied", "last", "snapshot", "keys", "peers")
_FIELDS: Final = ("node", "role", "term", "leader", "commit", "applied", "last_index", "snapshot_index", "keys")
_STYLES: Final = {"leader": "bold green", "follower": "cyan"}


@final
@attrs.frozen(kw_only=True)
class StatusOptions:
    """The options of `raft-kv status`. Raise `SettingsError` if values are invalid."""

    addresses: list[str] = attrs.field(factory=lambda: ["127.0.0.1:6379"])
    watch: bool = False
    interval: float = 2.0
    """Seconds between two looks of `watch`."""
    timeout: float = 2.0
    """Seconds to wait for a node."""
    json: bool = False

    def __attrs_post_init__(self) -> None:
        for address in self.addresses:
            split_address(address)
        for name, value in (("interval", self.interval), ("timeout", self.timeout)):
            if not 0 < value < 1e6:
                raise SettingsError(f"{name} must be a positive number of seconds, not {value}")


def run_status(options: StatusOptions) -> int:
    """Show the nodes; return the exit status, with `watch` that of the last look."""
    if not options.watch:
        reports = _ask(options)
        _print(options, reports)
        return exit_status(list(reports.values()))
    status = 1
    try:
        for reports in _watch(options):
            status = exit_status(list(reports.values()))
    except KeyboardInterrupt:
        pass
    return status


def exit_status(reports: Sequence[NodeReport]) -> int:
    """Return the exit status for these nodes."""
    answered = [report for report in reports if not report.error]
    if any(report.leader for report in answered):
        return 0
    return 3 if answered else 1


def _ask(options: StatusOptions) -> dict[str, NodeReport]:
    """Ask all nodes at the same time."""
    addresses = list(dict.fromkeys(options.addresses))
    with ThreadPoolExecutor(len(addresses)) as pool:
        places = map(split_address, addresses)
        return dict(zip(addresses, pool.map(lambda place: report_of(place, options.timeout), places), strict=True))


def _watch(options: StatusOptions) -> Iterator[dict[str, NodeReport]]:
    if options.json or not sys.stdout.isatty():
        while True:
            reports = _ask(options)
            _print(options, reports)
            yield reports
            time.sleep(options.interval)
    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        while True:
            reports = _ask(options)
            live.update(_shown(reports), refresh=True)
            yield reports
            time.sleep(options.interval)


def _print(options: StatusOptions, reports: dict[str, NodeReport]) -> None:
    if options.json:
        nodes = [_as_json(address, report) for address, report in reports.items()]
        print(json.dumps({"time": time.time(), "nodes": nodes}), flush=True)
        return
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(_shown(reports))
    sys.stdout.flush()


def _as_json(address: str, report: NodeReport) -> dict[str, object]:
    if report.error:
        said: dict[str, object] = {"address": address, "error": report.error}
        return said | {"remedy": report.remedy} if report.remedy else said
    return {"address": address, "status": report.status, "reasons": report.reasons}


def _shown(reports: dict[str, NodeReport]) -> RenderableType:
    """Return a table with a row for each node, the clusters, and everything that waits."""
    table = Table(box=None, pad_edge=False)
    table.add_column("address", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "role" else "right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for address, report in reports.items():
        table.add_row(address, *_cells(report))
    clusters = dict.fromkeys(_cluster(report) for report in reports.values() if not report.error)
    settings = _settings(reports)
    waits = [
        Text(f"node {report.status['node']}: {reason}")
        for report in reports.values()
        for reason in report.reasons
        if not report.error
    ]
    remedies = [Text(f"{address}: {report.remedy}") for address, report in reports.items() if report.remedy]
    return Group(table, *map(Text, [*clusters, *settings]), *waits, *remedies)


def _cells(report: NodeReport) -> list[RenderableType]:
    if report.error:
        return [*[""] * len(_COLUMNS), Text(report.error, style="bold red")]
    status = report.status
    members = [node for name in ("voters", "outgoing", "learners") for node in _list(status, name)]
    phase = str(status.get("phase", ""))
    if not members and phase == "running":
        status = status | {"role": "waits"}
    elif members and status.get("node") not in members:  # the cluster goes on without it, whatever it is connected to
        status = status | {"role": "no member"}
    cells = [Text(str(status.get(name, "?")), style=_STYLES.get(str(status.get(name)), "")) for name in _FIELDS]
    peers = [
        peer
        for peer in _list(status, "peers")
        if isinstance(peer, dict) and (not members or peer.get("node") in members)  # others were removed
    ]
    connected = sum(bool(peer.get("connected")) for peer in peers)
    return [*cells, Text(f"{connected}/{len(peers)}"), Text("" if phase == "running" else phase, style="yellow")]


def _settings(reports: dict[str, NodeReport]) -> list[str]:
    """Return a line for each different choice of settings, with the nodes that have it."""
    nodes: dict[str, list[str]] = {}
    for report in reports.values():
        settings = report.status.get("settings")
        if isinstance(settings, dict):
            nodes.setdefault(settings_in_words(settings), []).append(str(report.status.get("node")))
    return [f"settings of node {', '.join(those)}: {words}" for words, those in nodes.items()]


def _cluster(report: NodeReport) -> str:
    """Return the members of the node's cluster in a line."""
    lists = [(name, _list(report.status, name)) for name in ("voters", "outgoing", "learners")]
    parts = [f"{name} {', '.join(map(str, nodes))}" for name, nodes in lists if nodes]
    return f"cluster {report.status.get('cluster')}: {'; '.join(parts) or 'no members yet'}"


def _list(status: dict[str, object], name: str) -> list[object]:
    value = status.get(name)
    return value if isinstance(value, list) else []
