"""A client's session without I/O: order, gathering, transactions, errors, and what an operator can say."""

from __future__ import annotations

import sys

import attrs
import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.effects import RefusalReason, UnknownReason
from raft_core.errors import MembershipRefused, NotLeader, OutcomeUnknown, QueueFull, Refused, TransferInProgress
from raft_core.ids import Index, NodeId
from raft_core.membership import AddLearner, AddVoter, RemoveNode
from raft_kv.client_session import Session
from raft_kv.client_session_values import (
    ChangeMembers,
    Close,
    Inspect,
    LeaveJoint,
    Propose,
    Read,
    Send,
    SessionEffect,
    SessionLimits,
    TransferLeadership,
)
from raft_kv.log_format import Clock, Query, decode_entry, decode_query
from raft_kv.resp_parser import RequestLimits
from raft_kv.state_machine import KeyValueMachine
from raft_kv.status import PeerStatus, ServerStatus

START = 1_700_000_000_000
PICTURE = ServerStatus(
    node=2,
    cluster="c",
    role="leader",
    term=3,
    leader=2,
    commit=7,
    applied=7,
    members_index=6,
    voters=(1, 2),
    learners=(3,),
    peers=(PeerStatus(node=1, address="h:1", connected=True, state="replicate", match=7),),
    reasons=("node 1 is slow",),
    keys=4,
)


@attrs.define
class Talk:
    """A session and a machine of its own. `open` holds the order that is not yet answered."""

    session: Session = attrs.field(factory=lambda: Session(5))
    machine: KeyValueMachine = attrs.field(factory=KeyValueMachine)
    now: int = START
    lag: int = 0
    """How far the leader's clock is behind the session's."""
    index: int = 0
    orders: list[SessionEffect] = attrs.field(factory=list)
    closed: bool = False
    _reader: hiredis.Reader = attrs.field(factory=hiredis.Reader)

    def take(self, effects: list[SessionEffect]) -> SessionEffect | None:
        """Keeps what is sent; the order that asks for something, if there is one."""
        order: SessionEffect | None = None
        for effect in effects:
            assert order is None, "nothing follows an order"
            if isinstance(effect, Send):
                self._reader.feed(effect.data)
            elif isinstance(effect, Close):
                self.closed = True
            else:
                order = effect
        if order is not None:
            self.orders.append(order)
        return order

    def carry_out(self, order: SessionEffect | None) -> None:
        while order is not None:
            assert len(self.orders) < 10_000, "the session asks without end"
            if isinstance(order, Propose):
                self.index += 1
                entry = self.machine.prepare(order.command, (self.now - self.lag) * 1_000_000)
                order = self.take(self.session.answered(self.machine.apply(Index(self.index), entry), self.now))
            elif isinstance(order, Read):
                order = self.take(self.session.answered(self.machine.query(order.query), self.now))
            elif isinstance(order, Inspect):
                order = self.take(self.session.inspected(PICTURE, self.now))
            else:
                order = self.take(self.session.answered(b"", self.now))

    def start(self, text: str | bytes) -> SessionEffect | None:
        data = text if isinstance(text, bytes) else text.replace("; ", "\r\n").encode() + b"\r\n"
        return self.take(self.session.receive(data, self.now))

    def heard(self) -> list[object]:
        found: list[object] = []
        while (item := self._reader.gets()) is not False:
            found.append(_plain(item))
        return found

    def say(self, text: str | bytes) -> list[object]:
        """The replies to commands separated by semicolons, all sent at once."""
        self.carry_out(self.start(text))
        return self.heard()

    def fail(self, text: str, error: Refused | OutcomeUnknown) -> list[object]:
        assert self.start(text) is not None
        order = self.take(self.session.failed(error, self.now))
        self.carry_out(order)
        return self.heard()


def _plain(item: object) -> object:
    if isinstance(item, list):
        return [_plain(inner) for inner in item]
    return str(item) if isinstance(item, Exception) else item


# Order and gathering.


def test_what_may_travel_together_does_and_replies_keep_the_order() -> None:
    talk = Talk()
    assert talk.say("set a 1; incr a; ping; get a; strlen a; set b 2; get b; get nope") == [
        b"OK", 2, b"PONG", b"2", 1, b"OK", b"2", None,
    ]  # fmt: skip
    assert [type(order) for order in talk.orders] == [Propose, Read, Propose, Read]


