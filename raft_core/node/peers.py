"""`Peers`: connections to other nodes. Dialling, greeting, giving up, and the order of outgoing bytes.

Each node dials every peer with a known address and sends its messages only on the connection that it dialled. A reply
(`ForwardReply` to a `Forward`, `Chunk` to a `Pull`) uses the connection of its question, so a question is lost exactly
when its connection is. A `Pull` of zeros is a ping.

A node is an id and an incarnation; its address is the one in its last greeting, for as long as it can be dialled there.
The newest connection dialled by a peer wins: an older one is a remnant of a dead process or route. Our own connection
to that peer may be dead as well, so it is dialled again.
"""

from __future__ import annotations

import random
from typing import Final, final

from raft_core.events import PeerConnected, PeerUnreachable
from raft_core.ids import NO_NODE, Incarnation, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.messages import Message, is_urgent
from raft_core.node.address_book import AddressBook, Backoff
from raft_core.node.alarm_limiter import FAULT_DROPS, AlarmLimiter, no_address
from raft_core.node.events import (
    ConnectionClosed,
    ConnectionId,
    ConnectionOpened,
    ConnectionSecured,
    Dial,
    DialFailed,
    Disconnect,
    SecuringFailed,
    Transmit,
    Transmitted,
)
from raft_core.node.limits import NodeLimits
from raft_core.node.outputs import Outputs
from raft_core.node.patience import Patience
from raft_core.node.peer_connection import Connection, Frames, status_of
from raft_core.node.peer_table import PeerTable
from raft_core.node.riders import Riders
from raft_core.node.status import Drop, PeerStatus
from raft_core.node.strangers import RoguePeers
from raft_core.node.unreached import CLOSED_UNGREETED, NO_CONNECTION, NO_GREETING, Unreached
from raft_core.recovered import Identity
from raft_core.settings import Settings
from raft_core.wire.codec import encode_payload, encode_refusal
from raft_core.wire.handshake import Greeted, Limits, Link, LinkBroken, LinkEvent, MessageReceived, PayloadReceived
from raft_core.wire.payloads import WIRE_VERSION, Chunk, Forward, ForwardReply, Hello, Pull

__all__ = ["PING", "Peers"]

PING: Final = Pull(Index(0), Term(0), 0, 0)
"""The ping: a pull of zeros, answered by any live peer with a chunk of zeros."""
_PING_FRAME: Final = encode_payload(PING)
_LAST_WORD: Final = encode_refusal(NO_GREETING, line_end=True)


