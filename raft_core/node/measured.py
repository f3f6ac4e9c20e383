"""`Measured`: durations and counts of a node since its start, as frozen values. `Meter` in `meter` takes them."""

from __future__ import annotations

from typing import Final, final

import attrs

__all__ = ["BOUNDS", "HistogramValue", "Measured"]

BOUNDS: Final = (
    10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 50_000_000, 100_000_000, 200_000_000, 500_000_000,
    1_000_000_000, 2_000_000_000, 5_000_000_000, 10_000_000_000, 20_000_000_000, 60_000_000_000,
)  # fmt: skip
"""Upper bounds of the buckets in nanoseconds, each included in its bucket: 10 µs to one minute."""


@final
@attrs.frozen
class HistogramValue:
    """Durations by bucket. `counts` has one number per bound of `BOUNDS`, and a last one for longer durations.

    `total` is the sum of all durations in nanoseconds.
    """

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    total: int = 0

    @property
    def count(self) -> int:
        """Return the number of durations."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Return the mean in nanoseconds, 0.0 without any duration."""
        return self.total / max(1, self.count)

    def quantile(self, fraction: float) -> float:
        """Estimate in nanoseconds the duration that this fraction (0 to 1) of all does not exceed; 0.0 without any.

        Interpolates within the bucket, as Prometheus's `histogram_quantile` does. The last bucket has no upper bound:
        it counts as its lower one.
        """
        wanted, seen, lower = fraction * self.count, 0, 0
        for bound, count in zip(BOUNDS, self.counts, strict=False):
            if count and seen + count >= wanted:
                return lower + (bound - lower) * max(0.0, wanted - seen) / count
            seen += count
            lower = bound
        return float(lower) if seen < self.count else 0.0

    def since(self, earlier: HistogramValue) -> HistogramValue:
        """Return the durations added after `earlier`."""
        counts = tuple(now - before for now, before in zip(self.counts, earlier.counts, strict=True))
        return HistogramValue(counts, self.total - earlier.total)


@final
@attrs.frozen
class Measured:
    """Measurements of one node since its start. Durations are those that its own loop and workers see.

    `append`: from the order of a write to the log until it is durable, its wait in the queue included. `sync`: one
    write and sync of the store, which may serve several orders. `commit`: on a leader, from the proposal of a batch
    until it is committed. `apply`: one run of the state machine, over all commands that were ready. `writes` and
    `reads`: requests of local callers, from the turn that takes one to its answer, whatever the outcome.

    `requests`: answered requests of local callers, as (kind, outcome, reason, number). Kinds are "write", "read",
    "members", "transfer" and "backup"; outcomes are "done", "refused" and "indeterminate"; "done" has no reason.

    `snapshots`: how many this node has made; the duration (nanoseconds) and size (bytes) are those of the last one.
    """

    append: HistogramValue = HistogramValue()
    sync: HistogramValue = HistogramValue()
    commit: HistogramValue = HistogramValue()
    apply: HistogramValue = HistogramValue()
    writes: HistogramValue = HistogramValue()
    reads: HistogramValue = HistogramValue()
    leader_changes: int = 0
    requests: tuple[tuple[str, str, str, int], ...] = ()
    snapshots: int = 0
    snapshot_duration: int = 0
    snapshot_bytes: int = 0