def test_a_read_is_asked_only_after_the_write_before_it_was_answered() -> None:
    talk = Talk()
    order = talk.start("set a 1; get a")
    assert isinstance(order, Propose)
    assert len(talk.orders) == 1
    talk.carry_out(order)
    assert talk.heard() == [b"OK", b"1"]


def test_what_arrives_while_a_request_is_open_waits_for_it_and_then_travels_together() -> None:
    talk = Talk()
    first = talk.start("set a 1")
    assert talk.start("incr a; incr a") is None
    assert talk.start("incr a") is None
    talk.carry_out(first)
    assert talk.heard() == [b"OK", 2, 3, 4]
    assert len(talk.orders) == 2


def test_a_bad_command_in_between_neither_stops_nor_reorders() -> None:
    talk = Talk()
    assert talk.say("set a 1; nonsense; incr a; get; get a") == [
        b"OK",
        "ERR unknown command 'nonsense', with args beginning with: ",
        2,
        "ERR wrong number of arguments for 'get' command",
        b"2",
    ]


def test_a_batch_is_bounded_in_commands_and_in_bytes() -> None:
    talk = Talk(Session(1, SessionLimits(batch_calls=3, batch_bytes=50)))
    assert talk.say("; ".join(["incr a"] * 7)) == [1, 2, 3, 4, 5, 6, 7]
    assert len(talk.orders) == 3
    talk.orders.clear()
    assert talk.say("; ".join([f"set a {'x' * 30}"] * 2 + [f"set a {'x' * 60}"])) == [b"OK"] * 3
    assert len(talk.orders) == 3


_DATA_LINES = ("set a 1", "incr a", "get a", "append a x", "del a", "mget a b", "incr b", "nonsense", "get")
_OTHER_LINES = ("ping", "echo hi", "info", "multi", "exec", "discard", "watch a", "unwatch", "quit")
_LINES = st.sampled_from([*_DATA_LINES, *_OTHER_LINES])


@settings(max_examples=100, deadline=None)
@given(st.lists(_LINES, max_size=25), st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_pipelining_gives_the_replies_of_asking_one_by_one(lines: list[str], cuts: list[int]) -> None:
    alone, together = Talk(), Talk()
    expected = [reply for line in lines for reply in alone.say(line)]
    data = b"".join(line.encode() + b"\r\n" for line in lines)
    place = turn = 0
    while place < len(data):
        step = cuts[turn % len(cuts)]
        together.carry_out(together.start(data[place : place + step]))
        place, turn = place + step, turn + 1
    assert together.heard() == expected
    assert together.closed == alone.closed == ("quit" in lines)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=8))
def test_garbage_is_answered_or_closed_and_never_raises(pieces: list[bytes]) -> None:
    talk = Talk()
    for piece in pieces:
        talk.carry_out(talk.start(piece))
    talk.heard()


def test_an_oversize_argument_is_refused_and_the_commands_around_it_are_answered() -> None:
    talk = Talk(Session(1, SessionLimits(requests=RequestLimits(bulk_bytes=10))))
    large = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$11\r\n" + b"x" * 11 + b"\r\n"
    replies = talk.say(b"INCR n\r\n" + large + b"INCR n\r\n" + large + b"GET a\r\n")
    assert [reply if not isinstance(reply, str) else reply[:4] for reply in replies] == [1, "ERR ", 2, "ERR ", None]
    assert not talk.closed


def test_a_transaction_with_an_oversize_command_is_discarded() -> None:
    talk = Talk(Session(1, SessionLimits(requests=RequestLimits(bulk_bytes=10))))
    large = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$11\r\n" + b"x" * 11 + b"\r\n"
    replies = talk.say(b"MULTI\r\nINCR n\r\n" + large + b"INCR n\r\nEXEC\r\nGET n\r\n")
    assert [str(reply).split()[0] for reply in replies[2:5:2]] == ["ERR", "EXECABORT"]
    assert replies[5] is None


