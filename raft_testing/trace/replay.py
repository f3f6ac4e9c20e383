"""Replay of a recording: the same events give the same state and effects on any machine.

`replay`, its result (`Replayed`), and a trace of it to draw. `raft_core.recorder.Recorder` makes recordings.
"""

from __future__ import annotations

from typing import final

import attrs
import msgspec

from raft_core.effects import Effect
from raft_core.errors import RaftError
from raft_core.events import Event, Tick
from raft_core.ids import NodeId
from raft_core.raft import Raft
from raft_core.recorder import decode_recording, thaw
from raft_core.status import Status
from raft_testing.trace.records import Tracer, TraceRecord

__all__ = ["Replayed", "replay", "trace_of"]


@final
@attrs.frozen
class Replayed:
    """The result of replaying a recording.

    `start`, `end`: the core's status before and after. `events` and `effects` belong together, one list of effects per
    event; if the core raised at the last event, its effects are empty and `failure` is the exception. `fingerprint` is
    the state at the end; `faithful`: it equals the recorded one.
    """

    start: Status
    end: Status
    events: tuple[Event | None, ...]
    effects: tuple[tuple[Effect, ...], ...]
    fingerprint: bytes
    faithful: bool
    failure: str
    raft: Raft

    @property
    def effect_bytes(self) -> bytes:
        """All effects as bytes, to be compared between machines."""
        return msgspec.msgpack.encode(self.effects)


def replay(dump: bytes) -> Replayed:
    """Everything that the recorded core did. Raise `CallerError` where `dump` is no recording, or a damaged one."""
    recording = decode_recording(dump)
    raft = thaw(recording.start)
    start = raft.status
    effects: list[tuple[Effect, ...]] = []
    failure = ""
    for event in recording.events:
        try:
            effects.append(tuple(raft.step(event)))
        except RaftError as raised:
            effects.append(())
            failure = f"{type(raised).__name__}: {raised}"
    fingerprint = raft.fingerprint()
    faithful = fingerprint == recording.fingerprint
    return Replayed(start, raft.status, recording.events, tuple(effects), fingerprint, faithful, failure, raft)


def trace_of(dump: bytes) -> list[TraceRecord]:
    """Return the recording as a trace, to draw or read. Time is the core's own: ticks since the recording began."""
    recording = decode_recording(dump)
    raft = thaw(recording.start)
    me: NodeId = raft.status.node
    tracer, now = Tracer(), 0
    for event in recording.events:
        now += event.elapsed if isinstance(event, Tick) else 0
        try:
            effects = raft.step(event)
        except RaftError as raised:
            tracer.stepped(now, me, raft, event, [])
            tracer.violated(f"{type(raised).__name__}: {raised}")
            continue
        tracer.stepped(now, me, raft, event, effects)
    return tracer.records
