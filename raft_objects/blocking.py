"""`blocking`: replicated objects for threads: Django, Flask, scripts. One event loop in the background serves them all.

    bank, locks = Bank(), LockTable()
    with blocking.open_objects(config, Objects({"bank": bank, "locks": locks})) as cluster:
        cluster.call(bank.deposit, "ada", 5)                      # from any thread, typed as the method is
        cluster.call(bank.balance.here, "ada")                    # the local replica, perhaps old
        with cluster.using(Locks(locks).hold("report")) as held:
            write_report(fence=held.token)

Without a block, `connect` opens and `close` closes; at the end of the interpreter what is open is closed in order.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from threading import Thread, get_ident
from typing import Any, Final, ParamSpec, TypeVar, final, overload

import anyio
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import checkpoint_if_cancelled

from raft_anyio import Node, open_node
from raft_core.effects import UnknownReason
from raft_core.errors import CallerError, OutcomeUnknown
from raft_core.node.config import NodeConfig
from raft_objects import running
from raft_objects.declare import Replicated
from raft_objects.machine import Objects, objects_of

__all__ = ["Cluster", "connect", "open_objects"]

P = ParamSpec("P")
T = TypeVar("T")


@final
class Cluster:
    """Objects on a node in a background thread. Every method may be called from any thread."""

    def __init__(self, config: NodeConfig, objects: Objects | Replicated) -> None:
        self._process: Final = os.getpid()
        self._closed = False
        self._ended = False
        """The node was closed in order."""
        self._failure: BaseException | None = None
        self._opened: Final[Future[tuple[BlockingPortal, running.Running, Node]]] = Future()
        self._thread: Final = Thread(target=self._serve, args=(config, objects), name="raft_objects", daemon=True)
        self._thread.start()
        try:
            self._portal, self._running, self._node = self._opened.result()
        except BaseException:  # it cannot be opened, or this thread was interrupted while it is being opened
            self._closed = True
            self._thread.join()
            raise
        atexit.register(self.close)

    @property
    def node(self) -> Node:
        """The node, for use by `call`: `cluster.call(cluster.node.ready, timeout=30)`.

        What is no request is read in the node's thread as well: `cluster.call(lambda: cluster.node.status)`.
        """
        return self._node

    @property
    def running(self) -> running.Running:
        """The open objects, for use by `call`: `cluster.call(cluster.running.enable, 2)`."""
        return self._running

    @overload
    def call(self, func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def call(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...
    def call(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call `func(*args, **kwargs)` in the background, await what can be awaited, and return or raise its result.

        `func` is a command or query of an object, a method of a recipe, or any function that does not block. An
        exception in the waiting thread, such as `KeyboardInterrupt`, cancels it; its command may still be applied. If
        the node ends meanwhile, `OutcomeUnknown` is raised.
        """
        self._check()
        with self._closing():
            future = self._portal.start_task_soon(lambda: func(*args, **kwargs))
            try:
                return future.result()
            except BaseException:
                future.cancel()
                raise

    @contextmanager
    def using(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Use an async context manager, such as `Locks.hold`, for a block of this thread.

        If the cluster is closed meanwhile, or its node fails, the manager is cancelled at once: a lock is released and
        lost, which `Held.check` tells; a message is given back. The block raises `OutcomeUnknown` at its end, and so
        does who still waits to enter. An exception in the waiting thread cancels the entry.
        """
        self._check()
        scopes: list[anyio.CancelScope] = []

        @asynccontextmanager
        async def cancellable() -> AsyncIterator[T]:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                async with manager as value:
                    yield value
                    await checkpoint_if_cancelled()  # the portal does not tell the manager

        async def cancel() -> None:
            scopes[0].cancel()

        with self._closing() as own, ExitStack() as stack:
            try:
                value = stack.enter_context(self._portal.wrap_async_context_manager(cancellable()))
            except BaseException:
                with suppress(RuntimeError):  # the portal has ended
                    self._portal.start_task_soon(cancel)
                raise
            try:
                yield value
            except BaseException as failure:
                own.append(failure)
                raise

    def close(self) -> None:
        """Close the node in order: waiting calls end, locks are released, leadership is handed over.

        Raise the node's error if it has failed. In a forked child this does nothing.
        """
        if os.getpid() != self._process:
            return
        if get_ident() == self._thread.ident:
            raise CallerError("the cluster is closed from another thread than that of its event loop")
        first, self._closed = not self._closed, True
        if first:
            atexit.unregister(self.close)
            with suppress(RuntimeError):  # it has ended by itself
                self._portal.call(self._portal.stop, True)
        self._thread.join()
        if first and self._failure is not None:
            raise self._failure

    @contextmanager
    def _closing(self) -> Iterator[list[BaseException]]:
        """Turn the end of the portal into an error that says what has happened to the call.

        What is in the list is not touched.
        """
        own: list[BaseException] = []
        try:
            yield own
        except (CancelledError, asyncio.CancelledError, RuntimeError) as failure:
            if any(failure is one for one in own):
                raise
            if isinstance(failure, RuntimeError) and self._thread.is_alive() and not self._closed:
                raise  # the function's own
            text = "the cluster was closed, or its node has failed, before there was an answer"
            raise OutcomeUnknown(UnknownReason.STOPPING, text) from (self._failure or failure)

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
        if not self._thread.is_alive():
            raise CallerError("the node has failed; close() raises its error") from self._failure

    # The background.

    def _serve(self, config: NodeConfig, objects: Objects | Replicated) -> None:
        try:
            anyio.run(self._run, config, objects, backend="asyncio")
        except BaseException as failure:
            if self._ended:
                return  # asyncio starts a thread to end its loop, which Python >= 3.12 refuses at the interpreter's end
            if self._opened.done():
                self._failure = failure
            else:
                self._opened.set_exception(failure)

    async def _run(self, config: NodeConfig, objects: Objects | Replicated) -> None:
        """Run the node around the portal: first the calls end, and then the node."""
        whole = objects_of(objects)
        async with (
            open_node(config, whole.machine) as node,
            running.attach(node, whole) as opened,
            BlockingPortal() as portal,
        ):
            self._opened.set_result((portal, opened, node))
            if not self._closed:
                await portal.sleep_until_stopped()
        self._ended = True


def connect(config: NodeConfig, objects: Objects | Replicated) -> Cluster:
    """Open a node with these objects in a background thread; see `raft_objects.running.open_objects`."""
    return Cluster(config, objects)


@contextmanager
def open_objects(config: NodeConfig, objects: Objects | Replicated) -> Iterator[Cluster]:
    """Open a node with these objects for the block."""
    cluster = Cluster(config, objects)
    try:
        yield cluster
    finally:
        cluster.close()
