"""`Handshake`: the greetings of one node, its own and those of its peers.

It gives each greeting to `Bootstrap`, which decides how this node gets into its cluster, and has `Peers` welcome or
refuse the peer accordingly. Our own greeting follows the same decision: a greeting is sent once per connection, so if
it changes while a cluster forms, all connections are made anew.
"""

from __future__ import annotations

from typing import final

from raft_core.errors import LogLost, RaftError, SettingsError
from raft_core.node.bootstrap import Bootstrap, Verdict, lost_text
from raft_core.node.limits import NodeLimits
from raft_core.node.outputs import Outputs
from raft_core.node.peer_connection import Connection
from raft_core.node.peers import Peers
from raft_core.node.status import Drop
from raft_core.recovered import Recovered
from raft_core.settings import Settings
from raft_core.wire.handshake import LinkBroken, LinkFault
from raft_core.wire.payloads import HIGHEST_VERSION, WIRE_VERSION, Hello

__all__ = ["Handshake"]


@final
class Handshake:
    """Greetings and the bootstrap decision. `ready`: a core may be built."""

    __slots__ = ("_config", "_features", "_formed", "_identity", "_peers", "bootstrap")

    def __init__(
        self, config: NodeLimits, settings: Settings, recovered: Recovered, orders: Outputs, peers: Peers
    ) -> None:
        self._config = config
        self._identity = recovered.identity
        self._peers = peers
        self._formed = recovered.formed
        self._features = settings.features
        self.bootstrap = Bootstrap(config, settings, recovered, orders)
        self._introduce()

    @property
    def ready(self) -> bool:
        """True once a core may be built."""
        return self.bootstrap.ready

    def on_greeted(self, connection: Connection, hello: Hello) -> RaftError | bool:
        """Return whether the peer is welcome on this connection, or the error that ends this node."""
        judgement = self.bootstrap.judge(hello, self._peers.table.standing_greetings())
        if judgement.verdict is Verdict.REFUSE:
            self._peers.refuse(connection, Drop.WRONG_FOUNDING, judgement.text)
            return False
        if judgement.verdict is Verdict.LOST:
            return LogLost(judgement.text)
        if judgement.verdict is Verdict.UNFIT:
            return SettingsError(judgement.text)
        self._peers.welcome(connection, hello, judgement.text)
        if judgement.verdict is Verdict.AGREE:
            self._greet_anew("has met all founders")
            return False
        if judgement.verdict is Verdict.JOIN:
            self._introduce()
        return True

    def on_broken(self, broken: LinkBroken) -> RaftError | None:
        """Return the error that ends this node if a peer knows it with another disk.

        Our configuration is empty as long as the disk is part of no cluster, so the peer can only have known an earlier
        disk of this node.
        """
        if broken.fault is LinkFault.WRONG_INCARNATION and not self._formed:
            return LogLost(lost_text(self._identity.node))
        return None

    def on_formed(self, recovered: Recovered) -> None:
        """Greet all peers again: one met earlier may have become part of another cluster."""
        self.bootstrap.formed(recovered)
        self._formed = True
        self._greet_anew("has become part of a cluster")

    def on_write(self) -> None:
        """Note that the disk becomes part of a cluster, if it is not yet: a joiner's core writes."""
        if not self._formed:
            self._formed = True
            self._introduce()

    def _introduce(self) -> None:
        """Set our greeting on all connections from now on."""
        founders = () if self._formed or self.bootstrap.ready else self._config.founders
        self._peers.introduce(
            Hello(
                WIRE_VERSION,
                self._identity.cluster,
                self._identity.node,
                self._identity.incarnation,
                formed=self._formed,
                founders=founders,
                address=self._config.address,
                founding=self.bootstrap.founding,
                highest=HIGHEST_VERSION,
                features=self._features,
                metadata=self._config.told,
            )
        )

    def _greet_anew(self, why: str) -> None:
        self._introduce()
        self._peers.greet_anew(why)
        self._peers.dial_due()
