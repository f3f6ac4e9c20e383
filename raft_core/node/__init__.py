"""The running node without I/O: `NodeCore`, its events and effects, and `JobRunner` for its lanes."""

from raft_core.node.core import NodeCore
from raft_core.node.job_runner import JobRunner
from raft_core.node.limits import MILLISECOND, SECOND, NodeLimits
from raft_core.node.status import Drop, NodeStatus, PeerStatus, Phase

__all__ = ["MILLISECOND", "SECOND", "Drop", "JobRunner", "NodeCore", "NodeLimits", "NodeStatus", "PeerStatus", "Phase"]
