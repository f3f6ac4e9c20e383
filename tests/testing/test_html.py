"""Traces and the page that shows them: what is recorded, what survives JSON, what the page contains."""

from __future__ import annotations

from html.parser import HTMLParser
from random import Random

import msgspec
import pytest

from raft_core.effects import Effect, Persist, Send
from raft_core.errors import CallerError
from raft_core.events import CampaignRequested, Event, Persisted, Proposed, Tick
from raft_core.ids import NodeId, RequestId
from raft_core.membership import Members
from raft_core.messages import Message
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.settings import Settings
from raft_testing.trace.html import draw
from raft_testing.trace.records import RecordKind, Tracer, TraceRecord, decode_trace, encode_trace


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


def test_the_page_is_well_formed_and_fetches_nothing() -> None:
    text = draw(random_trace(5, 300, seed=1))
    page = Page(text)
    assert page.open == []
    assert "://" not in text
    assert not [attrs for _, attrs in page.tags if "src" in attrs or str(attrs.get("href", "#"))[0] != "#"]
    assert "@" not in text.partition("<svg")[0].replace("@media", "")


def test_the_page_has_a_column_per_node_and_a_row_per_record() -> None:
    page = Page(draw(random_trace(5, 300, seed=1)))
    assert len(page.of_class("head")) == 5
    assert len(page.of_class("row")) >= 300


def test_every_delivered_message_is_an_arrow_and_lost_ones_are_marked() -> None:
    stage = Stage(3)
    stage.step(NodeId(1), CampaignRequested())
    stage.deliver()
    stage.lose()
    page = Page(draw(stage.tracer.records))
    lost = [attrs["data-m"] for attrs in page.of_class("arrow") if "lost" in (attrs["class"] or "").split()]
    pending = [attrs["data-m"] for attrs in page.of_class("pending")]
    assert {attrs["data-m"] for attrs in page.of_class("arrow")} == {"1", "2", "3"}
    assert (lost, pending) == (["2"], ["3"])


def test_crashes_restarts_and_the_violation_are_marked() -> None:
    text = draw(random_trace(3, 80, seed=2))
    page = Page(text)
    assert len(page.of_class("crash")) == 1
    assert len(page.of_class("restart")) == 1
    assert len(page.of_class("violation")) == 1
    assert text.count("state machine safety: nodes 1 and 3 applied different entries at 7") == 3


def test_hostile_texts_stay_texts() -> None:
    record = TraceRecord(1, 1, NodeId(1), "</script><script>alert(1)</script>", violation="<u>&")
    text = draw([record], title="<i>")
    assert text.count("<script>") == 1
    assert "<u>" not in text
    assert "<i>" not in text


def test_an_empty_trace_makes_an_empty_page() -> None:
    assert Page(draw([])).open == []


def test_equal_steps_make_equal_traces() -> None:
    first, second = random_trace(3, 80, seed=3), random_trace(3, 80, seed=3)
    assert encode_trace(first) == encode_trace(second)
    changed = [msgspec.structs.replace(first[0], event="other"), *first[1:]]
    assert encode_trace(changed) != encode_trace(first)
