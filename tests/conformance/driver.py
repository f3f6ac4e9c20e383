"""A cluster of bare cores that is moved by the operations of the scenario files, one batch at a time.

The stage. `ready` takes one batch of a node: what it wants written becomes durable, what it sends is
put in flight, what it wants applied is applied, and only then is the core told. Effects that arise meanwhile wait for
the next batch. What the scenarios take for granted and our core does otherwise is bridged here, in the open:

* Clusters of the scenarios start at term 0 with a snapshot of term 1. Ours has a snapshot of term 0, so that no disk
  claims a log beyond its term. No fact names the term of a snapshot.
* A change of members that is refused because nothing of the term is committed yet is asked again by the driver, as a
  client would, as soon as the leader is settled.
* Snapshots are made by the application when they are wanted. Ours are made by the node, after every batch applied. A
  restart therefore begins at the oldest snapshot that the entries on disk reach back to, not at the newest one.
* Our core hands out committed entries only once they are durable here. What was committed when a batch was taken, and
  becomes durable with it, is applied in the same `ready`.
* A candidate's own vote is durable before it asks for others (they are held back in our core until then), so with
  separate storage threads the driver writes it at `ready`.
* Silent voters are asked again at every heartbeat interval by our candidates. Scenarios lose messages only on
  purpose, so a question that has been in flight once is not sent again.
* Our heartbeat replies wait until their term is durable. With separate storage threads a note that the node is there
  travels in the place of one that is held back (`PeerConnected`): all that the scenarios need of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, final

import attrs

from raft_core.effects import (
    Apply,
    Effect,
    Persist,
    ReadReady,
    ReceiveSnapshot,
    Refusal,
    RefusalReason,
    Respond,
    Restore,
    Send,
    TakeSnapshot,
)
from raft_core.entries import HardState, SnapshotMeta
from raft_core.events import (
    Applied,
    CampaignRequested,
    Event,
    ForgetLeaderRequested,
    PeerConnected,
    PeerUnreachable,
    Persisted,
    Proposed,
    Requested,
    Restored,
    SnapshotReceived,
    SnapshotTaken,
    Tick,
)
from raft_core.ids import NO_NODE, BootNumber, Index, NodeId, RequestId, Term
from raft_core.invariants import check
from raft_core.membership import Members
from raft_core.messages import HEARTBEAT, AppendReply, InstallSnapshot, RequestVote
from raft_core.recovered import Identity, Recovered
from raft_core.requests import ChangeMembership, LeaveJoint, Read, TransferLeadership
from raft_core.roles.follower import Follower
from raft_core.roles.leader import Leader
from tests.conformance.injected import Injection
from tests.conformance.picture import change_text
from tests.conformance.stage import MODES, Forwarded, Node, Packet, Payload, StillThere, change_of, name_of, settings_of

__all__ = ["HAVE", "Driver"]

HAVE: Final = frozenset(
    {
        "core",
        "simple_conf_change",
        "joint",
        "learners",
        "pre_vote",
        "check_quorum",
        "lease_reads",
        "read_index",
        "forget_leader",
        "leader_transfer",
        "step_down_on_removal",
        "max_committed_size_per_ready",
        "max_inflight",
        "max_size_per_msg",
        "compaction",
        "manual_snapshot",
        "async_storage_writes",
        "progress",
        "restart",
        "reorder",
        "election_timer",
        "inject",
    }
)
"""Features a scenario may require. Not among them: changes without validation, which ours cannot do without. Of the
sizes, one entry at a time and no limit are understood (`stage.sizes_understood`)."""


@final
class Driver:
    """Every public method but the last ones is an operation of the scenario files."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.flight: list[Packet] = []
        self.held: dict[int, list[Packet]] = {}
        self.machines: dict[tuple[int, int], list[str]] = {}  # the contents of snapshots
        self.texts: dict[tuple[int, int], str] = {}  # how each change was asked for, by its entry
        self.requests = 0
        self.started: frozenset[tuple[int, int]] = frozenset()  # where a cluster starts with a term that ours has not

    # Setting up.

    def add_nodes(
        self,
        count: int,
        voters: Sequence[int] = (),
        learners: Sequence[int] = (),
        snapshot: dict[str, int] | None = None,
        options: dict[str, object] | None = None,
    ) -> None:
        options = options or {}
        leases = options.get("read_only") == "lease_based"
        for _ in range(count):
            me = NodeId(len(self.nodes) + 1)
            recovered = Recovered.fresh(me)
            if snapshot is not None:
                at = Index(snapshot["index"])
                self.started |= {(at, snapshot["term"])}
                members = Members.initial(voters, learners=learners, leases=leases)
                meta = SnapshotMeta(at, Term(0), members, at)
                self.machines.setdefault((at, 0), [])
                recovered = Recovered(Identity(me), HardState(commit=at), meta, boot=BootNumber(1), applied=at)
            separate = bool(options.get("async_storage_writes"))
            node = Node(
                recovered, settings_of(options, separate=separate, leases=leases), separate=separate, machine=[]
            )
            self.nodes[me] = node
            self.step(node)
            if leases:
                node.raft.server.loyalty = 0  # all have been up for a while: a start begins their loyalty anew

    # Requests.

    def campaign(self, node: int) -> str | None:
        here = self.nodes[node]
        refused = not here.raft.server.may_campaign
        self.step(here, CampaignRequested())
        return "refused_not_promotable" if refused else None

    def propose(self, node: int, data: str) -> str | None:
        self.requests += 1
        return self._ask(self.nodes[node], Forwarded(Proposed(RequestId(self.requests), (data.encode(),))))

    def propose_conf_change(
        self, node: int, v1: bool, transition: str, changes: Sequence[tuple[str, int]]
    ) -> str | None:
        self.requests += 1
        request = RequestId(self.requests)
        if not changes:
            return self._ask(self.nodes[node], Forwarded(Requested(request, LeaveJoint()), "conf_v2()"))
        event = Requested(
            request, ChangeMembership(tuple(change_of(what, who) for what, who in changes), MODES[transition])
        )
        return self._ask(self.nodes[node], Forwarded(event, change_text(changes, transition, v1=v1)))

    def _ask(self, node: Node, asked: Forwarded) -> str | None:
        """A leader is asked; a follower's request goes to its leader, if it knows one."""
        role = node.raft.role
        if not isinstance(role, Leader):
            if role.leader == NO_NODE:
                return "proposal_dropped"
            node.batch.append(Packet(node.id, role.leader, asked))
            return None
        before = node.raft.log.last_index
        effects = self.step(node, asked.event)
        last = node.raft.log.last
        if asked.text and last.index > before:
            self.texts[last.index, last.term] = asked.text
        for effect in effects:
            if isinstance(effect, Respond) and isinstance(effect.outcome, Refusal):
                if effect.outcome.reason is RefusalReason.NO_COMMIT_IN_TERM:
                    node.early.append(asked)
                    return None
                return "proposal_dropped" if isinstance(asked.event, Proposed) else "error"
        return None

    def _ask_again(self, node: Node) -> None:
        role = node.raft.role
        if node.early and isinstance(role, Leader) and role.settled:
            early, node.early = node.early, []
            for asked in early:
                self._ask(node, asked)

    def transfer_leader(self, node: int, to: int) -> None:
        self.requests += 1
        self.step(self.nodes[node], Requested(RequestId(self.requests), TransferLeadership(NodeId(to))))

    def forget_leader(self, node: int) -> str | None:
        here = self.nodes[node]
        self.step(here, ForgetLeaderRequested())
        refused = isinstance(here.raft.role, Follower) and here.raft.members.leases
        return "refused_lease_based_reads" if refused else None

    def report_unreachable(self, node: int, peer: int) -> None:
        self.step(self.nodes[node], PeerUnreachable(NodeId(peer)))

    def read_index(self, node: int, ctx: str) -> None:
        self.requests += 1
        here = self.nodes[node]
        here.contexts[RequestId(self.requests)] = ctx
        self.step(here, Requested(RequestId(self.requests), Read()))

    def send_snapshot(self, node: int, to: int) -> None:
        """The application puts a snapshot of the newest applied state on its way by itself."""
        here = self.nodes[node]
        server = here.raft.server
        meta = self._newest_state(here)
        self.machines[meta.index, meta.term] = list(here.machine)
        message = InstallSnapshot(server.term, server.me, server.next_message(), meta)
        here.batch.append(Packet(server.me, NodeId(to), message))

    def compact(self, node: int, first: int) -> None:
        """A snapshot is taken, and nothing up to `first` stays in the log."""
        here = self.nodes[node]
        snapshots = here.raft.server.snapshots
        snapshots.settings = attrs.evolve(here.settings, keep_entries=snapshots.pipeline.applied - first)
        meta = self._newest_state(here)
        snapshots.pending = meta.index
        self._snapshot(here, meta)
        snapshots.settings = here.settings

    def _newest_state(self, node: Node) -> SnapshotMeta:
        server = node.raft.server
        term = server.log.term_at(server.pipeline.applied)
        assert term is not None
        place, members = server.configurations.at(server.pipeline.applied)
        return SnapshotMeta(server.pipeline.applied, term, members, place)

    def _snapshot(self, node: Node, meta: SnapshotMeta) -> None:
        self.machines[meta.index, meta.term] = list(node.machine)
        self.step(node, SnapshotTaken(meta))

    def check(self, what: str, nodes: object) -> None:
        """A note in the scenario; nothing happens."""

    # Time.

    def tick(self, node: int, count: int) -> None:
        for _ in range(count):
            self.step(self.nodes[node], Tick())

    def set_election_timeout(self, node: int, ticks: int) -> None:
        role = self.nodes[node].raft.role
        assert not isinstance(role, Leader)
        role.timeout = ticks

    # Batches.

    def step(self, node: Node, event: Event | None = None) -> list[Effect]:
        """The event happens; its effects wait for the next batch."""
        effects = node.raft.step(event)
        check(node.raft)
        for effect in effects:
            if isinstance(effect, Persist | Send | Apply | Restore | TakeSnapshot):
                node.batch.append(effect)
            elif isinstance(effect, ReceiveSnapshot):
                self.step(node, SnapshotReceived(effect.meta))  # its bytes came with the offer
            elif isinstance(effect, Respond) and isinstance(effect.outcome, ReadReady):
                node.reads.append({"ctx": node.contexts.get(effect.request), "index": effect.outcome.index})
        return effects

    def ready(self, nodes: Iterable[int]) -> None:
        for number in nodes:
            node = self.nodes[number]
            batch, node.batch = node.batch, []
            self._take(node, batch)
            if node.separate:
                self._stand_in(node)
            self._ask_again(node)

    def _take(self, node: Node, batch: list[Effect | Packet]) -> None:
        """One batch: write, send, and apply what was committed when it was taken, as far as that is durable now."""
        committed = node.raft.server.commit
        writes = [item for item in batch if isinstance(item, Persist)]
        for item in batch:
            if isinstance(item, Send):
                self._send(node, item)
            elif isinstance(item, Packet):
                self.flight.append(item)
            elif isinstance(item, Apply | Restore | TakeSnapshot):
                node.lane.append(item)
        if writes:
            node.writes.append(writes)
        if node.separate:
            held = node.disk.hard
            hard = [write.hard for write in writes if write.hard is not None]
            if any(one.vote == node.id and (one.term, one.vote) != (held.term, held.vote) for one in hard):
                self._write(node, len(node.writes))
            self._restore_first(node)
            return
        self._write(node, len(node.writes))
        self._run_lane(node, committed)

    def _write(self, node: Node, count: int) -> None:
        """The oldest jobs are durable and reported; the promises that rested on them are in flight at once."""
        if not count:
            return
        done = [write for _ in range(count) for write in node.writes.popleft()]
        for write in done:
            node.write(write)
        promises = [send for _, send in node.raft.server.outbox.held]
        mark = len(node.batch)
        self.step(node, Persisted(done[-1].write))
        fresh, node.batch = node.batch[mark:], node.batch[:mark]
        for item in fresh:
            if isinstance(item, Send) and any(item is promise for promise in promises):
                self._send(node, item)
            elif isinstance(item, Restore) or (isinstance(item, Apply) and not node.separate):
                node.lane.append(item)
            else:
                node.batch.append(item)
        if node.separate:
            self._restore_first(node)

    # The apply lane.

    def _run_lane(self, node: Node, upto: int, *, all_of_it: bool = False) -> None:
        """The lane is done in its order, entries up to `upto`; of single entries one, unless `all_of_it` is wanted."""
        single = node.settings.max_apply_bytes == 1 and not all_of_it
        while node.lane:
            order = node.lane[0]
            if isinstance(order, Apply):
                if upto <= node.raft.server.pipeline.applied:
                    return
                node.lane.popleft()
                if upto < order.upto:
                    node.lane.appendleft(Apply(order.upto, tuple(each for each in order.commands if each[0] > upto)))
                    order = Apply(Index(upto), tuple(each for each in order.commands if each[0] <= upto))
                self._apply(node, order)
                if single:
                    return
            else:
                node.lane.popleft()
                self._restore_or_snapshot(node, order)

    def _restore_first(self, node: Node) -> None:
        """With separate threads, restoring belongs to the job that wrote the snapshot; it waits for older entries."""
        while node.lane and not isinstance(node.lane[0], Apply):
            order = node.lane.popleft()
            assert not isinstance(order, Apply)
            self._restore_or_snapshot(node, order)

    def _restore_or_snapshot(self, node: Node, order: Restore | TakeSnapshot) -> None:
        if isinstance(order, Restore):
            node.machine = list(self.machines[order.meta.index, order.meta.term])
            self.step(node, Restored(order.meta.index))
        else:
            assert order.meta.index == node.raft.server.pipeline.applied
            self._snapshot(node, order.meta)

    def _apply(self, node: Node, order: Apply) -> None:
        node.machine.extend(command.decode() for _, command in order.commands if command)
        self.step(node, Applied(order.upto, tuple(b"" for _ in order.commands)))

    def _send(self, node: Node, send: Send) -> None:
        message = send.message
        if isinstance(message, RequestVote):
            if (send.to, message.id) in node.asked:
                return  # asked before: here nothing is lost but on purpose
            node.asked.add((send.to, message.id))
        self.flight.append(Packet(node.id, send.to, message))

    def _stand_in(self, node: Node) -> None:
        for _, send in node.raft.server.outbox.held:
            reply = send.message
            if isinstance(reply, AppendReply) and reply.purpose is HEARTBEAT and reply.id not in node.stood_in:
                node.stood_in.add(reply.id)
                self.flight.append(Packet(node.id, send.to, StillThere(node.id)))

    def append_thread(self, nodes: Iterable[int]) -> None:
        for number in nodes:
            node = self.nodes[number]
            self._write(node, min(1, len(node.writes)))

    def apply_thread(self, nodes: Iterable[int]) -> None:
        for number in nodes:
            node = self.nodes[number]
            if node.lane:
                order = node.lane.popleft()
                assert isinstance(order, Apply)
                self._apply(node, order)
                self._restore_first(node)

    # The network.

    def deliver(self, to: Iterable[int] = (), drop: Iterable[int] = (), type: str | None = None) -> None:  # noqa: A002
        for number in to:
            node = self.nodes.get(number)
            chosen = [p for p in self.flight if p.to == number and (type is None or name_of(p.payload) == type)]
            self.flight = [p for p in self.flight if not any(p is c for c in chosen)]
            for packet in chosen:
                if node is not None:
                    self._receive(node, packet.payload)
        for number in drop:
            self.flight = [p for p in self.flight if p.to != number]

    def _receive(self, node: Node, payload: Payload) -> None:
        if isinstance(payload, Forwarded):
            if isinstance(node.raft.role, Leader):
                self._ask(node, payload)
        elif isinstance(payload, StillThere):
            self.step(node, PeerConnected(payload.peer))
        else:
            self.step(node, payload)

    def stabilize(self, nodes: str | Sequence[int]) -> None:
        order = sorted(self.nodes) if isinstance(nodes, str) else list(nodes)
        for _ in range(10_000):
            moved = False
            for number in order:
                if self.nodes[number].pending:
                    self.ready([number])
                    moved = True
            for number in order:
                if any(packet.to == number for packet in self.flight):
                    self.deliver([number])
                    moved = True
            for threads, queue in ((self.append_thread, "writes"), (self.apply_thread, "lane")):
                for number in order:
                    while self.nodes[number].separate and getattr(self.nodes[number], queue):
                        threads([number])
                        moved = True
            if not moved:
                return
        raise AssertionError("the cluster does not come to rest")

    def hold_copy(self, to: int) -> None:
        self.held[to] = [packet for packet in self.flight if packet.to == to]

    def release(self, to: int) -> None:
        self.flight.extend(self.held.pop(to, []))

    def inject(self, message: dict[str, object]) -> None:
        """A hand-made message is in flight. A snapshot's contents travel with it."""
        injection = Injection(self.nodes, self.started, message)
        packet = injection.packet()
        if isinstance(packet.payload, InstallSnapshot):
            meta = packet.payload.meta
            if (meta.index, meta.term) not in self.machines:
                self.machines[meta.index, meta.term] = injection.machine(meta, self.machines)
        self.flight.append(packet)

    def restart(self, node: int) -> None:
        """What was not durable is gone; the machine is made anew from the snapshot and the log."""
        here = self.nodes[node]
        here.boot(here.recover(), [])
        self.step(here)
        while any(isinstance(item, Restore | Apply) for item in here.batch):
            here.lane.extend(item for item in here.batch if isinstance(item, Restore | Apply))
            here.batch = [item for item in here.batch if not isinstance(item, Restore | Apply)]
            self._run_lane(here, here.raft.server.commit, all_of_it=True)
