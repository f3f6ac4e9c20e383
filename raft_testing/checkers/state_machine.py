"""Properties of state machines: the same commands in the same order, the same results, the same snapshots.

`CheckedStateMachine` surrounds `Sessions`, one per life of a node. `CountingStateMachine` is between `Sessions` and the
user's machine and counts the commands that pass. `ReplicaChecker` collects the reports of all machines of a simulation
and finds contradictions.

Each snapshot starts with a hash of all commands applied before it, so a restored snapshot can be compared with the
entries it stands for.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import Struct
from typing import Final, final

from raft_core.ids import NO_INDEX, Index
from raft_core.sessions import Sessions
from raft_core.state_machine import ApplyUnanswered, StateMachine, latest_time, preparer, unanswered
from raft_testing.checkers.cluster_time import ClusterTimeChecker

__all__ = ["CheckedStateMachine", "CountingStateMachine", "ReplicaChecker"]

_HEAD: Final = Struct("<Q16s")
_UNDER_A_SESSION: Final = b"\2"
_A_RESULT: Final = b"\0"
_STAMP: Final = 9
"""Bytes stamped into a command under sessions: the same command sent twice differs in them."""
_SESSION_HEAD: Final = 33
"""Bytes before the user's part of a command under a session."""


@final
class _Applied:
    """The state of the first machine to apply an index, and the first result; None until a machine has told one."""

    __slots__ = ("chain", "command", "node", "result")

    def __init__(self, chain: bytes, node: str, command: bytes, result: bytes | None) -> None:
        self.chain = chain
        self.node = node
        self.command = command
        self.result = result


@final
class _Command:
    """One command of a client, in all forms in which it has been seen: as it was sent, and as `prepare` made it.

    `offered`: how often a client sent it without a session. `place`: the index at which it was first applied.
    `done`: the indexes at which it came through to a machine. `logged`: the user's part of it, as it did so first.
    """

    __slots__ = ("done", "forms", "logged", "offered", "place", "results")

    def __init__(self, form: bytes) -> None:
        self.forms = [form]
        self.offered = 0
        self.place = 0
        self.done: set[int] = set()
        self.results: set[bytes] = set()
        self.logged: bytes | None = None

    def absorb(self, other: _Command) -> None:
        """Take over everything known of `other`, the same command."""
        self.forms += other.forms
        self.offered += other.offered
        self.done |= other.done
        self.results |= other.results
        if other.place and not 0 < self.place <= other.place:
            self.place, self.logged = other.place, other.logged


