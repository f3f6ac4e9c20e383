"""The names of the key-value server's features; see `raft_kv.features`.

They are part of the log's format: a name never gets a second meaning.
"""

from __future__ import annotations

from typing import Final

__all__ = ["COMPARE", "FEATURES", "MAX_MEMORY", "ONCE", "USERS"]

COMPARE: Final = "kv-compare"
"""DELIFEQ, DELEX, SET with IFEQ or IFNE, EVAL and EVALSHA."""
MAX_MEMORY: Final = "kv-max-memory"
"""--max-memory: the allowance in each entry."""
ONCE: Final = "kv-once"
"""RAFT SESSION and RAFT ONCE."""
USERS: Final = "kv-users"
"""ACL SETUSER and ACL DELUSER, and entries on behalf of users."""
FEATURES: Final = (COMPARE, MAX_MEMORY, ONCE, USERS)
"""All features of this release."""
