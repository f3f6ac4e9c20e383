"""`raft-kv demo`: real processes, real deaths, and the proof that nothing acknowledged was lost.

What lives here: the stories and what they need: processes, clients that write, a display, a check. It talks to the
nodes as any client would; nothing in it knows more than a Redis connection tells.
"""

from __future__ import annotations

from raft_kv.demo.scenarios import DemoOptions, demo_location, run_demo

__all__ = ["DemoOptions", "demo_location", "run_demo"]