@final
class Peers:
    """All connections of one node.

    `lost` lists ended connections, each with its number of sent questions and replies, until the node has informed the
    waiting requests.
    """

    def __init__(
        self, config: NodeLimits, settings: Settings, identity: Identity, orders: Outputs, rng: random.Random
    ) -> None:
        self._config = config
        self._identity = identity
        self._orders = orders
        self._limits = Limits.of(settings)
        self._bulk_limit = config.bulk_limit(settings)
        self._patience = Patience(config, settings)
        self._strangers = RoguePeers(config)
        self._connections: dict[ConnectionId, Connection] = {}
        self._dialled: dict[NodeId, Connection] = {}
        self._accepted: dict[NodeId, Connection] = {}  # greeted; the newest of each peer
        self.table = PeerTable(self._connections, self._dialled, self._accepted)
        self._redial = Backoff(config, rng)
        self._next_dial = 2
        self._members: tuple[NodeId, ...] = ()
        self._member_incarnations: dict[NodeId, Incarnation] = {}  # shared with every link
        self.required: list[str] = []  # the features that the cluster uses; shared with every link
        self._to_flush: list[Connection] = []
        self._frames = Frames()
        self.riders = Riders()
        self._errors: dict[NodeId, str] = {}
        self._warnings = AlarmLimiter(orders)
        self._introduction = Hello(WIRE_VERSION, identity.cluster, identity.node, identity.incarnation)
        self.now = 0
        """The time. The node sets it first in each call."""
        self.addresses = AddressBook(config, identity.node)
        self._unreached = Unreached(config, self.addresses, self._warnings)
        self.lost: list[tuple[ConnectionId, int]] = []
        self.drops: dict[Drop, int] = {}

    # Input from the node.

    def introduce(self, hello: Hello) -> None:
        """Greet with `hello` from now on; the addresses are added for each peer."""
        self._introduction = hello

    def on_members(self, members: Members) -> None:
        """Dial every member of this configuration, and check peers against its incarnations."""
        self._members = members.nodes
        self._strangers.on_members(self._members, self.now)
        self._member_incarnations.clear()
        self._member_incarnations.update(members.incarnations)
        for connection, greeting in self.table.greeted():
            if members.incarnation_of(greeting.sender) not in (0, greeting.incarnation):
                self.drop(Drop.WRONG_INCARNATION)
                self.close(connection, "the configuration names another disk for this peer")

    def drop(self, reason: Drop, count: int = 1) -> None:
        """Count `count` dropped messages under `reason`."""
        self.drops[reason] = self.drops.get(reason, 0) + count

    # Connections come and go.

    def dial_due(self) -> None:
        """Dial every peer that has an address and no connection, unless its back-off is still running."""
        for peer in self._missing():
            if not self._redial.due(peer, self.now):
                continue
            address = self.addresses.of(peer)
            identifier = ConnectionId(self._next_dial)
            self._next_dial += 2
            link = self._link(dialer=True, peer=peer)
            deadline = self.now + self._config.hello_timeout
            connection = Connection(identifier, link, peer, dialled=True, deadline=deadline, address=address)
            self._connections[identifier] = connection
            self._dialled[peer] = connection
            self._orders.effects.append(Dial(identifier, address))

    def _missing(self) -> list[NodeId]:
        """Return the peers that belong to us or have dialled us, have an address and are not dialled; sorted."""
        wanted = {*self._members, *self._config.peers, *self._accepted}
        if not self._members:  # no configuration known yet: make ourselves known everywhere
            wanted.update(node for node, _ in self.addresses.known())
        wanted -= {*self._dialled, self._identity.node}
        return sorted(peer for peer in wanted if self.addresses.of(peer))

    def on_opened(self, event: ConnectionOpened) -> None:
        """Send the greeting on a dialled connection; on an accepted one, wait for the peer's."""
        if event.accepted:
            self._on_accepted(event.connection, event.address)
            return
        connection = self._connections.get(event.connection)
        if connection is None:  # given up in the meantime
            self._orders.effects.append(Disconnect(event.connection, "no longer wanted"))
            return
        connection.open = True
        if not connection.closing:  # else the certificate is not that of the dialled node: say so, and close
            connection.urgent.push(connection.link.hello())
        self._touch(connection)

    def on_secured(self, event: ConnectionSecured | SecuringFailed) -> None:
        """Take the names in the peer's certificate; close if they are wrong, or TLS failed (the peer was told)."""
        connection = self._connections.get(event.connection)
        if connection is None or connection.closing:
            return
        if type(event) is SecuringFailed:
            self._fail(connection, event.reason, event.text, b"", detail="" if connection.dialled else event.text)
        elif (problem := connection.link.certified(event.names)) is not None:
            self._on_broken(connection, problem)

    def _on_accepted(self, identifier: ConnectionId, address: str) -> None:
        """Add an accepted connection; at a limit, close another one for it, or refuse it."""
        accepted = [c for c in self._connections.values() if not c.dialled]
        if self._strangers.leave_no_room(accepted):
            self.drop(Drop.TOO_MANY_CONNECTIONS)
            if (spare := self._strangers.spare(accepted)) is None:
                self._orders.effects.append(Disconnect(identifier, "too many connections"))
                return
            self.close(spare, "too many connections")
        link, deadline = self._link(dialer=False, peer=NO_NODE), self.now + self._config.hello_timeout
        connection = Connection(identifier, link, NO_NODE, dialled=False, deadline=deadline, address=address)
        self._connections[identifier] = connection

    def is_member(self, node: NodeId) -> bool:
        """Return whether the configuration in force contains the node."""
        return node in self._members

    def on_dial_failed(self, event: DialFailed) -> None:
        """Dial the peer again after a longer back-off."""
        if (connection := self._connections.get(event.connection)) is not None:
            self._forget(connection, event.text or "could not connect")

    def on_closed(self, event: ConnectionClosed) -> None:
        """Drop the connection, and tell the core and the waiting requests."""
        connection = self._connections.get(event.connection)
        if connection is not None:
            greeted = connection.greeted or not connection.dialled
            self._forget(connection, "the connection was closed" if greeted else CLOSED_UNGREETED)

    def on_transmitted(self, event: Transmitted) -> None:
        """Allow the next bytes to be sent."""
        if (connection := self._connections.get(event.connection)) is not None:
            connection.busy = False
            if connection.mid_frame:
                connection.silent_ticks = 0  # it progresses within a frame; a dead line stops once it is full
            if connection.closing or connection.has_more:
                self._touch(connection)

    def on_bytes(self, identifier: ConnectionId, data: bytes) -> list[tuple[Connection, LinkEvent]]:
        """Queue messages for the core. Return the rest, also messages that came with a greeting: it may be refused."""
        connection = self._connections.get(identifier)
        if connection is None or connection.closing:
            return []
        connection.silent_ticks = connection.proof_ticks = 0
        news: list[tuple[Connection, LinkEvent]] = []
        known = connection.greeted
        for event in connection.link.receive(data):
            if type(event) is MessageReceived:
                if known:
                    self._orders.events.append(event.message)
                else:
                    news.append((connection, event))
            elif type(event) is Greeted:
                connection.peer = event.hello.sender
                news.append((connection, event))
            elif type(event) is PayloadReceived:
                if not self._sign_of_life(connection, event):
                    news.append((connection, event))
            elif type(event) is LinkBroken:
                self._on_broken(connection, event)
                news.append((connection, event))
        return news

    def _sign_of_life(self, connection: Connection, event: PayloadReceived) -> bool:
        """Handle a ping or its answer. Return whether the event was one."""
        payload = event.payload
        if type(payload) is Pull and payload == PING:
            self.answer(connection.id, Chunk(Index(0), Term(0), 0, 0, b"", gone=True))
            return True
        if type(payload) is Chunk and payload.index == 0:
            connection.ponged()
            return True
        return False

    def welcome(self, connection: Connection, hello: Hello, strange: str = "") -> None:
        """Accept a greeting that the node has approved: register the connection and answer.

        Not before, or a node from another cluster could take the place of the real peer. `strange`: a remark for an
        alarm.
        """
        peer = hello.sender
        connection.greeted, connection.greeted_at = True, self.now
        if (stranger := self._strangers.met(peer, self.now, self._accepted)) is not None:
            self._forget_stranger(stranger)
        if strange:
            self._warn(Drop.WRONG_FOUNDING, peer, strange)
        believed = not self._members or self._strangers.is_known(peer)
        for node in self.addresses.learn(hello, hearsay=believed):
            if node not in self._dialled:
                self._redial.now(node)
        self._errors.pop(peer, None)
        if connection.dialled:
            self._unreached.reached(peer)
            self._orders.events.append(PeerConnected(peer))
            return
        if not self.addresses.of(peer):
            self.drop(Drop.NO_ADDRESS)
            self._warn(Drop.NO_ADDRESS, peer, no_address(peer))
        connection.urgent.push(connection.link.hello())
        self._touch(connection)
        older, self._accepted[peer] = self._accepted.get(peer), connection
        self._redial.now(peer)
        if older is None:
            return
        self.close(older, "the peer dialled again")
        ours = self._dialled.get(peer)
        if ours is not None and ours.greeted and self.now - ours.greeted_at > self._config.hello_timeout:
            self.close(ours, "the peer dialled again, so this connection may lead nowhere")
            self._redial.now(peer)

    def _forget_stranger(self, node: NodeId) -> None:
        """Remove all data about the node."""
        for connection in (self._accepted.get(node), self._dialled.get(node)):
            if connection is not None:
                self.drop(Drop.STRANGER)
                self.close(connection, "too many nodes that no configuration names")
        self.addresses.forget(node)
        self._unreached.forget(node)
        self._redial.now(node)
        self._errors.pop(node, None)

    def _warn(self, reason: Drop, peer: NodeId, text: str, detail: str = "") -> None:
        """Raise one alarm for all unknown nodes together: their number is unbounded."""
        self._warnings.warn(reason, peer, text, self.now, peer if self._strangers.is_known(peer) else NO_NODE, detail)

    def _on_broken(self, connection: Connection, broken: LinkBroken) -> None:
        self._fail(connection, FAULT_DROPS[broken.fault], broken.text, connection.link.refusal(broken))

    def _fail(self, connection: Connection, reason: Drop, text: str, last_words: bytes, detail: str = "") -> None:
        """Send the reason, close, count; raise an alarm if an operator made a mistake."""
        self.drop(reason)
        self._warn(reason, connection.peer, connection.with_address(text), detail)
        self._close_politely(connection, last_words, text)

    def _close_politely(self, connection: Connection, last_words: bytes, text: str) -> None:
        """Detach the connection; close it once `last_words` are sent."""
        self._detach(connection, text)
        for lane in (connection.urgent, connection.requests, connection.bulk):
            lane.clear()
        if last_words:
            connection.urgent.push(last_words)
        connection.closing = True
        connection.deadline = self.now + self._config.hello_timeout
        self._touch(connection)

    def refuse(self, connection: Connection, reason: Drop, text: str) -> None:
        """Close the connection of a greeted peer that we must not talk to."""
        if not connection.closing:
            self.drop(reason)
            self._warn(reason, connection.peer, text)
            self._close_politely(connection, encode_refusal(text), text)

    def close(self, connection: Connection, text: str) -> None:
        """Close the connection at once."""
        self._orders.effects.append(Disconnect(connection.id, text))
        self._forget(connection, text)

    def greet_anew(self, why: str) -> None:
        """Close every connection and allow redialling at once: our greeting on them is outdated."""
        for connection in list(self._connections.values()):
            if not connection.closing:
                self.close(connection, f"this node {why}, and greets anew")
                self._redial.now(connection.peer)

    def close_all(self) -> None:
        """Close all connections: the node is ending."""
        for identifier in self._connections:
            self._orders.effects.append(Disconnect(identifier, "the node is stopping"))
        self._connections.clear()
        self._dialled.clear()
        self._accepted.clear()
        self._to_flush.clear()

    def _forget(self, connection: Connection, text: str) -> None:
        self._connections.pop(connection.id, None)
        if not connection.closing:
            self._detach(connection, text)
        connection.open = False

    def _detach(self, connection: Connection, text: str) -> None:
        """Remove the connection from its peer's name; tell the core and the waiting requests."""
        peer = connection.peer
        self.lost.append((connection.id, connection.requests.left))
        if connection.dialled:
            self._errors[peer] = text
            if self._dialled.get(peer) is connection:
                del self._dialled[peer]
            if connection.greeted:
                self._redial.later(peer, self.now, self.now - connection.greeted_at)
            else:
                # Without a configuration, count the configured peers as missing.
                missed = self._members or self._config.peers
                everywhere = self._unreached.failed(peer, connection.address, text, missed, self.now)
                self._redial.later(peer, self.now, 0, elsewhere=not everywhere)
        elif self._accepted.get(peer) is connection:
            del self._accepted[peer]
        if connection.greeted:
            self._orders.events.append(PeerUnreachable(peer))

    def _link(self, *, dialer: bool, peer: NodeId) -> Link:
        told = self._strangers.is_known if self._members else None
        mine = self.addresses.in_greeting(self._introduction, told)
        needs, required = self._config.certificates, self.required
        known, limits = self._member_incarnations, self._limits
        return Link(
            mine,
            dialer=dialer,
            peer=peer,
            incarnations=known,
            limits=limits,
            needs_certificate=needs,
            required=required,
        )

    # Output.

    def send(self, to: NodeId, message: Message) -> None:
        """Queue the message in its lane; drop and count it if the peer is not connected."""
        connection = self._dialled.get(to)
        if connection is None or not connection.greeted:
            self.drop(Drop.NOT_CONNECTED)
            return
        frame = self._frames.of(message)
        if self.riders.rides(connection, message, frame, self.now):
            return
        if is_urgent(message):
            lane = connection.urgent
            if len(lane.frames) >= self._config.urgent_frames:
                lane.bytes -= len(lane.frames.popleft())
                self.drop(Drop.URGENT_OVERFLOW)
            lane.push(frame)
        elif connection.bulk.frames and connection.bulk.bytes + len(frame) > self._bulk_limit:
            self.drop(Drop.BULK_OVERFLOW, connection.bulk.clear() + 1)  # the rest is useless with a gap in it
            self._orders.events.append(PeerUnreachable(to))
        else:
            connection.rides = False  # an announcement before it leaves with it, and is not the last frame any more
            connection.bulk.push(frame)
        self._touch(connection)

    def ask(self, peer: NodeId, question: Forward | Pull) -> tuple[ConnectionId, int] | None:
        """Send a question. Return its connection and its frame number there; None if it could not be sent."""
        connection = self._dialled.get(peer)
        if connection is None or not connection.greeted:
            return None
        frame = encode_payload(question)
        if connection.requests.bytes + len(frame) > self._config.request_bytes and connection.requests.frames:
            return None
        connection.requests.push(frame)
        self._touch(connection)
        return connection.id, connection.requests.pushed - 1

    def take_back(self, identifier: ConnectionId, number: int) -> bool:
        """Remove an unsent question. Return False if it was sent or its connection is gone."""
        connection = self._connections.get(identifier)
        return connection is not None and connection.requests.take_back(number)

    def doubtful(self, leader: NodeId) -> bool:
        """Return whether the leader has missed several heartbeats: a request sent to it may be lost."""
        heard = self._accepted.get(leader)
        return heard is not None and heard.silent_ticks > self._patience.doubt

    def prove(self, identifier: ConnectionId) -> None:
        """Ask the peer for a sign of life; close the connection if none comes soon."""
        connection = self._connections.get(identifier)
        if connection is None or connection.closing or connection.proof_ticks:
            return
        connection.proof_ticks = self._patience.proof(connection)
        connection.ping(_PING_FRAME)
        self._touch(connection)

    def answer(self, identifier: ConnectionId, reply: ForwardReply | Chunk) -> None:
        """Queue the reply on the connection of its question. If that is gone, the asker knows."""
        connection = self._connections.get(identifier)
        if connection is None or connection.closing:
            self.drop(Drop.ANSWER_LOST)
            return
        frame = encode_payload(reply)
        room = self._strangers.room_for_answers(connection.peer)
        if connection.requests.bytes + len(frame) > room and connection.requests.frames:
            self.drop(Drop.ANSWER_LOST)
            self.close(connection, "the peer asks but does not take answers")  # tells it to expect no answers
            return
        connection.requests.push(frame)
        self._touch(connection)

    def _touch(self, connection: Connection) -> None:
        if not connection.queued:
            connection.queued = True
            self._to_flush.append(connection)

    def flush(self, *, hurry: bool = False) -> None:
        """Give waiting bytes to every connection that can take them. `hurry`: the node waits until they are taken."""
        if self.riders.until and (hurry or self.riders.until <= self.now):
            for connection in self.riders.due(self.now, hurry=hurry):
                self._touch(connection)
        if not self._to_flush:
            return
        waiting, self._to_flush = self._to_flush, []
        for connection in waiting:
            connection.queued = False
            data = connection.next_transmission(self._config.transmit_bytes)
            if data:
                waits = hurry or connection.closing or connection.has_more
                self._orders.effects.append(Transmit(connection.id, data, waits))
            elif connection.closing and not connection.busy and connection.id in self._connections:
                del self._connections[connection.id]
                self._orders.effects.append(Disconnect(connection.id, "refused"))
        self._frames.clear()

    # Time.

    def on_tick(self) -> None:
        """Give up connections without a timely greeting or silent for too long; dial due peers."""
        for connection in list(self._connections.values()):
            connection.silent_ticks += 1
            if connection.closing:
                if self.now >= connection.deadline:
                    self.close(connection, "refused")
            elif not connection.greeted:
                if self.now >= connection.deadline and connection.ask_for_a_word(_LAST_WORD):
                    connection.deadline = self.now + self._config.hello_timeout // 4
                    self._touch(connection)
                elif self.now >= connection.deadline:
                    self.drop(Drop.NO_GREETING)
                    if connection.address and not connection.dialled:  # dialled ones: see `Unreached`
                        self._warn(Drop.NO_GREETING, NO_NODE, connection.with_address(NO_GREETING))
                    self.close(connection, NO_GREETING if connection.open else NO_CONNECTION)
            elif connection.proof_ticks and connection.failed_proof():
                self.drop(Drop.SILENT)
                self.close(connection, "another node leads, and this one gave no sign of life")
            elif connection.silent_ticks > self._patience.silence(connection, heard=connection.peer in self._accepted):
                self.drop(Drop.SILENT)
                self.close(connection, "nothing was heard for too long")
            elif connection.dialled and connection.silent_ticks % self._patience.ping == 0:
                connection.ping(_PING_FRAME)
                self._touch(connection)
        for node in self._strangers.past(self.now, self._accepted):
            self._forget_stranger(node)
        self.dial_due()

    def quiet_ticks(self) -> int:
        """Return in how many of the next ticks `on_tick` only counts. 0 while a peer is missing or being met."""
        all_dialled = self._members and self.table.dials(self._members, self._config.peers, self._identity.node)
        if len(self._strangers) or (not all_dialled and self._missing()):
            return 0
        return self.table.quiet_ticks(self._patience)

    # For people.

    def status(self) -> tuple[PeerStatus, ...]:
        """Return the status of each known peer."""
        known = {*self._members, *self._config.peers, *self._accepted, *self._dialled} - {self._identity.node, NO_NODE}
        return tuple(
            status_of(peer, self.addresses, self._dialled.get(peer), self._accepted.get(peer), self._errors)
            for peer in sorted(known)
        )
