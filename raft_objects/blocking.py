"""`blocking`: replicated objects for threads: Django, Flask, scripts. One event loop in the background serves them all.

    bank, locks = Bank(), LockTable()
    with blocking.open_objects(config, Objects({"bank": bank, "locks": locks})) as cluster:
        cluster.call(bank.deposit, "ada", 5)                      # from any thread, typed as the method is
        with cluster.using(Locks(locks).hold("report")) as held:
            write_report(fence=held.token)

Without a block, `connect` opens and `close` closes; at the end of the interpreter what is open is closed in order.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from threading import Thread, get_ident
from typing import Final, ParamSpec, TypeVar, final

import anyio
from anyio.from_thread import BlockingPortal

from raft_core.errors import CallerError
from raft_core.node.config import NodeConfig
from raft_objects import running
from raft_objects.machine import Objects

__all__ = ["Cluster", "connect", "open_objects"]

P = ParamSpec("P")
T = TypeVar("T")


@final
class Cluster:
    """Objects on a node in a background thread. Every method may be called from any thread."""

    def __init__(self, config: NodeConfig, objects: Objects) -> None:
        self._process: Final = os.getpid()
        self._closed = False
        opened: Future[BlockingPortal] = Future()
        self._thread: Final = Thread(target=_serve, args=(opened,), name="raft_objects", daemon=True)
        self._thread.start()
        self._portal: Final = opened.result()
        self._node: Final = self._portal.wrap_async_context_manager(running.open_objects(config, objects))
        try:
            self._running: Final = self._node.__enter__()
        except BaseException:
            self._end()
            raise
        atexit.register(self.close)

    def call(self, func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `func(*args, **kwargs)` in the background, and return its result or raise its error.

        `func` is a command or query of an object, a method of a recipe, or any async function. An exception in the
        waiting thread, such as `KeyboardInterrupt`, cancels it; its command may still be applied.
        """
        self._check()
        future = self._portal.start_task_soon(lambda: func(*args, **kwargs))
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @contextmanager
    def using(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Use an async context manager, such as `Locks.hold`, for a block of this thread."""
        self._check()
        with self._portal.wrap_async_context_manager(manager) as value:
            yield value

    def close(self) -> None:
        """Close the node in order: it hands over leadership. In a forked child this does nothing."""
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        atexit.unregister(self.close)
        try:
            self._node.__exit__(None, None, None)
        finally:
            self._end()

    def _end(self) -> None:
        self._portal.call(self._portal.stop)
        self._thread.join()

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise CallerError(
                "the node was opened before this process was forked and lives in the parent: open it in the child,"
                " after the fork (with gunicorn in post_fork, with uwsgi in @postfork), with a node id of its own"
            )
        if self._closed:
            raise CallerError("the cluster is closed; open it again")
        if get_ident() == self._thread.ident:
            raise CallerError("this is the thread of the event loop: await the call instead")


def _serve(opened: Future[BlockingPortal]) -> None:
    async def serve() -> None:
        async with BlockingPortal() as portal:
            opened.set_result(portal)
            await portal.sleep_until_stopped()

    anyio.run(serve, backend="asyncio")


def connect(config: NodeConfig, objects: Objects) -> Cluster:
    """Open a node with these objects in a background thread; see `raft_objects.running.open_objects`."""
    return Cluster(config, objects)


@contextmanager
def open_objects(config: NodeConfig, objects: Objects) -> Iterator[Cluster]:
    """Open a node with these objects for the block."""
    cluster = Cluster(config, objects)
    try:
        yield cluster
    finally:
        cluster.close()
