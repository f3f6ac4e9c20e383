"""The page of a trace in a browser: it opens on the violation, within a second, and answers the keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from raft_testing.trace.html import draw
from tests.browser import CHROMIUM, Browser, open_browser
from tests.testing.test_html import random_trace

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to look with"), pytest.mark.slow]

TRACE = random_trace(5, 2000, seed=1)
MIDDLE = 1200
TRACE[MIDDLE] = msgspec.structs.replace(TRACE[MIDDLE], violation="election safety: nodes 2 and 4 lead in term 3")
HERE = "document.querySelector('.here')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "trace.html"
    path.write_text(draw(TRACE, "seed 7", "python -m raft_testing simulate --seed 7"), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.open(page)
    return browser


def selected(browser: Browser) -> int:
    return int(browser.evaluate(f"{HERE}.dataset.n"))


def is_in_view(browser: Browser) -> bool:
    rectangle = "r = document.querySelector('.here').getBoundingClientRect(), s = scroll.getBoundingClientRect()"
    return bool(browser.evaluate(f"(() => {{ const scroll = document.getElementById('scroll'), {rectangle};"
                                 " return r.top >= s.top && r.bottom <= s.bottom; })()"))  # fmt: skip


def test_page_opens_on_the_violation_within_a_second(browser: Browser, page: Path) -> None:
    seconds = []
    for _ in range(3):  # the machine may be busy: the best of three
        browser.open(page)
        seconds.append(int(browser.evaluate("document.documentElement.dataset.opened")) / 1000)
    assert min(seconds) < 1.0
    assert selected(browser) == MIDDLE
    assert is_in_view(browser)
    shown = browser.evaluate("document.querySelector('.finding.shown').innerText")
    assert "election safety: nodes 2 and 4 lead in term 3" in shown.splitlines()
    assert "python -m raft_testing simulate --seed 7" in shown
    assert re.search(r"nodes\s+2\s+4\b", shown)
    assert browser.evaluate("[...document.querySelectorAll('.head.named b')].map(b => b.textContent)") == [
        "node 2",
        "node 4",
    ]


@pytest.mark.parametrize("width", [1280, 1920])
def test_nothing_overflows_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("(s => s.scrollWidth - s.clientWidth)(document.getElementById('scroll'))") == 0
    beyond = "one => one.getBoundingClientRect().right > innerWidth"
    assert browser.evaluate(f"[...document.querySelectorAll('header *, footer *')].filter({beyond}).length") == 0


def test_keys_move_between_events_and_violations(opened: Browser) -> None:
    opened.press("n")
    last = len(TRACE) - 1
    assert selected(opened) == last
    assert "nodes 1 and 3" in opened.evaluate("document.querySelector('.finding.shown').innerText")
    opened.press("p")
    assert selected(opened) == MIDDLE
    opened.press("j", "j")
    forward = selected(opened)
    assert forward >= MIDDLE + 2
    opened.press("ArrowDown", "ArrowUp", "k", "k")
    assert selected(opened) == MIDDLE
    opened.press(*["k"] * 25)
    assert selected(opened) < MIDDLE - 20
    assert is_in_view(opened)


def test_enter_unfolds_ticks_and_heartbeats(opened: Browser) -> None:
    while not opened.evaluate(f"{HERE}.classList.contains('fold')"):
        opened.press("k")
    fold = selected(opened)
    assert not opened.evaluate(f"document.getElementById('n{fold}').checkVisibility()")
    opened.press("Enter")
    assert opened.evaluate(f"document.getElementById('n{fold}').checkVisibility()")
    opened.press("j")
    assert selected(opened) == fold
    assert opened.evaluate(f"{HERE}.classList.contains('row')")
    opened.press("k", "Enter")
    assert not opened.evaluate(f"document.getElementById('n{fold}').checkVisibility()")
    opened.press("a")
    assert opened.evaluate("[...document.querySelectorAll('.quiet')].every(quiet => quiet.checkVisibility())")


def test_cut_label_is_in_full_on_hover_and_in_the_last_rows(opened: Browser) -> None:
    cut = "label.scrollWidth > label.clientWidth"
    opened.evaluate(
        "(label => { label.id = 'cut'; label.scrollIntoView({block: 'center'}); })"
        f"([...document.querySelectorAll('.row:not(.full) .label')].find(label => label.checkVisibility() && {cut}))"
    )
    opened.evaluate("new Promise(requestAnimationFrame)")
    opened.hover("#cut")
    assert not opened.evaluate("document.getElementById('tip').hidden")
    assert opened.evaluate("document.getElementById('tip').textContent === document.getElementById('cut').textContent")
    assert opened.evaluate("document.querySelectorAll('.row.full').length") == 20
    assert opened.evaluate(f"[...document.querySelectorAll('.row.full .label')].filter(label => {cut}).length") == 0


def test_search_goes_from_hit_to_hit(opened: Browser) -> None:
    opened.press("/", *"crashed", "Enter")
    assert opened.evaluate(f"{HERE}.querySelector('.label').textContent") == "crashed"
    opened.press("Escape")
    assert not opened.evaluate("document.getElementById('rows').classList.contains('searching')")


def test_page_is_dark_where_the_reader_wants_it(browser: Browser, page: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    browser.open(page)
    assert min(browser.evaluate(paper)) > 200
    browser.open(page, dark=True)
    assert max(browser.evaluate(paper)) < 60


def test_page_without_violation_opens_on_its_end(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "fine.html"
    path.write_text(draw(random_trace(3, 50, seed=5)[:40], "fine"), encoding="utf-8")
    browser.open(path)
    assert selected(browser) >= 35
    assert browser.evaluate("document.querySelector('.fine').textContent") == "no violation"
