"""`Recorder`, a bounded flight recorder of one core's events, and `Recording`, its output, to be replayed elsewhere.

A recording is a state of the core and the events since then. Inputs determine outputs, so it reproduces all later
steps of the core on any computer (`raft_testing.trace.replay`).

Events are values, so keeping one costs a reference. The recorder keeps two halves, each a state and its events: when
the newer is full, the older is dropped. So a recording covers between half and all of the limits (or goes back to the
beginning). A state shares the entries of its log with the core.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, final

import msgspec

from raft_core import (
    apply,
    effects,
    entries,
    log,
    membership,
    messages,
    outbox,
    pending,
    progress,
    raft,
    recovered,
    server,
    settings,
    snapshots,
)
from raft_core.effects import Effect
from raft_core.errors import CallerError, SettingsError
from raft_core.events import Applied, Event, Proposed
from raft_core.messages import AppendEntries
from raft_core.raft import Raft
from raft_core.roles import (
    candidate,
    follower,
    leader,
    leadership_transfer,
    membership_change,
    read_index,
    replication,
)
from raft_core.state_codec import classes_of, dump, load
from raft_core.structs import Value

__all__ = ["EVENT_OVERHEAD", "Recorder", "Recording", "decode_recording", "freeze", "thaw"]

EVENT_OVERHEAD: Final = 200
"""Bytes counted for each event in addition to its commands, entries and results."""

_WITH_DATA: Final = frozenset({Proposed, AppendEntries, Applied})
_MAGIC: Final = b"raft recording 1\n"

_CLASSES: Final = classes_of(
    (
        *(apply, effects, entries, log, membership, messages, outbox, pending, progress, raft, recovered, server),
        *(settings, snapshots, candidate, follower, leader, leadership_transfer, membership_change, read_index),
        replication,
    )
)
"""The classes a core is made of."""


def freeze(core: Raft) -> bytes:
    """Return the whole state of `core`, with its random generator. Equal states give equal bytes."""
    return dump(core, _CLASSES)


def thaw(data: bytes) -> Raft:
    """Return the core frozen by `freeze`. Raise `CallerError` if these bytes are not such a state."""
    core = load(data, _CLASSES)
    if not isinstance(core, Raft):
        raise CallerError("these bytes are a value, but not the state of a core")
    return core


@final
class Recording(Value, frozen=True, array_like=True):
    """A core's frozen state, the events since then (None: a step without one), and the final state's fingerprint."""

    start: bytes
    events: tuple[Event | None, ...]
    fingerprint: bytes


_DECODER: Final = msgspec.msgpack.Decoder(Recording)


@final
class _Half:
    """A state and the events since."""

    __slots__ = ("events", "size", "start")

    def __init__(self, raft: Raft) -> None:
        self.start = raft.copy()
        self.events: list[Event | None] = []
        self.size = 0


@final
class Recorder:
    """Records the events of a core. Call its `step` in place of `Raft.step`, or pass it to `NodeCore` as `recorder`.

    The argument `step` replaces `Raft.step` in turn, for example to check each step.

    It keeps at most `max_events` events of at most `max_bytes` (at least one event), and two states. A new core begins
    a new recording.
    """

    __slots__ = ("_max_bytes", "_max_events", "_newer", "_older", "_raft", "_take")

    def __init__(
        self,
        *,
        max_events: int = 20_000,
        max_bytes: int = 8 * 1024 * 1024,
        step: Callable[[Raft, Event | None], list[Effect]] = Raft.step,
    ) -> None:
        if max_events < 2 or max_bytes < 2:
            raise SettingsError("a recorder keeps at least two events and two bytes")
        self._max_events = max_events // 2
        self._max_bytes = max_bytes // 2
        self._take = step
        self._raft: Raft | None = None
        self._older: _Half | None = None
        self._newer: _Half | None = None

    def step(self, raft: Raft, event: Event | None = None) -> list[Effect]:
        """Record the event and return `raft.step(event)`. It is kept even if the step raises."""
        half = self._newer
        if half is None or raft is not self._raft:
            half = self._begin(raft)
        size = _size(event) if type(event) in _WITH_DATA else EVENT_OVERHEAD
        total = half.size + size
        events = half.events
        full = total > self._max_bytes or len(events) >= self._max_events
        if full and events and not raft.stopped:
            self._older = half
            half = self._newer = _Half(raft)
            events, total = half.events, size
        half.size = total
        events.append(event)
        return self._take(raft, event)

    def _begin(self, raft: Raft) -> _Half:
        self._raft = raft
        self._older = None
        half = self._newer = _Half(raft)
        return half

    @property
    def kept_events(self) -> int:
        """The number of events in a recording made now."""
        return sum([len(half.events) for half in self._halves])

    @property
    def kept_bytes(self) -> int:
        """The bytes counted for these events."""
        return sum([half.size for half in self._halves])

    @property
    def _halves(self) -> list[_Half]:
        return [half for half in (self._older, self._newer) if half is not None]

    def recording(self) -> Recording:
        """Return the recording, in time linear in the log. Raise `CallerError` before the first step."""
        halves = self._halves
        if self._raft is None:
            raise CallerError("nothing has been recorded yet: no core has taken a step through this recorder")
        events = tuple([event for half in halves for event in half.events])
        return Recording(freeze(halves[0].start), events, self._raft.fingerprint())

    def dump(self) -> bytes:
        """Return the recording as bytes, for a file or a bug report. It contains the data of clients."""
        body = msgspec.msgpack.encode(self.recording())
        return _MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def _size(event: Event | None) -> int:
    if type(event) is Proposed:
        return EVENT_OVERHEAD + sum([len(command) for command in event.commands])
    if type(event) is AppendEntries:
        return EVENT_OVERHEAD + sum([len(entry.data) for entry in event.entries])
    if type(event) is Applied:
        return EVENT_OVERHEAD + sum([len(result) for result in event.results])
    return EVENT_OVERHEAD


def decode_recording(dump: bytes) -> Recording:
    """Return the recording in `dump`. Raise `CallerError` if it is none, damaged, or of a later format."""
    head = len(_MAGIC)
    if dump[:head] != _MAGIC:
        raise CallerError("this is not a recording that this version of the library can read")
    body = dump[head + 4 :]
    if zlib.crc32(body).to_bytes(4, "little") != dump[head : head + 4]:
        raise CallerError("this recording is damaged: its checksum does not match; fetch it again from its source")
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError as failure:
        raise CallerError(f"this recording does not decode: {failure}") from None
