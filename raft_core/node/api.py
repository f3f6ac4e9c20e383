"""What a running node can be asked, the same on every event loop.

What lives here: `NodeApi`, the base of each adapter's `Node`. It translates calls into events for the host and leaves
the waiting to the adapter; there is no `await` here. It stays interpreted, because adapters derive from it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeAlias

from raft_core.errors import CallerError
from raft_core.events import ReadConsistency
from raft_core.explain import Explanation
from raft_core.ids import NO_NODE, Index, NodeId
from raft_core.membership import Change, ChangeMode
from raft_core.node.config import check_timeout, deadline_after
from raft_core.node.core import NodeCore
from raft_core.node.events import ClientAsked, ClientChanged, ClientLeft, ClientProposed, ClientTransferred, NodeEvent
from raft_core.node.jobs import Ticket
from raft_core.node.status import NodeStatus

__all__ = ["Asking", "NodeApi"]

Reply: TypeAlias = Coroutine[Any, Any, bytes]
"""To be awaited, once: the machine's answer."""
Done: TypeAlias = Coroutine[Any, Any, object]
"""To be awaited, once; what it gives means nothing."""


class Asking(Protocol):
    """What a node needs of its adapter's loop."""

    def now(self) -> int:
        """The clock that the host is given."""
        ...

    def require_thread(self) -> None:
        """Raises `CallerError` in any thread but the loop's, for as long as the node lives."""
        ...

    def ask(self, event: Callable[[Ticket], NodeEvent]) -> Reply:
        """The answer to a caller's event, with a ticket of its own. Nothing happens before it is awaited; `event` is
        called then. Raises `CallerError` where it is awaited in any thread or event loop but the node's."""
        ...


def _require_bytes(given: object) -> None:
    if not isinstance(given, bytes):
        text = (
            f"commands and queries are bytes, not {type(given).__name__}; see raft_core.typed_state_machine for classes"
        )
        raise CallerError(text)


class NodeApi:
    """A running member of a cluster, made by `open_node`.

    Every request is awaited, and raises one of two errors: `Refused` (with `NotLeader`, `QueueFull`,
    `TransferInProgress` and `MembershipRefused` below it) says that it has not been carried out and never will be;
    `OutcomeUnknown` that nobody can know. A request that is cancelled is not taken back: what was proposed may still
    be applied.

    `timeout` is in seconds, from when the request is awaited; when it passes, the request ends with one of the two
    errors as well. While there is no leader a request waits for one until then, and with None for ever. At a node that
    is not a member it is refused at once; `ready` waits until the node is one.

    A node belongs to the thread and the event loop that it was opened in. A request may be made anywhere and is awaited
    there, so that `asyncio.run_coroutine_threadsafe(node.propose(b"x"), loop)` and `trio.from_thread.run(node.propose,
    b"x")` work; anything else from another thread raises `CallerError`.
    """

    def __init__(self, host: NodeCore, loop: Asking, address: str) -> None:
        self.__host = host
        self.__loop = loop
        self.__address = address

    @property
    def address(self) -> str:
        """Where this node listens, "host:port", with the port that it really got."""
        return self.__address

    @property
    def status(self) -> NodeStatus:
        """A picture of the node at this moment: role, term, leader, log, members, and on a leader every peer."""
        self.__loop.require_thread()
        return self.__host.status

    @property
    def cluster_time(self) -> int:
        """The cluster's time in nanoseconds, as this node knows it: on a leader what it stamps, on a follower a little
        less (see `StateMachine.prepare`). 0 where it is not known yet."""
        self.__loop.require_thread()
        return self.__host.cluster_time(self.__loop.now())

    def explain(self) -> tuple[Explanation, ...]:
        """Everything that waits in this node's core, and why, each as a reason, a sentence and the nodes waited for."""
        self.__loop.require_thread()
        return self.__host.explain()

    def recording(self) -> bytes:
        """What this node's core was told lately: `raft_testing.trace.replay` does it again, and `python -m
        raft_testing draw` shows it. Raises `CallerError` without `NodeConfig.recorder_bytes`."""
        self.__loop.require_thread()
        return self.__host.recording()

    def ready(self, *, timeout: float | None = None) -> Done:
        """Wait until this node can serve: it is a member, a leader has a majority behind it, and everything that was
        committed before is applied here. Raises `Refused` when `timeout` passes first."""
        return self.__ask(timeout, lambda ticket, deadline: ClientAsked(ticket, b"", deadline=deadline, barrier=True))

    def propose(self, command: bytes, *, timeout: float | None = None) -> Reply:
        """The machine's result, once `command` is committed and applied; a follower passes it to the leader.

        Raises `CallerError` where `command` is not bytes."""
        _require_bytes(command)
        return self.__ask(timeout, lambda ticket, deadline: ClientProposed(ticket, command, deadline))

    def read(
        self,
        query: bytes,
        *,
        consistency: ReadConsistency = ReadConsistency.LINEARIZABLE,
        limit: int = 0,
        timeout: float | None = None,
    ) -> Reply:
        """This node's machine's answer to `query`, as recent as `consistency` promises (`limit` belongs to it:
        ticks or an index; see `ReadConsistency`). Linearizable on every node, by asking the leader where needed."""
        _require_bytes(query)
        return self.__ask(timeout, lambda ticket, deadline: ClientAsked(ticket, query, consistency, limit, deadline))

    def change_members(
        self,
        changes: Sequence[Change],
        *,
        mode: ChangeMode = ChangeMode.AUTO,
        expected: int = 0,
        timeout: float | None = None,
    ) -> Done:
        """The cluster has the members that `changes` lead to, and is joint no more (unless `mode` says explicit).

        `expected`: only if the configuration in force was appended at this index. Raises `MembershipRefused` where
        a rule forbids the change, before anything was appended."""
        wanted = tuple(changes)
        return self.__ask(
            timeout, lambda ticket, deadline: ClientChanged(ticket, wanted, mode, Index(expected), deadline)
        )

    def leave_joint(self, *, timeout: float | None = None) -> Done:
        """The joint configuration that an explicit change made has been left."""
        return self.__ask(timeout, lambda ticket, deadline: ClientLeft(ticket, deadline))

    def transfer(self, to: int = NO_NODE, *, timeout: float | None = None) -> Done:
        """Node `to`, or for 0 the voter that fits best, leads instead of the present leader."""
        return self.__ask(timeout, lambda ticket, deadline: ClientTransferred(ticket, NodeId(to), deadline))

    def __ask(self, timeout: float | None, event: Callable[[Ticket, int], NodeEvent]) -> Reply:
        """The deadline is counted from when the answer is awaited, which may be later and in another thread."""
        check_timeout(timeout)
        return self.__loop.ask(lambda ticket: event(ticket, deadline_after(self.__loop.now(), timeout)))
