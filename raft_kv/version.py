"""The version of this package."""

from __future__ import annotations

from importlib import metadata

__all__ = ["version"]


def version() -> str:
    """Return the installed distribution's version; "unreleased" for a source tree that is not installed."""
    try:
        return metadata.version("sansio-raft")
    except metadata.PackageNotFoundError:
        return "unreleased"
