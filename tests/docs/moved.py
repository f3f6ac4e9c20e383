"""Modules of release 0.1 that only say where they went."""

from __future__ import annotations

from typing import Final

__all__ = ["MOVED"]

MOVED: Final = {
    "raft_core.testing": "raft_testing",
    "raft_core.host": "raft_core.node",
    "raft_core.machine": "raft_core.state_machine",
    "raft_core.typed": "raft_core.typed_state_machine",
    "raft_core.storage": "raft_core.store",
    "raft_core.salvage": "raft_core.quorum_loss",
    "raft_core.trace": "raft_core.describe",
}
