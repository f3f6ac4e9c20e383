"""The language of the scripts: one command per line, like stage directions.

    disk 2 term 4 log 1 1 1 4        before `cluster`: what a disk holds (the terms of its entries, from index 1 on)
    settings 2 pre_vote=no           before `cluster`: what is set otherwise on one node
    cluster 3 [learners 4 5] [leases] [setting=value ...]
    joiner 4                         a node with an empty disk that waits to be told of its cluster
    campaign 1     stop 1     forget 2     propose 1 a b
    read 1 [stale 5 | monotone 7]
    change 1 add 4 learner 5 promote 6 remove 3 [joint | explicit] [if 12]     (promote: a learner that becomes a
                                     voter by itself)
    leave 1     transfer 1 [to 2]     unreachable 1 2     connected 1 2
    tick 5 [at 1 2]                  time passes (everywhere or there), and all settles after each tick
    wait 5 at 1                      time passes there, and nothing is delivered
    deliver                          everything arrives, until all is at rest
    deliver 1->2 [3]                 what is in flight on this link (the 3 oldest) arrives; `*` is any end
    lose 1->2 [3]     lose           what is in flight there, or anywhere, is lost
    double 1->2                      what is in flight there will arrive twice
    keep 1->2     release            what is in flight there is held up; what was held up is in flight again
    local                            reports of machines are made
    cut 1 2     oneway 1->2     isolate 1 2     heal
    crash 3     restart 3     restart 3 losing 2     (its disk has lost the last two entries)
    slow 1     sync 1 [2]     fast 1     (writes wait; the oldest two, or all, become durable; no longer)
    fail 1                           its disk fails
    stuck                            snapshots that are fetched do not arrive any more
    arrive 3     give-up 3           the snapshot that 3 is fetching arrives, or will never come
    show [1 2]     quietly COMMAND   tell states; do it without a word
    expect ...                       see `expectations`

Empty lines and lines that begin with # are for readers. Lines that begin with a space are the recorded narration.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import attrs

from raft_core.entries import COMMAND, Entry, HardState
from raft_core.events import (
    CampaignRequested,
    ForgetLeaderRequested,
    PeerConnected,
    PeerUnreachable,
    Proposed,
    Requested,
    SnapshotReceived,
    SnapshotRejected,
    StopRequested,
    StorageFailed,
    Tick,
)
from raft_core.ids import NO_NODE, Index, NodeId, RequestId, Term
from raft_core.membership import AddLearner, AddVoter, Change, ChangeMode, Members, RemoveNode
from raft_core.recovered import Identity, Recovered, formation
from raft_core.requests import ChangeMembership, LeaveJoint, Read, ReadConsistency, TransferLeadership
from tests.core.cluster import SMALL, Node
from tests.scenarios.expectations import expect
from tests.scenarios.stage import Stage

__all__ = ["Script", "perform", "scripts"]

CHANGES: dict[str, Callable[[NodeId], Change]] = {
    "add": AddVoter,
    "learner": AddLearner,
    "promote": lambda node: AddLearner(node, promote_when_ready=True),
    "remove": RemoveNode,
}


def perform(text: str) -> str:
    """The script with the narration of what happened in it. Raises `AssertionError` where an expectation fails."""
    script = Script()
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(" "):
            continue
        lines.append(line)
        if not line or line.startswith("#"):
            continue
        try:
            lines.extend(script.do(line))
        except Exception as failure:
            raise AssertionError(f"line {number}, {line!r}: {type(failure).__name__}: {failure}") from failure
    return "\n".join(lines) + "\n"


def scripts(folder: Path = Path(__file__).parent / "scripts") -> list[Path]:
    """Every script, in the order of their names."""
    return sorted(folder.glob("*.txt"))


@attrs.frozen
class DiskNote:
    """What `disk` said."""

    term: int
    vote: int
    log: tuple[int, ...]


class Script:
    """One performance."""

    def __init__(self) -> None:
        self.disks: dict[int, DiskNote] = {}
        self.own_settings: dict[int, dict[str, int | bool]] = {}
        self.requests = 0

    def do(self, line: str) -> list[str]:
        """The narration of one command."""
        words = shlex.split(line)
        quiet = words[0] == "quietly"
        command, *rest = words[1:] if quiet else words
        if command == "cluster":
            self._cluster(rest)
        elif command == "disk":
            self._disk(rest)
            return []
        elif command == "settings":
            self.own_settings[int(rest[0])] = _changes(rest[1:])
            return []
        self.stage.quiet = quiet
        if command not in ("cluster", "disk"):
            getattr(self, "do_" + command.replace("-", "_"))(*rest)
        told, self.stage.told = self.stage.told, []
        return told

    # Setting up.

    def _disk(self, words: list[str]) -> None:
        """`2 term 4 [vote 1] log 1 1 1 4`"""
        at = words.index("log")
        options = dict(zip(words[1:at:2], words[2:at:2], strict=True))
        log = tuple(int(term) for term in words[at + 1 :])
        self.disks[int(words[0])] = DiskNote(int(options["term"]), int(options.get("vote", 0)), log)

    def _cluster(self, words: list[str]) -> None:
        leases = "leases" in words
        learners = [int(word) for word in words[1:] if word.isdigit()]
        settings = attrs.evolve(SMALL, lease_reads=leases, **_changes(words[1:]))  # type: ignore[arg-type]
        members = Members.initial(range(1, int(words[0]) + 1), learners=learners, leases=leases)
        own = {
            node: attrs.evolve(settings, **changes)  # type: ignore[arg-type]
            for node, changes in self.own_settings.items()
        }
        self.stage = Stage(members, settings, own, lambda node: self._recovered(node, members))
        self.stage.told.clear()  # the start is the same in every script

    def _recovered(self, node: int, members: Members) -> Recovered:
        note = self.disks.get(node)
        if note is None:
            return Recovered.fresh(node, members)
        hard, first = formation(members)
        later = [
            Entry.make(index, term, b"%d/%d" % (term, index), COMMAND) for index, term in enumerate(note.log[1:], 2)
        ]
        hard = HardState(Term(note.term), NodeId(note.vote), hard.commit)
        return Recovered(Identity(NodeId(node)), hard, entries=(first, *later))

    def do_joiner(self, node: str) -> None:
        self.stage.joiner(int(node))

    # Wishes.

    def _node(self, node: str) -> Node:
        return self.stage[int(node)]

    def _request(self) -> RequestId:
        self.requests += 1
        return RequestId(self.requests)

    def do_campaign(self, node: str) -> None:
        self._node(node).step(CampaignRequested())

    def do_stop(self, node: str) -> None:
        self._node(node).step(StopRequested())

    def do_forget(self, node: str) -> None:
        self._node(node).step(ForgetLeaderRequested())

    def do_propose(self, node: str, *commands: str) -> None:
        self._node(node).step(Proposed(self._request(), tuple(command.encode() for command in commands)))

    def do_read(self, node: str, consistency: str = "linearizable", limit: str = "0") -> None:
        kinds = {"stale": ReadConsistency.STALE_BOUNDED}
        kind = kinds.get(consistency) or ReadConsistency(consistency)
        self._node(node).step(Requested(self._request(), Read(kind, int(limit))))

    def do_change(self, node: str, *words: str) -> None:
        mode, expected, changes = ChangeMode.AUTO, Index(0), list[Change]()
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word in ("joint", "explicit"):
                mode = ChangeMode(word)
            elif word == "if":
                expected = Index(int(rest.pop(0)))
            else:
                changes.append(CHANGES[word](NodeId(int(rest.pop(0)))))
        self._node(node).step(Requested(self._request(), ChangeMembership(tuple(changes), mode, expected)))

    def do_leave(self, node: str) -> None:
        self._node(node).step(Requested(self._request(), LeaveJoint()))

    def do_transfer(self, node: str, _to: str = "to", target: str = "0") -> None:
        self._node(node).step(
            Requested(self._request(), TransferLeadership(NodeId(int(target)) if int(target) else NO_NODE))
        )

    def do_unreachable(self, node: str, peer: str) -> None:
        self._node(node).step(PeerUnreachable(NodeId(int(peer))))

    def do_connected(self, node: str, peer: str) -> None:
        self._node(node).step(PeerConnected(NodeId(int(peer))))

    # Time.

    def do_tick(self, count: str, _at: str = "at", *nodes: str) -> None:
        self.stage.tick(int(count), [int(node) for node in nodes] if nodes else None)

    def do_wait(self, count: str, _at: str, *nodes: str) -> None:
        for _ in range(int(count)):
            for node in nodes:
                self._node(node).step(Tick())

    # Messages.

    def do_deliver(self, link: str = "", count: str = "-1") -> None:
        if link:
            self.stage.pass_on(*_link(link), int(count))
        else:
            self.stage.deliver()

    def do_lose(self, link: str = "*->*", count: str = "-1") -> None:
        self.stage.lose(*_link(link), int(count))

    def do_double(self, link: str) -> None:
        found = self.stage.take(*_link(link))
        self.stage.network.extend((*found, *found))  # type: ignore[arg-type]

    def do_keep(self, link: str) -> None:
        self.stage.kept.extend(self.stage.take(*_link(link)))

    def do_release(self) -> None:
        self.stage.network.extend(self.stage.kept)  # type: ignore[arg-type]
        self.stage.kept = []

    def do_local(self) -> None:
        self.stage.local()

    def do_cut(self, one: str, other: str) -> None:
        self.stage.cut |= {(int(one), int(other)), (int(other), int(one))}

    def do_oneway(self, link: str) -> None:
        """Nothing arrives on this link; the other direction works."""
        sender, to = _link(link)
        assert sender is not None
        assert to is not None
        self.stage.cut.add((sender, to))

    def do_isolate(self, *nodes: str) -> None:
        self.stage.isolate(*(int(node) for node in nodes))

    def do_heal(self) -> None:
        self.stage.heal()

    # Faults.

    def do_crash(self, node: str) -> None:
        self._node(node).crash()

    def do_restart(self, node: str, _losing: str = "losing", count: str = "0") -> None:
        here = self._node(node)
        for index in sorted(here.disk.entries)[len(here.disk.entries) - int(count) :]:
            del here.disk.entries[index]
        here.restart()

    def do_slow(self, node: str) -> None:
        self._node(node).auto_persist = False

    def do_sync(self, node: str, count: str = "-1") -> None:
        self._node(node).persist(int(count))

    def do_fast(self, node: str) -> None:
        self._node(node).auto_persist = True
        self._node(node).persist()

    def do_fail(self, node: str) -> None:
        self._node(node).step(StorageFailed("the disk is gone"))

    def do_stuck(self) -> None:
        self.stage.deliver_snapshots = False

    def do_arrive(self, node: str) -> None:
        receiving = self._node(node).raft.server.snapshots.receiving
        assert receiving is not None, "it is fetching no snapshot"
        self._node(node).step(SnapshotReceived(receiving.meta))

    def do_give_up(self, node: str) -> None:
        receiving = self._node(node).raft.server.snapshots.receiving
        assert receiving is not None, "it is fetching no snapshot"
        self._node(node).step(SnapshotRejected(receiving.meta.index))

    # Looking.

    def do_show(self, *nodes: str) -> None:
        for node in [int(node) for node in nodes] or sorted(self.stage.nodes):
            self.stage.show(node)

    def do_expect(self, *words: str) -> None:
        expect(self.stage, list(words))


def _link(text: str) -> tuple[int | None, int | None]:
    sender, _, to = text.partition("->")
    return (None if sender == "*" else int(sender)), (None if to == "*" else int(to))


def _changes(words: list[str]) -> dict[str, int | bool]:
    """The settings among these words: numbers, yes or no."""
    pairs = [word.split("=") for word in words if "=" in word]
    return {name: value == "yes" if value in ("yes", "no") else int(value) for name, value in pairs}
