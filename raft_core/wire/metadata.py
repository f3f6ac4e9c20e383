"""Metadata of a member: pairs of names and values that an application tells its peers, such as its HTTP address."""

from __future__ import annotations

from typing import Final, TypeAlias

__all__ = ["LONGEST_NAME", "LONGEST_VALUE", "MOST_PAIRS", "Metadata", "metadata_problem"]

Metadata: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, sorted by name."""

MOST_PAIRS: Final = 16
LONGEST_NAME: Final = 64
"""Characters."""
LONGEST_VALUE: Final = 256
"""Characters."""


def metadata_problem(metadata: Metadata) -> str | None:
    """Return why a greeting cannot carry these pairs, or None."""
    if len(metadata) > MOST_PAIRS:
        return f"there are {len(metadata)} pairs of metadata, and {MOST_PAIRS} at most"
    for name, value in metadata:
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            return f"a name of metadata has 1 to {LONGEST_NAME} printable characters, unlike {name[:80]!r}"
        if len(value) > LONGEST_VALUE:
            return f"a value of metadata has {LONGEST_VALUE} characters at most, and that of {name!r} has {len(value)}"
    names = [name for name, _ in metadata]
    if names != sorted(set(names)):
        return "metadata must be sorted by name and without doubles"
    return None
