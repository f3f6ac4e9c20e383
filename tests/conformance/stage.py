"""The parts of the stage: one node with its jobs, what travels between nodes, and the words of the scenario files.

Values and small translations. What the operations do is in `driver`.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final, TypeAlias, final

import attrs

from raft_core.effects import Apply, Effect, Persist, Restore, TakeSnapshot
from raft_core.entries import HardState, SnapshotMeta
from raft_core.events import Proposed, Requested
from raft_core.ids import Index, NodeId, RequestId
from raft_core.membership import AddLearner, AddVoter, Change, ChangeMode, RemoveNode
from raft_core.messages import (
    HEARTBEAT,
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    Message,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    VoteKind,
    VoteReply,
)
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.settings import Settings
from tests.core.cluster import Disk

__all__ = [
    "MODES",
    "Forwarded",
    "Node",
    "Packet",
    "Payload",
    "StillThere",
    "change_of",
    "name_of",
    "settings_of",
    "sizes_understood",
]

NEVER: Final = 10**9
SIZES: Final = ("max_size_per_msg", "max_committed_size_per_ready")
ONE_ENTRY: Final = 4  # bytes; every entry of the scenarios is larger
NO_LIMIT: Final = 1 << 18  # bytes; no message of the scenarios is as large
MODES: Final = {"auto": ChangeMode.AUTO, "implicit": ChangeMode.JOINT, "explicit": ChangeMode.EXPLICIT}


@final
@attrs.frozen
class Forwarded:
    """A request on its way from a follower to the leader; in our library that is the host's work."""

    event: Proposed | Requested
    text: str = ""


@final
@attrs.frozen
class StillThere:
    """In place of a heartbeat reply that the core holds back."""

    peer: NodeId


Payload: TypeAlias = Message | Forwarded | StillThere


@final
@attrs.frozen
class Packet:
    sender: NodeId
    to: NodeId
    payload: Payload


@final
class Node:
    """One core, its disk, its machine, its batch, and with separate storage threads their jobs."""

    def __init__(self, recovered: Recovered, settings: Settings, *, separate: bool, machine: list[str]) -> None:
        self.id = recovered.identity.node
        self.settings = settings
        self.separate = separate
        self.disk = Disk(recovered)
        self.snapshots: list[SnapshotMeta] = [recovered.snapshot] if recovered.snapshot else []  # durable, oldest first
        self.boot(recovered, machine)

    def boot(self, recovered: Recovered, machine: list[str]) -> None:
        self.raft = Raft(self.settings, recovered, random.Random(int(self.id)))
        self.machine = machine
        self.batch: list[Effect | Packet] = []
        self.writes: deque[list[Persist]] = deque()  # one job per batch
        self.lane: deque[Apply | Restore | TakeSnapshot] = deque()  # the apply lane, oldest first
        self.early: list[Forwarded] = []  # changes to be asked again when the leader is settled
        self.stood_in: set[int] = set()
        self.asked: set[tuple[int, int]] = set()  # campaigns already put to a voter
        self.reads: list[dict[str, object]] = []
        self.contexts: dict[RequestId, str] = {}

    @property
    def pending(self) -> bool:
        """There is a batch to take; with separate storage threads the apply lane is theirs."""
        return bool(self.batch) or (bool(self.lane) and not self.separate)

    def write(self, persist: Persist) -> None:
        """Make one write durable."""
        self.disk.write(persist)
        if persist.snapshot is not None:
            self.snapshots.append(persist.snapshot)

    def oldest_snapshot(self) -> SnapshotMeta | None:
        """Return the oldest durable snapshot that the entries on disk reach back to; None if they begin at index 1."""
        held = self.disk.entries
        if not held:
            return self.disk.snapshot
        first = min(held)
        reached = [meta for meta in self.snapshots if meta.index >= first - 1]
        return None if first == 1 else min(reached, key=lambda meta: meta.index, default=self.disk.snapshot)

    def recover(self) -> Recovered:
        """Return what a restart finds: the oldest snapshot still reached, and every entry after it.

        Our nodes take a snapshot after every batch, which the clusters of the scenarios do not. What the newest one
        covers is known to be committed."""
        found = self.disk.recover()
        newest, oldest = found.snapshot, self.oldest_snapshot()
        base = oldest.index if oldest else 0
        entries = tuple(self.disk.entries[at] for at in sorted(self.disk.entries) if at > base)
        commit = max(found.hard.commit, newest.index if newest else 0)
        hard = HardState(found.hard.term, found.hard.vote, Index(commit))
        return attrs.evolve(found, hard=hard, snapshot=oldest, entries=entries, covered=())


def one_entry(options: dict[str, object], name: str) -> bool:
    """Return whether a size option is so small that it means one entry at a time."""
    return name in options and int(str(options[name])) <= ONE_ENTRY


def sizes_understood(options: dict[str, object]) -> bool:
    """Return whether every size option means one entry at a time, or no limit: other sizes are counted differently."""
    sizes = [int(str(options[name])) for name in SIZES if name in options]
    return all(size <= ONE_ENTRY or size >= NO_LIMIT for size in sizes)


def settings_of(options: dict[str, object], *, separate: bool, leases: bool) -> Settings:
    """Settings that behave as the options of a scenario ask."""
    ticks = int(str(options.get("election_tick", 3)))
    defaults = Settings()
    single = one_entry(options, "max_size_per_msg")
    committed = "max_committed_size_per_ready"  # where it is not named, the size of messages stands for it
    applied_singly = one_entry(options, committed) if committed in options else single
    return Settings(
        election_ticks=ticks,
        heartbeat_ticks=int(str(options.get("heartbeat_tick", 1))),
        short_ticks=1,
        pre_vote=bool(options.get("pre_vote")) or leases,  # our leases rest on both
        check_quorum=bool(options.get("check_quorum")) or leases,
        lease_reads=leases,
        max_message_bytes=1 if single else defaults.max_message_bytes,
        max_apply_bytes=1 if applied_singly else defaults.max_apply_bytes,
        max_inflight_messages=int(str(options.get("max_inflight_msgs", 256))),
        snapshot_entries=NEVER if separate else 1,
        keep_entries=NEVER,
        keep_bytes=NEVER,
        stall_ticks=0,
    )


def change_of(what: str, who: int) -> Change:
    """One item of a change as ours."""
    if what == "add_voter":
        return AddVoter(NodeId(who))
    if what == "add_learner":
        return AddLearner(NodeId(who))
    assert what == "remove", what
    return RemoveNode(NodeId(who))


def name_of(payload: Payload) -> str:
    """What the scenarios call this message."""
    if isinstance(payload, AppendEntries | AppendReply):
        name = "heartbeat" if payload.purpose is HEARTBEAT else "append"
        return name + ("_resp" if isinstance(payload, AppendReply) else "")
    if isinstance(payload, RequestVote | VoteReply):
        name = "prevote" if payload.kind is VoteKind.PRE else "vote"
        return name + ("_resp" if isinstance(payload, VoteReply) else "")
    if isinstance(payload, InstallSnapshot):
        return "snapshot"
    if isinstance(payload, SnapshotReply):
        return "append_resp"
    return "timeout_now" if isinstance(payload, TimeoutNow) else "other"
