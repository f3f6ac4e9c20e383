"""A replicated key-value server that speaks the Redis protocol, and the `raft-kv` command.

All decisions are made by pure code: the client session, the table of commands, the state machine. `server` moves bytes
between them, the clients and the node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raft_kv.client_session import Session
    from raft_kv.state_machine import KeyValueMachine

__all__ = ["KeyValueMachine", "Session"]


def __getattr__(name: str) -> object:
    """Import when first used: `raft-kv certs` needs neither of them, nor the packages that they need."""
    if name == "Session":
        from raft_kv.client_session import Session

        return Session
    if name == "KeyValueMachine":
        from raft_kv.state_machine import KeyValueMachine

        return KeyValueMachine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
