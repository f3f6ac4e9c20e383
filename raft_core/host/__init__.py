"""Everything that decides in a running node, without I/O: `Host`, its events and effects, and `Work` for its lanes."""

from raft_core.host.config import MILLISECOND, SECOND, HostConfig
from raft_core.host.host import Host
from raft_core.host.status import Drop, HostStatus, PeerStatus, Phase
from raft_core.host.work import Work

__all__ = ["MILLISECOND", "SECOND", "Drop", "Host", "HostConfig", "HostStatus", "PeerStatus", "Phase", "Work"]
