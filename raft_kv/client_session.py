"""`Session`: one client's requests and replies, without I/O. Bytes go in, effects come out.

A session parses, keeps the order of replies, batches commands, and holds the state of a transaction. It opens no socket
and reads no clock; the server moves its bytes.

Clients may rely on this order: commands of one connection are carried out in the order in which they were sent. So one
request is open at a time, and later commands wait: consecutive writes become one log entry (each succeeds or fails on
its own; it is no transaction), consecutive reads one query. Short ones share it with those of other clients. A read
waits for the write before it, and a write for the read before it. The server does not read from a client while its
request is open, so the memory for one client is bounded by the limits and the bytes of one read.

The work for a client in one turn is bounded by its cost, not by its bytes: 64 KiB can hold ten thousand commands, or
request a hundred megabytes of replies. After that much work the session returns `Pause`, and other clients have turns.
"""

from __future__ import annotations

from typing import Final, assert_never, final

import attrs

from raft_core.errors import OutcomeUnknown, Refused
from raft_kv import log_format as entries
from raft_kv.client_session_state import APART, SessionState
from raft_kv.client_session_values import (
    Close,
    Pause,
    Propose,
    Read,
    Send,
    SessionEffect,
    Share,
    ShareRead,
)
from raft_kv.client_transaction import TransactionState, sweeps
from raft_kv.client_users import Begun
from raft_kv.commands import ONE_LINE, READ, SESSION, SHORT_READS, WRITE, Command, look_up, plain
from raft_kv.commands.connection import check_database
from raft_kv.commands.table import ADMIN
from raft_kv.keyspace import Keyspace, Millis
from raft_kv.local import Later, UnknownUser, answer_locally, is_once, once_of
from raft_kv.log_format import Answered, Calls, Clock, Once, OpenSession, Query, Transaction, Versions
from raft_kv.open_requests import (
    Administering,
    Authenticating,
    BackingUp,
    Confirming,
    Executing,
    Inspecting,
    Open,
    Reading,
    Refusing,
    SettingUser,
    SharedReading,
    Watching,
    Writing,
    failure_replies,
    open_for,
)
from raft_kv.resp import OK, CommandError, Reply, Simple, encode, encode_failure
from raft_kv.resp_parser import ParseFailure, TooLarge
from raft_kv.scripts import MOST_SCRIPT_COST, script_cost
from raft_kv.status import ServerStatus
from raft_kv.users.acl import credentials

__all__ = ["Session"]


_NOTHING: Final = Keyspace()
"""For commands without keys."""
_AT_ONCE_IN_TRANSACTION: Final = frozenset({"exec", "discard", "multi", "watch", "quit", "reset"})
_COMMAND_COST: Final = 4
_PARSING_COST: Final = 2
_BYTES_PER_COST: Final = 16
"""Measured: a command answered at once takes some 3 µs, parsing it 2, and a reply 60 ns per byte."""
_COST_PER_BYTE: Final = 16
"""Of a command that the session answers: CONFIG GET compiles patterns, at up to 50 µs per byte."""
_MOST_WORDS: Final = 1024
"""Of such a command. One request can hold 130,000, and COMMAND INFO of as many names took 30 s in the loop."""
_TOUCH_KEYS: Final = frozenset({READ, WRITE})
_BEGIN: Final = frozenset({"multi", "watch"})


