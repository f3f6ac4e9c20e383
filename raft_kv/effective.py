"""The settings that a server runs with, after flags, variables, file, defaults and the limit on descriptors.

RAFT STATUS, INFO, `/status.json`, the line `started` of the log, `raft-kv status` and `raft-kv doctor` show them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeAlias

import attrs

from raft_core.node.limits import SECOND
from raft_core.settings import Settings
from raft_kv.config import ServeConfig
from raft_storage.location import parse_location

__all__ = ["Effective", "effective_settings", "settings_in_words"]

Effective: TypeAlias = Mapping[str, int | float | str | bool]
"""Names and values of settings. Times are in seconds where the name says so."""

_NOT_SETTINGS: Final = frozenset(
    ("address", "peers", "founders", "certificates", "exposed", "metadata", "features", "tick", "tick_nanoseconds")
)
"""Fields of `Settings` and `NodeLimits` that say who the node is, not how it works; the tick is told in seconds."""
_MIB: Final = 1024 * 1024


def effective_settings(config: ServeConfig) -> dict[str, int | float | str | bool]:
    """Return the settings that matter most, then all others that differ from their defaults."""
    settings, limits = config.settings, config.host
    peers, clients = config.peer_tls(), config.client_tls()
    shown: dict[str, int | float | str | bool] = {
        "election_timeout_seconds": settings.election_ticks * limits.tick / SECOND,
        "election_ticks": settings.election_ticks,
        "heartbeat_seconds": settings.heartbeat_ticks * limits.tick / SECOND,
        "heartbeat_ticks": settings.heartbeat_ticks,
        "tick_seconds": limits.tick / SECOND,
        "snapshot_entries": settings.snapshot_entries,
        "snapshot_bytes": settings.snapshot_bytes,
        "log_max_bytes": settings.log_max_bytes,
        "store": parse_location(config.directory).kind,
        "loop": config.loop,
        "tls_peers": "off" if peers is None else peers.mode,
        "tls_clients": "off" if clients is None else clients.mode,
        "inline_sync": limits.inline_sync,
        "request_timeout_seconds": config.request_timeout,
    }
    ordinary = attrs.fields_dict(ServeConfig)["host"].default
    for one, usual in ((settings, Settings()), (limits, ordinary)):
        for field in attrs.fields(type(one)):
            value = getattr(one, field.name)
            if field.name not in shown and field.name not in _NOT_SETTINGS and value != getattr(usual, field.name):
                shown[field.name] = value.value if isinstance(value, Enum) else value
    return shown


def settings_in_words(shown: Effective) -> str:
    """Return the settings as one line. `shown` may come from another release: what it does not have is left out."""
    taken = dict(shown)
    parts = [_elections(taken), _snapshots(taken)]
    for name in ("store", "loop"):
        parts.append(f"{name} {taken.pop(name)}" if name in taken else "")
    for name in ("tls_peers", "tls_clients", "inline_sync"):
        if name in taken:
            value = taken.pop(name)
            title = name.replace("_", " ").replace("tls", "TLS")
            parts.append(f"{title} {value if isinstance(value, str) else 'on' if value else 'off'}")
    if "request_timeout_seconds" in taken:
        parts.append(f"request timeout {float(taken.pop('request_timeout_seconds')):g} s")
    parts += [f"{name}={value}" for name, value in taken.items()]
    return ", ".join(part for part in parts if part)


def _elections(taken: dict[str, int | float | str | bool]) -> str:
    names = ("election_timeout_seconds", "election_ticks", "heartbeat_seconds", "heartbeat_ticks", "tick_seconds")
    if not taken.keys() >= set(names):
        return ""
    timeout, ticks, beat, _, tick = (float(taken.pop(name)) for name in names)
    return (
        f"election timeout {timeout:g} to {2 * timeout:g} s ({ticks:g} ticks of {tick * 1000:g} ms), "
        f"heartbeat {beat:g} s"
    )


def _snapshots(taken: dict[str, int | float | str | bool]) -> str:
    names = ("snapshot_entries", "snapshot_bytes", "log_max_bytes")
    if not taken.keys() >= set(names):
        return ""
    entries, size, most = (float(taken.pop(name)) for name in names)
    return f"snapshot after {entries:,.0f} entries or {size / _MIB:g} MiB, log at most {most / _MIB:g} MiB"