def test_a_length_that_no_redis_takes_closes_the_connection_after_the_replies_before_it() -> None:
    talk = Talk()
    data = b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870913\r\n"
    assert talk.say(data) == [b"PONG", "ERR Protocol error: invalid bulk length"]
    assert talk.closed
    assert talk.say("ping") == []


def test_quit_is_answered_and_nothing_after_it_is() -> None:
    talk = Talk()
    assert talk.say("set a 1; quit; set a 2") == [b"OK", b"OK"]
    assert talk.closed
    assert talk.machine.keyspace.records[b"a"].value == b"1"


# Deadlines.


def test_a_read_that_meets_a_passed_deadline_has_the_clock_moved_first() -> None:
    talk = Talk()
    talk.say("set a 1 px 100; set b 2")
    talk.now += 100
    talk.orders.clear()
    assert talk.say("get b; get a; get b") == [b"2", None, b"2"]
    ask, propose, again = talk.orders
    assert isinstance(ask, Read)
    assert isinstance(again, Read)
    assert isinstance(propose, Propose)
    assert decode_entry(propose.command)[1] == Clock()
    talk.orders.clear()
    assert talk.say("get a") == [None]
    assert len(talk.orders) == 1


def test_where_the_leaders_clock_lags_its_word_counts_and_the_read_still_ends() -> None:
    talk = Talk()
    talk.say("set a 1 px 1000")
    talk.now, talk.lag = START + 5000, 4500
    talk.orders.clear()
    assert talk.say("get a; get a") == [b"1", b"1"]
    assert [type(order) for order in talk.orders] == [Read, Propose, Read]
    talk.lag = 4000
    assert talk.say("multi; get a; exec")[-1] == [None]


def test_a_reading_transaction_has_the_clock_moved_too() -> None:
    talk = Talk()
    talk.say("set a 1 px 100")
    talk.now += 100
    assert talk.say("multi; get a; dbsize; exec") == [b"OK", b"QUEUED", b"QUEUED", [None, 0]]


# Transactions.


def test_a_transaction_is_one_entry() -> None:
    talk = Talk()
    assert talk.say("multi; set a 1; incr a; get a; exec") == [b"OK"] + [b"QUEUED"] * 3 + [[b"OK", 2, b"2"]]
    assert len(talk.orders) == 1
    assert isinstance(talk.orders[0], Propose)


def test_a_transaction_that_only_reads_writes_nothing_to_the_log() -> None:
    talk = Talk()
    talk.say("set a 1")
    talk.orders.clear()
    assert talk.say("watch a; multi; get a; ping; exec") == [b"OK", b"OK", b"QUEUED", b"QUEUED", [b"1", b"PONG"]]
    assert [type(order) for order in talk.orders] == [Read, Read]
    assert talk.say("multi; exec") == [b"OK", []]


def test_a_watched_key_that_changed_stops_the_transaction_reading_or_writing() -> None:
    one = Talk()
    other = Talk(machine=one.machine, index=100)
    for body in ("set b 1", "get b"):
        assert one.say("watch a") == [b"OK"]
        assert other.say("incr a") != []
        one.index = other.index
        assert one.say(f"multi; {body}; exec") == [b"OK", b"QUEUED", None]
    assert one.say("multi; set b 1; exec") == [b"OK", b"QUEUED", [b"OK"]]


def test_unwatch_and_discard_forget_what_was_watched() -> None:
    talk = Talk()
    assert talk.say("watch a; set a 1; unwatch; multi; incr a; exec")[-1] == [2]
    assert talk.say("watch a; set a 1; multi; discard; multi; incr a; exec")[-1] == [2]
    assert talk.say("watch a; set a 1; multi; incr a; exec")[-1] is None


def test_key_that_expired_before_it_was_watched_has_not_changed() -> None:
    talk = Talk()
    talk.say("set x y px 1; set a 1")
    talk.now += 5

    assert talk.say("watch a x") == [b"OK"]
    assert talk.say("get x; multi; incr x; exec") == [None, b"OK", b"QUEUED", [1]]


def test_key_that_expires_after_it_was_watched_has_changed() -> None:
    talk = Talk()
    talk.say("set x y px 100; watch x")
    talk.now += 100

    assert talk.say("multi; incr x; exec")[-1] is None


