"""One row of the table of commands; errors and small parsers shared by the handlers.

Error texts are those of Redis, because client libraries and people search for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

from raft_kv.keyspace import STRING, Keyspace, Kind, Record
from raft_kv.resp import CommandError, Reply

__all__ = [
    "ADMIN",
    "FAST",
    "INT64_MAX",
    "INT64_MIN",
    "INTERNAL",
    "READ",
    "SESSION",
    "WRITE",
    "Call",
    "Command",
    "Handler",
    "TimeAt",
    "TimeOptions",
    "Writes",
    "integer",
    "printable",
    "string_at",
    "syntax_error",
    "unknown_command",
    "unknown_subcommand",
    "wrong_arity",
    "wrong_type",
]

Call: TypeAlias = Sequence[bytes]
"""A command and its arguments; item 0 is the command's name."""
Handler: TypeAlias = Callable[[Keyspace, Call], Reply]
"""Carries out a command. Raises `CommandError` before any change, never after."""

WRITE: Final = "write"
READ: Final = "readonly"
FAST: Final = "fast"
ADMIN: Final = "admin"
SESSION: Final = "session"
"""Answered by the client session; never asked of the machine."""
INTERNAL: Final = "internal"
"""Commands found only in the log, as the translation of clients' commands; not listed by COMMAND."""

INT64_MAX: Final = (1 << 63) - 1
INT64_MIN: Final = -(1 << 63)
_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")


@final
class TimeAt:
    """Argument `place` is a wall time in units of `unit` ms. In cluster time the command is `becomes`, in ms."""

    def __init__(self, place: int, unit: int, becomes: bytes) -> None:
        self.place: Final = place
        self.unit: Final = unit
        self.becomes: Final = becomes


@final
class TimeOptions:
    """From argument `first` on there are options, and EXAT and PXAT among them are wall times."""

    def __init__(self, first: int) -> None:
        self.first: Final = first


@final
class Writes:
    """What else must be known of a command that writes. `shows` and `grows` have no default: a row says both.

    All of it decides what an entry of the log means, so it never changes for a command that a release has had.

    - `shows`: whether the reply, or another key afterwards, tells anything about a value besides its length and whether
      it is there; or the options from argument 3 on with which it does, as GET of SET. Then the right to write is not
      enough: a user needs the right to read its keys too. In doubt True: False shows users what they may only write.
    - `grows`: whether the state can become larger: refused when memory is short (`--max-memory`).
    - `feature`: what all members must have before it may enter the log (`raft_kv.feature_names`). Empty only for
      commands of release 0.1.0: a member that does not know a command skips it, and its data differs from then on.
    - `one_line`: if the call has so many words, it takes little work and its reply is one line, the same in RESP2 and
      RESP3. Such writes of many clients share entries (`raft_kv.shared_entries`). 0: never.
    - `wall_times`: where the arguments name times since 1970, which the leader turns into cluster time
      (`raft_kv.wall_times`).
    """

    def __init__(
        self,
        *,
        shows: bool | frozenset[bytes],
        grows: bool,
        feature: str = "",
        one_line: int = 0,
        wall_times: TimeAt | TimeOptions | None = None,
    ) -> None:
        if feature and one_line:
            raise TypeError("a write that needs a feature shares no entries: the short way does not ask the gate")
        self.shows: Final = shows
        self.grows: Final = grows
        self.feature: Final = feature
        self.one_line: Final = one_line
        self.wall_times: Final = wall_times


@final
class Command:
    """One row. `arity` counts the name; negative: the least number. `word` is the name as bytes.

    Keys stand at `first`, `first + step`, … up to `last` (negative: counted from the end); 0 for commands without keys.
    With `counted`, argument 2 is the number of the keys, which follow it. `sweeps`: its cost grows with the number of
    all keys, so it is asked alone and never enters the log. `writes`: for all commands with the flag "write".
    """

    def __init__(
        self,
        name: str,
        arity: int,
        flags: frozenset[str],
        run: Handler,
        first: int,
        last: int,
        step: int,
        writes: Writes | None = None,
        *,
        counted: bool = False,
        sweeps: bool = False,
    ) -> None:
        if (WRITE in flags) is not (writes is not None):
            raise TypeError(f"{name}: a command that writes has Writes(shows=..., grows=...), another has not")
        self.name: Final = name
        self.arity: Final = arity
        self.flags: Final = flags
        self.run: Final = run
        self.first: Final = first
        self.last: Final = last
        self.step: Final = step
        self.word: Final = name.encode()
        self.writes: Final = writes
        self.counted: Final = counted
        self.sweeps: Final = sweeps

    @staticmethod
    def row(
        name: str,
        arity: int,
        flags: str,
        run: Handler,
        keys: tuple[int, int, int] = (0, 0, 0),
        writes: Writes | None = None,
        *,
        counted: bool = False,
        sweeps: bool = False,
    ) -> Command:
        """Make a row. `flags` are separated by blanks. Raise `TypeError` if a command that writes lacks `writes`."""
        return Command(
            name,
            arity,
            frozenset(flags.split()),
            run,
            keys[0],
            keys[1],
            keys[2],
            writes,
            counted=counted,
            sweeps=sweeps,
        )

    def keys_of(self, call: Call) -> list[bytes]:
        """Return the keys of `call`; all that may be keys if their number is none."""
        if self.counted:
            count = call[2]
            return list(call[3 : 3 + int(count)] if count.isdigit() and len(count) < 7 else call[3:])
        if not self.first:
            return []
        last = self.last if self.last >= 0 else len(call) + self.last
        return list(call[self.first : last + 1 : self.step])


# Errors.


def unknown_command(call: Call) -> CommandError:
    """Return the error for an unknown command."""
    name = call[0] if call else b""
    arguments = "".join(f"'{printable(argument)}' " for argument in call[1:12])
    return CommandError(f"ERR unknown command '{printable(name)}', with args beginning with: {arguments}")


def unknown_subcommand(call: Call) -> CommandError:
    """Return the error for an unknown subcommand."""
    name = printable(call[0]).upper()
    return CommandError(f"ERR unknown subcommand '{printable(call[1])}'. Try {name} HELP.")


def wrong_arity(name: str) -> CommandError:
    """Too few arguments or too many."""
    return CommandError(f"ERR wrong number of arguments for '{name}' command")


def wrong_type() -> CommandError:
    """Return the error for a key with a value of another type."""
    return CommandError("WRONGTYPE Operation against a key holding the wrong kind of value")


def syntax_error() -> CommandError:
    """Return the error for an unknown or contradictory option."""
    return CommandError("ERR syntax error")


def printable(text: bytes) -> str:
    """Return at most 128 bytes of a client's argument, safe to show in an error."""
    return text[:128].decode("utf-8", "replace")


# Arguments and values.


def integer(text: bytes, complaint: str = "ERR value is not an integer or out of range") -> int:
    """Return the 64-bit number written in `text` in its one canonical form. Raise `CommandError(complaint)`."""
    if _INTEGER.fullmatch(text):
        number = int(text)
        if INT64_MIN <= number <= INT64_MAX:
            return number
    raise CommandError(complaint)


def string_at(keyspace: Keyspace, key: bytes, kind: Kind = STRING) -> Record | None:
    """Return the record of a string, None if the key is absent. Raise `CommandError` for another type."""
    record = keyspace.find(key)
    if record is not None and record.kind != kind:
        raise wrong_type()
    return record
