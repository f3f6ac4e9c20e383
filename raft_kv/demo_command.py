"""The command `raft-kv demo`: its help and its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from raft_core.errors import SettingsError
from raft_kv.cli_command import KINDS_TEXT, Command, collect
from raft_kv.config import FASTEST_LOOP, LOOPS, fastest_loop
from raft_kv.options import Option, with_variables

__all__ = ["DEMO_COMMAND"]

_STORIES: Final = ("failover", "membership")
_DESCRIPTION: Final = """\
Watch a cluster survive the death of its leader.

Starts real server processes on this machine, writes to them without pause, kills the leader
with SIGKILL at a third of the time, restarts it at two thirds, and checks at the end, on every
node, that every acknowledged write is there; then stops all, starts all, and checks again.

Exit status 0: nothing was lost. 1: something was, or a node ended by itself. 130 after Ctrl-C, 143
after SIGTERM: interrupted; all nodes are stopped, and --record has a picture of the part that ran.
"""
_EXAMPLES: Final = """\
examples:
      raft-kv demo
      raft-kv demo --story membership
      raft-kv demo --nodes 5 --seconds 60 --data sqlite: --loop trio
      raft-kv demo --keep --data /tmp/demo       # then redis-cli -p, with a port that it shows
      raft-kv demo --record demo.svg
"""
_OPTIONS: Final = with_variables(
    "RAFT_KV_DEMO_",
    Option(name="nodes", metavar="N", help="number of nodes, at least 3", default="3"),
    Option(name="seconds", metavar="S", help="time in which clients write", default="20"),
    Option(name="clients", metavar="N", help="number of clients", default="16"),
    Option(
        name="data",
        metavar="LOCATION",
        help=f"location of the nodes' data: {KINDS_TEXT}; sqlite: alone selects the store, in a temporary directory",
        default="a temporary directory",
        old_name="data-dir",
    ),
    Option(name="keep", help="leave the cluster running at the end", default="false"),
    Option(name="record", help="write a picture of the run there, as SVG", metavar="FILE"),
    Option(name="loop", metavar="LOOP", help=f"the servers' event loop: {', '.join(LOOPS)}", default=FASTEST_LOOP),
    Option(
        name="story",
        metavar="|".join(_STORIES),
        help="failover: kill the leader, restart it. membership: grow from 3 to 5 nodes, replace the leader, shrink",
        default="failover",
    ),
)


@attrs.frozen(kw_only=True)
class _Demo:
    nodes: int = 3
    seconds: float = 20.0
    clients: int = 16
    data: str = ""
    keep: bool = False
    loop: str = attrs.field(factory=fastest_loop)
    story: str = "failover"
    record: str = ""

    def __attrs_post_init__(self) -> None:
        if self.nodes < 1 or self.clients < 1 or not self.seconds >= 1:
            raise SettingsError("nodes, clients and seconds must be at least 1")
        if self.loop not in LOOPS:
            raise SettingsError(f"loop is one of {', '.join(LOOPS)}, not {self.loop!r}")
        if self.story not in _STORIES:
            raise SettingsError(f"story is one of {', '.join(_STORIES)}, not {self.story!r}")


def _demo(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.demo import DemoOptions, demo_location, run_demo

    given = collect(_OPTIONS, flags, environ, _Demo)
    store, directory = demo_location(given.data)
    return run_demo(
        DemoOptions(
            nodes=given.nodes,
            seconds=given.seconds,
            clients=given.clients,
            directory=directory,
            store=store,
            keep=given.keep,
            loop=given.loop,
            story=given.story,
            record=Path(given.record) if given.record else None,
        )
    )


DEMO_COMMAND: Final = Command(
    help="watch a cluster survive the death of its leader",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    options=_OPTIONS,
    execute=_demo,
)
