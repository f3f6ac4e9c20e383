"""`NodeLog`: one line in the log for each event in the life of a node.

Events: `started`, `role_changed`, `members_changed`, `peer_found`, `peer_lost`, `snapshot`, `alarm`, `stopping`,
`stopped`, `insecure`, `certificate`, `client_refused`, `login_failed`, `client_defect`; on level debug
also `client_connected` and `client_left`. Events which a node does not report are found by comparing its status with
the one before.
"""

from __future__ import annotations

import logging
from typing import Final, final

from raft_core.effects import Alarm, AlarmKind, RoleChanged
from raft_core.node.status import NodeStatus
from raft_core.status import Status
from raft_kv.config import ServeConfig
from raft_kv.effective import effective_settings, settings_in_words
from raft_kv.log_output import LOG
from raft_kv.refusals import AT_CLIENTS
from raft_kv.version import version

__all__ = ["NodeLog"]

_REMEDIES: Final = {
    AlarmKind.UNREACHABLE: ". Start that node, or correct its address: --peer {peer}=HOST:PORT here, --peer-listen or "
    "--advertise there",
}


def _nodes(nodes: tuple[int, ...]) -> str:
    return ", ".join(map(str, nodes))


@final
class NodeLog:
    """The log of one node. `started` comes first; `observe` is called from time to time."""

    __slots__ = ("_config", "_connected", "_members_index", "_peer_address", "_snapshot_index", "_term")

    def __init__(self, config: ServeConfig) -> None:
        self._config: Final = config
        self._term = 0
        self._peer_address = ""
        self._members_index = 0
        self._snapshot_index = 0
        self._connected: dict[int, bool] = {}

    def _write(self, event: str, text: str, **details: object) -> None:
        self._write_at(logging.INFO, event, text, **details)

    def _write_at(self, level: int, event: str, text: str, **details: object) -> None:
        if LOG.isEnabledFor(level):
            term = {"term": self._term} if self._term else {}
            LOG.log(level, "%s", text, extra={"fields": {**term, "event": event, **details}})

    # The node.

    def started(self, listen: str, peer_address: str, health: str = "") -> None:
        """Log that the server accepts clients at `listen` and peers at `peer_address`."""
        self._peer_address = peer_address
        config = self._config
        scheme = "https" if config.health_uses_tls else "http"
        text = (
            f"raft-kv {version()} started: cluster {config.cluster}, clients at {listen}, peers at {peer_address}, "
            f"data in {config.directory}" + (f", health at {scheme}://{health}/" if health else "")
        )
        settings = effective_settings(config)
        text += f"; {settings_in_words(settings)}"
        details = {"version": version(), "cluster": config.cluster, "data": config.directory, "loop": config.loop}
        places = {"listen": listen, "peer_listen": peer_address, "health": health}
        self._write("started", text, **places, **details, settings=settings)

    def role_changed(self, change: RoleChanged) -> None:
        """Log another role, term or leader."""
        self._term = change.term
        role = change.role.value.replace("_", "-")
        leader = "" if change.leader == self._config.id else f", leader: {change.leader or 'unknown'}"
        self._write("role_changed", f"role: {role}{leader}", role=change.role.value, leader=change.leader)

    def alarm(self, alarm: Alarm) -> None:
        """Log a condition which needs an operator's attention."""
        about = f" (node {alarm.peer})" if alarm.peer else ""
        remedy = _REMEDIES.get(alarm.kind, "").format(peer=alarm.peer)
        if alarm.kind is AlarmKind.WAITING and self._config.join:
            address = self._config.advertise or self._peer_address
            remedy = f". Run on a member: RAFT ADD {self._config.id} {address}"
        text = f"ALARM {alarm.kind.value}{about}: {alarm.text}{remedy}"
        self._write_at(logging.WARNING, "alarm", text, alarm=alarm.kind.value, peer=alarm.peer)

    def observe(self, status: NodeStatus) -> None:
        """Log members, a snapshot or connections to peers that differ from the status before."""
        self._term = status.term
        if status.core is not None:
            self._observe_core(status.core)
        for peer in status.peers:
            before = self._connected.get(peer.node, False)
            self._connected[peer.node] = peer.connected
            where = f"node {peer.node} at {peer.address or 'an unknown address'}"
            details = {"peer": peer.node, "address": peer.address}
            if peer.connected and not before:
                self._write("peer_found", f"connected to {where}", **details)
            elif before and not peer.connected:
                reason = f": {peer.last_error}" if peer.last_error else ""
                self._write_at(logging.WARNING, "peer_lost", f"lost {where}{reason}", **details)

    def _observe_core(self, core: Status) -> None:
        members = core.members
        if core.members_index != self._members_index:
            self._members_index = core.members_index
            parts = [f"voters {_nodes(members.voters)}"]
            parts += [f"outgoing voters {_nodes(members.outgoing)}"] if members.outgoing else []
            parts += [f"learners {_nodes(members.learners)}"] if members.learners else []
            parts += [f"features {', '.join(members.features)}"] if members.features else []
            self._write(
                "members_changed",
                f"members by entry {core.members_index}: {'; '.join(parts)}",
                index=core.members_index,
                voters=members.voters,
                outgoing=members.outgoing,
                learners=members.learners,
                features=members.features,
            )
        if core.snapshot_index > self._snapshot_index:
            self._snapshot_index = core.snapshot_index
            self._write(
                "snapshot",
                f"snapshot up to entry {core.snapshot_index}; the log in memory begins at entry {core.first_index}",
                index=core.snapshot_index,
                first_index=core.first_index,
            )

    def stopping(self, reason: str) -> None:
        """Log that the server was told to stop."""
        self._write("stopping", f"{reason}: transferring the leadership, then stopping", reason=reason)

    def stopped(self) -> None:
        """Log that the node has stopped cleanly."""
        self._write("stopped", "stopped")

    # Its clients.

    def client_connected(self, number: int, address: bytes) -> None:
        """Log a new client."""
        text = address.decode("utf-8", "replace")
        self._write_at(logging.DEBUG, "client_connected", f"client {number} connected from {text}", client=number)

    def client_left(self, number: int) -> None:
        """Log that a client's connection is closed."""
        self._write_at(logging.DEBUG, "client_left", f"client {number} left", client=number)

    def refused(self, port: str, address: str, reason: str, text: str, others: int) -> None:
        """Log a connection refused at a port, with the number of the same kind that were not logged."""
        where = "" if port == AT_CLIENTS else f" at the {port} port"
        more = f"; {others} more since the last such line" if others else ""
        self._write_at(
            logging.WARNING,
            "client_refused",
            f"refused a client from {address}{where}: {text}{more}",
            port=port,
            address=address,
            reason=reason,
            others=others,
        )

    def login_failed(self, user: str, address: str, others: int) -> None:
        """Log a wrong password, or an unknown user (`user` is ""), with the number of those that were not logged."""
        whom = f"as {user!r}" if user else "as a user that does not exist"
        more = f"; {others} more since the last such line" if others else ""
        text = f"login {whom} from {address} failed{more}"
        self._write_at(logging.WARNING, "login_failed", text, user=user, address=address, others=others)

    def certificates_read(self, name: str) -> None:
        """Log that the certificates were read anew on a signal."""
        self._write("certificate", f"{name}: read certificates anew")

    def insecure(self, listen: str) -> None:
        """Log that clients from other machines need no TLS."""
        text = f"this server listens for clients at {listen} and does not require TLS (insecure): every machine that"
        self._write_at(logging.WARNING, "insecure", f"{text} reaches the port can read and change the data")

    def insecure_health(self, address: str) -> None:
        """Log that other machines need no TLS at the health port."""
        text = f"the health port listens at {address} and does not require TLS (insecure): every machine that reaches"
        self._write_at(logging.WARNING, "insecure", f"{text} it can read the state of this node")

    def client_defect(self, number: int) -> None:
        """Log the exception being handled, which ends a client's connection."""
        text = f"a defect ended the connection of client {number}; please report it"
        fields = {"term": self._term, "event": "client_defect", "client": number}
        LOG.exception("%s", text, extra={"fields": fields})
