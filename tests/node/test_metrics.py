"""All numbers of a node in Prometheus's text: complete, well formed, under conventional names."""

from __future__ import annotations

import inspect

import attrs
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Metric as ClientMetric
from prometheus_client.parser import text_string_to_metric_families

from raft_core.node import metrics
from raft_core.node.measured import BOUNDS, HistogramValue
from raft_core.node.metrics import metrics_of
from raft_core.node.prometheus import Collector, Metric, MetricKind, Sample, histogram, prometheus_text
from raft_core.node.status import Drop, NodeStatus
from tests.node.cluster import Cluster
from tests.node.metric_lint import faults

Found = dict[tuple[str, tuple[tuple[str, str], ...]], float]
Statuses = tuple[NodeStatus, NodeStatus, NodeStatus]


def parsed(text: str) -> Found:
    """Every sample that Prometheus's own parser finds; each of its metrics has help and a type."""
    found: Found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in {"gauge", "counter", "histogram"}
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(found: Found, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


@pytest.fixture(scope="module")
def statuses() -> Statuses:
    """Leader, follower and an unreachable node, after two writes and a read of the follower's callers."""
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    follower, lost = cluster.followers()
    cluster.wait(follower, follower.propose(b"one"))
    cluster.wait(follower, follower.ask(b""))
    cluster.isolate(lost.id)
    cluster.run(2 * leader.config.silence)
    cluster.wait(follower, follower.propose(b"two"))
    return leader.host.status, follower.host.status, lost.host.status


def test_leader_shows_lag_of_lost_follower(statuses: Statuses) -> None:
    status, lost = statuses[0], statuses[2]
    assert status.core is not None
    found = parsed(prometheus_text(metrics_of(status)))
    peer = str(lost.node)
    assert value(found, "raft_role", role="leader") == 1
    assert sum(count for (name, _), count in found.items() if name == "raft_role") == 1
    assert value(found, "raft_term") == status.term
    assert value(found, "raft_commit_index") == status.core.commit
    assert value(found, "raft_applied_index") == status.core.applied
    assert value(found, "raft_peer_lag_entries", peer=peer) >= 1
    assert value(found, "raft_peer_connected", peer=peer) == 0
    assert value(found, "raft_peer_active", peer=peer) == 0
    states = [
        count for (name, labels), count in found.items() if name == "raft_peer_state" and ("peer", peer) in labels
    ]
    assert sorted(states) == [0, 0, 1]
    assert value(found, "raft_commit_duration_seconds_count") == status.measured.commit.count > 0


def test_follower_shows_requests_of_its_callers(statuses: Statuses) -> None:
    status = statuses[1]
    found = parsed(prometheus_text(metrics_of(status)))
    assert value(found, "raft_requests_total", kind="write", outcome="done", reason="") == 2
    assert value(found, "raft_requests_total", kind="read", outcome="done", reason="") == 1
    assert value(found, "raft_requests_total", kind="transfer", outcome="done", reason="") == 0
    assert value(found, "raft_request_duration_seconds_count", kind="write") == 2
    assert value(found, "raft_role", role="follower") == 1
    assert not any(name == "raft_peer_lag_entries" for name, _ in found)


def test_every_drop_reason_has_a_sample_from_the_start(statuses: Statuses) -> None:
    found = parsed(prometheus_text(metrics_of(statuses[0])))
    reasons = {dict(labels)["reason"] for name, labels in found if name == "raft_drops_total"}
    assert reasons == {drop.value for drop in Drop}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_names_follow_conventions(statuses: Statuses, place: int) -> None:
    assert list(faults(metrics_of(statuses[place], certificates={"peer": 1.8e9}))) == []


def test_every_number_of_status_and_core_is_in_a_metric(statuses: Statuses) -> None:
    """A field that is added has to be shown, or named here with the reason."""
    status = statuses[0]
    assert status.core is not None
    left_out = {"identity", "leader_address", "addresses", "metadata", "core", "peers"}  # texts, or taken apart
    left_out |= {"vote", "last_term", "last_write", "members_index", "transfer_to", "node", "waiting_requests"}
    left_out |= {"settings", "limits"}  # chosen, not measured
    source = inspect.getsource(metrics)
    for kind in (type(status), type(status.core), type(status.measured)):
        for field in attrs.fields(kind):
            assert field.name in left_out or f".{field.name}" in source, field.name


def test_node_without_core_has_metrics() -> None:
    cluster = Cluster(3)
    cluster.start(1)
    cluster.run(1_000_000)
    status = cluster[1].host.status
    assert status.core is None
    found = parsed(prometheus_text(metrics_of(status)))
    assert value(found, "raft_phase", phase="forming") == 1
    assert not any(name == "raft_commit_index" for name, _ in found)
    assert list(faults(metrics_of(status))) == []


def test_certificates_have_their_expiry(statuses: Statuses) -> None:
    found = parsed(prometheus_text(metrics_of(statuses[0], certificates={"peer": 1.8e9, "client": 1.9e9})))
    assert value(found, "raft_certificate_expiry_timestamp_seconds", certificate="peer") == 1.8e9


def test_buckets_are_cumulative_and_in_seconds() -> None:
    counts = [0] * (len(BOUNDS) + 1)
    counts[0], counts[6], counts[-1] = 2, 3, 1
    text = prometheus_text([histogram("some_seconds", "Some.", HistogramValue(tuple(counts), 1_500_000_000))])
    found = parsed(text)
    assert value(found, "some_seconds_bucket", le="1e-05") == 2
    assert value(found, "some_seconds_bucket", le="0.0005") == 2
    assert value(found, "some_seconds_bucket", le="0.001") == 5
    assert value(found, "some_seconds_bucket", le="60.0") == 5
    assert value(found, "some_seconds_bucket", le="+Inf") == 6
    assert value(found, "some_seconds_count") == 6
    assert value(found, "some_seconds_sum") == 1.5


@pytest.mark.parametrize("text", ['quotes "', "back\\slash", "two\nlines", "\\n", "größer", '"}', ""])
def test_every_label_value_is_read_back(text: str) -> None:
    metric = Metric("some_info", MetricKind.GAUGE, "Help with \\ and\nlines.", (Sample(1, (("cluster", text),)),))
    assert parsed(prometheus_text([metric])) == {("some_info", (("cluster", text),)): 1.0}


def test_collector_gives_registry_the_same_numbers(statuses: Statuses) -> None:
    status = statuses[0]
    registry = CollectorRegistry()
    registry.register(Collector(lambda: metrics_of(status), ClientMetric))
    assert parsed(generate_latest(registry).decode()) == parsed(prometheus_text(metrics_of(status)))


def test_lint_finds_faults() -> None:
    """The lint above sees something: each of these is refused by promtool."""
    bad = [
        Metric("raftTerm", MetricKind.GAUGE, "Help.", ()),
        Metric("raft_things", MetricKind.COUNTER, "Help.", ()),
        Metric("raft_things_total", MetricKind.GAUGE, "Help.", ()),
        Metric("raft_wait_ms", MetricKind.GAUGE, "Help.", ()),
        Metric("raft_wait", MetricKind.HISTOGRAM, "Help.", ()),
        Metric("raft_wait_count", MetricKind.GAUGE, "Help.", ()),
        Metric("raft_gauge_x", MetricKind.GAUGE, "Help.", ()),
        Metric("raft_x", MetricKind.GAUGE, "", ()),
        Metric("raft_y", MetricKind.GAUGE, "Help.", (Sample(1), Sample(1))),
        Metric("raft_z", MetricKind.GAUGE, "Help.", (Sample(1), Sample(1, (("a", "b"),)))),
    ]
    assert all(list(faults([metric])) for metric in bad)
