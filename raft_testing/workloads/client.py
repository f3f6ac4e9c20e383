"""Simulated clients: one operation at a time, at any node, with or without a session.

`SimulatedClient` writes its part of the history. With a session it repeats a command of unknown outcome, at another
node, until it has an answer: the command must be applied once. Without a session it never repeats, and leaves an
unknown outcome open.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.errors import OutcomeUnknown, RequestError
from raft_core.node.limits import SECOND
from raft_core.requests import Propose, Read
from raft_core.sessions import (
    Expired,
    Full,
    Registered,
    Result,
    Sequence,
    SessionId,
    Stale,
    decode_reply,
    encode_command,
    encode_plain,
    encode_register,
)
from raft_core.sessions import Reply as SessionReply
from raft_testing.checkers.requests import Reply
from raft_testing.linearizability.history import OperationId
from raft_testing.rng import Rng
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.world import World
from raft_testing.workloads.registers import Asked
from raft_testing.workloads.traffic import Traffic

__all__ = ["SimulatedClient"]

_PATIENCE: Final = 4 * SECOND
"""The deadline that a client gives."""
_ECHOED: Final = 0.05
"""Of the answered commands, those that come once more."""
_PATIENT_SHARE: Final = 0.05
"""Of the requests, those without a deadline: they wait while their node lives, and must be answered in peace."""
_GRACE: Final = 1 * SECOND
"""How much later it gives up on a node that says nothing."""


@final
class SimulatedClient:
    """A client. `with_session`: its commands are applied exactly once."""

    def __init__(self, world: World, traffic: Traffic, number: int, rng: Rng, *, with_session: bool) -> None:
        self._world = world
        self._traffic = traffic
        self._number = number
        self._rng = rng
        self._with_session = with_session
        self._lag = rng.fork("lag").choice((0, 0, 2))  # how many answers it keeps to itself
        self._echoes = rng.fork("echoes")
        self._moods = rng.fork("moods")
        self._session: SessionId | None = None
        self._sequence = 0
        self._asked: Asked | None = None
        self._sent = False
        self._operation = OperationId(0)
        self._command = b""
        self._waiting: tuple[SimulatedNode, int] | None = None
        self.attempts = 0
        self.answered = 0
        self.idle = True

    def start(self) -> None:
        """Start the first operation after a while, then one after the other."""
        self._rest()

    def _rest(self) -> None:
        self.idle = True
        self._world.at(self._rng.around(self._traffic.think), self._begin)

    def _begin(self) -> None:
        world = self._world
        if not self._traffic.may_begin():
            self._world.at(self._traffic.think, self._begin)
            return
        self.idle = False
        if self._with_session and self._session is None:
            self._asked, self._command = None, encode_register()
            self._send()
            return
        number = self._traffic.next_operation()
        self._asked = asked = self._traffic.workload.ask(self._rng, self._number, number)
        self._operation = self._traffic.recorder.invoke(
            self._number, world.now, asked.kind, key=asked.key, argument=asked.argument
        )
        self._sent = False
        if not asked.reads:
            if self._session is not None:
                self._sequence += 1
                lowest = Sequence(max(1, self._sequence - self._lag))
                self._command = encode_command(self._session, Sequence(self._sequence), lowest, asked.data)
            else:
                self._command = encode_plain(asked.data)
                world.replicas.offered(self._command)
            self._traffic.sent[self._operation] = (asked, self._command)
        self._send()

    # One attempt.

    def _send(self) -> None:
        world = self._world
        doors = self._traffic.doors()
        if not doors:
            world.at(self._traffic.think, self._send)
            return
        self.attempts += 1
        node = self._rng.choice(doors)
        ticket = world.next_ticket()
        patient = self._moods.chance(_PATIENT_SHARE)
        deadline = 0 if patient else node.clock.at(world.now) + _PATIENCE * node.clock.rate // 1000
        asked = self._asked
        request: Read | Propose
        if asked is not None and asked.reads:
            world.replicas.asked(asked.data)
            request = Read(query=asked.data)
        else:
            request = Propose(self._command)
        self._waiting = (node, ticket)

        def give_up() -> None:
            if self._waiting == (node, ticket):
                node.cancel(ticket)
                self._on_reply(ticket, None)

        if not patient:
            world.at(_PATIENCE + _GRACE, give_up)
        node.call(ticket, request, deadline, lambda reply: self._on_reply(ticket, reply))

    def _on_reply(self, ticket: int, reply: Reply) -> None:
        if self._waiting is None or self._waiting[1] != ticket:
            return
        self._waiting = None
        if isinstance(reply, bytes):
            self._on_answer(reply)
        elif reply is None or isinstance(reply, OutcomeUnknown):
            self._on_unknown()
        else:
            self._on_refused(reply)

    def _again(self) -> None:
        self._world.at(self._rng.around(self._traffic.think), self._send)

    def _repeat(self, command: bytes, first: Result) -> None:
        """Send a command answered long ago once more: it gets the same answer, or none any more."""
        world = self._world
        doors = self._traffic.doors()
        if not doors:
            return

        def on_reply(reply: Reply) -> None:
            if isinstance(reply, bytes):
                said = decode_reply(reply)
                world.require(
                    said == first or isinstance(said, Stale | Expired),
                    f"a command answered with {first!r} came again and was answered with {said!r}",
                )
                world.seen["late repetition not carried out again"] += 1

        node, ticket = self._echoes.choice(doors), world.next_ticket()
        deadline = node.clock.at(world.now) + _PATIENCE * node.clock.rate // 1000
        node.call(ticket, Propose(command), deadline, on_reply)

    # How it ended.

    def _on_answer(self, answer: bytes) -> None:
        asked, world = self._asked, self._world
        if asked is not None and asked.reads:
            self._answered(asked, answer)
            return
        try:
            reply: SessionReply = decode_reply(answer)
        except ValueError as failure:
            world.fail(f"client {self._number} got no reply of a session: {failure}")
            return
        if isinstance(reply, Registered):
            self._session, self._sequence = reply.session, 0
            self._rest()
        elif isinstance(reply, Result) and asked is not None:
            self._answered(asked, reply.data)
            self._traffic.note_written(self._command, answer)
            if self._session is not None and self._echoes.chance(_ECHOED):
                command, first = self._command, reply
                world.at(self._echoes.around(2 * SECOND), lambda: self._repeat(command, first))
        elif isinstance(reply, Expired):
            self._session = None
            self._unknown()
        elif isinstance(reply, Full) and asked is not None and self._session is not None:
            world.seen["client told which answers it has"] += 1
            sequence = Sequence(self._sequence)
            self._command = encode_command(self._session, sequence, sequence, asked.data)
            self._traffic.sent[self._operation] = (asked, self._command)  # the one before it was not carried out
            self._again()
        else:
            world.fail(f"client {self._number} was answered {reply!r}")

    def _answered(self, asked: Asked, answer: bytes) -> None:
        world = self._world
        try:
            result = self._traffic.workload.result(asked, answer)
        except ValueError as failure:
            world.fail(f"client {self._number} got an answer that is not its own: {failure}")
            return
        self._traffic.recorder.answered(self._operation, world.now, result)
        self.answered += 1
        self._rest()

    def _on_unknown(self) -> None:
        asked, world = self._asked, self._world
        world.seen["outcome unknown to a client"] += 1
        if asked is None:
            self._again()
        elif asked.reads:
            self._traffic.recorder.refused(self._operation, world.now)
            self._rest()
        elif self._session is not None:
            self._sent = True
            world.seen["client retried under its session"] += 1
            self._again()
        else:
            self._unknown()

    def _unknown(self) -> None:
        self._traffic.recorder.unknown(self._operation)
        self._rest()

    def _on_refused(self, error: RequestError) -> None:
        """Not carried out now. If it was sent before, under a session, the earlier sending may still be."""
        world = self._world
        world.seen["request refused"] += 1
        if self._asked is None or self._sent:
            self._again()
            return
        self._traffic.recorder.refused(self._operation, world.now)
        if self._session is not None and not self._asked.reads:
            self._sequence -= 1
        self._rest()