def test_reading_transaction_notices_that_a_watched_key_expired() -> None:
    talk = Talk()
    talk.say("set x y px 100; set a 1; watch x")
    talk.now += 100

    assert talk.say("multi; get a; exec")[-1] is None


def test_slow_leader_clock_keeps_a_watched_key() -> None:
    talk = Talk(lag=50)
    talk.say("set x 1 px 100")
    talk.now += 70

    assert talk.say("watch x; multi; incr x; exec")[-1] == [2]


def test_watching_a_key_again_does_not_forgive_what_has_changed_since_the_first_time() -> None:
    talk = Talk()
    assert talk.say("watch a; set a 1; watch a; multi; incr a; exec")[-1] is None


def test_mistakes_around_transactions_are_answered_as_redis_does() -> None:
    talk = Talk()
    assert talk.say("exec; discard") == ["ERR EXEC without MULTI", "ERR DISCARD without MULTI"]
    assert talk.say("multi; multi; watch a; set a 1; exec") == [
        b"OK", "ERR MULTI calls can not be nested", "ERR WATCH inside MULTI is not allowed", b"QUEUED", [b"OK"],
    ]  # fmt: skip
    abort = "EXECABORT Transaction discarded because of previous errors."
    assert talk.say("multi; set a 2; get; exec")[-1] == abort
    assert talk.say("multi; set a 2; info; exec")[-2:] == ["ERR INFO is not allowed inside a transaction", abort]
    assert talk.say("get a") == [b"1"]
    assert talk.say("multi; incr a; reset; get a") == [b"OK", b"QUEUED", b"RESET", b"1"]


def test_a_transaction_is_bounded() -> None:
    talk = Talk(Session(1, SessionLimits(transaction_bytes=100, transaction_calls=3)))
    assert talk.say(f"multi; set a {'x' * 120}; exec")[1] == "ERR the transaction is too large for one log entry"
    assert talk.say("multi; incr a; incr a; incr a; incr a; exec")[-1].__class__ is str
    assert talk.say("multi; incr a; exec")[-1] == [1]


def test_a_transaction_that_writes_may_not_go_through_all_keys_on_every_replica() -> None:
    talk = Talk()
    abort = "EXECABORT Transaction discarded because of previous errors."
    problem = "ERR KEYS and SCAN are not allowed in a transaction that writes"
    assert talk.say("multi; set a 1; keys *; exec") == [b"OK", b"QUEUED", problem, abort]
    assert talk.say("multi; scan 0; set a 1; get a; exec") == [b"OK", b"QUEUED", problem, b"QUEUED", abort]
    assert talk.say("multi; keys *; dbsize; exec")[-1] == [[], 0]
    assert talk.say("multi; set a 1; dbsize; exec")[-1] == [b"OK", 1]


def test_a_command_that_goes_through_all_keys_is_asked_alone() -> None:
    talk = Talk()
    talk.say("get a; get b; keys *; KEYS x; scan 0; get c; get d")
    asked = [decode_query(order.query)[1] for order in talk.orders if isinstance(order, Read)]
    assert [len(query.calls) for query in asked if isinstance(query, Query)] == [2, 1, 1, 1, 2]


# When the cluster cannot.


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (NotLeader(RefusalReason.NO_LEADER), "CLUSTERDOWN no leader is known here"),
        (
            NotLeader(RefusalReason.NOT_LEADER, leader=NodeId(3), address="h:1"),
            "CLUSTERDOWN node 3 at h:1 leads and could not be reached",
        ),
        (QueueFull(RefusalReason.UNCOMMITTED_FULL, "full"), "TRYAGAIN uncommitted_full: full"),
        (TransferInProgress(RefusalReason.TRANSFERRING), "TRYAGAIN"),
        (Refused(RefusalReason.STOPPING), "CLUSTERDOWN stopping"),
        (Refused(RefusalReason.DEADLINE), "TRYAGAIN deadline"),
        (Refused(RefusalReason.TOO_LARGE), "ERR the command is too large"),
        (MembershipRefused(RefusalReason.CHANGE_PENDING, "wait"), "REFUSED change_pending: wait"),
        (Refused(RefusalReason.TRANSFER_FAILED, "it slept"), "REFUSED transfer_failed: it slept"),
        (OutcomeUnknown(UnknownReason.LEADERSHIP_LOST), "UNKNOWN outcome: leadership_lost"),
    ],
)
def test_each_failure_of_the_cluster_has_a_word_of_its_own(error: Refused | OutcomeUnknown, start: str) -> None:
    replies = Talk().fail("set a 1; incr a; ping", error)
    assert len(replies) == 3
    assert replies[0] == replies[1]
    assert str(replies[0]).startswith(start)
    assert replies[2] == b"PONG"


