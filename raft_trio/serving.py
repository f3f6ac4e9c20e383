"""`serve`: run a node until SIGTERM or SIGINT, then transfer leadership, stop and close."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import trio

from raft_core.node.config import NodeConfig
from raft_core.node.opening import Openable
from raft_core.state_machine import StateMachine
from raft_trio.node import Node, open_node

__all__ = ["serve"]


async def serve(
    config: NodeConfig,
    machine: StateMachine | Openable,
    app: Callable[[Node], Awaitable[object]] = Node.wait_finished,
    *,
    seed: int | None = None,
) -> None:
    """Run a node and `app(node)` until SIGTERM or SIGINT comes or `app` returns; then end in order like `open_node`.

    The signal cancels `app`. A second one ends the process at once, which loses nothing that was acknowledged. Call it
    in the main thread. It raises what `open_node` and `app` raise. A program which handles signals itself, as web
    servers do, uses `open_node` instead.
    """
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_cancel_at_signal, nursery.cancel_scope)
        try:
            async with open_node(config, machine, seed=seed) as node:
                await app(node)
        except Exception as failure:  # leaves unchanged, not in a group
            raised = failure
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


async def _cancel_at_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(aiter(signals))
    scope.cancel()