@final
class ReplicaChecker:
    """Everything observed of the machines of one simulation. `fail` gets the text of a contradiction.

    `prepare` may change a command, differently each time it is sent. So a command is identified by its sent form; all
    prepared forms are the same command.
    """

    def __init__(self, fail: Callable[[str], None], cluster_time: ClusterTimeChecker | None = None) -> None:
        self.fail = fail
        self.cluster_time = cluster_time
        self.seen: Counter[str] = Counter()
        self.carried_out = 0
        """How many commands have come through to any machine."""
        self._asked: set[bytes] = set()  # the queries of clients
        self._commands: dict[bytes, _Command] = {}  # by each form, without the stamp of the sessions
        self._applied: dict[int, _Applied] = {0: _Applied(bytes(16), "", b"", b"")}  # by index
        self._snapshots: dict[int, tuple[bytes, str]] = {}

    def offered(self, command: bytes) -> None:
        """Note a command sent once, without a session: it may be applied once at most."""
        self._command(command).offered += 1

    def prepared(self, command: bytes, logged: bytes) -> None:
        """Note the form `logged` of `command` as prepared by a leader."""
        sent, made = self._command(command), self._command(logged)
        if sent is not made:
            sent.absorb(made)
            for form in made.forms:
                self._commands[form] = sent
            self.seen["command changed by its machine's prepare"] += 1

    def asked(self, request: bytes) -> None:
        """Note a client's request, which the machine must answer."""
        self._asked.add(request)

    def was_asked(self, request: bytes) -> bool:
        """Return whether the request is a client's. All others may be nonsense and refused."""
        return request in self._asked

    def told(self, command: bytes, answer: bytes) -> None:
        """Note the result of a command received by a client."""
        if answer not in self._command(command).results:
            self.fail(f"a client was answered {answer!r}, which is not the result of its command {command!r}")

    def place_of(self, command: bytes) -> int:
        """Return the index at which the command, as a client sent it, was first applied; 0 if it never was."""
        return self._command(command).place

    def logged(self, command: bytes) -> bytes | None:
        """Return the user's part of a client's command as first applied from the log; None if it never was."""
        return self._command(command).logged

    def carried_out_at(self, command: bytes) -> int:
        """Return the index at which a client's command first reached the user's machine; 0 if it never did."""
        return min(self._command(command).done, default=0)

    def applied(
        self, index: int, chain: bytes, command: bytes, result: bytes | None, *, carried_out: bool, node: str = "a node"
    ) -> None:
        """Note a command given to the machine of `node`; `carried_out`: it reached the user's machine.

        `result`: None where the machine took its shorter way, without results.
        """
        known = self._applied.get(index)
        if known is None:
            self._applied[index] = _Applied(chain, node, command, result)
            if self.cluster_time is not None:
                self.cluster_time.applied(index, command, node)
            self._first_applied(index, command, result)
        elif known.chain != chain:
            self.fail(
                f"two machines applied different commands up to index {index}: there, {known.node} was given "
                f"{known.command!r} and {node} {command!r}"
            )
        elif result is None:
            pass
        elif known.result is None:
            known.node, known.result = node, result
            self._command(command).results.add(result)
        elif known.result != result:
            self.fail(
                f"two machines gave different results at index {index}: {known.node} gave "
                f"{_users_result(known.result)!r} and {node} {_users_result(result)!r} "
                f"for the command {_users_part(command)!r}"
            )
        if carried_out:
            self._carried_out(index, command)

    def _command(self, command: bytes) -> _Command:
        form = _body(command)
        known = self._commands.get(form)
        if known is None:
            known = self._commands[form] = _Command(form)
        return known

    def _first_applied(self, index: int, command: bytes, result: bytes | None) -> None:
        known = self._command(command)
        known.place = known.place or index
        if result is None:
            return
        if known.place != index and command[:1] == _UNDER_A_SESSION and result[:1] == _A_RESULT:
            first = [one for one in known.results if one[:1] == _A_RESULT]
            if first and first[0] != result:
                self.fail(
                    f"the command at {known.place} was repeated at {index} and had another result: "
                    f"{_users_result(result)!r} instead of {_users_result(first[0])!r} for {_users_part(command)!r}"
                )
            self.seen["retry answered from its session"] += 1
        known.results.add(result)

    def _carried_out(self, index: int, command: bytes) -> None:
        known = self._command(command)
        if known.logged is None:
            known.logged = _users_part(command)
        places = known.done
        places.add(index)
        most = 1 if command[:1] == _UNDER_A_SESSION else known.offered or len(places)
        if len(places) > most:
            self.fail(
                f"a command that was sent to be applied once is applied at {sorted(places)}: {_users_part(command)!r}"
            )

    def chain(self, index: int) -> bytes | None:
        """Return the hash of all commands applied up to `index`."""
        known = self._applied.get(index)
        return None if known is None else known.chain

    def snapshot(self, index: int, digest: bytes, node: str = "a node") -> None:
        """Note the state of the machine of `node` after the command at `index`, as written to a snapshot."""
        known = self._snapshots.setdefault(index, (digest, node))
        if known[0] != digest:
            last = self._applied.get(index)
            command = b"" if last is None else last.command
            self.fail(
                f"two machines have different states after index {index}: those of {known[1]} and {node}; the last "
                f"command was {_users_part(command)!r}"
            )

    def sum_up(self, tell: Callable[[bytes], None]) -> None:
        """Report all states written to snapshots.

        Two processes can then be compared, where a difference is invisible within one.
        """
        for index, (digest, _) in sorted(self._snapshots.items()):
            tell(b"%d " % index + digest)


