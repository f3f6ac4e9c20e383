"""The rules of `promtool check metrics`, for tests: names, units and help of metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from raft_core.node.prometheus import Metric, MetricKind

__all__ = ["faults"]

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_OTHER_UNITS = {
    "milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks", "ms", "us", "ns", "sec", "s",
    "kilobytes", "megabytes", "kib", "mib", "kb", "mb", "bits", "percent", "celsius",
}  # fmt: skip
_RESERVED = ("_bucket", "_count", "_sum", "_created", "_info_total")
_OF_KINDS = {"gauge", "counter", "histogram", "summary", "untyped"}


def faults(metrics: Iterable[Metric]) -> Iterator[str]:
    """Yield what is wrong with the metrics, a sentence each."""
    seen: set[str] = set()
    for metric in metrics:
        name, words = metric.name, metric.name.split("_")
        if name in seen:
            yield f"{name} occurs twice"
        seen.add(name)
        if not _NAME.fullmatch(name):
            yield f"{name} is not in snake case"
        if not metric.help or not metric.help.endswith("."):
            yield f"{name} has no sentence of help"
        if (metric.kind is MetricKind.COUNTER) != name.endswith("_total"):
            yield f"{name}: a counter, and nothing else, ends in _total"
        if metric.kind is MetricKind.HISTOGRAM and not name.endswith(("_seconds", "_bytes")):
            yield f"{name} has no unit"
        if name.endswith(_RESERVED):
            yield f"{name} ends in a suffix of histograms"
        if _OTHER_UNITS & set(words):
            yield f"{name} has a unit that is not a base unit"
        if _OF_KINDS & set(words):
            yield f"{name} names its kind"
        yield from _faults_of_samples(metric)


def _faults_of_samples(metric: Metric) -> Iterator[str]:
    keys = [(sample.suffix, sample.labels) for sample in metric.samples]
    if len(set(keys)) < len(keys):
        yield f"{metric.name} has a sample twice"
    if len({tuple(label for label, _ in sample.labels if label != "le") for sample in metric.samples}) > 1:
        yield f"{metric.name} has samples with different labels"
    for sample in metric.samples:
        if bool(sample.suffix) != (metric.kind is MetricKind.HISTOGRAM):
            yield f"{metric.name} has a sample {sample.suffix!r}"
        if any(not re.fullmatch(r"[a-z_]+", label) for label, _ in sample.labels):
            yield f"{metric.name} has a label that is not in snake case"
