"""The answers of the health port: what each path says, from a server's state. No I/O, no waiting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, final

import attrs
import msgspec

from raft_core.node.measured import HistogramValue, Measured
from raft_core.node.prometheus import CONTENT_TYPE, Metric, MetricKind, Sample, histogram, number, prometheus_text
from raft_kv.health.history import History
from raft_kv.health.http_session import HttpAnswer
from raft_kv.status import ServerStatus

__all__ = ["PATHS", "Check", "history_answer", "livez", "metrics_answer", "not_found", "readyz", "server_metrics",
           "status_answer"]  # fmt: skip

PATHS: Final = ("/", "/livez", "/readyz", "/metrics", "/status.json", "/history.json")
_JSON: Final = "application/json"
_MILLISECOND: Final = 1_000_000


@final
@attrs.frozen
class Check:
    """One condition for readiness. `text`: the reason if it does not hold, otherwise a detail."""

    name: str
    holds: bool
    text: str = ""

    def __str__(self) -> str:
        sign, word = ("+", "ok") if self.holds else ("-", "failed")
        return f"[{sign}]{self.name} {word}{f': {self.text}' if self.text else ''}"


def livez(ended: str) -> HttpAnswer:
    """Answer whether the loop turns and its node has not ended; `ended` gives the reason if it has."""
    return HttpAnswer(503, f"livez failed: {ended}\n".encode()) if ended else HttpAnswer(200, b"ok\n")


def readyz(checks: Sequence[Check], *, verbose: bool) -> HttpAnswer:
    """Answer whether all checks hold. Each is named if one fails or if `verbose`, in the form of Kubernetes."""
    ready = all(check.holds for check in checks)
    last = "readyz ok" if ready else "readyz failed"
    lines = [*map(str, checks), last] if verbose or not ready else ["ok"]
    return HttpAnswer(200 if ready else 503, "\n".join([*lines, ""]).encode())


def not_found() -> HttpAnswer:
    """Answer a path that does not exist, with those that do."""
    return HttpAnswer(404, f"not found; there are {' '.join(PATHS)}\n".encode())


# Metrics.


def metrics_answer(metrics: Iterable[Metric]) -> HttpAnswer:
    """Answer with the metrics as Prometheus reads them."""
    return HttpAnswer(200, prometheus_text(metrics).encode(), CONTENT_TYPE)


def server_metrics(
    status: ServerStatus, delays: HistogramValue, refusals: Mapping[tuple[str, str], int]
) -> Iterator[Metric]:
    """Yield the metrics of the server around its node.

    `delays`: how late the loop woke from its sleeps. `refusals`: connections refused, by port and reason.
    """
    gauge, counter = MetricKind.GAUGE, MetricKind.COUNTER
    labels = (("version", status.version), ("loop", status.loop))
    yield Metric("raft_kv_build_info", gauge, "Always 1; the labels name version and loop.", (Sample(1, labels),))
    yield number(gauge, "raft_kv_keys", "Keys in the state of this node.", status.keys)
    yield number(gauge, "raft_kv_expiring_keys", "Keys with a deadline.", status.expiring)
    yield number(gauge, "raft_kv_connected_clients", "Open connections of clients.", status.connections)
    yield number(gauge, "raft_kv_max_clients", "Most connections of clients that are allowed.", status.max_clients)
    text = "Connections of clients accepted."
    yield number(counter, "raft_kv_connections_received_total", text, status.connections_received)
    text = "Connections refused by the limits on one address."
    yield number(counter, "raft_kv_connections_refused_total", text, status.clients_refused)
    text = "Connections refused because of TLS or of what they sent, by port and reason."
    samples = tuple(
        Sample(count, (("port", port), ("reason", reason))) for (port, reason), count in sorted(refusals.items())
    )
    yield Metric("raft_kv_refused_total", counter, text, samples)
    yield number(counter, "raft_kv_logins_failed_total", "Wrong passwords and unknown users.", status.logins_failed)
    text = "Commands refused because their user had no right to them."
    yield number(counter, "raft_kv_commands_denied_total", text, status.commands_denied)
    yield number(gauge, "raft_kv_data_bytes", "Memory of keys and values, about.", status.data_memory)
    yield number(gauge, "raft_kv_max_memory_bytes", "Limit of that memory; 0 without one.", status.max_memory)
    yield number(counter, "raft_kv_commands_total", "Commands received from clients.", status.commands)
    yield histogram("raft_kv_loop_delay_seconds", "How late the event loop woke from sleeps of a second.", delays)


# JSON.


def status_answer(
    status: ServerStatus, measured: Measured, history: History, others: Sequence[str], expiry: Mapping[str, float]
) -> HttpAnswer:
    """Answer with the whole state. `others`: health ports of other nodes; `expiry`: that of each certificate."""
    whole: dict[str, Any] = attrs.asdict(status)
    whole["drops"] = dict(status.drops)
    whole["latencies"] = {
        name: _durations(getattr(measured, name)) for name in ("writes", "reads", "commit", "append", "sync", "apply")
    }
    whole["requests"] = [
        {"kind": kind, "outcome": outcome, "reason": reason, "count": count}
        for kind, outcome, reason, count in measured.requests
    ]
    whole["leader_changes"] = measured.leader_changes
    whole["snapshots"] = {
        "made": measured.snapshots,
        "seconds": measured.snapshot_duration / 1e9,
        "bytes": measured.snapshot_bytes,
    }
    whole["certificates"] = dict(expiry)
    whole["moment"] = attrs.asdict(history.moments[-1]) if history.moments else None
    whole["notes"] = [attrs.asdict(note) for note in history.notes]
    whole["others"] = list(others)
    return _json(whole)


def _durations(value: HistogramValue) -> dict[str, float]:
    quantiles = {f"p{percent}_ms": value.quantile(percent / 100) / _MILLISECOND for percent in (50, 90, 99)}
    return {"count": value.count, "mean_ms": round(value.mean / _MILLISECOND, 3)} | {
        name: round(quantile, 3) for name, quantile in quantiles.items()
    }


def history_answer(history: History) -> HttpAnswer:
    """Answer with the last minutes, second by second."""
    return _json([attrs.asdict(moment) for moment in history.moments])


def _json(value: object) -> HttpAnswer:
    return HttpAnswer(200, msgspec.json.encode(value), _JSON)
