"""`raft-kv features`: what it makes of the nodes' words, what it enables, and its exit status."""

from __future__ import annotations

import json
from typing import Any

import hiredis
import pytest

from raft_core.errors import SettingsError
from raft_kv import node_client
from raft_kv.cli import main
from raft_kv.feature_names import COMPARE, FEATURES, USERS
from raft_kv.features_command import FeaturesOptions, view_of


def status(node: int, **changes: Any) -> dict[str, Any]:
    """The status of a node of three, all of this release, in a cluster that uses one feature."""
    whole = {
        "node": node, "members_index": 5, "voters": [1, 2, 3], "outgoing": [], "learners": [],
        "peer_address": f"n{node}:7379", "features": [COMPARE], "own_features": list(FEATURES),
        "peers": [{"node": peer, "address": f"n{peer}:7379", "lacking": []} for peer in (1, 2, 3) if peer != node],
    }  # fmt: skip
    return whole | changes


def peers(*, lacking: object) -> list[dict[str, Any]]:
    """Node 2 has everything, and node 3 lacks these; None: it is not connected."""
    return [{"node": 2, "address": "n2:7379", "lacking": []}, {"node": 3, "address": "n3:7379", "lacking": lacking}]


# What is known.


def test_one_node_tells_of_all_members() -> None:
    view = view_of([status(1)])
    assert view.used == (COMPARE,)
    assert view.has == dict.fromkeys((1, 2, 3), frozenset(FEATURES))
    assert view.ready == tuple(sorted(set(FEATURES) - {COMPARE}))


def test_member_that_lacks_a_feature_stands_in_its_way_alone() -> None:
    view = view_of([status(1, peers=peers(lacking=[USERS]))])
    assert USERS not in view.ready
    assert len(view.ready) == len(FEATURES) - 2
    (obstacle,) = view.obstacles(USERS)
    assert "node 3 at n3:7379" in obstacle


def test_member_that_is_not_connected_stands_in_the_way_of_all() -> None:
    view = view_of([status(1, peers=peers(lacking=None))])
    assert view.has[3] is None
    assert view.ready == ()
    assert all("node 3" in one for name in FEATURES for one in view.obstacles(name))


def test_word_of_the_node_itself_counts_more_than_that_of_others() -> None:
    old = {name: value for name, value in status(3).items() if name not in ("features", "own_features")}
    assert view_of([status(1), old]).has[3] == frozenset()
    assert view_of([status(1, peers=peers(lacking=None)), status(3)]).has[3] == frozenset(FEATURES)


def test_removed_node_stands_in_no_way() -> None:
    view = view_of([status(1, voters=[1, 2], members_index=9, peers=peers(lacking=None)), status(3, own_features=[])])
    assert set(view.has) == {1, 2}
    assert view.ready


# The command.


class Nodes:
    """Nodes by their addresses, in place of connections."""

    def __init__(self, **statuses: dict[str, Any]) -> None:
        self.statuses = statuses
        self.enabled: list[tuple[str, ...]] = []
        self.refuses = ""

    def report_of(self, address: tuple[str, int], _timeout: float) -> node_client.NodeReport:
        found = self.statuses.get(address[0])
        return node_client.NodeReport(error="refused") if found is None else node_client.NodeReport(found)

    def connect(self, _address: tuple[str, int], _timeout: float) -> Nodes:
        return self

    def say(self, *words: str) -> object:
        assert words[:3] == ("RAFT", "FEATURES", "ENABLE")
        if self.refuses:
            return hiredis.ReplyError(self.refuses)
        self.enabled.append(words[3:])
        for one in self.statuses.values():
            one["features"] = sorted({*one["features"], *words[3:]})
        return b"OK"

    def remedy(self, _reply: object) -> str:
        return ""

    def wait_for(self, _seconds: float) -> None: ...

    def close(self) -> None: ...


def run(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *flags: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(node_client, "report_of", nodes.report_of)
    monkeypatch.setattr(node_client, "NodeConnection", nodes.connect)
    code = main(["features", *(f"{name}:6379" for name in nodes.statuses), *flags], {})
    said = capfd.readouterr()
    return code, said.out, said.err


def test_what_is_in_the_way_is_shown_and_nothing_enabled(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    nodes = Nodes(n1=status(1, peers=peers(lacking=list(FEATURES))))
    for flags in ((), ("--enable",)):
        code, out, _ = run(nodes, monkeypatch, capfd, *flags)
        assert code == 3
        assert "node 3 at n3:7379" in out
        assert out.count("lacks") == len(FEATURES) + 1
    assert nodes.enabled == []


def test_all_that_can_be_is_enabled(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    nodes = Nodes(n1=status(1, peers=peers(lacking=[])), n2=status(2))
    code, out, _ = run(nodes, monkeypatch, capfd, "--json", "--enable")
    assert code == 0
    assert set(json.loads(out)["used"]) == set(FEATURES)
    assert [set(names) for names in nodes.enabled] == [set(FEATURES) - {COMPARE}]
    assert run(nodes, monkeypatch, capfd, "--enable")[0] == 0
    assert len(nodes.enabled) == 1, "there is nothing more to enable"


def test_named_feature_alone_is_enabled(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    nodes = Nodes(n1=status(1))
    assert run(nodes, monkeypatch, capfd, "--enable", "--feature", USERS)[0] == 3
    assert nodes.enabled == [(USERS,)]


def test_refusal_is_told_with_its_status(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    nodes = Nodes(n1=status(1))
    nodes.refuses = "REFUSED not_heard_from: node 3"
    code, _, err = run(nodes, monkeypatch, capfd, "--enable")
    assert code == 1
    assert "node 3" in err


def test_no_answer_is_a_failure(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    nodes = Nodes()
    monkeypatch.setattr(node_client, "report_of", nodes.report_of)
    assert main(["features", "n1:6379"], {}) == 1
    assert "n1:6379" in capfd.readouterr().err


@pytest.mark.parametrize("wrong", [{"feature": ["a"]}, {"enable": True, "feature": [""]}, {"timeout": 0.0}])
def test_options_that_do_not_go_together_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        FeaturesOptions(**wrong)
