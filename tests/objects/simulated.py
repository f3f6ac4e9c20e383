"""Workloads of recipes for the simulator, and what each recipe promises, checked in true time.

`ObjectWorkload` sends commands of replicated objects, and its model is the objects themselves, one command after the
other: it finds answers that no order of the commands explains. The promises are checked apart from that, by what
clients saw and when: nothing of the recipe's own code takes part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import attrs

from raft_core.ids import Index
from raft_core.node.limits import SECOND
from raft_core.state_machine import StateMachine
from raft_objects import BoundQuery, Objects, Replicated, command
from raft_objects.lease_table import LeaseEnded
from raft_objects.lock_table import LockTable
from raft_objects.map_table import Found, MapTable
from raft_objects.queue_table import Message, QueueTable
from raft_objects.replies import result_of
from raft_testing.linearizability.history import Datum, Fate, Operation
from raft_testing.linearizability.models import SequentialModel
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

__all__ = [
    "LockWorkload",
    "MapWorkload",
    "QueueWorkload",
    "lock_machine",
    "map_machine",
    "queue_machine",
    "wrong_keys",
    "wrong_locks",
    "wrong_messages",
]

LEASE: Final = 3 * SECOND
USABLE: Final = 0.9
"""Of a lease, as `raft_objects.locks` has it."""
VISIBLE: Final = 2.0
TTL: Final = 6.0
READS: Final = ("get",)


class SimulatedLocks(LockTable):
    """The table, with a command that confirms a notice and whose bytes never come twice."""

    @command
    def confirm(self, name: str, client: str, owner: str, number: int) -> int:
        return self._acquire(name, client, owner, wait=True)


def lock_machine() -> Objects:
    """Return the machine of one node."""
    return Objects({"it": SimulatedLocks()}, development=True)


def map_machine() -> Objects:
    """Return the machine of one node."""
    return Objects({"it": MapTable[str](history=5)}, development=True)


def queue_machine() -> Objects:
    """Return the machine of one node."""
    return Objects({"it": SimulatedQueue(attempts=3)}, development=True)


@final
class ObjectModel:
    """The objects themselves as a sequential model: an argument is an entry of the log, with its time.

    A state is the time of the last entry and a snapshot. The log's time never runs back, so an entry older than the
    state cannot come next, and one without a time was never applied: both lead to a state from which nothing goes on.
    """

    def __init__(self, make: Callable[[], StateMachine]) -> None:
        self._machine = make()
        self._initial = b"".join(self._machine.snapshot())

    def initial(self, key: Datum) -> Datum:
        return 0, self._initial

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        assert isinstance(argument, bytes)
        if kind in READS:
            if not isinstance(state, tuple) or not isinstance(state[1], bytes):
                return None, b"impossible"
            self._machine.restore([state[1]])
            return state, self._machine.query(argument)
        stamp = int.from_bytes(argument[1:9], "little")
        if not isinstance(state, tuple) or not isinstance(state[0], int) or not 0 < stamp >= state[0]:
            return None, b"impossible"
        assert isinstance(state[1], bytes)
        self._machine.restore([state[1]])
        result = self._machine.apply(Index(1), argument)
        return (stamp, b"".join(self._machine.snapshot())), result

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        return kind in READS


class ObjectWorkload:
    """Commands of one object called "it"."""

    def __init__(self, make: Callable[[], StateMachine], it: Replicated) -> None:
        self._make = make
        self._objects = Objects({"it": it})

    @property
    def model(self) -> SequentialModel:
        return ObjectModel(self._make)

    def call(self, method: Any, *args: Any, **named: Any) -> Asked:
        """Return the operation of a call."""
        if isinstance(method, BoundQuery):
            asked = method._query
            data = self._objects.encode_call("it", asked, asked.arguments(*args, **named))
            return Asked(asked.name, "it", data, data, reads=True)
        made = method._command
        data = self._objects.encode_call("it", made, made.arguments(*args, **named))
        return Asked(made.name, "it", data, data)

    def as_logged(self, asked: Asked, command: bytes) -> Datum:
        return command

    def decoded(self, kind: str, answer: bytes) -> Any:
        """Return what the answer says; an error as a value."""
        try:
            return result_of(self._objects.entry("it"), kind, answer)
        except (LeaseEnded, LookupError) as failure:
            return failure

    def arguments(self, entry: Datum) -> dict[str, Any]:
        """Return the arguments of a command or query."""
        assert isinstance(entry, bytes)
        found = self._objects._decoded(entry) or self._objects._decoded(entry[11:])
        assert found is not None
        return found[2]

    def result(self, asked: Asked, answer: bytes) -> Datum:
        self.answered(asked, self.decoded(asked.kind, answer))
        return answer

    def answered(self, asked: Asked, result: Any) -> None:
        """Learn from an answer."""


# Locks.


@attrs.define
class _Client:
    lease: str = ""
    waits: dict[str, str] = attrs.field(factory=dict)
    holds: dict[str, str] = attrs.field(factory=dict)


@final
class LockWorkload(ObjectWorkload):
    """Clients that take two locks, wait for them, give them back, and sometimes vanish."""

    def __init__(self) -> None:
        self.it = SimulatedLocks()
        super().__init__(lock_machine, self.it)
        self._clients: dict[int, _Client] = {}
        self._by_lease: dict[str, _Client] = {}

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        mine = self._clients.setdefault(client, _Client())
        if not mine.lease or rng.chance(0.03):
            mine = self._clients[client] = _Client(f"c{client}-{number}")
            self._by_lease[mine.lease] = mine
            return self.call(self.it.open_client, mine.lease, LEASE)
        if mine.holds and rng.chance(0.4):
            owner, name = mine.holds.popitem()
            return self.call(self.it.release, name, owner)
        if mine.waits and rng.chance(0.7):
            owner, name = rng.choice(list(mine.waits.items()))
            return self.call(self.it.confirm, name, mine.lease, owner, number)
        return self.call(self.it.acquire, f"l{rng.below(2)}", mine.lease, f"o{number}", rng.chance(0.7))

    def answered(self, asked: Asked, result: Any) -> None:
        if asked.kind not in ("acquire", "confirm"):
            return
        given = self.arguments(asked.argument)
        mine = self._by_lease[given["client"]]
        mine.waits.pop(given["owner"], None)
        if isinstance(result, LeaseEnded):
            mine.lease = ""
        elif result:
            mine.holds[given["owner"]] = given["name"]
        elif given.get("wait", True):
            mine.waits[given["owner"]] = given["name"]


def wrong_locks(workload: LockWorkload, history: tuple[Operation, ...]) -> list[str]:
    """Return where two owners thought that they held one lock, or a token did not rise."""
    renewed: dict[str, list[tuple[int, int]]] = {}  # by client: when told, valid until
    released: dict[tuple[str, str], int] = {}
    claims: dict[str, list[tuple[int, int, int, str, str]]] = {}  # by lock: told, asked, token, owner, client
    for one in history:
        given = workload.arguments(one.argument)
        if one.kind == "release":
            released[given["name"], given["owner"]] = one.invoked_at
        if one.fate is not Fate.ANSWERED or one.kind == "release":
            continue
        assert isinstance(one.result, bytes)
        assert one.returned_at is not None
        result = workload.decoded(one.kind, one.result)
        if isinstance(result, Exception):
            continue
        until = one.invoked_at + round(USABLE * LEASE)
        renewed.setdefault(given["client"], []).append((one.returned_at, until))
        if one.kind != "open_client" and result:
            claims.setdefault(given["name"], []).append(
                (one.returned_at, one.invoked_at, result, given["owner"], given["client"])
            )
    wrong: list[str] = []
    for name, found in claims.items():
        held = []
        for told, asked, token, owner, client in sorted(found):
            until = told
            for heard, valid in sorted(renewed[client]):  # a chain without a gap, from where the lock was told
                if heard <= max(until, told):
                    until = max(until, valid)
            until = min(until, released.get((name, owner), until))
            held.append((told, until, asked, token, owner))
        for place, (told, until, _, token, owner) in enumerate(held):
            for other_told, other_until, other_asked, other_token, other in held[place + 1 :]:
                if other != owner and max(told, other_told) < min(until, other_until):
                    wrong.append(f"{name}: {owner} and {other} held it at {other_told}")
                if told < other_asked and not (token < other_token or (token == other_token and owner == other)):
                    wrong.append(f"{name}: token {other_token} of {other} after {token} of {owner}")
    return wrong


# Queues.


class SimulatedQueue(QueueTable[str]):
    """The queue, with a take whose bytes never come twice."""

    @command
    def take_numbered(self, visibility: float, number: int) -> Message[str] | None:
        taken = self._take(visibility)
        return taken if isinstance(taken, Message) else None


@final
class QueueWorkload(ObjectWorkload):
    """Clients that put, take, acknowledge and give back, or forget what they have."""

    def __init__(self) -> None:
        self.it = SimulatedQueue(attempts=3)
        super().__init__(queue_machine, self.it)
        self._taken: dict[int, list[Message[str]]] = {}
        self._asking: dict[int, int] = {}

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        mine = self._taken.setdefault(client, [])
        if mine and rng.chance(0.5):
            message = mine.pop()
            method = self.it.acknowledge if rng.chance(0.8) else self.it.give_back
            return self.call(method, message.number, message.receipt)
        if rng.chance(0.5):
            return self.call(self.it.put, f"m{number}")
        self._asking[number] = client
        return self.call(self.it.take_numbered, VISIBLE, number)

    def answered(self, asked: Asked, result: Any) -> None:
        if isinstance(result, Message):
            client = self._asking[self.arguments(asked.argument)["number"]]
            self._taken[client].append(result)


def wrong_messages(workload: QueueWorkload, history: tuple[Operation, ...], it: QueueTable[str]) -> list[str]:
    """Return messages that are lost, delivered to two at a time, or delivered after they were acknowledged.

    `it`: the queue of any node at the end.
    """
    wrong: list[str] = []
    put: dict[int, str] = {}
    gone: dict[int, int] = {}  # number: told when it was acknowledged
    asked_to_end: dict[tuple[int, int], int] = {}
    open_acknowledgements: set[int] = set()
    out: dict[int, list[tuple[int, int, int, int]]] = {}
    for one in history:
        given = workload.arguments(one.argument)
        if one.kind in ("acknowledge", "give_back"):
            asked_to_end[given["number"], given["receipt"]] = one.invoked_at
        if one.fate is not Fate.ANSWERED:
            if one.kind == "acknowledge":
                open_acknowledgements.add(given["number"])
            continue
        assert isinstance(one.result, bytes)
        assert one.returned_at is not None
        result = workload.decoded(one.kind, one.result)
        if one.kind == "put":
            put[result] = given["item"]
        elif one.kind == "acknowledge" and result:
            if given["number"] in gone:
                wrong.append(f"message {given['number']} was acknowledged twice")
            gone[given["number"]] = one.returned_at
        elif one.kind == "take_numbered" and result is not None:
            out.setdefault(result.number, []).append((one.invoked_at, one.returned_at, result.receipt, result.delivery))
    for number, times in out.items():
        times.sort(key=lambda one: one[2])  # receipts rise with each delivery
        for place, (asked, _, receipt, _) in enumerate(times):
            if asked > gone.get(number, asked):
                wrong.append(f"message {number} was delivered after it was acknowledged")
            mine_until = min(asked + round(USABLE * VISIBLE * SECOND), asked_to_end.get((number, receipt), 1 << 62))
            for _, later_told, *_ in times[place + 1 :]:
                if later_told < mine_until:
                    wrong.append(f"message {number} was delivered to two at a time")
    kept = it.messages.keys() | it.dead.keys()
    for number in put.keys() - gone.keys() - kept - open_acknowledgements:
        wrong.append(f"message {number} is lost")
    return wrong


# Maps.


@final
class MapWorkload(ObjectWorkload):
    """Clients that put keys with a time to live, read them, and compare and set two others."""

    def __init__(self) -> None:
        self.it = MapTable[str](history=5)
        super().__init__(map_machine, self.it)
        self._keys: list[str] = []
        self._versions: dict[str, int] = {}

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        if rng.chance(0.2):
            self._keys.append(f"k{number}")
            return self.call(self.it.put, self._keys[-1], f"v{number}", ttl=TTL)
        if rng.chance(0.5):
            key = f"s{rng.below(2)}"
            return self.call(self.it.compare_and_set, key, f"v{number}", expected=self._versions.get(key, 0))
        return self.call(self.it.get, rng.choice(self._keys[-3:] or ["k"]))

    def answered(self, asked: Asked, result: Any) -> None:
        if asked.kind == "compare_and_set" and result:
            self._versions[self.arguments(asked.argument)["key"]] = result


def wrong_keys(workload: MapWorkload, history: tuple[Operation, ...]) -> list[str]:
    """Return keys that ended too early or came back, and versions that did not rise."""
    put: dict[str, Operation] = {}
    reads: dict[str, list[tuple[Operation, bool]]] = {}
    versions: dict[str, list[tuple[int, int, int]]] = {}
    for one in history:
        if one.fate is not Fate.ANSWERED:
            continue
        assert isinstance(one.result, bytes)
        assert one.returned_at is not None
        key = workload.arguments(one.argument)["key"]
        result = workload.decoded(one.kind, one.result)
        if one.kind == "put":
            put[key] = one
        elif one.kind == "get":
            reads.setdefault(key, []).append((one, isinstance(result, Found)))
        elif result:
            versions.setdefault(key, []).append((one.invoked_at, one.returned_at, result))
    wrong: list[str] = []
    for key, found in reads.items():
        written = put.get(key)
        for one, there in found:
            assert one.returned_at is not None
            if written is None or written.returned_at is None or one.invoked_at < written.returned_at:
                continue
            if not there and one.returned_at < written.invoked_at + round(USABLE * TTL * SECOND):
                wrong.append(f"{key} ended too early, at {one.returned_at}")
            wrong += [
                f"{key} came back, at {later.invoked_at}"
                for later, seen in found
                if seen and not there and later.invoked_at > one.returned_at
            ]
    for key, times in versions.items():
        for _, told, version in times:
            wrong += [
                f"{key} got version {later} after {version}"
                for asked, _, later in times
                if asked > told and later <= version
            ]
        if len({version for *_, version in times}) < len(times):
            wrong.append(f"{key} got one version twice")
    return wrong
