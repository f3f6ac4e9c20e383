"""What a cluster must not use while a member has an older release is refused by every node, before it is in the log."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from raft_core.effects import RoleName
from raft_core.ids import ClusterId, Incarnation, NodeId, Term
from raft_core.membership import Members
from raft_core.node.status import NodeStatus, Phase
from raft_core.raft import Raft
from raft_core.recovered import Identity
from raft_core.settings import Settings
from raft_kv.client_session import Session
from raft_kv.client_session_values import ChangeMembers
from raft_kv.clients import Client, RequestBook
from raft_kv.config import ServeConfig
from raft_kv.doctor.finding import Level
from raft_kv.features import COMPARE, FEATURES, MAX_MEMORY, ONCE, USERS, FeatureGate, feature_of
from raft_kv.local import Later, answer_locally
from raft_kv.log_format import Bounded, Calls, decode_entry, encode_entry
from raft_kv.options import known_names
from raft_kv.resp import CommandError, Map
from raft_kv.scripts import Scripts
from raft_kv.state_machine import KeyValueMachine
from raft_kv.status import PeerStatus, ServerStatus
from tests.kv.test_client_session import Talk
from tests.kv.test_doctor import judged, seen, status

RELEASE = "if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"
IDENTITY = Identity(NodeId(1), ClusterId("c"), Incarnation(1))


@attrs.define
class Node:
    """A node in a cluster that uses these features; `in_force`: those of an entry that is not committed yet."""

    features: tuple[str, ...] = ()
    in_force: tuple[str, ...] = ()

    @property
    def status(self) -> NodeStatus:
        members = Members.initial((1,), features=(*self.features, *self.in_force))
        core = Raft.bootstrap(1, members, seed=1, settings=Settings(features=FEATURES)).status
        head = (NodeId(1), IDENTITY, Phase.RUNNING, RoleName.FOLLOWER, Term(1), NodeId(0), "", core)
        return NodeStatus(*head, (), (), 0, 0, 0, (), features=FEATURES)


def talk(*features: str, in_force: tuple[str, ...] = ()) -> Talk:
    return Talk(Session(1, gate=FeatureGate(Node(features, in_force))))


def resp(call: Sequence[str]) -> bytes:
    return b"*%d\r\n" % len(call) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in call)


GATED = [
    (("delifeq", "k", "v"), COMPARE),
    (("DELEX", "k"), COMPARE),
    (("delex", "k", "IFEQ", "v"), COMPARE),
    (("set", "k", "v", "IFEQ", "w"), COMPARE),
    (("SET", "k", "v", "ifne", "w"), COMPARE),
    (("eval", RELEASE, "1", "k", "v"), COMPARE),
    (("raft", "session"), ONCE),
    (("RAFT", "ONCE", "1", "1", "set", "k", "v"), ONCE),
    (("acl", "SETUSER", "ann", "on", "nopass"), USERS),
    (("ACL", "deluser", "ann"), USERS),
]


@pytest.mark.parametrize(("call", "feature"), GATED)
def test_command_is_refused_until_its_feature_is_used(call: tuple[str, ...], feature: str) -> None:
    others = tuple(other for other in FEATURES if other != feature)
    for client, code in ((talk(*others), "ERR"), (talk(*others, in_force=(feature,)), "TRYAGAIN")):
        (error,) = client.say(resp(call))
        assert isinstance(error, str)
        assert error.startswith(code)
        assert feature in error
        assert client.orders == [], "nothing reaches the log"

    allowed = talk(feature)
    assert allowed.start(resp(call)) is not None
    assert allowed.heard() == []


def test_command_inside_of_raft_once_and_of_batch_and_transaction_is_refused_too() -> None:
    client = talk(ONCE)
    (error,) = client.say(resp(("raft", "once", "1", "1", "delifeq", "k", "v")))
    assert COMPARE in str(error)

    replies = talk().say("set k v; delifeq k v; get k")
    assert [replies[0], replies[2]] == [b"OK", b"v"]
    assert COMPARE in str(replies[1])

    replies = talk().say("multi; set k v; delifeq k v; exec")
    assert COMPARE in str(replies[2])
    assert str(replies[3]).startswith("EXECABORT")


def test_commands_of_release_0_1_0_need_no_feature() -> None:
    for call in (b"set k v ex 5", b"get k", b"raft status", b"raft add 4 a:1", b"acl whoami", b"acl list", b"raft"):
        assert feature_of(call.split()) == ""
    assert talk().say("set k v; get k; multi; incr n; exec")[:2] == [b"OK", b"v"]


def test_limit_of_memory_is_not_written_into_entries_before_its_feature_is_used() -> None:
    entry = encode_entry(Calls(2, [[b"set", b"k", b"v"]]))
    for features, kind in (((), Calls), ((MAX_MEMORY,), Bounded)):
        machine = KeyValueMachine(max_memory=1000, gate=FeatureGate(Node(features)))
        _, command = decode_entry(machine.prepare_with_wall(entry, 10**9, 10**18))
        assert type(command) is kind


def test_configuration_of_server_has_all_features_and_no_way_to_set_them() -> None:
    assert ServeConfig(id=NodeId(1)).node_config().settings.features == FEATURES
    assert "features" not in known_names(Settings)


# RAFT FEATURES and doctor.

SEEN = ServerStatus(
    node=1,
    voters=(1, 2, 3),
    features=(ONCE,),
    own_features=FEATURES,
    peers=(PeerStatus(node=2, lacking=(USERS,)), PeerStatus(node=3), PeerStatus(node=9, lacking=FEATURES)),
)


def raft(*words: bytes, status: ServerStatus = SEEN) -> object:
    return answer_locally(Client(1, Scripts()), RequestBook(), [b"RAFT", *words], status)


def test_raft_features_tells_what_is_used_and_who_lacks_what() -> None:
    said = raft(b"FEATURES")
    assert isinstance(said, Map)
    pairs = dict(said.pairs)
    assert pairs["used"] == (ONCE,)
    assert pairs["own"] == FEATURES
    lacking = pairs["lacking"]
    assert isinstance(lacking, Map)
    assert lacking.pairs == ((2, (USERS,)),)
    assert pairs["not_connected"] == (3,)


def test_raft_features_enable_asks_for_the_named_or_for_all_unused() -> None:
    assert raft(b"features", b"ENABLE", b"KV-Users") == Later(ChangeMembers((), 0, (USERS,)))
    assert raft(b"features", b"enable") == Later(ChangeMembers((), 0, tuple(name for name in FEATURES if name != ONCE)))
    with pytest.raises(CommandError, match=r"^ERR"):
        raft(b"features", b"enable", b"a b")
    with pytest.raises(CommandError, match=r"^ERR"):
        raft(b"features", b"enable", status=attrs.evolve(SEEN, features=FEATURES))
    with pytest.raises(CommandError, match=r"^ERR"):
        raft(b"features", b"disable")


def test_doctor_tells_of_unused_features_and_who_stands_in_the_way() -> None:
    all_have = {"own_features": list(FEATURES), "features": []}
    (found,) = [each for each in judged(seen(status(1, **all_have), status(2, **all_have))) if each.check == "features"]
    assert found.level is Level.NOTE
    assert "features --enable" in found.text
    (found,) = [each for each in judged(seen(status(1, **all_have), status(2))) if each.check == "features"]
    assert "node 2" in found.text
    used = {"own_features": list(FEATURES), "features": list(FEATURES)}
    (found,) = [each for each in judged(seen(status(1, **used))) if each.check == "features"]
    assert found.level is Level.RIGHT
    entries = [each for each in judged(seen(status(1, users=2, **all_have), _old())) if each.check == "entries"]
    assert entries == [], "they are not in the log yet"


def _old() -> dict[str, object]:
    return {name: value for name, value in status(2).items() if name not in ("users", "max_memory")}
