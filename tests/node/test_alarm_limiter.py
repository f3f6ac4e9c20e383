"""When a person is told, and how often."""

from __future__ import annotations

import pytest

from raft_core.effects import Alarm, AlarmKind
from raft_core.ids import Index, NodeId, Term
from raft_core.node import SECOND, Drop
from raft_core.node.alarm_limiter import AlarmLimiter
from raft_core.node.outputs import Outputs

PEER = NodeId(2)
MINUTE = 60 * SECOND


def told(orders: Outputs) -> list[Alarm]:
    """The alarms since the last call."""
    return [effect for effect in orders.taken() if isinstance(effect, Alarm)]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (Drop.WRONG_INCARNATION, AlarmKind.WRONG_INCARNATION),
        (Drop.BAD_FRAME, AlarmKind.MALFORMED),
        (Drop.WRONG_FOUNDING, AlarmKind.TWO_CLUSTERS),
    ],
)
def test_a_fault_of_a_connection_is_said_with_its_kind(reason: Drop, kind: AlarmKind) -> None:
    orders = Outputs()
    AlarmLimiter(orders).warn(reason, PEER, "why", 0)

    assert told(orders) == [Alarm(kind, PEER, "why")]


def test_one_thing_is_said_once_a_minute() -> None:
    orders = Outputs()
    warnings = AlarmLimiter(orders)
    said = []
    for now in (5, 5 + MINUTE - 1, 5 + MINUTE, 5 + MINUTE + 1):
        warnings.warn(Drop.BAD_FRAME, PEER, str(now), now)
        said += [int(alarm.text) for alarm in told(orders)]

    assert said == [5, 5 + MINUTE]


def test_another_reason_or_another_peer_is_another_thing() -> None:
    orders = Outputs()
    warnings = AlarmLimiter(orders)
    for reason, peer in ((Drop.BAD_FRAME, 2), (Drop.WRONG_PEER, 2), (Drop.BAD_FRAME, 3), (Drop.BAD_FRAME, 2)):
        warnings.warn(reason, NodeId(peer), reason, 0)

    assert [(alarm.text, alarm.peer) for alarm in told(orders)] == [
        ("bad_frame", 2),
        ("wrong_peer", 2),
        ("bad_frame", 3),
    ]


def test_where_nothing_is_said_again_time_makes_no_difference() -> None:
    orders = Outputs()
    warnings = AlarmLimiter(orders, every=None)
    for index, now in ((9, 0), (9, 1000 * MINUTE), (10, 1000 * MINUTE)):
        warnings.alarm(AlarmKind.SNAPSHOT_STUCK, (Index(index), Term(1)), PEER, str(index), now)

    assert told(orders) == [Alarm(AlarmKind.SNAPSHOT_STUCK, PEER, text) for text in ("9", "10")]


@pytest.mark.parametrize("every", [None, MINUTE])
def test_what_is_remembered_is_bounded_however_much_there_is_to_say(every: int | None) -> None:
    """Forgetting means saying a thing once more, and is preferred to growing."""
    orders = Outputs()
    warnings = AlarmLimiter(orders, every=every)
    for index in range(5000):
        warnings.alarm(AlarmKind.SNAPSHOT_STUCK, (Index(index), Term(1)), PEER, "why", 0)

    assert len(told(orders)) == 5000
    assert len(warnings._last) <= 1001
