"""Traces: the events of a cluster, step by step, as data, from the simulator, the explorer or a node's recorder.

The records, their JSON form, and `Tracer`, which makes records from steps of cores. A trace is a list of `TraceRecord`;
its JSON is one object `{"format": 1, "records": [...]}`. `html` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, final

import msgspec

from raft_core.describe import describe
from raft_core.effects import Effect, Send
from raft_core.errors import CallerError
from raft_core.events import Event
from raft_core.ids import NO_NODE, Index, NodeId, Term
from raft_core.raft import Raft
from raft_core.structs import Value

__all__ = [
    "NodePicture",
    "RecordKind",
    "TraceRecord",
    "TraceSend",
    "Tracer",
    "decode_trace",
    "encode_trace",
    "picture_of",
]

_FORMAT: Final = 1


class RecordKind(StrEnum):
    """The kind of a record."""

    STEP = "step"  # a core took an event
    CRASH = "crash"  # a node stopped; what was not durable is gone
    RESTART = "restart"  # a node began again from its disk
    LOSS = "loss"  # a message was lost on its way
    NOTE = "note"  # something else that a reader should know: a partition, a fault of a disk


@final
class NodePicture(Value, frozen=True):
    """One node after the step."""

    role: str
    term: Term
    vote: NodeId
    leader: NodeId
    commit: Index
    applied: Index
    first: Index
    last: Index


@final
class TraceSend(Value, frozen=True):
    """A message that left in this step. `id` is unique in the trace; the record of its arrival names it."""

    id: int
    to: NodeId
    text: str


@final
class TraceRecord(Value, frozen=True, omit_defaults=True):
    """One thing that happened.

    `node` is 0 if it happened to none. `message` is the id of the message received or lost. `violation` names the
    safety property broken by it.
    """

    step: int
    time: int
    node: NodeId
    event: str
    kind: RecordKind = RecordKind.STEP
    effects: tuple[str, ...] = ()
    picture: NodePicture | None = None
    sends: tuple[TraceSend, ...] = ()
    message: int = 0
    violation: str = ""


class _Trace(msgspec.Struct):
    format: int
    records: list[TraceRecord]


def encode_trace(trace: Sequence[TraceRecord]) -> bytes:
    """Return the trace as JSON, one record per line, for comparison by eye and by `diff`."""
    lines = [msgspec.json.encode(record) for record in trace]
    return b'{"format":1,"records":[\n' + b",\n".join(lines) + b"\n]}\n"


def decode_trace(data: bytes) -> list[TraceRecord]:
    """Return the trace in `data`. Raise `CallerError` if it is none, or one of a later format."""
    try:
        trace = msgspec.json.decode(data, type=_Trace)
    except msgspec.MsgspecError as failure:
        raise CallerError(f"this is not a trace: {failure}") from None
    if trace.format != _FORMAT:
        raise CallerError(f"this trace has format {trace.format}, this library reads {_FORMAT}: take a later library")
    return trace.records


def picture_of(raft: Raft) -> NodePicture:
    """Return the core as a trace shows it."""
    status = raft.status
    return NodePicture(
        role=status.role.value,
        term=status.term,
        vote=status.vote,
        leader=status.leader,
        commit=status.commit,
        applied=status.applied,
        first=status.first_index,
        last=status.last_index,
    )


@final
class Tracer:
    """Makes a trace from the steps of cores, and numbers steps and messages."""

    __slots__ = ("_messages", "records")

    def __init__(self) -> None:
        self.records: list[TraceRecord] = []
        self._messages = 0

    def stepped(
        self, time: int, node: NodeId, raft: Raft, event: Event | None, effects: Sequence[Effect], received: int = 0
    ) -> tuple[int, ...]:
        """Record a step with `event`; `received` is the trace's number of the message in it.

        Returns the numbers of the messages that left, in the order of the `Send` effects.
        """
        sends: list[TraceSend] = []
        texts: list[str] = []
        for effect in effects:
            text = describe(effect)
            if isinstance(effect, Send):
                self._messages += 1
                sends.append(TraceSend(self._messages, effect.to, text.partition(": ")[2]))
            else:
                texts.append(text)
        record = TraceRecord(
            step=len(self.records) + 1,
            time=time,
            node=node,
            event=describe(event),
            effects=tuple(texts),
            picture=picture_of(raft),
            sends=tuple(sends),
            message=received,
        )
        self.records.append(record)
        return tuple([send.id for send in sends])

    def happened(self, time: int, kind: RecordKind, text: str, node: NodeId = NO_NODE, message: int = 0) -> None:
        """Something happened that is no step of a core: a crash, a restart, a loss, a partition."""
        self.records.append(TraceRecord(len(self.records) + 1, time, node, text, kind, message=message))

    def violated(self, text: str, moment: int | None = None) -> None:
        """Mark the last record, or the last one up to that moment, as a violation."""
        place = len(self.records) - 1
        while moment is not None and place > 0 and self.records[place].time > moment:
            place -= 1
        self.records[place] = msgspec.structs.replace(self.records[place], violation=text)