@final
@attrs.define(eq=False)
class Session(SessionState):
    """A client's state between two of its commands. `number` names it to people."""

    # Events.

    def receive(self, data: bytes, now: Millis) -> list[SessionEffect]:
        """Take bytes from the client."""
        if self._closed:
            return []
        self.client.seen = self.clients.clock()
        self._parse(data)
        return self._proceed(now)

    def resume(self, now: Millis) -> list[SessionEffect]:
        """Continue after `Pause`: the other connections have had their turns."""
        return self._proceed(now)

    def _parse(self, data: bytes) -> None:
        """Parse `data` and the bytes left before; queue at most one batch of requests."""
        self._queued_bytes = len(data) + self._parser.held_bytes + (self._queued_bytes if self._queue else 0)
        requests = self._parser.feed(data, self.limits.batch_calls)
        self.client.commands += len(requests)
        self._queue.extend(requests)

    def answered(self, data: bytes, now: Millis) -> list[SessionEffect]:
        """Take the result of the open request."""
        waiting, self._open = self._open, None
        effect = self._on_answer(waiting, data, now)
        return self._proceed(now, effect)

    def failed(self, error: Refused | OutcomeUnknown, now: Millis) -> list[SessionEffect]:
        """Take the failure of the open request: answer every command it carried with the error."""
        waiting, self._open = self._open, None
        if type(waiting) is Confirming and waiting.password is not None:
            return self._proceed(now, self._begin(self._user.unconfirmed(waiting.password, error)))
        if type(waiting) is Confirming:
            self._queue.popleft()
        self._replies.append(failure_replies(waiting, error))
        return self._proceed(now)

    def declined(self, now: Millis) -> list[SessionEffect]:
        """Take note that shared reads were not answered: make them a query of their own."""
        waiting = self._open
        assert type(waiting) is SharedReading
        self._apart = APART
        self._open = Reading(waiting.calls)
        return self._proceed(now, self._read(waiting.calls, now))

    def inspected(self, status: ServerStatus, now: Millis) -> list[SessionEffect]:
        """Take the status requested by `Inspect`."""
        waiting, self._open = self._open, None
        assert isinstance(waiting, Inspecting)
        try:
            answer = answer_locally(self.client, self.clients, waiting.call, status)
        except CommandError as failure:
            if isinstance(failure, UnknownUser) and not self.access.confirmed:  # the rest of the log may have it
                self._queue.appendleft(waiting.call)
                self._open = Confirming()
                return self._proceed(now, Read(entries.encode_query(Versions([]), 0)))
            self._replies.append(encode_failure(str(failure)))
            return self._proceed(now)
        if isinstance(answer, Later):
            self._open = Administering(answer.reply, answer.closes)
            return self._proceed(now, answer.effect)
        self._say(answer)
        return self._proceed(now)

    # The queue.

    def _proceed(self, now: Millis, effect: SessionEffect | None = None) -> list[SessionEffect]:
        """Take commands from the queue until one has to be waited for."""
        left = self.limits.turn_cost
        self._checks = self.access.on
        if self._checks:
            self._user.look()
        while effect is None and self._open is None and not self._closed:
            if left <= 0:
                effect = Pause() if self._queue or self._parser.more else None
                break
            if not self._queue:
                if not self._parser.more:
                    break
                self._parse(b"")
                left -= self.limits.batch_calls * _PARSING_COST
                continue
            said = len(self._replies)
            self._worked = 0
            effect = self._take(now)
            left -= _COMMAND_COST + self._worked + sum(map(len, self._replies[said:])) // _BYTES_PER_COST
        effects, self._said = self._said, []
        if self._replies:
            effects.append(Send(b"".join(self._replies)))
            self._replies.clear()
        if effect is not None:
            effects.append(effect)
        return effects

    def _say(self, reply: Reply) -> None:
        self._replies.append(encode(reply, self.client.protocol))

    def _close(self, problem: str = "") -> SessionEffect:
        self._closed = True
        self._queue.clear()
        return Close(problem)

    def _take(self, now: Millis) -> SessionEffect | None:
        """Answer or send the first command of the queue, with those that may follow in its batch."""
        call = self._queue[0]
        if isinstance(call, ParseFailure):
            if call.text:
                self._replies.append(encode_failure(call.text))
            return self._close(call.problem)
        if isinstance(call, TooLarge):
            self._queue.popleft()
            self._transactions.spoil()
            self._replies.append(encode_failure(call.text))
            return None
        command = None if self._checks else plain(call)
        if command is not None and self._transactions.queued is None and not self.client.misplaced:
            self.client.last_command = command.word
            return self._batch(command, now)
        self._worked = script_cost(call)
        try:
            if self._checks:
                self._user.check(call, in_transaction=self._transactions.queued is not None)
            call = self._queue[0] = self.gate.checked(self._user.translated(call, checks=self._checks))
            command = look_up(call)
            self.client.last_command = command.word
        except CommandError as failure:
            self._queue.popleft()
            self._transactions.spoil()
            self._replies.append(encode_failure(str(failure)))
            return None
        if (refusal := self._out_of_place(command, call)) is not None:
            self._queue.popleft()
            self._transactions.spoil()
            self._replies.append(encode_failure(refusal))
            return None
        if ADMIN in command.flags and self.access.must_confirm(command, call):
            self._open = Confirming()
            return Read(entries.encode_query(Versions([]), 0))
        if is_once(call):
            return self._once(call, now)
        if self._transactions.queued is not None and command.name not in _AT_ONCE_IN_TRANSACTION:
            self._queue.popleft()
            self._collect(command, call)
            return None
        if command.flags & _TOUCH_KEYS:
            return self._batch(command, now)
        self._queue.popleft()
        try:
            return self._alone(command, call, now)
        except CommandError as failure:
            self._replies.append(encode_failure(str(failure)))
            return None

    def _batch(self, command: Command, now: Millis) -> SessionEffect:
        """Send the first command of the queue, which is a read or a write, with those that may follow in its batch."""
        if WRITE in command.flags:
            calls = self._gather(WRITE)
            self._open = Writing(len(calls))
            if self._one_line:
                return Share(calls, self._queued_bytes)
            return self._propose(Calls(self.client.protocol, calls))
        calls = self._gather(READ)
        if self._one_line and not self._apart:
            self._open = SharedReading(calls)
            return ShareRead(calls, self._queued_bytes, self.client.protocol)
        self._apart -= self._apart > 0
        self._open = Reading(calls)
        return self._read(calls, now)

    def _out_of_place(self, command: Command, call: list[bytes]) -> str | None:
        """Return an error while the connection has selected a database which does not exist."""
        if command.name == "select":
            try:
                check_database(call[1])
                self.client.misplaced = False
            except CommandError as failure:
                self.client.misplaced = True
                return str(failure)
        elif self.client.misplaced and (command.flags & _TOUCH_KEYS or command.name in _BEGIN or is_once(call)):
            return "ERR this connection has selected a database that does not exist; there is one, SELECT 0"
        return None

    def _gather(self, flag: str) -> list[list[bytes]]:
        """Take a batch of commands with `flag` from the head of the queue."""
        calls: list[list[bytes]] = []
        size = 0
        queue, limit = self._queue, self.limits.batch_calls
        few_bytes = self._queued_bytes <= self.limits.batch_bytes
        one_line = self._queued_bytes <= self.limits.shared_bytes and not self._checks
        short = ONE_LINE if flag is WRITE else SHORT_READS
        name, words = b"", 0  # of the call before, if it was plain: one with the same needs no second look
        command: Command | None = None
        while queue and len(calls) < limit:
            call = queue[0]
            if type(call) is not list:
                break
            if len(call) != words or call[0] != name:
                command = None if self._checks else plain(call)
                if calls and (command is None or flag not in command.flags):
                    following = self._following(call, flag)
                    if following is None:
                        break
                    call = following
                if one_line:
                    known = short.get(call[0])
                    one_line = known is not None and known.words == len(call)
                name, words = (call[0], len(call)) if command is not None else (b"", 0)
            if not few_bytes:
                size += sum(map(len, call))
                if calls and size > self.limits.batch_bytes:
                    break
            queue.popleft()
            calls.append(call)
            if command is None and sweeps(call):
                break
        self._one_line = one_line
        return calls

    def _following(self, call: list[bytes], flag: str) -> list[bytes] | None:
        """Return `call` as it enters the log; None if it may not join a batch with `flag`."""
        if script_cost(call) > MOST_SCRIPT_COST:
            return None
        try:
            if self._checks:
                self.access.table.check(self.client.user, look_up(call), call)
            translated = self.gate.checked(self._user.translated(call, checks=self._checks))
            return translated if flag in look_up(translated).flags and not sweeps(translated) else None
        except CommandError:
            return None

    def _read(self, calls: list[list[bytes]], now: Millis) -> Read:
        return Read(entries.encode_query(Query(self.client.protocol, [], calls, False, self._user.name), now))

    def _propose(self, command: Calls | Transaction | Once | OpenSession) -> Propose:
        return self._user.proposal(command, checks=self._checks)

    def _begin(self, begun: Begun | Reply) -> SessionEffect | None:
        """Begin what a command about users needs, or give its reply."""
        if type(begun) is Begun:
            self._open = begun.waiting
            return begun.effect
        self._say(begun)
        return None

    # Commands outside of batches.

    def _alone(self, command: Command, call: list[bytes], now: Millis) -> SessionEffect | None:
        if SESSION not in command.flags:
            self._say(command.run(_NOTHING, call))
            return None
        if len(call) > _MOST_WORDS and command.name != "watch":
            raise CommandError(f"ERR {command.name.upper()} takes at most {_MOST_WORDS - 1} arguments here")
        self._worked = _COST_PER_BYTE * sum(map(len, call))
        match command.name:
            case "auth" if self._checks and len(call) <= 3:
                return self._begin(self._user.authenticate(*credentials(call[1:])))
            case "hello" if self._checks:
                return self._begin(self._user.hello(call))
            case "acl":
                return self._begin(self._user.acl(call, checks=self._checks))
            case "quit":
                self._say(OK)
                return self._close()
            case "multi" | "discard" | "unwatch" | "reset":
                self._transact(command.name)
                return None
            case "exec":
                return self._execute(now)
            case "watch":
                return self._watch(call[1:], now)
            case "raft" if call[1].lower() == b"session" and len(call) == 2:
                self._open = Writing(1)
                return self._propose(OpenSession())
        answer = answer_locally(self.client, self.clients, call, None)
        if not isinstance(answer, Later):
            self._say(answer)
            return None
        self._open = open_for(answer, call)
        return answer.effect

    def _once(self, call: list[bytes], now: Millis) -> SessionEffect | None:
        """Answer RAFT ONCE: apply a command, or the whole transaction, once however often it is sent."""
        self._queue.popleft()
        self._worked = script_cost(call[4:])
        transaction = self._transactions.queued
        try:
            identity, inner = once_of(call, in_transaction=transaction is not None)
            command = look_up(inner := self.gate.checked(self._user.translated(inner, checks=self._checks)))
            if transaction is not None and transaction.once is not None:
                raise CommandError("ERR RAFT ONCE names a transaction once")
            if WRITE not in command.flags:
                raise CommandError("ERR RAFT ONCE takes a command that changes keys")
        except CommandError as failure:
            self._transactions.spoil()
            self._replies.append(encode_failure(str(failure)))
            return None
        if transaction is not None:
            transaction.once = identity
            self._collect(command, inner)
            return None
        self._open = Writing(1, once=True)
        return self._propose(Once(*identity, self.client.protocol, False, [], [inner]))

    # Transactions.

    def _transact(self, name: str) -> None:
        """Answer MULTI, DISCARD, UNWATCH or RESET."""
        match name:
            case "multi":
                self._transactions.begin()
            case "discard":
                self._transactions.discard()
            case "unwatch":
                self._transactions.unwatch()
            case "reset":
                self._transactions = TransactionState(self.limits)
                self.client.reset()
        self._say(Simple("RESET") if name == "reset" else OK)

    def _collect(self, command: Command, call: list[bytes]) -> None:
        """Queue a command of a transaction, or refuse it."""
        try:
            self._transactions.queue(command, call)
        except CommandError as failure:
            self._replies.append(encode_failure(str(failure)))
        else:
            self._say(Simple("QUEUED"))

    def _execute(self, now: Millis) -> SessionEffect | None:
        """Answer EXEC by one log entry, or by one query if nothing is written."""
        transaction, watched = self._transactions.take()
        protocol = self.client.protocol
        if transaction.once is not None:
            self._open = Writing(1, once=True)
            return self._propose(Once(*transaction.once, protocol, True, watched, transaction.calls))
        if transaction.writes:
            self._open = Writing(1)
            return self._propose(Transaction(protocol, watched, transaction.calls))
        if not watched and not transaction.calls:
            self._say(())
            return None
        query = Query(protocol, watched, transaction.calls, True, self._user.name)
        self._open = Executing(query)
        return Read(entries.encode_query(query, now))

    def _watch(self, keys: list[bytes], now: Millis) -> SessionEffect:
        self._transactions.check_watch(keys)
        self._open = Watching(keys)
        return Read(entries.encode_query(Versions(keys), now))

    # Answers.

    def _on_answer(self, waiting: Open | None, data: bytes, now: Millis) -> SessionEffect | None:
        assert waiting is not None, "an answer without an open request"
        if isinstance(waiting, Writing | SharedReading):
            self._replies.append(data)
            return None
        if isinstance(waiting, Reading):
            return self._on_read(waiting, data, now)
        if isinstance(waiting, Executing):
            return self._on_executed(waiting, data)
        if isinstance(waiting, Watching):
            return self._on_versions(waiting, data)
        if isinstance(waiting, Administering):
            self._say(waiting.reply)
            return self._close() if waiting.closes else None
        if isinstance(waiting, BackingUp):
            self._say(data)
            return None
        if isinstance(waiting, Authenticating):
            return self._begin(self._user.on_password(waiting, right=data == b"1"))
        if isinstance(waiting, Refusing):
            self._replies.append(encode_failure(waiting.text))
            return None
        if isinstance(waiting, SettingUser):
            return self._begin(self._user.on_hashed(waiting, data, checks=self._checks))
        if isinstance(waiting, Confirming):
            self.access.confirmed = True
            return None if waiting.password is None else self._begin(self._user.again(waiting.password))
        if isinstance(waiting, Inspecting):
            raise AssertionError("a status is answered by `inspected`")
        assert_never(waiting)

    def _on_read(self, reading: Reading, data: bytes, now: Millis) -> SessionEffect | None:
        if reading.touching:  # the clock has been moved: a key alive by the log's clock is alive
            self._open = Reading(reading.calls)
            return self._read(reading.calls, 0)
        answer = entries.decode_answer(data)
        self._say_answer(answer, data)
        rest = reading.calls[answer.count :]
        if not rest:
            return None
        self._open = Reading(rest, touching=answer.due)
        return Propose(entries.encode_entry(Clock())) if answer.due else self._read(rest, now)

    def _say_answer(self, answer: Answered, data: bytes) -> None:
        """Send the replies; long ones as they lie in `data`, without another copy."""
        if len(data) <= entries.LONG_ANSWER:
            self._replies.append(answer.replies)
            return
        if self._replies:
            self._said.append(Send(b"".join(self._replies)))
            self._replies.clear()
        self._said.append(Send(data, skip=entries.ANSWER_HEAD))

    def _on_versions(self, watching: Watching, data: bytes) -> SessionEffect | None:
        if watching.touching:
            self._open = Watching(watching.keys)
            return Read(entries.encode_query(Versions(watching.keys), 0))
        versions = entries.decode_versions(data)
        if not versions:
            self._open = Watching(watching.keys, touching=True)
            return Propose(entries.encode_entry(Clock()))
        self._transactions.watch(watching.keys, versions)
        self._say(OK)
        return None

    def _on_executed(self, executing: Executing, data: bytes) -> SessionEffect | None:
        if executing.touching:
            self._open = Executing(executing.query)
            return Read(entries.encode_query(executing.query, 0))
        answer = entries.decode_answer(data)
        if not answer.due:
            self._say_answer(answer, data)
            return None
        self._open = Executing(executing.query, touching=True)
        return Propose(entries.encode_entry(Clock()))
