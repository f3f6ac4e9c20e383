"""`NodeLoop`: the part of an adapter's loop that needs an event to wait on, and no particular event loop.

It is the base of each adapter's `Loop`: the turns of the driver, waiting callers, readers of feeds. `LoopNode` is the
base of its `Node`. They await only what the adapter hands in. They stay interpreted, because adapters derive from them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Final, Generic, Protocol, Self, TypeVar

from raft_core.backup_format import BackupReader
from raft_core.effects import Alarm, RoleChanged, Success
from raft_core.node.api import NodeApi, require_bytes
from raft_core.node.config import NodeConfig, check_timeout, deadline_after
from raft_core.node.core import NodeCore
from raft_core.node.driver import Caller, ConnectionTable, Driver, Feed, LaneQueues
from raft_core.node.events import Answered, StopAsked
from raft_core.node.home import Home
from raft_core.node.outcomes import turn_error
from raft_core.requests import NodeRequest, OpenBackup, Propose, ReadBackup

__all__ = ["Event", "LoopNode", "NodeLoop"]

T = TypeVar("T")


class Event(Protocol):
    """What `trio.Event` and `anyio.Event` have in common."""

    def set(self) -> object:
        """Wake everyone who waits, and all who come later."""
        ...

    async def wait(self) -> object:
        """Wait until the event is set."""
        ...


class NodeLoop(ABC):
    """Calls `Driver.turn` as needed, and lets callers and readers wait.

    `checkpoint` yields to other tasks once. `here` identifies the thread and the event loop (None: none) of a call;
    `remedy` is the adapter's way to use a node from another thread.
    """

    def __init__(
        self,
        host: NodeCore,
        lanes: LaneQueues,
        *,
        event: Callable[[], Event],
        checkpoint: Callable[[], Awaitable[object]],
        here: Callable[[], tuple[int, object]],
        remedy: str,
    ) -> None:
        self.driver: Final = Driver(host, lanes, self)
        self._event: Final = event
        self.checkpoint: Final = checkpoint
        self._here: Final = here
        self._home: Final = Home(*here(), remedy)
        self._woken = event()
        self._told = event()
        self._taking = False  # `take` decides when the turn comes
        self._turns: tuple[ConnectionTable, Callable[[], int]] | None = None  # what a turn needs; None: not begun

    @abstractmethod
    def now(self) -> int:
        """Return the node's clock in nanoseconds."""

    @abstractmethod
    def wake_at(self, at: int) -> None:
        """Post `TimerFired` at this time; replaces any earlier time."""

    def wake(self) -> None:
        """Have the driver take a turn soon."""
        if not self._taking:
            self._woken.set()

    def take(self, read: Callable[[], int]) -> None:
        """Call `read`, which posts what peers or callers say; if it returns 1, take the turn at once.

        `read` returns how many had something to say. One that is alone need not wait for the event loop's next pass.
        What several say is better handled together with everything else that is ready. Not to be called in a turn.
        """
        self.require_thread()
        alone = False
        self._taking = True
        try:
            alone = read() == 1
        finally:  # what was posted before `read` raised is not left without a turn
            self._taking = False
            if alone and self._turns is not None and self.driver.waiting and not self.driver.ended:
                self.turn(*self._turns)
            if self.driver.waiting or self.driver.ended:
                self.wake()

    def tell(self) -> None:
        """Wake the readers of feeds and those who wait for the end."""
        self._told.set()
        self._told = self._event()

    def require_thread(self) -> None:
        """Raise `CallerError` in any other thread while the node lives."""
        if not self.driver.ended:
            self._home.require_thread(self._here()[0])

    def require_loop(self) -> None:
        """Raise `CallerError` in any other event loop."""
        self._home.require_loop(*self._here())

    def submit(self, request: NodeRequest, caller: Caller, timeout: float | None) -> None:
        """Make a request; its outcome goes to `caller.deliver`. Raise `Refused` after the node's end."""
        self.require_thread()
        self.driver.call(caller, request, deadline_after(self.now(), timeout))

    def withdraw(self, caller: Caller) -> None:
        """Drop a caller that has no answer yet."""
        self.driver.leave(caller)

    def result(self, outcome: Answered) -> bytes:
        """Return a request's result, or raise the `RequestError` for its outcome."""
        return self.driver.result(outcome)

    async def ask(self, request: NodeRequest, timeout: float | None) -> bytes:
        """Make a caller's request; return its result, or raise the `RequestError` for its outcome."""
        return self.driver.result(await self.ask_outcome(request, timeout))

    async def ask_outcome(self, request: NodeRequest, timeout: float | None) -> Answered:
        """Make a caller's request; return its outcome."""
        self.require_loop()
        caller = _Caller(self._event())
        self.driver.call(caller, request, deadline_after(self.now(), timeout))
        try:
            await caller.answered.wait()
        finally:
            if caller.outcome is None:
                self.driver.leave(caller)
        assert caller.outcome is not None
        return caller.outcome

    def read(self, feed: Feed[T], past: int) -> AsyncIterator[T]:
        """Yield the last `past` items of `feed`, then new ones as they come, until the node ends."""
        return _Reader(self, feed, past)

    async def log_alarms(self, config: NodeConfig, warn: Callable[[str], object]) -> None:
        """Call `warn` with each alarm in words until the node ends, if `config` says so. What it raises is ignored."""
        if not config.log_alarms:
            return
        async for alarm in self.read(self.driver.alarms, past=64):
            about = f", about node {alarm.peer}" if alarm.peer else ""
            with suppress(Exception):  # a handler of the user's must not end the node
                warn(f"node {config.node}{about}: {alarm.text} ({alarm.kind})")

    async def back_up(self, label: str, timeout: float | None) -> AsyncGenerator[bytes]:
        """Yield the pieces of a backup, in order."""
        reader = BackupReader()
        piece = await self.ask(OpenBackup(label), timeout)
        reader.feed(piece)
        header = reader.header
        assert header is not None
        position = header.meta.position
        while True:
            yield piece
            if reader.done:
                return
            piece = await self.ask(ReadBackup(position.index, position.term, reader.number), timeout)
            reader.feed(piece)

    async def next_news(self) -> None:
        """Wait until a feed may have a new item or the node has ended."""
        await self._told.wait()

    async def wait_ended(self) -> None:
        """Wait until the node has ended."""
        self.require_loop()
        await self.checkpoint()
        while not self.driver.ended:
            await self.next_news()

    def leave_block(self, raised: BaseException | None) -> None:
        """Raise what the block around a node that has ended raises. `raised`: what the user's part of it has raised.

        The node's error has cancelled the user's part, so it stands for an `Exception` that came of that.
        """
        error = self.driver.error
        if raised is not None and (error is None or not isinstance(raised, Exception)):
            raise raised
        if error is not None:
            raise error from (error.__cause__ or raised)

    async def take_turns(self, connections: ConnectionTable, wall: Callable[[], int]) -> None:
        """Run the node. When this returns, the node has ended and every caller is answered."""
        self._turns = connections, wall
        try:
            while not self.driver.ended:
                if self.driver.waiting:
                    await self.checkpoint()  # let others run, then take their events as well
                else:
                    self._woken = self._event()
                    await self._woken.wait()
                if self.driver.waiting:  # `take` may have taken the turn
                    self.turn(connections, wall)
        finally:
            self.driver.end()

    def turn(self, connections: ConnectionTable, wall: Callable[[], int]) -> None:
        """Take one turn of the driver. If it raises, which is a bug, end the node with the reason.

        What is no `Exception`, such as `SystemExit` of a machine, also goes on to the event loop. Asyncio may log it
        and do nothing else, so the node ends here as well.
        """
        try:
            self.driver.turn(connections, self.now(), wall())
        except Exception as failure:
            self.driver.end(failure)
        except BaseException as failure:
            self.driver.end(turn_error(failure))
            raise


