"""Checks of a server's configuration: addresses, and settings that are allowed and do not go together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from raft_core.node.address_book import is_everywhere
from raft_core.node.config import split_address
from raft_kv.config import ServeConfig
from raft_kv.doctor.finding import Finding, note, right, warning, wrong
from raft_kv.doctor.nodes import Dials, dials, survives

__all__ = ["check_settings", "election_seconds", "machine_memory", "room_needed"]

_NANOSECONDS: Final = 1_000_000_000
_MEBIBYTE: Final = 1024 * 1024
_HEARTBEATS: Final = 4
"""Heartbeats in an election timeout, so that some may be lost."""


def election_seconds(config: ServeConfig) -> float:
    """Return the shortest election timeout."""
    return config.settings.election_ticks * config.host.tick / _NANOSECONDS


def room_needed(config: ServeConfig, state_bytes: int) -> int:
    """Return the bytes that log and snapshots may take: the log, the snapshot in force, and one being written."""
    return config.settings.log_max_bytes + 2 * state_bytes


def machine_memory() -> int:
    """Return the bytes of memory that this machine, or its container, has; 0 if it does not tell."""
    found = []
    with suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):  # "max" without a limit
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text("ascii")))
    return max(0, min(found, default=0))


def check_settings(
    config: ServeConfig, *, sync: float = 0.0, dial: Dials = dials, memory: int | None = None
) -> list[Finding]:
    """Return the findings about a valid configuration.

    `sync`: seconds of a sync of its disk, 0 if unknown. `memory`: bytes of this machine's memory, 0 if unknown; without
    it the machine is asked.
    """
    findings = [*_times(config, sync), *_sizes(config), *_listening(config), *_founders(config)]
    findings += _memory(config, machine_memory() if memory is None else memory)
    for node, address in sorted(config.peers.items()):
        if node != config.id:
            findings.append(_peer(node, address, dial))
    return findings if findings else [right("settings", f"node {config.id}", "nothing contradicts")]


def _times(config: ServeConfig, sync: float) -> Iterator[Finding]:
    settings, election = config.settings, election_seconds(config)
    subject = f"election_ticks = {settings.election_ticks}"
    if settings.election_ticks < _HEARTBEATS * settings.heartbeat_ticks:
        yield warning(
            "settings",
            f"{subject}, heartbeat_ticks = {settings.heartbeat_ticks}",
            "a few lost heartbeats depose the leader",
            f"set heartbeat_ticks to a tenth of election_ticks: {max(1, settings.election_ticks // 10)}",
        )
    if sync and sync * 10 > election:
        yield warning(
            "settings",
            subject,
            f"the timeout is {election:.2f} s, and a sync of this disk takes {sync * 1000:.0f} ms",
            f"set election_ticks to {round(sync * 20 * _NANOSECONDS / config.host.tick)} or more on all nodes",
        )
    if config.request_timeout < 2 * election:
        yield warning(
            "settings",
            f"request-timeout = {config.request_timeout}",
            f"clients get errors before an election, of {election:.2f} to {2 * election:.2f} s, can end",
            f"set it to {4 * election:.1f} or more",
        )


def _sizes(config: ServeConfig) -> Iterator[Finding]:
    settings = config.settings
    if settings.log_max_bytes < 2 * settings.snapshot_bytes:
        yield warning(
            "settings",
            f"log_max_bytes = {settings.log_max_bytes}, snapshot_bytes = {settings.snapshot_bytes}",
            "the log is full before a snapshot shortens it: writes are refused meanwhile",
            f"set snapshot_bytes to {settings.log_max_bytes // 4} or less",
        )
    if settings.max_uncommitted_bytes > settings.log_max_bytes:
        yield warning(
            "settings",
            f"max_uncommitted_bytes = {settings.max_uncommitted_bytes}, log_max_bytes = {settings.log_max_bytes}",
            "uncommitted entries alone can fill the log",
            f"set max_uncommitted_bytes to {settings.log_max_bytes // 4} or less",
        )


def _memory(config: ServeConfig, memory: int) -> Iterator[Finding]:
    if memory and config.max_memory_bytes > memory:
        yield warning(
            "settings",
            f"max-memory = {config.max_memory}",
            f"this machine gives the node {memory / _MEBIBYTE:,.0f} MiB, so the system ends it before the limit counts",
            f"set max-memory to half of the memory at most: {memory // (2 * _MEBIBYTE)}mb",
        )


def _is_loopback(address: str) -> bool:
    host = split_address(address)[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _listening(config: ServeConfig) -> Iterator[Finding]:
    own = config.advertise or config.peer_listen
    elsewhere = {node: peer for node, peer in config.peers.items() if node != config.id and not _is_loopback(peer)}
    if is_everywhere(config.peer_listen) and not config.advertise and config.id not in config.peers:
        yield wrong(
            "address",
            f"peer-listen = {config.peer_listen}",
            "the others cannot learn from it where to dial this node",
            "set advertise to an address of this machine that they reach",
        )
    elif elsewhere and _is_loopback(own):
        yield wrong(
            "address",
            f"{'advertise' if config.advertise else 'peer-listen'} = {own}",
            f"node {min(elsewhere)} is on another machine and cannot dial it",
            "listen on an address of this machine, or advertise one",
        )
    if not _is_loopback(config.listen) and elsewhere and _is_loopback(config.peer_listen):
        yield warning(
            "address", f"listen = {config.listen}", "clients reach this node, its peers do not", "set peer-listen too"
        )


def _founders(config: ServeConfig) -> Iterator[Finding]:
    founders = len({*config.peers, config.id})
    if not config.join and founders % 2 == 0:
        yield warning(
            "members",
            f"{founders} founders",
            survives(founders, "voters"),
            "found the cluster with 3 or 5 nodes",
        )


def _peer(node: int, address: str, dial: Dials) -> Finding:
    problem = dial(address)
    if not problem:
        return right("address", f"peer {node} at {address}", "it can be dialled from here")
    if "refused" in problem.lower():
        return note("address", f"peer {node} at {address}", f"nothing listens there now: {problem}")
    return wrong(
        "address",
        f"peer {node} at {address}",
        f"it cannot be dialled: {problem}",
        "correct its name or address in --peer",
    )
