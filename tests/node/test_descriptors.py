"""Disk, peers and clients each have descriptors of their own (item 28)."""

from __future__ import annotations

import pytest

from raft_core.errors import CallerError
from raft_core.node.descriptors import RESERVED, OpenAccepted, share_descriptors
from raft_core.node.limits import NodeLimits

DISK = 32


@pytest.mark.parametrize(
    ("files", "clients", "shares"),
    [
        (RESERVED + 1, 10_000, (1, 12, 6)),
        (160, 10_000, (96, 12, 6)),
        (160, 10, (10, 55, 27)),
        (1024, 10_000, (864, 60, 30)),
        (100_000, 10_000, (10_000, 256, 32)),
    ],
)
def test_shares_follow_the_limit(files: int, clients: int, shares: tuple[int, int, int]) -> None:
    fits = share_descriptors(files, clients, NodeLimits())

    assert (fits.clients, fits.limits.max_connections, fits.limits.max_ungreeted) == shares


def test_shares_together_never_exceed_the_limit() -> None:
    for files in range(RESERVED + 1, 3000, 7):
        for clients in (1, 50, 10_000):
            for connections in (1, 12, 256, 5000):
                limits = NodeLimits(max_connections=connections)
                fits = share_descriptors(files, clients, limits)
                assert DISK + 2 * fits.limits.max_connections + fits.clients <= files
                assert fits.limits.max_connections <= connections
                assert 1 <= fits.limits.max_ungreeted <= limits.max_ungreeted


def test_limit_without_room_for_a_client_is_refused() -> None:
    with pytest.raises(CallerError):
        share_descriptors(RESERVED, 100, NodeLimits())


def test_burst_of_accepted_sockets_is_closed_at_once() -> None:
    sockets = OpenAccepted(NodeLimits(max_connections=3))

    entered = [sockets.enter() for _ in range(20)]
    assert entered == [True] * 11 + [False] * 9
    sockets.leave()
    assert (sockets.enter(), sockets.enter()) == (True, False)
