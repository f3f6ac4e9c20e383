"""`Metric`: numbers with a name, as in Prometheus. `prometheus_text` writes metrics, `Collector` passes them on.

The text is the exposition format 0.0.4, which every scraper reads. Nothing here depends on a package: a `Collector` is
given the class `prometheus_client.Metric` by the program that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, final

import attrs

from raft_core.node.measured import BOUNDS, HistogramValue

__all__ = ["CONTENT_TYPE", "Collector", "Metric", "MetricKind", "Sample", "histogram", "number", "prometheus_text"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of `prometheus_text` over HTTP."""
_SECOND: Final = 1_000_000_000


class MetricKind(Enum):
    """The kind of a metric."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@final
@attrs.frozen
class Sample:
    """One number of a metric. `suffix` is "" except in a histogram: "_bucket", "_sum", "_count"."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


@final
@attrs.frozen
class Metric:
    """A metric: its name as Prometheus writes it (a counter's ends in `_total`), its kind, one sentence of help."""

    name: str
    kind: MetricKind
    help: str
    samples: tuple[Sample, ...]


def number(kind: MetricKind, name: str, text: str, values: float | Mapping[str, float], label: str = "") -> Metric:
    """Return a metric with one value, or with one for each value of `label`."""
    if isinstance(values, Mapping):
        return Metric(name, kind, text, tuple(Sample(value, ((label, key),)) for key, value in values.items()))
    return Metric(name, kind, text, (Sample(values),))


def histogram(name: str, text: str, values: HistogramValue | Mapping[str, HistogramValue], label: str = "") -> Metric:
    """Return a histogram in seconds, or one for each value of `label`."""
    if isinstance(values, HistogramValue):
        return Metric(name, MetricKind.HISTOGRAM, text, tuple(_buckets(values, ())))
    samples = [sample for key, value in values.items() for sample in _buckets(value, ((label, key),))]
    return Metric(name, MetricKind.HISTOGRAM, text, tuple(samples))


def _buckets(value: HistogramValue, labels: tuple[tuple[str, str], ...]) -> Iterator[Sample]:
    """Yield the samples of one histogram: a bucket counts all durations up to its bound, those of lower ones too."""
    below = 0
    for bound, count in zip(BOUNDS, value.counts, strict=False):
        below += count
        yield Sample(below, (*labels, ("le", repr(bound / _SECOND))), "_bucket")
    total = below + value.counts[-1]
    yield Sample(total, (*labels, ("le", "+Inf")), "_bucket")
    yield Sample(value.total / _SECOND, labels, "_sum")
    yield Sample(total, labels, "_count")


def prometheus_text(metrics: Iterable[Metric]) -> str:
    """Return the metrics in Prometheus's text format."""
    lines = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {_escaped(metric.help)}")
        lines.append(f"# TYPE {metric.name} {metric.kind.value}")
        for sample in metric.samples:
            labels = ",".join(f'{key}="{_escaped(value, quotes=True)}"' for key, value in sample.labels)
            name = f"{metric.name}{sample.suffix}"
            lines.append(f"{name}{{{labels}}} {sample.value}" if labels else f"{name} {sample.value}")
    return "\n".join([*lines, ""])


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text


@final
class Collector:
    """A collector for a registry of `prometheus_client`.

        REGISTRY.register(Collector(lambda: metrics_of(node.status), prometheus_client.Metric))

    `read` is called for each scrape. A node belongs to its loop's thread: a scrape in another thread has to go there,
    for example with `lambda: portal.call(lambda: metrics_of(node.status))`.
    """

    def __init__(self, read: Callable[[], Iterable[Metric]], metric: Callable[[str, str, str], Any]) -> None:
        self._read: Final = read
        self._metric: Final = metric

    def describe(self) -> Iterable[Any]:
        """Return nothing: names are known only at a scrape, and none is read when the collector is registered."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Yield a `prometheus_client.Metric` for each metric."""
        for metric in self._read():
            made = self._metric(metric.name.removesuffix("_total"), metric.help, metric.kind.value)
            for sample in metric.samples:
                made.add_sample(f"{metric.name}{sample.suffix}", dict(sample.labels), sample.value)
            yield made