def test_a_failed_transaction_has_one_error() -> None:
    talk = Talk()
    talk.say("multi; set a 1; set b 2")
    replies = talk.fail("exec; ping", OutcomeUnknown(UnknownReason.DEADLINE))
    assert len(replies) == 2
    assert str(replies[0]).startswith("UNKNOWN outcome")


def test_a_read_whose_outcome_is_unknown_is_simply_to_be_tried_again() -> None:
    replies = Talk().fail("get a; get b", OutcomeUnknown(UnknownReason.DEADLINE))
    assert [str(reply)[:8] for reply in replies] == ["TRYAGAIN"] * 2


def test_when_the_clock_cannot_be_moved_the_reads_fail_and_the_session_goes_on() -> None:
    talk = Talk()
    talk.say("set a 1 px 10")
    talk.now += 20
    order = talk.start("get b; get a; get a; ping")
    assert isinstance(order, Read)
    touch = talk.take(talk.session.answered(talk.machine.query(order.query), talk.now))
    assert isinstance(touch, Propose)
    talk.carry_out(talk.take(talk.session.failed(OutcomeUnknown(UnknownReason.DEADLINE), talk.now)))
    replies = talk.heard()
    assert replies[0] is None
    assert [str(reply)[:8] for reply in replies[1:3]] == ["TRYAGAIN"] * 2
    assert replies[3] == b"PONG"


# About the client, the server and the cluster.


def test_hello_chooses_the_protocol_and_says_who_answers() -> None:
    talk = Talk()
    second = talk.say("hello")[0]
    assert isinstance(second, list)
    assert second[:6] == [b"server", b"redis", b"version", b"7.2.0", b"proto", 2]
    third = talk.say("hello 3 setname me")[0]
    assert isinstance(third, dict)
    assert (third[b"proto"], third[b"id"]) == (3, 5)
    assert talk.say("client getname; client id; config get save; get nope") == [b"me", 5, {b"save": b""}, None]
    assert talk.say("hello 2; config get save")[1] == [b"save", b""]
    assert talk.say("hello 4; hello x; hello 3 auth a b; hello 3 foo")[:2] == [
        "NOPROTO unsupported protocol version",
        "ERR Protocol version is not an integer or out of range",
    ]
    assert talk.session.client.protocol == 2


def test_the_protocol_of_a_reply_is_that_of_its_command() -> None:
    talk = Talk()
    data = b"get nope\r\nhello 3\r\nget nope\r\n"
    sent = b""
    effects = talk.session.receive(data, START)
    while effects:
        order: SessionEffect | None = None
        for effect in effects:
            if isinstance(effect, Send):
                sent += effect.data
            else:
                order = effect
        effects = []
        if isinstance(order, Read):
            effects = talk.session.answered(talk.machine.query(order.query), START)
        elif isinstance(order, Inspect):
            effects = talk.session.inspected(PICTURE, START)
    assert sent.startswith(b"$-1\r\n%7\r\n")
    assert sent.endswith(b"_\r\n")


def test_client_libraries_may_introduce_themselves() -> None:
    talk = Talk()
    assert talk.say("client setinfo lib-name redis-py; client setinfo lib-ver 8; client setname x") == [b"OK"] * 3
    said = str(talk.say("client info")[0])
    assert all(pair in said.split() for pair in ("name=x", "db=0", "resp=2", "lib-name=redis-py", "lib-ver=8"))
    assert talk.say("client foo; client setname") == [
        "ERR unknown subcommand 'foo'. Try CLIENT HELP.",
        "ERR wrong number of arguments for 'client|setname' command",
    ]


