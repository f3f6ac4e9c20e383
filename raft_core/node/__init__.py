"""The running node without I/O: `NodeCore`, its events and effects, and `JobRunner` for its lanes; its metrics."""

from raft_core.node.core import NodeCore
from raft_core.node.job_runner import JobRunner
from raft_core.node.limits import MILLISECOND, SECOND, NodeLimits
from raft_core.node.measured import HistogramValue, Measured
from raft_core.node.metrics import metrics_of
from raft_core.node.prometheus import Collector, Metric, prometheus_text
from raft_core.node.status import Drop, NodeStatus, PeerStatus, Phase

__all__ = [
    "MILLISECOND",
    "SECOND",
    "Collector",
    "Drop",
    "HistogramValue",
    "JobRunner",
    "Measured",
    "Metric",
    "NodeCore",
    "NodeLimits",
    "NodeStatus",
    "PeerStatus",
    "Phase",
    "metrics_of",
    "prometheus_text",
]
