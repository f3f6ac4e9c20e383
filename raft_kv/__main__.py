"""`python -m raft_kv`, and the entry point of the `raft-kv` command."""

from __future__ import annotations

from raft_kv.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
