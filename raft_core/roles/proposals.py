"""Appending proposed commands on a leader, as far as there is room (rule 14.1)."""

from __future__ import annotations

from collections.abc import Sequence

from raft_core.effects import Refusal, RefusalReason, Respond
from raft_core.entries import ENTRY_OVERHEAD
from raft_core.ids import RequestId
from raft_core.server import Server
from raft_core.snapshots import crowded

__all__ = ["append_commands", "uncommitted_bytes"]


def uncommitted_bytes(server: Server) -> int:
    """Return the bytes of uncommitted entries; derived from the log, so correct from the start of a leadership."""
    return server.log.size_between(server.commit, server.log.last_index)


def append_commands(server: Server, request: RequestId, commands: Sequence[bytes]) -> None:
    """Append the commands for which there is room and refuse the rest."""
    log, count = server.log, len(commands)
    if crowded(server.log_max_bytes, log):
        server.snapshots.make_room(server.now)
    # The usual case, checked with totals only. A log within the limit for uncommitted entries need not be looked at.
    bare = len(commands[0]) if count == 1 else sum(map(len, commands))
    size = bare + ENTRY_OVERHEAD * count
    most = server.max_uncommitted_bytes
    room = log.size + size <= most or uncommitted_bytes(server) + size <= most
    small = bare <= server.max_entry_bytes or max(map(len, commands)) <= server.max_entry_bytes
    if room and small and log.size + size <= server.log_max_bytes and count:
        server.append_commands(request, 0, commands)
    else:
        _append_what_fits(server, request, commands)


def _append_what_fits(server: Server, request: RequestId, commands: Sequence[bytes]) -> None:
    """Append or refuse each command by itself. One always fits into an empty pipeline."""
    settings = server.settings
    uncommitted = uncommitted_bytes(server)
    free = settings.log_max_bytes - server.log.size
    taken: list[bytes] = []
    start = 0  # the first command not yet appended or refused
    for place, command in enumerate(commands):
        size = len(command) + ENTRY_OVERHEAD
        refusal = None
        if len(command) > settings.max_entry_bytes:
            refusal = RefusalReason.TOO_LARGE
        elif uncommitted and uncommitted + size > settings.max_uncommitted_bytes:
            refusal = RefusalReason.UNCOMMITTED_FULL
        elif size > free:
            refusal = RefusalReason.LOG_FULL
            server.snapshots.make_room(server.now)  # too late for this one
        if refusal is None:
            taken.append(command)
            uncommitted += size
            free -= size
            continue
        if taken:
            server.append_commands(request, start, taken)
        server.respond(Respond(request, Refusal(refusal), place))
        taken = []
        start = place + 1
    if taken:
        server.append_commands(request, start, taken)
