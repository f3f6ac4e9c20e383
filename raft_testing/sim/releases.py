"""Releases of a simulated node: one that has the feature `FEATURE`, and an older one that has not."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from raft_core.errors import FeatureUnknown
from raft_core.recovered import Recovered
from raft_core.settings import Settings, check_features
from raft_testing.rng import Rng

__all__ = ["FEATURE", "of_some_release"]

FEATURE: Final = "red"


def of_some_release(settings: Settings, recovered: Recovered, rng: Rng, seen: Counter[str], *, newer: bool) -> Settings:
    """Return the settings of the release that is started on this disk.

    It is the older one at times, unless it has to be the `newer` one. If it does not start, because the log
    enables what it does not have, the newer one is started.
    """
    older = attrs.evolve(settings, features=())
    if not newer and rng.chance(0.25):
        try:
            check_features(older, recovered.members)
        except FeatureUnknown:
            seen["older release did not start on its disk"] += 1
        else:
            seen["started with an older release"] += 1
            return older
    return attrs.evolve(settings, features=(FEATURE,))
