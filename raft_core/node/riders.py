"""`Riders`: commit announcements that wait a moment for company.

An announcement tells a follower how far the log is committed; every append tells it as well. A client that writes one
command after the other sends the next one at once, and its append then takes the place of the announcement: one message
and one turn of the follower less per write. If nothing follows within `RIDE`, the announcement goes alone. Anything
else for the same peer takes it along, such as the answer to a read, so no reader waits for it.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.messages import COMMIT_UPDATE, HEARTBEAT, AppendEntries, Message
from raft_core.node.peer_connection import Connection

__all__ = ["RIDE", "Riders"]

RIDE: Final = 1_000_000
"""Nanoseconds for which an announcement waits."""


@final
class Riders:
    """The connections on which an announcement waits; `until` is the time of the first one to go alone, 0: none."""

    __slots__ = ("_waiting", "until")

    def __init__(self) -> None:
        self._waiting: list[Connection] = []
        self.until = 0

    def rides(self, connection: Connection, message: Message, frame: bytes, now: int) -> bool:
        """Return whether the message now waits for company. A newer append replaces one that does."""
        if type(message) is not AppendEntries or message.purpose is HEARTBEAT:
            return False
        if connection.rides:
            connection.bulk.drop_last()
            connection.rides = False
        if message.purpose is not COMMIT_UPDATE or connection.bulk.frames or connection.queued or connection.busy:
            return False
        connection.bulk.push(frame)
        connection.rides = True
        self._waiting.append(connection)
        self.until = self.until or now + RIDE
        return True

    def due(self, now: int, *, hurry: bool) -> list[Connection]:
        """Return the connections whose announcements have to go now, with whatever else waits there."""
        if not self.until or (now < self.until and not hurry):
            return []
        due = [connection for connection in self._waiting if connection.rides]
        self._waiting.clear()
        self.until = 0
        return due
