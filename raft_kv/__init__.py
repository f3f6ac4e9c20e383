"""A replicated key-value server that speaks the Redis protocol, and the `raft-kv` command.

What lives here: the application that ships with the library. Everything that decides is plain, pure code (the
machine, the table of commands, the client session); the two `serve_*` modules carry bytes for one loop each.
"""

from __future__ import annotations

from raft_kv.client_session import Session
from raft_kv.state_machine import KeyValueMachine

__all__ = ["KeyValueMachine", "Session"]
