"""Names of features: the abilities of a release that a cluster uses only once all its members have them.

A name is up to 64 of the characters a-z, 0-9, `.`, `_`, `-`, such as "kv-users". A node's code knows some
(`Settings.features`), each greeting carries them, and a configuration in the log enables them (`Members.features`).
"""

from __future__ import annotations

import string
from collections.abc import Collection, Iterable
from typing import Final

__all__ = ["LONGEST_FEATURE", "MOST_FEATURES", "features_problem", "missing_features", "named"]

LONGEST_FEATURE: Final = 64
"""Characters of a name."""
MOST_FEATURES: Final = 64
"""Names in one configuration, greeting or request."""
_LETTERS: Final = frozenset(string.ascii_lowercase + string.digits + "._-")


def features_problem(features: tuple[str, ...]) -> str | None:
    """Return why these cannot be a sorted set of features, or None."""
    if len(features) > MOST_FEATURES:
        return f"there are {len(features)} features, and {MOST_FEATURES} at most"
    for feature in features:
        if not 0 < len(feature) <= LONGEST_FEATURE or not _LETTERS.issuperset(feature):
            return f"a feature is up to {LONGEST_FEATURE} of a-z, 0-9, '.', '_' and '-', not {feature[:80]!r}"
    if features != tuple(sorted(set(features))):
        return "features must be sorted and without doubles"
    return None


def missing_features(required: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """Return the features in `required` that `known` lacks, sorted."""
    return tuple(sorted(set(required).difference(known)))


def named(features: Iterable[str]) -> str:
    """Return the names for a text, such as "kv-once, kv-users"."""
    return ", ".join(features)
