"""Traces and the page that shows them: what is recorded, what survives JSON, what the page contains."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from random import Random
from typing import Any

import msgspec
import pytest

from raft_core.effects import Effect, Persist, Send
from raft_core.errors import CallerError
from raft_core.events import CampaignRequested, Event, Persisted, Proposed, Tick
from raft_core.ids import Index, NodeId, RequestId, Term
from raft_core.membership import Members
from raft_core.messages import Message
from raft_core.node.limits import SECOND
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.settings import Settings
from raft_testing.__main__ import open_file_store
from raft_testing.faults.catalogue import Profile
from raft_testing.sim.runner import run_seed
from raft_testing.trace.findings import NamedCommand, find_violations
from raft_testing.trace.html import draw
from raft_testing.trace.records import (
    NodePicture,
    RecordKind,
    Tracer,
    TraceRecord,
    TraceSend,
    decode_trace,
    encode_trace,
)
from raft_testing.trace.timeline import Fold, Timeline


class Stage:
    """Cores whose every step is traced; messages wait until they are delivered or lost."""

    def __init__(self, count: int, seed: int = 1) -> None:
        members = Members.initial(range(1, count + 1))
        self.now = 0
        self.tracer = Tracer()
        self.waiting: list[tuple[int, NodeId, Message]] = []
        settings = Settings(election_ticks=10, heartbeat_ticks=2, short_ticks=2)
        self.cores = {
            node: Raft(settings, Recovered.fresh(node, members), Random(seed * 100 + node)) for node in members.nodes
        }
        for node in self.cores:
            self.step(node)

    def step(self, node: NodeId, event: Event | None = None, received: int = 0) -> list[Effect]:
        core = self.cores[node]
        effects = core.step(event)
        numbers = self.tracer.stepped(self.now, node, core, event, effects, received)
        sends = [effect for effect in effects if isinstance(effect, Send)]
        self.waiting += [(number, send.to, send.message) for number, send in zip(numbers, sends, strict=True)]
        for effect in effects:
            if isinstance(effect, Persist):
                self.step(node, Persisted(effect.write))
        return effects

    def deliver(self, place: int = 0) -> None:
        number, to, message = self.waiting.pop(place)
        self.step(to, message, number)

    def lose(self, place: int = 0) -> None:
        number, to, _ = self.waiting.pop(place)
        self.tracer.happened(self.now, RecordKind.LOSS, f"a message to {to} was lost", message=number)


def random_trace(nodes: int, events: int, seed: int) -> list[TraceRecord]:
    """A lively cluster: elections, writes, losses, a crash, and a violation at the end."""
    chance, stage = Random(seed), Stage(nodes, seed)
    stage.step(NodeId(1), CampaignRequested())
    request = 0
    while len(stage.tracer.records) < events:
        stage.now += 1
        rng = chance.random()
        if stage.waiting and rng < 0.05:
            stage.lose(int(chance.random() * len(stage.waiting)))
        elif stage.waiting and rng < 0.85:
            stage.deliver(int(chance.random() * min(3, len(stage.waiting))))
        elif rng < 0.9:
            request += 1
            stage.step(NodeId(1 + int(chance.random() * nodes)), Proposed(RequestId(request), (b"set x",)))
        elif rng < 0.92:
            stage.step(NodeId(1 + int(chance.random() * nodes)), CampaignRequested())
        else:
            stage.step(NodeId(1 + int(chance.random() * nodes)), Tick())
        if len(stage.tracer.records) == events // 2:
            stage.tracer.happened(stage.now, RecordKind.CRASH, "crashed", NodeId(2))
            stage.tracer.happened(stage.now, RecordKind.RESTART, "started again", NodeId(2))
    stage.tracer.violated("state machine safety: nodes 1 and 3 applied different entries at 7")
    return stage.tracer.records


def test_a_step_is_recorded_with_its_messages_its_effects_and_the_state_afterwards() -> None:
    stage = Stage(3)
    stage.step(NodeId(1), CampaignRequested())
    stage.deliver()
    asked, granted = stage.tracer.records[-2], stage.tracer.records[-1]
    assert asked.event == "asked to campaign"
    assert [(send.id, send.to) for send in asked.sends] == [(1, 2), (2, 3)]
    assert asked.picture is not None
    assert asked.picture.role == "pre_candidate"
    assert (granted.node, granted.message) == (2, 1)
    assert granted.sends[0].text.startswith("pre-vote granted")


def test_a_trace_survives_json() -> None:
    trace = random_trace(3, 60, seed=4)
    assert decode_trace(encode_trace(trace)) == trace


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format":1,"records":[{"step":"x"}]}', b'{"format":2,"records":[]}'])
def test_what_is_not_a_trace_is_refused(data: bytes) -> None:
    with pytest.raises(CallerError, match="trace"):
        decode_trace(data)


class Page(HTMLParser):
    """What a browser would see of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.tags if name in (attrs.get("class") or "").split()]


def model_of(text: str) -> dict[str, Any]:
    """The data that the page's script draws from."""
    model = text.partition('id="model">')[2].partition("</script>")[0]
    decoded: dict[str, Any] = msgspec.json.decode(model)
    return decoded


def test_page_is_well_formed_and_fetches_nothing() -> None:
    text = draw(random_trace(5, 300, seed=1), command="python -m raft_testing simulate")
    page = Page(text)
    assert page.open == []
    assert "://" not in text
    assert "url(" not in text
    assert not [attrs for _, attrs in page.tags if "src" in attrs or str(attrs.get("href", "#"))[0] != "#"]
    assert not re.findall(r"@[A-Z]+@", text)