def _body(command: bytes) -> bytes:
    """Return the command without its leader's stamp."""
    return command[:1] + command[_STAMP:]


def _users_part(command: bytes) -> bytes:
    """Return the command without the head for `Sessions`."""
    return command[_SESSION_HEAD if command[:1] == _UNDER_A_SESSION else _STAMP :]


def _users_result(result: bytes) -> bytes:
    """Return the result without the head that `Sessions` puts before it; its other replies as they are."""
    return result.removeprefix(_A_RESULT)


@final
class CountingStateMachine:
    """The user's machine, under `Sessions`: it counts the commands carried out."""

    def __init__(self, machine: StateMachine, replicas: ReplicaChecker) -> None:
        self._machine = machine
        self._replicas = replicas
        self.init = machine.init
        self.prepare = machine.prepare
        self._prepare = preparer(machine)
        self._unanswered = unanswered(machine)
        self.query = machine.query
        self.snapshot = machine.snapshot

    @property
    def machine(self) -> StateMachine:
        """The user's machine."""
        return self._machine

    def prepare_with_wall(self, command: bytes, now: int, wall: int) -> bytes:
        """Pass the command on to the user's machine."""
        return self._prepare(command, now, wall)

    def apply(self, index: Index, command: bytes) -> bytes:
        """Count the command, and apply it."""
        self._replicas.carried_out += 1
        return self._machine.apply(index, command)

    @property
    def apply_unanswered(self) -> ApplyUnanswered | None:
        """The user's machine's shorter way, with the count; None if it has none."""
        return None if self._unanswered is None else self._apply_unanswered

    def _apply_unanswered(self, commands: Sequence[tuple[Index, bytes]]) -> int:
        assert self._unanswered is not None
        count = self._unanswered(commands)
        self._replicas.carried_out += count
        return count

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Give the user's machine its own part of a snapshot, cut at other places than when it was written."""
        self._machine.restore(iter(_cut_elsewhere(b"".join(chunks))))


def _cut_elsewhere(data: bytes) -> list[bytes]:
    """Return the same bytes in up to three pieces, none of them empty.

    The cuts depend on the bytes alone, so equal runs stay equal.
    """
    if len(data) < 2:
        return [data] if data else []
    chance = zlib.crc32(data)
    first = 1 + chance % (len(data) - 1)
    second = first + (chance >> 8) % (len(data) - first + 1)
    return [piece for piece in (data[:first], data[first:second], data[second:]) if piece]


