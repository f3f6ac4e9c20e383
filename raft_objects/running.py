"""`open_objects` and `attach`: replicated objects on a node, on asyncio or trio.

    bank = Bank()
    async with open_objects(NodeConfig(1, members, data="bank-1"), Objects({"bank": bank})):
        await bank.deposit("ada", 5)

Every command runs under a session, so it is applied once, however often it has to be sent: after a broken connection,
a change of leader or an unknown outcome it is sent again until its deadline. Sessions are opened when needed; one that
ended unused is replaced, unless a command's outcome is open: then `SessionExpired` is raised, never a second attempt.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import partial
from threading import get_ident
from typing import Any, Final, Protocol, TypeVar, final

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel

import raft_anyio
from raft_core.effects import RefusalReason, UnknownReason
from raft_core.errors import CallerError, OutcomeUnknown, RaftError, Refused, RequestError
from raft_core.node.config import NodeConfig, check_timeout
from raft_core.sessions import Expired, Full, Registered, Reply, Result, decode_reply, encode_register
from raft_objects.calls import encode_enable, encode_skip
from raft_objects.declare import Command, Query, Replicated
from raft_objects.errors import CommandRefused, SessionExpired
from raft_objects.machine import Objects, objects_of
from raft_objects.notices import Notices, Waiter
from raft_objects.replies import result_of
from raft_objects.session import SessionNumbers

__all__ = ["NodeLike", "Running", "attach", "may_pass", "open_objects"]

T = TypeVar("T")
_R, _U = RefusalReason, UnknownReason
_AGAIN: Final = frozenset(
    {
        _R.NOT_LEADER,
        _R.NO_LEADER,
        _R.TRANSFERRING,
        _R.LEADERSHIP_LOST,
        _R.UNCOMMITTED_FULL,
        _R.LOG_FULL,
        _R.READS_FULL,
        _R.CLIENTS_FULL,
        _R.SUPERSEDED,
    }
)
"""Refusals after which the same node may take the request a little later."""
_ENDED: Final = frozenset({_U.STOPPING, _U.MACHINE_FAILED, _U.NODE_FAILED, _U.STORAGE_FAILED})
"""This node is ending and will not take a repetition."""
_FINAL: Final = _ENDED | {_U.RESULT_TOO_LARGE}
"""A repetition would end the same way."""
_PAUSE, _LONGEST_PAUSE = 0.005, 0.25
_WINDOW: Final = 256
"""Commands of one process in flight at once; further ones wait their turn."""


class NodeLike(Protocol):
    """What is used of a node: `raft_anyio.Node` and `raft_trio.Node` have it."""

    @property
    def cluster_time(self) -> int:
        """Return the cluster's time in nanoseconds, as this node knows it."""
        ...

    def propose(self, command: bytes, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        """Replicate a command."""
        ...

    def read(self, query: bytes, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        """Ask the machine, linearizably."""
        ...


@final
class Running:
    """The objects of an open node. `tasks` ends with it.

    The objects stay connected after the end: so later calls are refused, with what the node has ended by.
    """

    def __init__(self, node: NodeLike, objects: Objects, tasks: anyio.abc.TaskGroup) -> None:
        self.node: Final = node
        self.objects: Final = objects
        self._tasks: Final = tasks
        self._ended = False
        self._notices: Final = Notices()
        self._thread: Final = get_ident()
        self._process: Final = os.getpid()
        self._token: Final = anyio.lowlevel.current_token()
        self._numbers: SessionNumbers | None = None
        self._entering: Final = anyio.Lock()
        self._answered = anyio.Event()
        self._window: Final = min(_WINDOW, objects.session_limits.max_results)
        self._begun = False

    @property
    def tasks(self) -> anyio.abc.TaskGroup:
        """The tasks of the node. Raise `Refused` once it has ended."""
        if self._ended:
            raise _ended()
        return self._tasks

    # What bound commands and queries call.

    async def command(self, name: str, command: Command[..., Any], arguments: dict[str, Any], timeout: float) -> Any:
        """Apply a command once, and return its result."""
        await self._require_open()
        check_timeout(timeout)
        body = self.objects.encode_call(name, command, arguments)
        deadline = anyio.current_time() + timeout
        if not self._begun:
            await self._begin(deadline)
        return result_of(self.objects.entry(name), command.name, await self._once(body, deadline))

    async def query(self, name: str, query: Query[..., Any], arguments: dict[str, Any], timeout: float) -> Any:
        """Return a linearizable answer."""
        await self._require_open()
        check_timeout(timeout)
        body = self.objects.encode_call(name, query, arguments)
        deadline = anyio.current_time() + timeout
        data = await self._retried(lambda left: self.node.read(body, timeout=left), deadline)
        return result_of(self.objects.entry(name), query.name, data)

    def ask_here(self, name: str, query: Query[..., Any], arguments: dict[str, Any]) -> Any:
        """Return the local replica's answer."""
        self._require_thread()
        if self._ended:
            raise _ended()
        return self.objects.ask(self.objects.entry(name), query, arguments)

    async def enable(self, version: int, *, timeout: float = 30.0) -> None:
        """Enable a version of the objects, once every process of the cluster runs code that knows it.

        A process that does not know it ends. Raise `CommandRefused` if this one does not, and `Refused` if the leader
        does not.
        """
        await self._require_open()
        check_timeout(timeout)
        if not 1 <= version <= self.objects.version:
            raise CommandRefused("version_unknown", f"this process knows versions 1 to {self.objects.version} only")
        await self._once(encode_enable(version), anyio.current_time() + timeout)

    async def skip(self, index: int, *, timeout: float = 30.0) -> None:
        """Skip the command at `index`. See `Objects.skip`."""
        await self._require_open()
        check_timeout(timeout)
        await self._once(encode_skip(index), anyio.current_time() + timeout)

    async def _require_open(self) -> None:
        """Raise `Refused` after the end: the node's own says what it has ended by."""
        self._require_thread()
        if self._ended:
            try:
                await self.node.read(b"", timeout=_PAUSE)
            except Refused as failure:
                if not may_pass(failure):
                    raise
            raise _ended()  # the node goes on without these objects

    def _require_thread(self) -> None:
        if get_ident() != self._thread:
            raise CallerError("objects are awaited in their node's event loop; from threads, use raft_objects.blocking")
        if os.getpid() != self._process:
            raise CallerError("the node lives in the process that was forked: open one here, after the fork")

    # What recipes use.

    def waiting(self, name: str, key: Hashable) -> AbstractContextManager[Waiter]:
        """Wait for a notice of an object at this replica."""
        return self._notices.waiting(name, key)

    def seconds_until(self, time_ns: int) -> float:
        """Return how long it takes until cluster time is `time_ns`; a little is added, for a follower knows less."""
        return max(0.0, (time_ns - self.node.cluster_time) / 1e9) + 0.01

    def heard(self, name: str, keys: list[Hashable] | None) -> None:
        """Take notice of a command that was applied here, or with None of a snapshot, in whatever thread."""
        if get_ident() == self._thread:
            self._wake(name, keys)
        else:
            anyio.from_thread.run_sync(self._wake, name, keys, token=self._token)

    def wake(self, name: str, key: Hashable) -> None:
        """Wake one who waits for the key."""
        self._notices.wake(name, key)

    def end(self) -> None:
        """Refuse all calls, cancel the tasks, and refuse all who wait for a notice: the node ends."""
        self._ended = True
        self._tasks.cancel_scope.cancel()
        self._notices.end()  # after it: tasks of the node are cancelled, those of others refused

    async def undone_if_cancelled(self, func: Callable[[], Awaitable[T]], undo: Callable[[T], Awaitable[object]]) -> T:
        """Await `func()` in a task of the node. If the caller is cancelled meanwhile, await `undo(result)` there."""
        results: list[T] = []
        failures: list[Exception] = []
        done, left = anyio.Event(), False

        async def undo_quietly() -> None:
            with suppress(RequestError, CallerError):
                await undo(results[0])

        async def call() -> None:
            try:
                results.append(await func())
            except Exception as failure:
                failures.append(failure)
            finally:
                done.set()
            if left and results:
                await undo_quietly()

        self.tasks.start_soon(call)
        try:
            await done.wait()
        except BaseException:
            left = True
            if results:  # it came in the moment of the cancellation, and `call` has ended
                with suppress(RuntimeError, Refused):  # the node has ended as well
                    self.tasks.start_soon(undo_quietly)
            raise
        if failures:
            raise failures[0]
        if not results:
            raise OutcomeUnknown(_U.STOPPING, "the objects were closed before there was an answer")
        return results[0]

    def _wake(self, name: str, keys: list[Hashable] | None) -> None:
        if keys is None:
            self._notices.wake_all(name)
            return
        for key in keys:
            self._notices.wake(name, key)
        self._notices.wake_watchers(name)

    # Exactly once.

    async def _begin(self, deadline: float) -> None:
        """Let a new cluster begin with this code's version; elsewhere it changes nothing.

        A leader that does not know the version refuses it. Then old processes are about, and the cluster begins with
        version 1.
        """
        if self.objects.version > 1 and self.objects.pristine:
            try:
                await self._once(encode_enable(self.objects.version, only_first=True), deadline)
            except Refused as failure:
                if failure.reason != _R.PREPARE_FAILED:
                    raise
        self._begun = True

    async def _once(self, body: bytes, deadline: float) -> bytes:
        while True:
            numbers = await self._room(deadline)
            sequence = numbers.begin()
            try:
                reply = await self._attempts(numbers, partial(numbers.encode, sequence, body), deadline)
            finally:
                numbers.done(sequence)
                self._answered.set()
            if reply is not None:
                return reply

    async def _room(self, deadline: float) -> SessionNumbers:
        """Return the session once it has room for another command.

        The cluster keeps the results from the lowest number in use on. If it kept all it may while the lowest was not
        applied yet, because that one was lost on its way, that one would be refused as well: so the numbers in use stay
        within what it keeps.
        """
        with anyio.move_on_at(deadline):
            async with self._entering:  # in order, and only the first waits for an answer
                while True:
                    numbers = self._numbers or await self._register(deadline)
                    if numbers.span < self._window:
                        return numbers
                    self._answered = anyio.Event()
                    await self._answered.wait()
        reason = (
            "no leader opened a session: an election is under way, or no majority can be reached"
            if self._numbers is None
            else f"{self._window} earlier commands of this process have no answer yet"
        )
        raise Refused(_R.DEADLINE, f"the deadline passed before anything was done; it was not carried out: {reason}")

    async def _attempts(self, numbers: SessionNumbers, encode: Callable[[], bytes], deadline: float) -> bytes | None:
        """Send until there is a result; None if the session had ended and nothing of this can have been applied."""
        unknown: list[OutcomeUnknown] = []
        pause = _PAUSE
        while True:
            data = await self._retried(lambda left: self.node.propose(encode(), timeout=left), deadline, unknown)
            reply = _reply(data)
            if isinstance(reply, Result):
                return reply.data
            if isinstance(reply, Expired):
                if self._numbers is numbers:
                    self._numbers = None
                if unknown:
                    raise SessionExpired(unknown[-1].reason, "the session ended; applied once or not at all")
                return None
            if not isinstance(reply, Full):
                raise RaftError(f"a command of a session was answered {type(reply).__name__}")
            await anyio.sleep(pause)  # many are in flight: others must be answered first
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _register(self, deadline: float) -> SessionNumbers:
        register = encode_register()
        data = await self._retried(lambda left: self.node.propose(register, timeout=left), deadline, [])
        reply = _reply(data)
        if not isinstance(reply, Registered):
            raise RaftError(f"opening a session was answered {type(reply).__name__}")
        self._numbers = SessionNumbers(reply.session)
        return self._numbers

    async def _retried(
        self,
        attempt: Callable[[float], Coroutine[Any, Any, bytes]],
        deadline: float,
        unknown: list[OutcomeUnknown] | None = None,
    ) -> bytes:
        """Repeat until there is an answer or the deadline. `unknown`: collects outcomes that are open; None: a read."""
        pause, refused = _PAUSE, ""
        while True:
            left = deadline - anyio.current_time()
            if left <= 0:
                if unknown:
                    raise unknown[-1]
                raise Refused(_R.DEADLINE, f"the deadline passed and it was not carried out{refused}")
            try:
                return await attempt(left)
            except OutcomeUnknown as failure:
                if unknown is None or failure.reason in _FINAL:
                    raise
                unknown.append(failure)
            except Refused as failure:
                if failure.reason not in _AGAIN:
                    if unknown:
                        raise unknown[-1] from failure
                    raise
                refused = f"; it was refused until then: {failure}"
            await anyio.sleep(min(pause, max(0.0, deadline - anyio.current_time())))
            pause = min(2 * pause, _LONGEST_PAUSE)


def may_pass(failure: Refused | OutcomeUnknown) -> bool:
    """Return whether a recipe that waits should try again: the cluster is out of reach, and this node has not ended."""
    if isinstance(failure, OutcomeUnknown):
        return failure.reason not in _FINAL
    return failure.reason in _AGAIN or failure.reason == _R.DEADLINE


def _ended() -> Refused:
    return Refused(_R.STOPPING, "the node of these objects has ended; ask another node")


def _reply(data: bytes) -> Reply:
    try:
        return decode_reply(data)
    except ValueError:
        raise RaftError("the node runs another machine than Objects.machine") from None


@asynccontextmanager
async def attach(node: NodeLike, objects: Objects) -> AsyncIterator[Running]:
    """Connect objects to a node, opened with `objects.machine`, for the block. Works with raft_trio and raft_anyio.

    Calls in flight at the end of the block are cancelled; their commands may still be applied. Who waits for something
    in another task, such as a message of a queue, is refused.
    """
    raised: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        running = Running(node, objects, tasks)
        objects.connect(running)
        objects.listener = running.heard
        try:
            yield running
        except BaseException as failure:  # leaves unchanged, not in a group
            raised = failure
        finally:
            objects.listener = None
            running.end()
    if raised is not None:
        raise raised


@asynccontextmanager
async def open_objects(
    config: NodeConfig, objects: Objects | Replicated, *, seed: int | None = None
) -> AsyncIterator[Running]:
    """Open a node with these objects for the block; on asyncio or trio. See `raft_anyio.open_node`.

    One object alone is called `main` in the log.
    """
    objects = objects_of(objects)
    async with raft_anyio.open_node(config, objects.machine, seed=seed) as node, attach(node, objects) as running:
        yield running
