"""`SharedEntry`: the short writes of many clients as one log entry.

Each command still succeeds or fails on its own. Only commands whose reply is one line take part (`ONE_LINE`), so an
entry's replies are told apart at their line breaks, and no client's long reply or long work takes room from another's.
"""

from __future__ import annotations

from typing import Final, final

from raft_core import requests
from raft_kv import log_format as entries
from raft_kv.log_format import Calls
from raft_kv.sharing import SharedRequest

__all__ = ["SharedEntry"]

_OK: Final = b"+OK\r\n"
_LINE_BREAK: Final = b"\r\n"


@final
class SharedEntry(SharedRequest):
    """One entry. One-line replies are the same bytes in RESP2 and RESP3."""

    __slots__ = ()

    def request(self) -> requests.Propose:
        """Return the request to have the entry applied."""
        return requests.Propose(entries.encode_entry(Calls(2, self.calls)))

    def give(self, data: bytes) -> None:
        """Give all clients their replies."""
        if data == _OK * len(self.calls):
            for sharer, count in self.sharers:
                sharer.share_answered(_OK if count == 1 else _OK * count)
            return
        lines = data.split(_LINE_BREAK)
        if lines.pop() or len(lines) != len(self.calls):
            self.damaged()
            return
        place = 0
        for sharer, count in self.sharers:
            sharer.share_answered(_LINE_BREAK.join(lines[place : place + count]) + _LINE_BREAK)
            place += count
