"""Which version this is.

What lives here: one function.
"""

from __future__ import annotations

from importlib import metadata

__all__ = ["version"]


def version() -> str:
    """The installed distribution's version; "unreleased" where it runs from a source tree that is not installed."""
    try:
        return metadata.version("sansio-raft")
    except metadata.PackageNotFoundError:
        return "unreleased"
