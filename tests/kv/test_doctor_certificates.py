"""What `raft-kv doctor` finds in certificates."""

from __future__ import annotations

import time
from pathlib import Path

import attrs
import pytest

from raft_core.node.security import TLS
from raft_kv.certificates import make_authority, make_node
from raft_kv.doctor.certificates import check_certificate
from raft_kv.doctor.finding import Level

DAY = 86_400


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLS:
    place = tmp_path_factory.mktemp("certificates")
    make_authority(place, "c")
    make_node(place, "c", 1, ["127.0.0.1"], days=100)
    return TLS(certificate=str(place / "node-1.crt"), key=str(place / "node-1.key"), authorities=str(place / "ca.crt"))


def levels(tls: TLS, node: int = 1, later: float = 0.0) -> list[Level]:
    return [each.level for each in check_certificate("peers", tls, ("c", node), time.time() + later)]


def test_certificate_is_right_until_it_soon_expires(tls: TLS) -> None:
    assert levels(tls) == [Level.RIGHT]
    assert levels(tls, later=90 * DAY) == [Level.WARNING]
    assert levels(tls, later=101 * DAY) == [Level.WRONG]
    assert levels(tls, later=-2 * DAY) == [Level.WRONG]


def test_files_that_do_not_fit_are_told(tls: TLS, tmp_path: Path) -> None:
    assert levels(tls, node=2) == [Level.WRONG]
    assert levels(attrs.evolve(tls, key=str(tmp_path / "missing"))) == [Level.WRONG]