class LoopNode(NodeApi):
    """`NodeApi`, and what needs a loop: streams, backups, the end. Each adapter's `Node` derives from it."""

    def __init__(self, host: NodeCore, loop: NodeLoop, address: str) -> None:
        super().__init__(host, loop, address)
        self._loop: Final = loop

    async def propose_with_index(self, command: bytes, *, timeout: float | None = None) -> tuple[int, bytes]:
        """Propose; return the entry's index, too: the limit of a later `MONOTONE` read; 0 from a 0.1.0 leader."""
        require_bytes(command)
        check_timeout(timeout)
        outcome = await self._loop.ask_outcome(Propose(command), timeout)
        result = self._loop.result(outcome)
        assert isinstance(outcome, Success)  # otherwise `result` has raised
        return outcome.first, result

    def changes(self) -> AsyncIterator[RoleChanged]:
        """Yield role, term and leader: the last ones, then each change. A lagging reader misses the oldest changes."""
        return self._loop.read(self._loop.driver.changes, past=1)

    def alarms(self) -> AsyncIterator[Alarm]:
        """Yield conditions that need an operator's attention: the last few dozen, then new ones until the node ends."""
        return self._loop.read(self._loop.driver.alarms, past=64)

    def backup(self, *, label: str = "", timeout: float | None = None) -> AsyncGenerator[bytes]:
        """Yield the pieces of a backup of this node's state, in order; together they are the file of `restore`.

        It has every write answered before the first piece was requested, while the node goes on serving. A snapshot is
        taken for it if the newest is older. `timeout` is for each piece. Raise `Refused`. Format:
        `raft_core.backup_format`.
        """
        return self._loop.back_up(label, timeout)

    def take(self, make: Callable[[], int]) -> None:
        """Call `make`, which makes requests with `submit`, and returns how many callers it served.

        If it is one, the node handles the request at once and not in the next pass of the event loop. For servers that
        read from many clients in one place; not to be called while a caller gets its outcome.
        """
        self._loop.take(make)

    async def stop(self) -> None:
        """Stop the node: transfer leadership, answer every caller, end. Bounded by `stop_timeout`."""
        self._loop.require_loop()
        self._loop.driver.post(StopAsked())
        await self._loop.wait_ended()

    async def wait_finished(self) -> None:
        """Wait until the node has stopped or failed (then `open_node` raises). Removal alone does not end it."""
        await self._loop.wait_ended()


class _Caller:
    """A caller waiting for its outcome: the ticket of its call."""

    __slots__ = ("answered", "outcome")

    def __init__(self, answered: Event) -> None:
        self.answered: Final = answered
        self.outcome: Answered | None = None

    def deliver(self, outcome: Answered) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self.answered.set()


class _Reader(Generic[T]):
    """A reader's position in a feed. It holds nothing to close."""

    def __init__(self, loop: NodeLoop, feed: Feed[T], past: int) -> None:
        self._loop: Final = loop
        self._feed: Final = feed
        self._place = feed.place(past)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._loop.require_loop()
        await self._loop.checkpoint()
        while (found := self._feed.after(self._place)) is None:
            if self._feed.ended:
                raise StopAsyncIteration
            await self._loop.next_news()
        item, self._place = found
        return item
