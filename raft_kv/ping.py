"""`raft-kv ping`: is a node alive, or ready? For health checks of containers, and for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

import attrs

from raft_core.errors import SettingsError
from raft_core.node.config import split_address
from raft_kv.cli_command import CONNECTING_TEXT, Command, collect
from raft_kv.options import Option, with_variables

__all__ = ["PING", "PingOptions", "run_ping"]

_DESCRIPTION: Final = """\
Ask a node whether it is alive: its event loop turns and it answers clients. With --ready, whether
it can serve: it answers a linearizable read, so a majority is there.

A node that refuses this client answers, so it is alive: a new password, or TLS without variables
for it, lets no health check restart the nodes. (One that wants certificates of its clients has to
see one.)

Exit status 0: yes. 1: no; the message says why. Restart a node that is not alive, and never one
that is only not ready: without a majority a restart helps nothing.
"""
_EXAMPLES: Final = """\
examples:
      raft-kv ping 10.0.0.1:6379
      raft-kv ping --ready --timeout 5 10.0.0.1:6379 || echo "no majority, or no such node"
      until raft-kv ping --ready; do sleep 1; done

In a Dockerfile:  HEALTHCHECK CMD raft-kv ping
"""
_OPTIONS: Final = with_variables(
    "RAFT_KV_PING_",
    Option(
        name="address", metavar="HOST:PORT", help="address for clients", default="127.0.0.1:6379", positional=True,
        repeated=True,
    ),
    Option(name="ready", help="ask for a linearizable read", default="false"),
    Option(name="timeout", metavar="SECONDS", help="time for the answer", default="2"),
)  # fmt: skip


_OF_A_NODE: Final = ("NOAUTH", "NOPERM", "CLUSTERDOWN", "TRYAGAIN", "UNKNOWN")
"""How error replies begin that say more of the node or of this client than that it lives."""


@attrs.frozen(kw_only=True)
class PingOptions:
    """The options of `raft-kv ping`. Raise `SettingsError` if values are invalid."""

    address: list[str] = attrs.field(factory=lambda: ["127.0.0.1:6379"])
    ready: bool = False
    timeout: float = 2.0

    def __attrs_post_init__(self) -> None:
        if len(self.address) != 1:
            raise SettingsError(f"name one address, not {len(self.address)}")
        split_address(self.address[0])
        if not 0 < self.timeout < 1e6:
            raise SettingsError(f"timeout must be a positive number of seconds, not {self.timeout}")


def run_ping(options: PingOptions) -> int:
    """Ask the node; print the answer. Return the exit status."""
    from raft_kv.log_output import print_error, print_line

    problem, answered = _problem(options)
    if not problem or (answered and not options.ready):
        print_line("ready" if options.ready else "alive")
        return 0
    if options.ready and not answered and _alive(options):
        problem += "; it is alive, but does not answer reads: is a majority connected? raft-kv status tells"
    print_error(f"raft-kv: {options.address[0]}: {problem}")
    return 1


def _alive(options: PingOptions) -> bool:
    problem, answered = _problem(attrs.evolve(options, ready=False))
    return answered or not problem


def _problem(options: PingOptions) -> tuple[str, bool]:
    """Return why the node is not alive, or not ready, "" if it is; and whether the node said so itself."""
    from raft_kv.client_remedies import with_remedy
    from raft_kv.node_client import Failed, NodeConnection

    try:
        with closing(NodeConnection(split_address(options.address[0]), options.timeout)) as node:
            reply = node.say("DBSIZE") if options.ready else node.say("PING")
            remedy = node.remedy(reply)
    except Failed as failure:
        return str(failure), failure.answered
    if (options.ready and isinstance(reply, int)) or (not options.ready and reply == b"PONG"):
        return "", True
    return with_remedy(str(reply), remedy), str(reply).startswith(_OF_A_NODE)


def _ping(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    return run_ping(collect(_OPTIONS, flags, environ, PingOptions))


PING: Final = Command(
    help="ask whether a node is alive, or ready",
    description=_DESCRIPTION + CONNECTING_TEXT,
    examples=_EXAMPLES,
    options=_OPTIONS,
    execute=_ping,
)
"""The command."""