def test_page_has_column_per_node_and_row_per_record() -> None:
    page = Page(draw(random_trace(5, 300, seed=1)))
    assert len(page.of_class("head")) == 5
    assert [attrs["data-n"] for attrs in page.of_class("row")] == [
        str(place) for place in range(len(page.of_class("row")))
    ]
    assert len(page.of_class("row")) >= 300


def test_messages_are_in_the_model_with_their_arrival_or_loss() -> None:
    stage = Stage(3)
    stage.step(NodeId(1), CampaignRequested())
    stage.deliver()
    stage.lose()
    model = model_of(draw(stage.tracer.records))
    assert [(number, column, to) for _, column, number, to, _, _ in model["sends"]] == [(1, 0, 1), (2, 0, 2), (3, 1, 0)]
    assert [(kind, number) for _, kind, number, _, _ in model["records"] if number] == [("step", 1), ("loss", 2)]


def test_crashes_restarts_and_the_violation_are_marked() -> None:
    text = draw(random_trace(3, 80, seed=2))
    page = Page(text)
    assert len(page.of_class("crash")) == 1
    assert len(page.of_class("restart")) == 1
    assert len(page.of_class("violation")) == 1
    assert len(page.of_class("invariant")) == 1
    assert text.count("state machine safety: nodes 1 and 3 applied different entries at 7") == 2


def quiet(step: int, event: str = "tick", **more: Any) -> TraceRecord:
    return TraceRecord(step, step, NodeId(1), event, picture=FOLLOWER, **more)


FOLLOWER = NodePicture("follower", Term(2), NodeId(3), NodeId(3), Index(7), Index(7), Index(1), Index(7))


def test_ticks_and_heartbeats_without_consequence_are_folded() -> None:
    beat = TraceSend(1, NodeId(2), "heartbeat ok, match 7, term 2")
    request = TraceSend(2, NodeId(2), "request pre-vote in term 3, log ends at 2/7")
    trace = [
        quiet(1, "started"),
        quiet(2),
        quiet(3, "from 3: heartbeat at 2/7, commit 7, term 2", sends=(beat,)),
        quiet(4, "7 ticks at once"),
        quiet(5, effects=("answer request 1: applied",)),
        quiet(6, sends=(request,)),
        msgspec.structs.replace(quiet(7), picture=msgspec.structs.replace(FOLLOWER, term=Term(3))),
        quiet(8, violation="broken"),
    ]
    items = list(Timeline(trace).items())
    assert [item.text if isinstance(item, Fold) else item.record.step for item in items] == [
        *(1, "2 ticks, 1 heartbeat"),
        *(5, 6, 7, 8),
    ]


def test_last_ten_rows_are_in_full_at_every_end() -> None:
    trace = [quiet(step, f"durable up to write {step}") for step in range(60)]
    trace[30] = msgspec.structs.replace(trace[30], violation="broken")
    trace[29] = quiet(29)
    full = [row.place for row in Timeline(trace).rows if row.full]
    assert full == [*range(20, 29), 30, *range(50, 60)]


def test_finding_names_nodes_and_commands() -> None:
    effects = ('apply up to 7 [7 "set x" (96 bytes), 8 "set y"]',)
    trace = [
        TraceRecord(1, 1, NodeId(1), "from 2: append ok", effects=effects),
        TraceRecord(2, 2, NodeId(2), 'from 1: append after 1/6 [2/7 "set z"], commit 6, term 2'),
        TraceRecord(3, 3, NodeId(3), "tick", violation="node 1: another entry is committed at 7 than elsewhere\nmore"),
        TraceRecord(4, 4, NodeId(3), "tick", violation="a client was answered 1 (command b'add')"),
        TraceRecord(5, 5, NodeId(2), 'request 5: append "q"', violation="nodes 1, 2 and 3 differ"),
    ]
    first, second, third = find_violations(trace)
    assert (first.place, first.nodes, first.more) == (2, (1,), "more")
    assert first.commands == (
        NamedCommand('7 "set x" (96 bytes)', (NodeId(1),)),
        NamedCommand('7 "set z"', (NodeId(2),)),
    )
    assert (second.nodes, second.commands) == ((3,), (NamedCommand("b'add'"),))
    assert third.nodes == (1, 2, 3)


def test_hostile_texts_stay_texts() -> None:
    hostile = "</script><script>alert(1)</script>@MODEL@"
    record = TraceRecord(1, 1, NodeId(1), hostile, violation="<u id=x>&", effects=(hostile,))
    text = draw([record], title="<q>", command="<q>")
    assert text.count("<script") == 3
    assert "<u id" not in text
    assert "<q>" not in text
    assert model_of(text)["records"][0][4] == [hostile]


def test_empty_trace_makes_an_empty_page() -> None:
    assert Page(draw([])).open == []


def test_equal_steps_make_equal_traces() -> None:
    first, second = random_trace(3, 80, seed=3), random_trace(3, 80, seed=3)
    assert encode_trace(first) == encode_trace(second)
    changed = [msgspec.structs.replace(first[0], event="other"), *first[1:]]
    assert encode_trace(changed) != encode_trace(first)


def test_messages_of_a_run_are_drawn_from_their_sender() -> None:
    trace = run_seed(5, open_store=open_file_store, profile=Profile(chaos=10 * SECOND, operations=20), trace=True).trace
    arrived = [record for record in trace if record.event.startswith("from ")]
    assert arrived
    assert sum(not record.message for record in arrived) < len(arrived) / 20
