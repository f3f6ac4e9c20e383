"""The reference describes every public name, and the site has every page."""

from __future__ import annotations

import importlib
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def pages_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_pages", DOCS / "reference_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_describes_every_public_name(tmp_path: Path) -> None:
    module = pages_module()
    module.write(tmp_path)

    for page, (_, packages) in module.PAGES.items():
        text = (tmp_path / f"{page}.md").read_text("utf-8")
        for package in packages:
            for name in importlib.import_module(package).__all__:
                assert re.search(rf"^### {name}$|`{name}`", text, re.MULTILINE), f"{package}.{name}"


def test_settings_are_listed_with_default_and_meaning(tmp_path: Path) -> None:
    pages_module().write(tmp_path)
    text = (tmp_path / "settings.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \| (.+) \|$", text, re.MULTILINE)

    assert {"election_ticks", "silence", "data", "authorities", "lifetime"} <= {name for name, *_ in rows}
    assert len(rows) > 60
    for name, *_, meaning in rows:
        assert len(meaning) > 10, name
    units = {name: unit for name, _, unit, *_ in rows}
    for name, unit in {
        "silence": "ns",
        "leader_wait": "ns",
        "election_ticks": "ticks",
        "log_max_bytes": "bytes",
    }.items():
        assert units[name] == unit


@pytest.mark.parametrize("page", sorted(page.stem for page in DOCS.glob("*.md")))
def test_every_page_is_in_the_contents(page: str) -> None:
    if page != "index":
        assert re.search(rf"^{page}$", (DOCS / "index.md").read_text("utf-8"), re.MULTILINE)


def test_install_lists_every_extra() -> None:
    table = (DOCS / "index.md").read_text("utf-8").partition("| extra |")[2].partition("\n\n")[0]
    first_cells = "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))
    extras = tomllib.loads((DOCS.parent / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]

    assert set(re.findall(r"`(\w+)`", first_cells)) == extras.keys()
