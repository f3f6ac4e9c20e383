"""Appending proposed commands on a leader, as far as there is room (rule 14.1)."""

from __future__ import annotations

from collections.abc import Sequence

from raft_core.effects import Refusal, RefusalReason, Respond
from raft_core.entries import ENTRY_OVERHEAD, seal_commands
from raft_core.ids import RequestId
from raft_core.server import Server
from raft_core.snapshots import crowded
from raft_core.state_values import PendingProposal

__all__ = ["append_commands", "uncommitted_bytes"]


def uncommitted_bytes(server: Server) -> int:
    """Return the bytes of uncommitted entries; derived from the log, so correct from the start of a leadership."""
    return server.log.size_between(server.commit, server.log.last_index)


def append_commands(server: Server, request: RequestId, commands: Sequence[bytes]) -> None:
    """Append the commands for which there is room and refuse the rest."""
    if crowded(server.settings, server.log):
        server.snapshots.make_room(server.now)
    if _fits(server, commands):
        _append(server, request, 0, commands)
    else:
        _append_what_fits(server, request, commands)


def _fits(server: Server, commands: Sequence[bytes]) -> bool:
    """Return whether all commands can be appended: the usual case, checked with totals only."""
    settings, log = server.settings, server.log
    lengths = [len(command) for command in commands]
    size = sum(lengths) + ENTRY_OVERHEAD * len(commands)
    room = min(settings.max_uncommitted_bytes - uncommitted_bytes(server), settings.log_max_bytes - log.size)
    return size <= room and max(lengths, default=0) <= settings.max_entry_bytes


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
        _append(server, request, start, taken)
        server.respond(Respond(request, Refusal(refusal), place))
        taken = []
        start = place + 1
    _append(server, request, start, taken)


def _append(server: Server, request: RequestId, offset: int, commands: Sequence[bytes]) -> None:
    if not commands:
        return
    entries = seal_commands(server.log.last_index + 1, server.term, commands, server.settings.checksum)
    server.append(entries)
    server.requests.wait(PendingProposal(request, offset, entries[0].index, entries[-1].index))
