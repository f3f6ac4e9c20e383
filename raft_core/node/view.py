"""`NodeView`: what can be asked of a node at any time: its status, explanations, recording, waiting callers."""

from __future__ import annotations

import attrs

from raft_core.effects import RoleChanged
from raft_core.errors import CallerError
from raft_core.explain import Explanation
from raft_core.ids import NodeId
from raft_core.node.cluster_time import ClusterTime
from raft_core.node.jobs import Ticket
from raft_core.node.limits import NodeLimits
from raft_core.node.meter import Meter
from raft_core.node.own_certificate import OwnCertificate
from raft_core.node.peers import Peers
from raft_core.node.picture import load_of, picture_of
from raft_core.node.requests import RequestBook
from raft_core.node.status import Load, NodeStatus, Phase
from raft_core.raft import Raft
from raft_core.recorder import Recorder
from raft_core.recovered import Recovered
from raft_core.settings import Settings

__all__ = ["NodeView"]


class NodeView:
    """The base of `NodeCore`, which sets these attributes. It changes nothing."""

    meter: Meter
    _certificate: OwnCertificate
    _clients: RequestBook
    _config: NodeLimits
    _now: int
    _peers: Peers
    _phase: Phase
    _raft: Raft | None
    _recorder: Recorder | None
    _recovered: Recovered
    _settings: Settings
    _standing: RoleChanged
    _time: ClusterTime

    def recording(self) -> bytes:
        """Return the core's recorded events for `raft_testing.trace.replay`. Raise `CallerError` without a recorder."""
        if self._recorder is None:
            raise CallerError("this node records nothing: give it a recorder (recorder_bytes of its configuration)")
        return self._recorder.dump()

    def explain(self) -> tuple[Explanation, ...]:
        """Explain everything that waits in the core, with the reason. Empty before the core exists."""
        return () if self._raft is None else self._raft.explain()

    @property
    def features(self) -> tuple[str, ...]:
        """Return the features that the cluster uses; see `Raft.features`."""
        return () if self._raft is None else self._raft.features

    def address_of(self, node: NodeId) -> str:
        """Return the address at which the node is dialled, "" if unknown."""
        return self._peers.addresses.of(node)

    @property
    def tickets(self) -> list[Ticket]:
        """Return the tickets of all callers that wait for an answer."""
        return self._clients.tickets

    def cluster_time(self, now: int) -> int:
        """Return the cluster's time in nanoseconds when this node's clock shows `now`; 0 if unknown."""
        return self._time.read(max(now, self._now))

    @property
    def load(self) -> Load:
        """Return the numbers of waiting requests and bytes."""
        return load_of(self._peers, self._clients)

    @property
    def status(self) -> NodeStatus:
        """Return a frozen snapshot of the node's state."""
        identity, peers, clients = self._recovered.identity, self._peers, self._clients
        own = self._settings.features
        seen = picture_of(identity, self._phase, self._standing, self._raft, peers, clients, self.meter, own)
        told, expires = self._config.told, self._certificate.expires
        return attrs.evolve(
            seen, certificate_expires=expires, metadata=told, settings=self._settings, limits=self._config
        )