def test_command_describes_the_table() -> None:
    talk = Talk()
    rows = talk.say("command")[0]
    assert isinstance(rows, list)
    assert [b"get", 2, [b"fast", b"readonly"], 1, 1, 1] in [row[:6] for row in rows]
    assert talk.say("command count") == [len(rows)]
    assert talk.say("command getkeys mset a 1 b 2") == [[b"a", b"b"]]


def test_info_and_raft_status_show_the_node() -> None:
    talk = Talk()
    text = talk.say("info")[0]
    assert isinstance(text, bytes)
    assert b"raft_role:leader\r\n" in text
    assert b"db0:keys=4,expires=0,avg_ttl=0" in text
    assert b"role:master\r\n" in text
    only = talk.say("info raft")[0]
    assert isinstance(only, bytes)
    assert only.startswith(b"# Raft\r\n")
    assert b"redis_version" not in only
    talk.say("hello 3")
    status = talk.say("raft status")[0]
    assert isinstance(status, dict)
    assert (status[b"node"], status[b"role"], status[b"term"], status[b"voters"]) == (2, b"leader", 3, [1, 2])
    assert status[b"peers"][0][b"state"] == b"replicate"
    assert talk.say("raft explain") == [[b"node 1 is slow"]]


def test_an_operators_words_become_orders() -> None:
    talk = Talk()
    text = "raft add 4 h:7; raft add 5 h:8 learner; raft promote 3; raft demote 2; raft remove 3; raft transfer"
    assert talk.say(text + "; raft transfer 2; raft leave") == [b"OK"] * 8
    assert [order for order in talk.orders if not isinstance(order, Inspect)] == [
        ChangeMembers((AddLearner(NodeId(4), promote_when_ready=True),), 6),
        ChangeMembers((AddLearner(NodeId(5)),), 6),
        ChangeMembers((AddVoter(NodeId(3)),), 6),
        ChangeMembers((AddLearner(NodeId(2)),), 6),
        ChangeMembers((RemoveNode(NodeId(3)),), 6),
        TransferLeadership(),
        TransferLeadership(NodeId(2)),
        LeaveJoint(),
    ]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("raft add 4 nowhere", "ERR an address is host:port, as in 10.0.0.7:7400, not 'nowhere'"),
        ("raft add x h:1", "ERR a node id is a positive number"),
        ("raft add 4 h:1 voter", "ERR syntax error"),
        ("raft foo", "ERR unknown subcommand 'foo'. Try RAFT HELP."),
        ("raft add 4", "ERR wrong number of arguments for 'raft|add' command"),
        ("raft remove 0", "ERR a node id is a positive number"),
        ("raft add 2 h:1", "ERR node 2 is a member already; see RAFT PROMOTE, DEMOTE and REMOVE"),
        ("raft promote 1", "ERR node 1 is no learner"),
        ("raft demote 3", "ERR node 3 is no voter"),
    ],
)
def test_an_operators_mistakes_are_explained_and_change_nothing(line: str, error: str) -> None:
    talk = Talk()
    refused, pong = talk.say(f"{line}; ping")
    assert str(refused).startswith(error)
    assert pong == b"PONG"
    assert [order for order in talk.orders if not isinstance(order, Inspect)] == []


def test_settings_are_not_changed_while_running() -> None:
    assert Talk().say("config set save x; config foo")[0] == (
        "ERR settings are given when a node starts; see raft-kv serve --help"
    )


@pytest.mark.parametrize(
    ("all_masters", "raft_role", "said"),
    [
        (True, "leader", b"master"),
        (True, "follower", b"master"),
        (False, "leader", b"master"),
        (False, "follower", b"slave"),
    ],
)
def test_info_hello_and_role_say_the_same_role(
    monkeypatch: pytest.MonkeyPatch, all_masters: bool, raft_role: str, said: bytes
) -> None:
    """A follower takes writes too, so it is a master, unless a setting says otherwise."""
    picture = attrs.evolve(PICTURE, role=raft_role, all_masters=all_masters, leader_address="h:7379")
    monkeypatch.setattr(sys.modules[__name__], "PICTURE", picture)

    (info, hello, role) = Talk().say("info replication; hello; role")

    assert isinstance(info, bytes)
    assert b"role:" + said + b"\r\n" in info
    assert isinstance(hello, list)
    assert hello[hello.index(b"role") + 1] == said
    assert isinstance(role, list)
    assert role[0] == said
