"""A replicated key-value server that speaks the Redis protocol, and the `raft-kv` command.

All decisions are made by pure code: the client session, the table of commands, the state machine. `server` moves bytes
between them, the clients and the node.
"""

from __future__ import annotations

from raft_kv.client_session import Session
from raft_kv.state_machine import KeyValueMachine

__all__ = ["KeyValueMachine", "Session"]
