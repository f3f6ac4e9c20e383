"""A node without I/O, for tests of users: a machine, and clients that talk to it through their sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import hiredis

from raft_core.ids import Index
from raft_kv.client_session import Session
from raft_kv.client_session_values import (
    Inspect,
    OffLoop,
    Pause,
    Propose,
    Read,
    Send,
    SessionEffect,
    Wait,
)
from raft_kv.resp import encode
from raft_kv.state_machine import KeyValueMachine
from raft_kv.status import ServerStatus
from raft_kv.users.access import Access
from raft_kv.users.table import UserTable

__all__ = ["ADMIN", "Node", "Talker"]

ADMIN = (b"ACL", b"SETUSER", b"root", b"on", b">secret", b"~*", b"+@all")
PICTURE = ServerStatus(node=1, role="leader", leader=1, members_index=4, voters=(1, 2))


@attrs.define(eq=False)
class Node:
    """`entries` is its log; `asked` what operators' commands have asked of it."""

    file: UserTable | None = None
    machine: KeyValueMachine = attrs.field(factory=KeyValueMachine)
    entries: list[bytes] = attrs.field(factory=list)
    asked: list[SessionEffect] = attrs.field(factory=list)
    waited: list[float] = attrs.field(factory=list)
    access: Access = attrs.field(init=False)
    clients: int = 0

    def __attrs_post_init__(self) -> None:
        self.access = Access(self.machine, self.file, lambda: sum(self.waited))

    def connect(self, address: bytes = b"10.0.0.9:5000") -> Talker:
        self.clients += 1
        session = Session(self.clients, access=self.access)
        session.client.address = address
        return Talker(self, session)

    def apply(self, command: bytes) -> bytes:
        entry = self.machine.prepare_with_wall(command, 10**18, 10**18)
        self.entries.append(entry)
        return self.machine.apply(Index(len(self.entries)), entry)

    def replay(self) -> KeyValueMachine:
        """Another replica with the same log."""
        other = KeyValueMachine()
        for index, entry in enumerate(self.entries, 1):
            other.apply(Index(index), entry)
        return other


class Talker:
    """One client."""

    def __init__(self, node: Node, session: Session) -> None:
        self.node = node
        self.session = session
        self.reader = hiredis.Reader()

    def say(self, *words: bytes) -> Any:
        """The reply to one command; errors are their text."""
        return self.say_all(words)[0]

    def say_all(self, *calls: Sequence[bytes]) -> list[Any]:
        """The replies to commands that are sent together."""
        data = b"".join(encode(list(call), 2) for call in calls)
        effects = self.session.receive(data, 10**12)
        while (order := self._take(effects)) is not None:
            effects = self._carry_out(order)
        replies = []
        while (reply := self.reader.gets()) is not False:
            replies.append(str(reply) if isinstance(reply, hiredis.ReplyError) else reply)
        return replies

    def _take(self, effects: list[SessionEffect]) -> SessionEffect | None:
        order = None
        for effect in effects:
            if isinstance(effect, Send):
                self.reader.feed(effect.data[effect.skip :])
            else:
                order = effect
        return order

    def _carry_out(self, order: SessionEffect) -> list[SessionEffect]:
        session, node = self.session, self.node
        if isinstance(order, Propose):
            return session.answered(node.apply(order.command), 10**12)
        if isinstance(order, Read):
            return session.answered(node.machine.query(order.query), 10**12)
        if isinstance(order, OffLoop):
            return session.answered(order.work(), 10**12)
        if isinstance(order, Wait):
            node.waited.append(order.seconds)
            return session.answered(b"", 10**12)
        if isinstance(order, Inspect):
            return session.inspected(PICTURE, 10**12)
        if isinstance(order, Pause):
            return session.resume(10**12)
        node.asked.append(order)
        return session.answered(b"", 10**12)
