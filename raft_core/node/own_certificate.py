"""`OwnCertificate`: when this node's certificate expires, and the alarms before that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, final

from raft_core.effects import Alarm, AlarmKind
from raft_core.ids import NO_NODE
from raft_core.node.events import CertificateRead
from raft_core.node.limits import SECOND
from raft_core.node.outputs import Outputs

__all__ = ["OwnCertificate"]

_DAY: Final = 24 * 3600
_WARN_BEFORE: Final = 14 * _DAY
"""Seconds before the end; a quarter of its life for a certificate that lives less than 56 days."""
_AGAIN: Final = _DAY * SECOND


@final
class OwnCertificate:
    """The certificate that this node shows to its peers, as last read. An alarm is repeated once a day."""

    __slots__ = ("_due", "_orders", "_problem", "_warn_at", "expires")

    def __init__(self, orders: Outputs) -> None:
        self._orders = orders
        self._due = 0
        self._problem = ""
        self._warn_at = 0
        self.expires = 0
        """Seconds since 1970; 0 without TLS."""

    def on_read(self, event: CertificateRead) -> None:
        """Note the dates; report a problem with the files once."""
        if event.problem and event.problem != self._problem:
            self._alarm(f"the certificate is not renewed: {event.problem}; the one read before stays in use")
        self._problem = event.problem
        if event.expires != self.expires:
            self._due = 0
        self.expires = event.expires
        self._warn_at = event.expires - min(_WARN_BEFORE, (event.expires - event.issued) // 4)

    def look(self, now: int, wall: int) -> None:
        """Raise the alarm once the end is near. `now`: monotonic nanoseconds; `wall`: those since 1970."""
        left = self.expires - wall // SECOND
        if not self.expires or wall // SECOND < self._warn_at or (self._due and now < self._due):
            return
        self._due = now + _AGAIN
        state = "expired" if left <= 0 else "expires"
        at = datetime.fromtimestamp(self.expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
        self._alarm(
            f"this node's certificate {state} at {at}; then no peer takes it. Replace the files of certificate and "
            "key: they are read anew without a restart"
        )

    def _alarm(self, text: str) -> None:
        self._orders.effects.append(Alarm(AlarmKind.CERTIFICATE, NO_NODE, text))
