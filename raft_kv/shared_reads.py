"""`SharedRead`: the short reads of many clients as one linearizable query.

The query is made after the last of its commands has arrived, so it shows each client whatever was done before its
command. The commands are those of `SHORT_READS`. What the machine does not answer together with others (see
`short_reads`), its client asks for in a query of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import msgspec

from raft_core import requests
from raft_core.node.events import Answered
from raft_kv import log_format as entries
from raft_kv.keyspace import Millis
from raft_kv.sharing import SharedRequest

__all__ = ["SharedRead"]


@final
class SharedRead(SharedRequest):
    """One query, for clients of one protocol, 2 or 3. `clock`: cluster time as this node knows it."""

    __slots__ = ("_clock", "_protocol")

    def __init__(
        self, deliver: Callable[[SharedRequest, Answered], None], protocol: int, clock: Callable[[], Millis]
    ) -> None:
        super().__init__(deliver)
        self._protocol: Final = protocol
        self._clock: Final = clock

    def request(self) -> requests.Read:
        """Return the request for all replies."""
        return requests.Read(query=entries.encode_short_reads(self._protocol, self.calls, self._clock()))

    def give(self, data: bytes) -> None:
        """Give all clients their replies; let those with a command that was not answered read by themselves."""
        try:
            replies = entries.decode_short_replies(data)
        except msgspec.MsgspecError:
            replies = []
        if len(replies) != len(self.calls):
            self.damaged()
            return
        place = 0
        for sharer, count in self.sharers:
            reply = replies[place] if count == 1 else _joined(replies[place : place + count])
            place += count
            if reply is None:
                sharer.share_declined()
            else:
                sharer.share_answered(reply)


def _joined(replies: list[bytes | None]) -> bytes | None:
    """Return all replies; None if one is missing."""
    present = [reply for reply in replies if reply is not None]
    return b"".join(present) if len(present) == len(replies) else None
