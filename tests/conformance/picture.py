"""A core's state in the words of the scenario files.

Translation only. A scenario names a change of members by what was asked; our entries hold the whole
configuration, so what was asked is remembered beside them by the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from raft_core.entries import MEMBERS, Entry
from raft_core.membership import Members
from raft_core.raft import Raft
from raft_core.roles.leader import Leader
from tests.core.cluster import Disk

__all__ = ["Texts", "change_text", "config_of", "durable_of", "log_of", "progress_of", "stored_log_of"]

Texts: TypeAlias = Mapping[tuple[int, int], str]
LETTERS: Final = {"add_voter": "v", "add_learner": "l", "remove": "r", "update": "u"}


def change_text(changes: Sequence[tuple[str, int]], transition: str, *, v1: bool) -> str:
    """How a scenario writes the entry of this change."""
    named = " ".join(f"{LETTERS[what]}{who}" for what, who in changes)
    if v1:
        return f"conf_v1({named})"
    return f"conf_v2({named})" if transition == "auto" else f"conf_v2({transition}: {named})"


def _entry_text(entry: Entry, texts: Texts) -> str:
    place = f"{entry.term}/{entry.index}"
    if entry.kind is MEMBERS:
        return f"{place} {texts.get((entry.index, entry.term), 'conf_v2()')}"
    return f"{place} {entry.data.decode()}" if entry.data else place


def log_of(raft: Raft, texts: Texts) -> dict[str, object]:
    entries = [_entry_text(entry, texts) for entry in raft.log.entries()]
    return {"first": raft.log.first_index, "last": raft.log.last_index, "entries": entries}


def stored_log_of(disk: Disk, texts: Texts) -> list[str]:
    return [_entry_text(disk.entries[index], texts) for index in sorted(disk.entries)]


def config_of(members: Members) -> dict[str, object]:
    """The configuration in force."""
    return {
        "voters": list(members.voters),
        "voters_outgoing": list(members.outgoing),
        "learners": list(members.learners),
        "learners_next": list(members.learners_next),
        "auto_leave": members.auto_leave,
    }


def durable_of(disk: Disk) -> dict[str, object]:
    base = disk.snapshot.index if disk.snapshot else 0
    held: Iterable[int] = disk.entries
    return {
        "term": disk.hard.term,
        "vote": disk.hard.vote,
        "commit": disk.hard.commit,
        "first": min(held, default=base + 1),
        "last": max(held, default=base),
    }


def progress_of(raft: Raft) -> dict[str, object]:
    """Every peer as the leader sees it; empty but on a leader."""
    role = raft.role
    if not isinstance(role, Leader):
        return {}
    return {
        str(node): {
            "state": peer.state.value,
            "match": peer.match,
            "next": peer.next,
            "paused": peer.paused,
            "inflight": len(peer.inflight),
            "inflight_full": peer.full,
            "pending_snapshot": peer.pending,
            "learner": node in raft.members.learners,
            "recent_active": peer.active,
        }
        for node, peer in role.replication.progress.items()
    }
