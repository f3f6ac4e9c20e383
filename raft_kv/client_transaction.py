"""The transaction of one client: commands queued between MULTI and EXEC, and watched keys."""

from __future__ import annotations

from typing import Final, final

import attrs

from raft_kv.client_session_values import SessionLimits
from raft_kv.commands import SESSION, TABLE, WRITE, Command
from raft_kv.keyspace import Version
from raft_kv.resp import CommandError

__all__ = ["Queued", "TransactionState", "sweeps"]

_SWEEPING: Final = frozenset({name for name, command in TABLE.items() if command.sweeps})


def sweeps(call: list[bytes]) -> bool:
    """Return whether the command's cost grows with the number of all keys.

    Such a command is asked alone, so that other clients are served between two of them. It never enters the log, where
    it would hold up every replica, and again at each restart.
    """
    return call[0].lower() in _SWEEPING


@final
@attrs.define(eq=False)
class Queued:
    """The commands queued since MULTI."""

    calls: list[list[bytes]] = attrs.field(factory=list)
    writes: bool = False
    sweeps: bool = False
    spoiled: bool = False
    """A command was refused, so EXEC will be refused."""
    size: int = 0
    once: tuple[int, int] | None = None
    """The session and sequence number under which the transaction is applied once."""


@final
@attrs.define(eq=False)
class TransactionState:
    """The transaction and the watched keys of one client."""

    limits: SessionLimits
    queued: Queued | None = None
    """The transaction since MULTI; None outside of one."""
    _watched: dict[bytes, Version] = attrs.field(factory=dict, init=False)
    _watched_bytes: int = attrs.field(default=0, init=False)

    def begin(self) -> None:
        """Begin a transaction (MULTI). Raise `CommandError` inside of one."""
        if self.queued is not None:
            raise CommandError("ERR MULTI calls can not be nested")
        self.queued = Queued()

    def discard(self) -> None:
        """Forget the transaction and the watched keys (DISCARD). Raise `CommandError` outside of one."""
        if self.queued is None:
            raise CommandError("ERR DISCARD without MULTI")
        self.queued = None
        self.unwatch()

    def spoil(self) -> None:
        """Note that a command was refused: EXEC will be refused too."""
        if self.queued is not None:
            self.queued.spoiled = True

    def queue(self, command: Command, call: list[bytes]) -> None:
        """Queue a command. Raise `CommandError` if it is not allowed in the transaction, which is then spoiled."""
        queued, limits = self.queued, self.limits
        assert queued is not None
        queued.size += sum(map(len, call))
        writes, sweeping = queued.writes or WRITE in command.flags, queued.sweeps or sweeps(call)
        problem = ""
        if SESSION in command.flags:
            problem = f"ERR {command.name.upper()} is not allowed inside a transaction"
        elif queued.size > limits.transaction_bytes or len(queued.calls) >= limits.transaction_calls:
            queued.calls.clear()
            problem = "ERR the transaction is too large for one log entry"
        elif writes and sweeping:
            problem = "ERR KEYS and SCAN are not allowed in a transaction that writes"
        if problem:
            queued.spoiled = True
            raise CommandError(problem)
        if not queued.spoiled:
            queued.calls.append(call)
            queued.writes, queued.sweeps = writes, sweeping

    def take(self) -> tuple[Queued, list[tuple[bytes, Version]]]:
        """End the transaction (EXEC); return it with the watched keys. Raise `CommandError` if it is refused."""
        queued, self.queued = self.queued, None
        if queued is None:
            raise CommandError("ERR EXEC without MULTI")
        watched = list(self._watched.items())
        self.unwatch()
        if queued.spoiled:
            raise CommandError("EXECABORT Transaction discarded because of previous errors.")
        return queued, watched

    # Watched keys.

    def check_watch(self, keys: list[bytes]) -> None:
        """Raise `CommandError` if these keys cannot be watched."""
        if self.queued is not None:
            raise CommandError("ERR WATCH inside MULTI is not allowed")
        if len(self._watched) + len(keys) > self.limits.watched_keys:
            raise CommandError("ERR too many watched keys on one connection")
        if self._watched_bytes + sum(map(len, keys)) > self.limits.transaction_bytes:
            raise CommandError("ERR the watched keys are too large for one log entry")

    def watch(self, keys: list[bytes], versions: list[Version]) -> None:
        """Watch the keys from these versions on; a key that is watched already keeps its own."""
        for key, version in zip(keys, versions, strict=True):
            if key not in self._watched:
                self._watched[key] = version
                self._watched_bytes += len(key)

    def unwatch(self) -> None:
        """Forget all watched keys."""
        self._watched, self._watched_bytes = {}, 0
