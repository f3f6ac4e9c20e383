"""Features of the key-value server: what it writes into the log that release 0.1.0 does not know, and would skip.

A cluster uses a feature once all its members have it and an entry of the log says so (`raft_core.features`). Until then
the commands that need it are refused on every node, before anything is appended. A command's row in the table says
which feature it needs (`raft_kv.commands.table.Writes`).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final, Protocol, final

from raft_core.node.status import NodeStatus
from raft_kv.commands import TABLE
from raft_kv.feature_names import COMPARE, FEATURES, MAX_MEMORY, ONCE, USERS
from raft_kv.resp import CommandError

__all__ = ["COMPARE", "FEATURES", "MAX_MEMORY", "ONCE", "USERS", "FeatureGate", "HasFeatures", "feature_of"]

_BY_SUBCOMMAND: Final = {
    b"raft": {b"once": ONCE, b"session": ONCE},
    b"acl": {b"setuser": USERS, b"deluser": USERS},
}


def feature_of(call: Sequence[bytes]) -> str:
    """Return the feature that this call needs as it enters the log; "" if none."""
    name = call[0].lower()
    if name in _BY_SUBCOMMAND and len(call) > 1:
        return _BY_SUBCOMMAND[name].get(call[1].lower(), "")
    command = TABLE.get(name)
    return command.writes.feature if command is not None and command.writes is not None else ""


class HasFeatures(Protocol):
    """A node, as far as features go."""

    @property
    def features(self) -> tuple[str, ...]:
        """The features that the cluster uses."""
        ...

    @property
    def status(self) -> NodeStatus:
        """The node's state."""
        ...


@final
class FeatureGate:
    """What the cluster uses, as one node knows it. Without a node, all features of this release."""

    __slots__ = ("node",)

    def __init__(self, node: HasFeatures | None = None) -> None:
        self.node = node

    @property
    def used(self) -> Container[str]:
        """The features that commands may use now."""
        return FEATURES if self.node is None else self.node.features

    def checked(self, call: list[bytes]) -> list[bytes]:
        """Return the call. Raise `CommandError` if it needs a feature that the cluster does not use."""
        feature = feature_of(call)
        if feature and feature not in self.used:
            raise CommandError(self._refusal(feature))
        return call

    def _refusal(self, feature: str) -> str:
        core = None if self.node is None else self.node.status.core
        if core is None or core.members.empty or feature in core.members.features:
            return f"TRYAGAIN this node does not know yet whether the cluster uses {feature}; try again in a moment"
        return (
            f"ERR the cluster does not use {feature} yet, which this command needs: a member with an older release "
            "would skip it, and its data would differ. Once all members run this release, an administrator sends RAFT "
            "FEATURES ENABLE, after which there is no way back to the older one"
        )
