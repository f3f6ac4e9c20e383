"""The site: `sphinx-build -W -b html docs build/site`. Reference and settings pages are made from the sources."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))

import reference_pages

project = "sansio-raft"
copyright = "the authors of sansio-raft"  # noqa: A001
version = release = installed_version("sansio-raft")

extensions = ["myst_parser"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
suppress_warnings = ["myst.header"]  # generated pages begin some sections at the third level
html_theme = "furo"
html_title = f"sansio-raft {version}"

reference_pages.write(Path(__file__).parent / "reference")
