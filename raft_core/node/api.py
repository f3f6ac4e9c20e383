"""`NodeApi`: the requests of a running node, the same on every event loop.

It is the base of each adapter's `Node`. It makes each call a request and leaves the waiting to the adapter's loop:
there is no `await` here. It stays interpreted, because adapters derive from it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeAlias

from raft_core.errors import CallerError
from raft_core.explain import Explanation
from raft_core.features import features_problem
from raft_core.ids import NO_INDEX, NO_NODE, Index, NodeId
from raft_core.membership import Change, ChangeMode
from raft_core.node.config import check_timeout
from raft_core.node.core import NodeCore
from raft_core.node.driver import Caller
from raft_core.node.events import Answered
from raft_core.node.status import NodeStatus
from raft_core.requests import (
    ChangeMembership,
    LeaveJoint,
    NodeRequest,
    OpenBackup,
    Propose,
    Read,
    ReadBackup,
    ReadConsistency,
    TransferLeadership,
)

__all__ = ["Asking", "NodeApi", "require_bytes"]

Reply: TypeAlias = Coroutine[Any, Any, bytes]
"""To be awaited once; returns the machine's answer."""
Done: TypeAlias = Coroutine[Any, Any, object]
"""To be awaited once; the result has no meaning."""


class Asking(Protocol):
    """The part of an adapter's loop that a node uses."""

    def now(self) -> int:
        """Return the time on the node's clock."""
        ...

    def require_thread(self) -> None:
        """Raise `CallerError` in any thread but the loop's while the node lives."""
        ...

    def ask(self, request: NodeRequest, timeout: float | None) -> Reply:
        """Make a caller's request; return its result.

        Nothing happens before it is awaited; the timeout is counted from then. Raise `CallerError` if it is awaited in
        any thread or event loop but the node's.
        """
        ...

    def submit(self, request: NodeRequest, caller: Caller, timeout: float | None) -> None:
        """Make a request; its outcome goes to `caller.deliver`. Raise `Refused` after the node's end."""
        ...

    def withdraw(self, caller: Caller) -> None:
        """Drop a caller that has no answer yet."""
        ...

    def result(self, outcome: Answered) -> bytes:
        """Return a request's result, or raise the `RequestError` for its outcome."""
        ...


def require_bytes(given: object) -> None:
    """Raise `CallerError` unless this is a command or a query."""
    if not isinstance(given, bytes):
        text = (
            f"commands and queries are bytes, not {type(given).__name__}; see raft_core.typed_state_machine for classes"
        )
        raise CallerError(text)


