"""`raft-kv demo`: start real processes, kill them, and prove that no acknowledged write was lost.

The demo talks to the nodes as any client does, over Redis connections.
"""

from __future__ import annotations

from raft_kv.demo.scenarios import DemoOptions, demo_location, run_demo

__all__ = ["DemoOptions", "demo_location", "run_demo"]
