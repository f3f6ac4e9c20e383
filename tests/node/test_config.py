"""What a person says to start a node, checked before anything is opened."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable

import pytest

from raft_core.errors import CallerError, SettingsError
from raft_core.node.config import NodeConfig, deadline_after, join_address, split_address
from raft_core.node.limits import SECOND, NodeLimits
from raft_core.node.reaching import ListenFailed, dial_failure, listen_failure
from raft_core.settings import Settings


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("10.0.0.7:7400", "10.0.0.7", 7400), ("[::1]:0", "::1", 0), ("db.example:65535", "db.example", 65535)],
)
def test_an_address_is_taken_apart_and_put_together_again(text: str, host: str, port: int) -> None:
    assert split_address(text) == (host, port)
    assert join_address(host, port) == text


@pytest.mark.parametrize(
    "text", ["999.1.1.1:1", "1.2.3:1", "10.0.0.256:7379", "a:b:1", "[::::]:1", "1:1", "[10.0.0]:1", "10.0.0.1.:1"]
)
def test_host_that_looks_like_an_ip_address_is_one(text: str) -> None:
    with pytest.raises(SettingsError):
        split_address(text)


@pytest.mark.parametrize("text", ["", "host", ":1", "host:", "host:x", "host:65536", "host:-1", "host:1²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="host:port"):
        split_address(text)


def test_a_timeout_becomes_a_deadline_and_none_stays_none() -> None:
    assert deadline_after(5, 2.0) == 5 + 2 * SECOND
    assert deadline_after(5, None) == 0
    assert deadline_after(5, math.inf) > 5 + 10**9 * SECOND - 1
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(CallerError):
            deadline_after(5, wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: NodeConfig(node=0, cluster="c", listen="h:1", data="d"),
        lambda: NodeConfig(node=1 << 63, cluster="c", listen="h:1", data="d"),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", peers={1 << 63: "h:2"}),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", founders=(1, 1 << 63)),
        lambda: NodeConfig(node=1, cluster="", listen="h:1", data="d"),
        lambda: NodeConfig(node=1, cluster="c", listen="h", data="d"),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1"),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", founders=(2, 3)),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", peers={2: "nowhere"}),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", advertise="nowhere"),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", advertise="0.0.0.0:1"),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", advertise="h:0"),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", founders=(1, 2)),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", founders=(1, 2, 3), peers={1: "h:1", 3: "h:3"}),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", founders=(1, 1)),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", peers={1: "h:2"}),
        lambda: NodeConfig(node=1, cluster="c", listen="0.0.0.0:1", data="d", peers={1: "h:2"}),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", peers={2: "H:1"}),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", advertise="g:1", peers={2: "g:1"}),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", peers={2: "g:2", 3: "g:2"}),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", peers={2: "g:0"}),
        lambda: NodeConfig(node=1, cluster="c", listen="h:1", data="d", peers={2: "0.0.0.0:7"}),
        lambda: NodeConfig(
            node=1,
            cluster="c",
            listen="h:1",
            data="d",
            founders=(1,),
            host=NodeLimits(leases=True),
            settings=Settings(pre_vote=False),
        ),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(wrong: Callable[[], NodeConfig]) -> None:
    with pytest.raises(SettingsError):
        wrong()


def test_one_table_of_all_nodes_serves_each_of_them() -> None:
    peers = {1: "a:1", 2: "b:1", 3: "c:1"}
    for node, listen, advertise in ((1, "a:1", None), (2, "0.0.0.0:1", None), (3, "10.0.0.3:7", "c:1")):
        config = NodeConfig(
            node=node, cluster="c", listen=listen, advertise=advertise, data="d", peers=peers, founders=(1, 2, 3)
        )
        others = {number: address for number, address in peers.items() if number != node}
        assert config.node_limits(listen).peers == others


def refused(strerror: str) -> OSError:
    return ConnectionRefusedError(errno.ECONNREFUSED, strerror)


def test_reason_of_a_failed_dial_is_the_one_at_the_bottom() -> None:
    many = OSError("all attempts to connect failed")
    many.__cause__ = BaseExceptionGroup("", [refused("Connection refused"), refused("Connection refused")])
    unresolved = OSError(-2, "Name or service not known")

    assert dial_failure(many) == "Connection refused"
    assert dial_failure(unresolved) == "Name or service not known"
    assert dial_failure(ValueError("embedded null byte")) == "embedded null byte"
    assert dial_failure(TimeoutError()) == "TimeoutError"


@pytest.mark.parametrize("number", [errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, -2])
def test_address_that_cannot_be_listened_at_is_named(number: int) -> None:
    failure = listen_failure("h:1", OSError(number, "because"))

    assert isinstance(failure, ListenFailed)
    assert (failure.address, failure.errno) == ("h:1", number)
    assert "h:1" in str(failure)


def test_a_node_tells_others_what_it_advertises_or_else_where_it_listens_and_does_not_dial_itself() -> None:
    config = NodeConfig(node=1, cluster="c", listen="h:1", data="d", peers={1: "h:1", 2: "i:2"}, founders=(1, 2))
    there = config.node_limits("h:77")
    assert (there.address, dict(there.peers), there.founders) == ("h:77", {2: "i:2"}, (1, 2))
    elsewhere = NodeConfig(node=1, cluster="c", listen="0.0.0.0:1", data="d", advertise="h:9")
    assert elsewhere.node_limits("0.0.0.0:1").address == "h:9"


@pytest.mark.parametrize("everywhere", ["0.0.0.0:7379", "[::]:7379", "[0:0::0]:7379"])
def test_a_node_that_listens_on_every_interface_tells_others_nothing(everywhere: str) -> None:
    """It told them that address, and each of them then dialled itself there."""
    assert NodeConfig(node=1, cluster="c", listen=everywhere, data="d").node_limits(everywhere).address == ""
    for here in ("10.0.0.0:7379", "[::1]:7379", "[fe00::]:1", "a:0"):
        assert NodeConfig(node=1, cluster="c", listen=everywhere, data="d").node_limits(here).address == here
