"""Events and effects as one English line each, for logs and failed tests.

The lines are not meant for parsing and may change at any time.
"""

from __future__ import annotations

from collections.abc import Sequence

from raft_core.effects import (
    Alarm,
    Apply,
    Effect,
    Indeterminate,
    Outcome,
    Persist,
    ReadReady,
    ReceiveSnapshot,
    Refusal,
    Respond,
    Restore,
    RoleChanged,
    Send,
    Stop,
    Success,
    TakeSnapshot,
)
from raft_core.entries import MEMBERS, NOOP, Entry, SnapshotMeta
from raft_core.events import (
    Applied,
    CampaignRequested,
    Event,
    ForgetLeaderRequested,
    MachineFailed,
    PeerConnected,
    PeerUnreachable,
    Persisted,
    Proposed,
    Requested,
    Restored,
    SnapshotFailed,
    SnapshotProgress,
    SnapshotReceived,
    SnapshotRejected,
    SnapshotRequested,
    SnapshotTaken,
    StopRequested,
    StorageFailed,
    Tick,
)
from raft_core.membership import AddLearner, AddVoter, Change, Members
from raft_core.messages import (
    COMMIT_UPDATE,
    HEARTBEAT,
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    TransferRefused,
    VoteKind,
    VoteReply,
)
from raft_core.requests import ChangeMembership, LeaveJoint, Read, TransferLeadership

__all__ = ["describe", "describe_entry", "describe_members", "describe_outcome"]

_VOTE = {VoteKind.REAL: "vote", VoteKind.PRE: "pre-vote", VoteKind.TRANSFER: "vote on the leader's order"}


def describe(thing: Event | Effect | None) -> str:
    """Return one line, without a line break, for any event or effect; None is a step without an event."""
    if thing is None:
        return "started"
    if isinstance(thing, Send):
        return f"send to {thing.to}: {_message(thing.message)}"
    if isinstance(
        thing, Persist | Apply | Respond | TakeSnapshot | Restore | ReceiveSnapshot | RoleChanged | Alarm | Stop
    ):
        return _effect(thing)
    local = _local(thing)
    return local if local is not None else f"from {thing.sender}: {_message(thing)}"  # type: ignore[union-attr, arg-type]


def describe_entry(entry: Entry) -> str:
    """Return `term/index` and the contents of the entry."""
    place = f"{entry.term}/{entry.index}"
    if entry.kind is NOOP:
        return place
    if entry.kind is MEMBERS:
        return f"{place} members({describe_members(Members.decode(entry.data))})"
    return f"{place} {_data(entry.data)}"


def describe_members(members: Members) -> str:
    """Return the voters and all other parts of the configuration."""
    parts = [f"voters {_list(members.voters)}"]
    if members.outgoing:
        parts.append(f"outgoing {_list(members.outgoing)}")
    if members.learners:
        parts.append(f"learners {_list(members.learners)}")
    if members.learners_next:
        parts.append(f"learners next {_list(members.learners_next)}")
    if members.promotable:
        parts.append(f"to be promoted {_list(members.promotable)}")
    if members.auto_leave:
        parts.append("left automatically")
    if members.features:
        parts.append(f"features {' '.join(members.features)}")
    return ", ".join(parts)


def describe_outcome(outcome: Outcome) -> str:
    """Return the outcome as told to a client."""
    match outcome:
        case Success(first, results):
            return f"applied from {first} on{f' with {[_data(result) for result in results]}' if results else ''}"
        case Refusal(reason, leader, text):
            where = f", ask {leader}" if leader else ""
            return f"refused: {reason.value}{where}{f' ({text})' if text else ''}"
        case Indeterminate(reason, text):
            return f"outcome unknown: {reason.value}{f' ({text})' if text else ''}"
        case ReadReady(index):
            return f"may read at {index}"


def _effect(effect: Effect) -> str:
    match effect:
        case Persist():
            return _persist(effect)
        case Apply(upto, commands, wanted):
            asked = ", ".join(f"{first} to {last}" for first, last in wanted)
            return f"apply up to {upto} {_commands(commands)}{f', results wanted of {asked}' if asked else ''}"
        case Respond(request, outcome, offset, count):
            items = f" items {offset} to {offset + count - 1}" if offset or count > 1 else ""
            return f"answer request {request}{items}: {describe_outcome(outcome)}"
        case TakeSnapshot(meta):
            return f"take a snapshot at {_meta(meta)}"
        case Restore(meta):
            return f"restore the machine from the snapshot at {_meta(meta)}"
        case ReceiveSnapshot(sender, meta):
            return f"fetch the snapshot at {_meta(meta)} from {sender}"
        case RoleChanged(role, term, leader):
            return f"now {role.value} in term {term}, leader {leader or 'unknown'}"
        case Alarm(kind, peer, text):
            return f"alarm {kind.value}{f' about {peer}' if peer else ''}: {text}"
        case Stop(reason, text):
            return f"stop: {reason.value}{f' ({text})' if text else ''}"
        case Send():
            return describe(effect)


def _persist(effect: Persist) -> str:
    parts: list[str] = []
    if effect.hard is not None:
        parts.append(f"term {effect.hard.term} vote {effect.hard.vote or 'nobody'} commit {effect.hard.commit}")
    if effect.truncate_from:
        parts.append(f"forget entries from {effect.truncate_from} on")
    if effect.entries:
        parts.append(f"entries {_entries(effect.entries)}")
    if effect.snapshot is not None:
        parts.append(f"switch to the snapshot at {_meta(effect.snapshot)}")
    if effect.drop_before:
        parts.append(f"entries before {effect.drop_before} may go")
    return f"write {effect.write}: {'; '.join(parts)}"