class NodeApi:
    """A running member of a cluster, made by `open_node`.

    Every request is awaited, and raises one of two errors. `Refused` (with its subclasses `NotLeader`, `QueueFull`,
    `TransferInProgress` and `MembershipRefused`): it was not carried out and never will be. `OutcomeUnknown`: it may or
    may not be carried out. A cancelled request is not taken back: its command may still be applied.

    `timeout` is in seconds, counted from the await; when it expires, the request ends with one of the two errors.
    Without a leader a request waits for one until the timeout, and for ever with None. A node that is not a member
    refuses it at once; `ready` waits until the node is a member.

    A node belongs to the thread and event loop that opened it. A request may be made anywhere but is awaited there, so
    `asyncio.run_coroutine_threadsafe(node.propose(b"x"), loop)` and `trio.from_thread.run(node.propose, b"x")` work;
    any other use from another thread raises `CallerError`.
    """

    def __init__(self, host: NodeCore, loop: Asking, address: str) -> None:
        self.__host = host
        self.__loop = loop
        self.__address = address

    @property
    def address(self) -> str:
        """Return the listening address, "host:port", with the actual port."""
        return self.__address

    @property
    def status(self) -> NodeStatus:
        """Return the node's present state: role, term, leader, log, members, and on a leader every peer."""
        self.__loop.require_thread()
        return self.__host.status

    @property
    def cluster_time(self) -> int:
        """Return the cluster's time in nanoseconds, as this node knows it; 0 if it is not known yet.

        A leader knows the time it stamps, a follower a little less (see `StateMachine.prepare`).
        """
        self.__loop.require_thread()
        return self.__host.cluster_time(self.__loop.now())

    @property
    def features(self) -> tuple[str, ...]:
        """Return the features that the cluster uses, sorted: all members have them, for good.

        Propose a command that needs a feature only if it is here. Then every node that ever applies it can.
        """
        self.__loop.require_thread()
        return self.__host.features

    def explain(self) -> tuple[Explanation, ...]:
        """Explain everything that waits in this node's core, each with its reason and the nodes waited for."""
        self.__loop.require_thread()
        return self.__host.explain()

    def recording(self) -> bytes:
        """Return the recent events of this node's core.

        `raft_testing.trace.replay` repeats them, and `python -m raft_testing draw` shows them. Raise
        `CallerError` without `NodeConfig.recorder_bytes`.
        """
        self.__loop.require_thread()
        return self.__host.recording()

    def ready(self, *, timeout: float | None = None) -> Done:
        """Wait until this node can serve.

        It can when it is a member, a leader has a majority, and everything committed before is applied here. Raise
        `Refused` if `timeout` expires first.
        """
        return self.__ask(Read(), timeout)

    def propose(self, command: bytes, *, timeout: float | None = None) -> Reply:
        """Replicate `command`; return the machine's result once it is committed and applied. A follower forwards it.

        Raise `CallerError` if `command` is not bytes.
        """
        require_bytes(command)
        return self.__ask(Propose(command), timeout)

    def read(
        self,
        query: bytes,
        *,
        consistency: ReadConsistency = ReadConsistency.LINEARIZABLE,
        limit: int = 0,
        timeout: float | None = None,
    ) -> Reply:
        """Return the answer of this node's machine to `query`, as recent as `consistency` promises.

        `limit` belongs to the consistency: ticks or an index (see `ReadConsistency`). Linearizable on every node: a
        follower asks the leader.
        """
        require_bytes(query)
        return self.__ask(Read(consistency, limit, query), timeout)

    def change_members(
        self,
        changes: Sequence[Change],
        *,
        mode: ChangeMode = ChangeMode.AUTO,
        expected: int = 0,
        timeout: float | None = None,
    ) -> Done:
        """Change the members by `changes`; return when done and, unless `mode` says explicit, no longer joint.

        `expected`: change only if the configuration in force was appended at this index. Raise `MembershipRefused` if a
        rule forbids the change, before anything was appended.
        """
        return self.__ask(ChangeMembership(tuple(changes), mode, Index(expected)), timeout)

    def enable_features(self, *features: str, timeout: float | None = None) -> Done:
        """Have the cluster use these features from now on; return when the entry that says so is committed.

        Every member must be connected and have them (`Settings.features`). There is no way back: a node without them
        cannot be part of the cluster any more. Raise `MembershipRefused` with the node and the feature that is missing,
        before anything was appended, and `CallerError` if a name is not one.
        """
        names = tuple(sorted(set(features)))
        if (problem := features_problem(names)) is not None or not names:
            raise CallerError(problem or "name the features to enable")
        return self.__ask(ChangeMembership((), features=names), timeout)

    def leave_joint(self, *, timeout: float | None = None) -> Done:
        """Leave the joint configuration made by an explicit change."""
        return self.__ask(LeaveJoint(), timeout)

    def transfer(self, to: int = NO_NODE, *, timeout: float | None = None) -> Done:
        """Transfer leadership to node `to`, or for 0 to the voter that fits best."""
        return self.__ask(TransferLeadership(NodeId(to)), timeout)

    # Without awaiting: for servers with many clients.

    def submit(self, request: NodeRequest, caller: Caller, *, timeout: float | None = None) -> None:
        """Make a request without awaiting it. Its outcome goes once to `caller.deliver`, which must not raise.

        `caller` names the request until then, so it has one at a time. `result` turns the outcome into the result or an
        exception. Raise `Refused` if the node has ended.
        """
        check_timeout(timeout)
        self.__loop.submit(request, caller, timeout)

    def withdraw(self, caller: Caller) -> None:
        """Forget the caller of an open request; its outcome may still be delivered. A command may still be applied."""
        self.__loop.withdraw(caller)

    def result(self, outcome: Answered) -> bytes:
        """Return the result in an outcome, or raise `Refused` or `OutcomeUnknown`."""
        return self.__loop.result(outcome)

    def open_backup(
        self, *, label: str = "", index: int = NO_INDEX, term: int = 0, timeout: float | None = None
    ) -> Reply:
        """Open a backup of this node's state; return its header, piece 0 of `raft_core.backup_format`.

        It has every write answered before, and a snapshot is taken for it if the newest is older. With `index` and
        `term`, continue the backup of exactly that snapshot; raise `Refused` if it is gone. `label`: your program and
        its version. `Node.backup` is more convenient.
        """
        return self.__ask(OpenBackup(label, index, term), timeout)

    def read_backup(self, index: int, term: int, piece: int, *, timeout: float | None = None) -> Reply:
        """Return a piece of the backup opened at `index` and `term`; b"" beyond the last one.

        Read with a pause below a minute: after that the snapshot is not kept any longer if there is a newer one.
        """
        return self.__ask(ReadBackup(index, term, piece), timeout)

    def __ask(self, request: NodeRequest, timeout: float | None) -> Reply:
        check_timeout(timeout)
        return self.__loop.ask(request, timeout)
