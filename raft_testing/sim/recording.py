"""The recording of a run: a digest of every step, and a trace if requested."""

from __future__ import annotations

import hashlib
from typing import final

import msgspec

from raft_core.effects import Effect, Send
from raft_core.events import Event
from raft_core.ids import NodeId
from raft_core.messages import AppendEntries, InstallSnapshot, Message
from raft_core.raft import Raft
from raft_core.wire.codec import encode_message
from raft_testing.trace.records import RecordKind, Tracer

__all__ = ["RunRecording"]


@final
class RunRecording:
    """The digest and the trace of one run, either of which may be missing."""

    def __init__(self, tracer: Tracer | None, *, digest: bool) -> None:
        self._tracer = tracer
        self._digest = hashlib.blake2b(digest_size=16) if digest else None
        self._in_flight: dict[tuple[NodeId, NodeId, bytes], int] = {}  # the trace's number of a message

    @property
    def digest(self) -> str:
        """The hash of everything recorded, in hexadecimal; empty without a digest."""
        return self._digest.hexdigest() if self._digest is not None else ""

    def add(self, data: bytes) -> None:
        """Include this in the digest."""
        if self._digest is not None:
            self._digest.update(data)

    def step(self, now: int, node: NodeId, raft: Raft, event: Event | None, effects: list[Effect]) -> None:
        """Record a step of a core."""
        if self._digest is not None:
            self._digest.update(b"%d %d " % (now, node))
            self._digest.update(msgspec.msgpack.encode(event))
            self._digest.update(msgspec.msgpack.encode(effects))
        if self._tracer is None:
            return
        received = 0
        if event is not None and hasattr(event, "sender"):
            received = self._in_flight.get((event.sender, node, _as_sent(event)), 0)  # type: ignore[arg-type]
        numbers = self._tracer.stepped(now, node, raft, event, effects, received)
        sends = [effect for effect in effects if isinstance(effect, Send)]
        for number, send in zip(numbers, sends, strict=True):
            self._in_flight[node, send.to, _as_sent(send.message)] = number

    def restarted(self, now: int, node: NodeId) -> None:
        """Record the start of a process."""
        if self._tracer is not None:
            self._tracer.happened(now, RecordKind.RESTART, "started", node)

    def ended(self, now: int, node: NodeId, how: str) -> None:
        """Record the end of a process, or of the use of a node."""
        if self._tracer is not None:
            self._tracer.happened(now, RecordKind.CRASH, how, node)

    def fault(self, now: int, text: str) -> None:
        """Record a fault."""
        if self._tracer is not None:
            self._tracer.happened(now, RecordKind.NOTE, text)

    def violated(self, text: str, moment: int) -> None:
        """Record the violation that ended the run."""
        if self._tracer is not None and self._tracer.records:
            self._tracer.violated(text, moment)


def _as_sent(message: Message) -> bytes:
    """Return the message as the core sent it: a leader's node adds the time on the way."""
    if isinstance(message, AppendEntries | InstallSnapshot) and message.time:
        message = msgspec.structs.replace(message, time=0)
    return encode_message(message)
