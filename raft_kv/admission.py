"""`Admission`: limits on the connections from one address, how many are open and how often new ones come.

Off by default: many clients may share an address, behind a proxy or in a cluster of containers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Final, final

__all__ = ["Admission"]

_REMEMBERED: Final = 4096
"""Addresses without a connection whose rate is remembered."""


@final
class Admission:
    """Connections by address. `most`: open at a time; `rate`: new ones per second, also the reserve. 0: any number."""

    __slots__ = ("_clock", "_most", "_open", "_rate", "_tokens", "refused")

    def __init__(self, most: int, rate: float, clock: Callable[[], float] = monotonic) -> None:
        self._most: Final = most
        self._rate: Final = rate
        self._clock: Final = clock
        self._open: Final[dict[bytes, int]] = {}
        self._tokens: Final[OrderedDict[bytes, tuple[float, float]]] = OrderedDict()
        self.refused = 0

    def enter(self, host: bytes) -> bool:
        """Return whether a new connection from this address is admitted; then `leave` has to follow."""
        count = self._open.get(host, 0)
        if (self._most and count >= self._most) or not self._in_time(host):
            self.refused += 1
            return False
        self._open[host] = count + 1
        return True

    def _in_time(self, host: bytes) -> bool:
        """Take one of the address's tokens, which come at the rate. Return whether there was one."""
        if not self._rate:
            return True
        now = self._clock()
        most = max(1.0, self._rate)
        tokens, since = self._tokens.pop(host, (most, now))
        tokens = min(most, tokens + (now - since) * self._rate)
        admitted = tokens >= 1.0
        self._tokens[host] = (tokens - 1.0 if admitted else tokens, now)
        while len(self._tokens) > _REMEMBERED:
            self._tokens.popitem(last=False)
        return admitted

    def leave(self, host: bytes) -> None:
        """Note that a connection from this address is gone."""
        count = self._open.get(host, 0) - 1
        if count > 0:
            self._open[host] = count
        else:
            self._open.pop(host, None)