def _local(event: Event) -> str | None:
    match event:
        case Tick(elapsed):
            return "tick" if elapsed == 1 else f"{elapsed} ticks at once"
        case Persisted(upto):
            return f"durable up to write {upto}"
        case StorageFailed(text):
            return f"storage failed: {text}"
        case MachineFailed(text):
            return f"the state machine failed: {text}"
        case Applied(upto, _):
            return f"applied up to {upto}"
        case SnapshotTaken(meta):
            return f"snapshot at {_meta(meta)} taken"
        case SnapshotFailed(index):
            return f"snapshot at {index} failed"
        case SnapshotReceived(meta):
            return f"snapshot at {_meta(meta)} received"
        case SnapshotRejected(index):
            return f"snapshot at {index} will not come"
        case SnapshotProgress(peer):
            return f"snapshot bytes moved to {peer}"
        case Restored(index):
            return f"machine restored at {index}"
        case PeerConnected(peer):
            return f"connected to {peer}"
        case PeerUnreachable(peer):
            return f"connection to {peer} lost"
    return _wish(event)


def _wish(event: Event) -> str | None:
    match event:
        case Proposed(request, commands):
            return f"request {request}: append {', '.join(_data(command) for command in commands)}"
        case Requested(request, Read(consistency, limit)):
            return f"request {request}: read {consistency.value}{f' {limit}' if limit else ''}"
        case Requested(request, ChangeMembership(features=(_, *_) as features)):
            return f"request {request}: enable {' '.join(features)}"
        case Requested(request, ChangeMembership(changes, mode, expected)):
            wish = ", ".join(_change(change) for change in changes)
            return f"request {request}: change members ({mode.value}): {wish}{f' if at {expected}' if expected else ''}"
        case Requested(request, LeaveJoint()):
            return f"request {request}: leave the joint configuration"
        case Requested(request, TransferLeadership(to)):
            return f"request {request}: hand over to {to or 'the best voter'}"
        case CampaignRequested():
            return "asked to campaign"
        case ForgetLeaderRequested():
            return "asked to forget the leader"
        case SnapshotRequested(index):
            return f"asked for a snapshot at {index} or later"
        case StopRequested():
            return "asked to stop"
    return None


def _message(message: Message) -> str:
    match message:
        case AppendEntries():
            return _append(message)
        case AppendReply():
            return _append_reply(message)
        case RequestVote(term, _, _, kind, last):
            return f"request {_VOTE[kind]} in term {term}, log ends at {last.term}/{last.index}"
        case VoteReply(term, _, _, _, kind, granted):
            return f"{_VOTE[kind]} {'granted' if granted else 'refused'} in term {term}"
        case InstallSnapshot(term, _, _, meta):
            return f"offer snapshot at {_meta(meta)} in term {term}"
        case SnapshotReply(term, _, _, _, index, match, ok):
            return f"snapshot {index} {'here' if ok else 'not possible'} in term {term}, match {match}"
        case TimeoutNow(term):
            return f"stand for election now, term {term}"
        case TransferRefused(term):
            return f"cannot stand, term {term}"
        case ReadIndex(term, _, message_id):
            return f"from where may I read? ({_id(message_id)}, term {term})"
        case ReadIndexReply(term, _, message_id, index, ok):
            return f"read {_id(message_id)} {f'from {index} on' if ok else 'not confirmed'}, term {term}"


def _append(message: AppendEntries) -> str:
    commit = f"commit {message.commit}, term {message.term}"
    read = f", read {message.read}" if message.read else ""
    if message.purpose is HEARTBEAT:
        return f"heartbeat at {message.prev_term}/{message.prev_index}, {commit}{read}"
    if message.purpose is COMMIT_UPDATE:
        return f"announce at {message.prev_term}/{message.prev_index}, {commit}"
    return f"append after {message.prev_term}/{message.prev_index} {_entries(message.entries)}, {commit}"


def _append_reply(reply: AppendReply) -> str:
    what = "heartbeat" if reply.purpose is HEARTBEAT else "append"
    read = f", read {reply.read}" if reply.read else ""
    if reply.ok:
        return f"{what} ok, match {reply.match}, term {reply.term}{read}"
    hint = f"hint {reply.hint_term}/{reply.hint_index}"
    return f"{what} rejected at {reply.rejected}, {hint}, term {reply.term}{read}"


def _change(change: Change) -> str:
    if isinstance(change, AddVoter):
        return f"voter {change.node}"
    if isinstance(change, AddLearner):
        return f"learner {change.node}{' until ready' if change.promote_when_ready else ''}"
    return f"remove {change.node}"


def _entries(entries: Sequence[Entry]) -> str:
    if len(entries) <= 4:
        return f"[{', '.join(describe_entry(entry) for entry in entries)}]"
    return f"[{describe_entry(entries[0])} … {describe_entry(entries[-1])}]"


def _commands(commands: Sequence[tuple[int, bytes]]) -> str:
    shown = [f"{index} {_data(command)}" for index, command in commands]
    return f"[{', '.join(shown)}]" if len(shown) <= 4 else f"[{shown[0]} … {shown[-1]}]"


def _meta(meta: SnapshotMeta) -> str:
    return f"{meta.term}/{meta.index}"


def _list(nodes: Sequence[int]) -> str:
    return " ".join(str(node) for node in nodes)


def _id(message_id: int) -> str:
    """Return a message id without the boot number."""
    return f"#{message_id & (1 << 40) - 1}"


def _data(data: bytes) -> str:
    text = data[:40].decode("ascii", "backslashreplace")
    shown = text if text.isprintable() else data[:40].hex()
    return f'"{shown}"' if len(data) <= 40 else f'"{shown}…" ({len(data)} bytes)'
