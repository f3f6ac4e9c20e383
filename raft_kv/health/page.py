"""The page: one self-contained document, read once, with headers that let it load nothing from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from raft_kv.health.http_session import HttpAnswer

__all__ = ["page_answer"]

_PARTS: Final = (("style", "style-src"), ("script", "script-src"))


@cache
def _page() -> bytes:
    return files("raft_kv.health").joinpath("page.html").read_bytes()


@cache
def _sources() -> str:
    """Return the policy for the page's own style and script, each named by its hash."""
    page = _page()
    allowed = []
    for tag, directive in _PARTS:
        start, end = f"<{tag}>".encode(), f"</{tag}>".encode()
        inside = page.partition(start)[2].partition(end)[0]
        allowed.append(f"{directive} 'sha256-{b64encode(sha256(inside).digest()).decode()}'")
    return "; ".join(allowed)


def page_answer(others: Sequence[str]) -> HttpAnswer:
    """Answer with the page. It may ask this port, and the health ports of the `others`, and nothing else."""
    connect = " ".join(["connect-src 'self'", *others])
    policy = f"default-src 'none'; {_sources()}; {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    headers = (
        ("Content-Security-Policy", policy),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
    )
    return HttpAnswer(200, _page(), "text/html; charset=utf-8", headers)