@final
class CheckedStateMachine:
    """A machine reporting on the machine inside.

    `stands` is called at each snapshot taken (true) or restored (false) with the machine's position. `node` names it in
    violations.
    """

    def __init__(
        self,
        machine: StateMachine,
        replicas: ReplicaChecker,
        stands: Callable[[int, bool], None] = lambda last, taken: None,
        node: str = "a node",
    ) -> None:
        self.machine = machine
        self._replicas = replicas
        self._prepare = preparer(machine)
        self._unanswered = unanswered(machine)
        self._stands = stands
        self._node = node
        self._life = node
        """The node, and the snapshot its machine was restored from, if any: names this machine in a violation."""
        self.last = 0
        self.chain = bytes(16)

    def init(self) -> Index:
        """Start the machine inside, and replay from the start of the log."""
        self.machine.init()
        return NO_INDEX

    def latest_time(self) -> int:
        """Return the latest time known to the machine inside."""
        return latest_time(self.machine)

    def prepare(self, command: bytes, now: int) -> bytes:
        """Prepare without a wall time of its own."""
        return self.prepare_with_wall(command, now, now)

    def prepare_with_wall(self, command: bytes, now: int, wall: int) -> bytes:
        """Prepare the command, and note the time and the result."""
        if self._replicas.cluster_time is not None:
            self._replicas.cluster_time.told(now)
        logged = self._prepare(command, now, wall)
        if isinstance(logged, bytes):
            self._replicas.prepared(command, logged)
        return logged

    def apply(self, index: Index, command: bytes) -> bytes:
        """Return the machine's result. An exception of the machine is a violation, and is raised again."""
        replicas = self._replicas
        before = replicas.carried_out
        self._require_later(index, command)
        try:
            result = self.machine.apply(index, command)
        except Exception as failure:
            self._raised(index, command, failure)
            raise
        self._applied(index, command, result, carried_out=replicas.carried_out > before)
        return result

    @property
    def apply_unanswered(self) -> ApplyUnanswered | None:
        """The machine's shorter way, if it has one: checked like `apply`, except for the results, of which it has none.

        A shorter way with another effect than `apply` shows in later results, answers and snapshots, because the other
        nodes took the commands in other runs.
        """
        return None if self._unanswered is None else self._apply_unanswered

    def _apply_unanswered(self, commands: Sequence[tuple[Index, bytes]]) -> int:
        assert self._unanswered is not None
        replicas = self._replicas
        before = replicas.carried_out
        self._require_later(*commands[0])
        try:
            count = self._unanswered(commands)
        except Exception as failure:
            self._raised(*commands[0], failure)
            raise
        for index, command in commands[:count]:
            self._applied(index, command, None, carried_out=replicas.carried_out > before)
        replicas.seen["command applied without a result"] += count
        return count

    def _require_later(self, index: Index, command: bytes) -> None:
        if index <= self.last:
            self._replicas.fail(
                f"a machine was given index {index} after {self.last}, that of {self._life}: {_users_part(command)!r}"
            )

    def _raised(self, index: Index, command: bytes, failure: Exception) -> None:
        told = f"the machine raised {type(failure).__name__} at index {index}: {failure}"
        self._replicas.fail(f"{told} ({self._life}, command {_users_part(command)!r})")

    def _applied(self, index: Index, command: bytes, result: bytes | None, *, carried_out: bool) -> None:
        content = b"%d:%d:" % (index, len(command)) + command
        self.chain = hashlib.blake2b(self.chain + content, digest_size=16).digest()
        self.last = index
        self._replicas.applied(index, self.chain, command, result, carried_out=carried_out, node=self._life)

    def query(self, request: bytes) -> bytes:
        """Return the answer. An exception at a client's request, or an answer of another type, is a violation."""
        replicas = self._replicas
        try:
            answer = self.machine.query(request)
        except Exception as failure:
            if replicas.was_asked(request):
                replicas.fail(f"the machine raised {type(failure).__name__} at the query {request!r}: {failure}")
            raise
        if not isinstance(answer, bytes):
            replicas.fail(f"the machine answered the query {request!r} with {type(answer).__name__}, not bytes")
        return answer

    def snapshot(self) -> Iterator[bytes]:
        """Yield the machine's chunks, after a head with the commands they stand for."""
        self._stands(self.last, True)
        return self._chunks(self.last, self.chain, iter(self.machine.snapshot()))

    def _chunks(self, last: int, chain: bytes, inner: Iterator[bytes]) -> Iterator[bytes]:
        yield _HEAD.pack(last, chain)
        digest = hashlib.blake2b(digest_size=16)
        for chunk in inner:
            digest.update(chunk)
            yield chunk
        self._replicas.snapshot(last, digest.digest(), self._life)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the machine's state by the snapshot's, which must stand for the commands up to its index."""
        data = b"".join(chunks)
        last, chain = _HEAD.unpack_from(data)
        if self._replicas.chain(last) != chain:
            self._replicas.fail(f"a snapshot does not equal the applied prefix up to index {last} ({self._node})")
        body = data[_HEAD.size :]
        middle = len(body) // 2
        self.machine.restore(iter([body[:middle], body[middle:]]))
        self.last, self.chain = last, chain
        self._life = f"{self._node} (restored from a snapshot at {last})"
        self._stands(last, False)

    @property
    def users_machine(self) -> StateMachine:
        """The machine within, without those of this library around it."""
        found = self.machine
        while isinstance(found, Sessions | CountingStateMachine):
            found = found.machine
        return found

    def digest(self) -> bytes:
        """Return the machine's state as a hash."""
        digest = hashlib.blake2b(digest_size=16)
        for chunk in self.machine.snapshot():
            digest.update(chunk)
        return digest.digest()
