"""Numbers and calls that make no sense raise at once: limits of nodes and sessions, members, calls of `NodeApi`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raft_core.errors import CallerError
from raft_core.ids import NodeId
from raft_core.membership import Members
from raft_core.node.api import NodeApi
from raft_core.node.limits import SECOND, NodeLimits
from raft_core.sessions import Sequence, SessionId, SessionLimits, encode_command
from raft_core.settings import Settings
from raft_core.wire.handshake import Limits


@pytest.mark.parametrize(
    "made",
    [
        lambda: Settings(heartbeat_ticks=0),
        lambda: Settings(heartbeat_ticks=50),
        lambda: Settings(short_ticks=51),
        lambda: Settings(lease_reads=True, pre_vote=False),
        lambda: Settings(clock_drift_percent=100),
        lambda: NodeLimits(tick=0),
        lambda: NodeLimits(bulk_bytes=-1),
        lambda: NodeLimits(dial_delay=2 * SECOND, dial_delay_max=SECOND),
        lambda: NodeLimits(ping=SECOND, silence=SECOND),
        lambda: NodeLimits(peers={NodeId(0): "n0:1"}),
        lambda: NodeLimits(founders=(NodeId(1), NodeId(1))),
        lambda: Limits(max_frame=1),
        lambda: SessionLimits(max_sessions=0),
        lambda: Members.initial((0, 1)),
        lambda: Members.initial(()),
        lambda: encode_command(SessionId(0), Sequence(1), Sequence(1), b""),
        lambda: encode_command(SessionId(1), Sequence(1), Sequence(2), b""),
    ],
)
def test_values_that_contradict_themselves_cannot_be_made(made: Callable[[], object]) -> None:
    with pytest.raises(CallerError):
        made()


class Loop:
    """An adapter that must not be asked anything."""

    def require_thread(self) -> None: ...

    def now(self) -> int:
        return 0


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.propose("text"),
        lambda api: api.read(None),
        lambda api: api.propose(b"", timeout=0),
        lambda api: api.read(b"", timeout=float("nan")),
        lambda api: api.transfer(timeout=-1.0),
    ],
)
def test_mistake_of_the_calling_program_raises_at_once(call: Callable[[NodeApi], Any]) -> None:
    nothing: Any = None
    loop: Any = Loop()

    with pytest.raises(CallerError):
        call(NodeApi(nothing, loop, "n1:1"))
