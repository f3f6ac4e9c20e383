"""`election_timeout`: the election timeout in seconds, for those who do not count in ticks.

`--set election_timeout=1.5`, or `election_timeout = 1.5` in `[settings]` of a file, sets `election_ticks`, and
`heartbeat_ticks` to a tenth of it.
"""

from __future__ import annotations

import math
from typing import Final

from raft_core.errors import SettingsError
from raft_core.node.limits import SECOND, NodeLimits
from raft_kv.options import Values

__all__ = ["ELECTION_TIMEOUT", "take_election_timeout"]

ELECTION_TIMEOUT: Final = "election_timeout"
_LEAST: Final = 0.05
_MOST: Final = 60.0


def take_election_timeout(values: Values) -> None:
    """Replace `election_timeout` among the settings by ticks. Raise `SettingsError` if it is wrong."""
    settings = values.tree.get("settings")
    if not isinstance(settings, dict) or ELECTION_TIMEOUT not in settings:
        return
    given = settings.pop(ELECTION_TIMEOUT)
    origin = values.origins.pop(("settings", ELECTION_TIMEOUT), ELECTION_TIMEOUT)
    if "election_ticks" in settings:
        other = values.origin(("settings", "election_ticks"))
        raise SettingsError(f"{origin}: election_ticks is given too, by {other}: give one of the two")
    seconds = _seconds(given, origin)
    ticks = max(2, round(seconds * SECOND / _tick(values)))
    for name, value in (("election_ticks", ticks), ("heartbeat_ticks", max(1, ticks // 10))):
        if name not in settings:
            values.put(("settings", name), value, origin)


def _seconds(given: object, origin: str) -> float:
    try:
        seconds = math.nan if isinstance(given, bool) else float(str(given))
    except ValueError:
        seconds = math.nan
    if not _LEAST <= seconds <= _MOST:
        text = f"election_timeout is a number of seconds from {_LEAST} to {_MOST:g}, not {given!r}"
        raise SettingsError(f"{origin}: {text} (election_ticks knows no such bounds)")
    return seconds


def _tick(values: Values) -> int:
    """Return the length of a tick as it is given; that of the default if it is not, or not a number: told elsewhere."""
    host = values.tree.get("host")
    given = host.get("tick") if isinstance(host, dict) else None
    try:
        return max(1, int(str(given)))
    except ValueError:
        return NodeLimits().tick
