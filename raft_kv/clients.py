"""The clients of one node, and the CLIENT command.

Values and pure functions. The server owns the connections; to close some, a session returns an effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, final

import attrs

from raft_kv.commands.table import integer, printable, syntax_error, unknown_subcommand, wrong_arity
from raft_kv.keyspace import Millis
from raft_kv.resp import OK, CommandError, Reply
from raft_kv.scripts import Scripts

__all__ = ["Client", "Killed", "RequestBook", "answer_client", "checked_name"]


@final
@attrs.define(eq=False)
class Client:
    """A connection and the client at its other end."""

    number: int
    scripts: Scripts = attrs.field(factory=Scripts)
    protocol: int = 2
    name: bytes = b""
    misplaced: bool = False
    """It has selected a database which does not exist, and no other since."""
    library: bytes = b""
    library_version: bytes = b""
    address: bytes = b""
    """The client's address."""
    local_address: bytes = b""
    """The server's address of this connection."""
    since: Millis = 0
    """Time of connecting, by the clock of `RequestBook`."""
    seen: Millis = 0
    """Time of the last bytes received."""
    commands: int = 0
    """Requests sent."""
    last_command: bytes = b""
    user: bytes | None = None
    """The user as which it has authenticated."""
    user_made: int = 0
    """Index of the entry that made this user."""

    def reset(self) -> None:
        """Reset the state of the connection (RESET)."""
        self.protocol = 2
        self.name = b""
        self.misplaced = False
        self.user = None


@final
@attrs.define(eq=False)
class RequestBook:
    """All clients of a node, by their number."""

    clock: Callable[[], Millis] = lambda: 0
    """Returns milliseconds of a monotonic clock."""
    by_number: dict[int, Client] = attrs.field(factory=dict)


@final
@attrs.frozen
class Killed:
    """These connections are to be closed, by their numbers; then `reply` is given."""

    numbers: tuple[int, ...]
    reply: Reply


def answer_client(client: Client, clients: RequestBook, call: list[bytes]) -> Reply | Killed:
    """Return the reply to CLIENT and its subcommands. Raise `CommandError`."""
    word = call[1].decode("utf-8", "replace").lower()
    match word, call[2:]:
        case "id", []:
            return client.number
        case "getname", []:
            return client.name or None
        case "setname", [name]:
            client.name = checked_name(name)
            return OK
        case "setinfo", [option, value]:
            return _set_info(client, option, value)
        case "info", []:
            return _line(client, client.seen)
        case "list", filters:
            wanted = _list_filter(filters) if filters else None
            chosen = filter(wanted, clients.by_number.values())
            return b"".join([_line(one, client.seen) for one in chosen])
        case "kill", [_, *_] as filters:
            return _kill(client, clients, filters)
        case "no-evict" | "no-touch", [switch] if switch.upper() in {b"ON", b"OFF"}:
            return OK
        case "tracking", [switch] if switch.upper() == b"OFF":
            return OK
        case "getredir", []:
            return -1
        case "help", []:
            return list(_HELP)
    if word in _SUBCOMMANDS:
        raise wrong_arity(f"client|{word}")
    raise unknown_subcommand(call)


_SUBCOMMANDS: Final = frozenset(
    "getname getredir help id info kill list no-evict no-touch setinfo setname tracking".split()  # noqa: SIM905
)
_HELP: Final = (
    "CLIENT GETNAME, CLIENT SETNAME <name> -- this connection's name.",
    "CLIENT ID -- this connection's number on this node.",
    "CLIENT INFO -- the state of this connection.",
    "CLIENT KILL <host:port> -- close the connection that comes from there.",
    "CLIENT KILL <option> <value> [<option> <value> ...] -- close all connections of this node that fit every option:",
    "    ID <number>, ADDR <host:port>, LADDR <host:port>, TYPE normal, USER default, MAXAGE <seconds>, SKIPME yes|no.",
    "CLIENT LIST [TYPE normal] [ID <number> ...] -- the state of this node's connections.",
    "CLIENT SETINFO LIB-NAME|LIB-VER <value> -- which library uses this connection.",
    "CLIENT NO-EVICT, NO-TOUCH ON|OFF; CLIENT TRACKING OFF; CLIENT GETREDIR -- taken, without effect.",
)


_NAME_BYTES: Final = 1024
_MOST_FILTERS: Final = 32
"""Words of the options of CLIENT KILL, each looked at for every client."""


def checked_name(name: bytes) -> bytes:
    """`name`, if a connection may have it. Raise `CommandError`."""
    if len(name) > _NAME_BYTES:  # CLIENT LIST gives those of all connections in one reply
        raise CommandError(f"ERR Client names and library names have at most {_NAME_BYTES} bytes here.")
    if any(not 33 <= letter <= 126 for letter in name):
        raise CommandError("ERR Client names cannot contain spaces, newlines or special characters.")
    return name


def _set_info(client: Client, option: bytes, value: bytes) -> Reply:
    if option.upper() == b"LIB-NAME":
        client.library = checked_name(value)
        return OK
    if option.upper() == b"LIB-VER":
        client.library_version = checked_name(value)
        return OK
    raise CommandError(f"ERR Unrecognized option '{printable(option)}'")


def _line(client: Client, now: Millis) -> bytes:
    return (
        b"id=%d addr=%b laddr=%b name=%b age=%d idle=%d flags=N db=0 cmd=%b user=default "
        b"resp=%d lib-name=%b lib-ver=%b tot-cmds=%d\n"
    ) % (
        client.number,
        client.address,
        client.local_address,
        client.name,
        (now - client.since) // 1000,
        (now - client.seen) // 1000,
        client.last_command,
        client.protocol,
        client.library,
        client.library_version,
        client.commands,
    )


# Which clients are meant.

_Wanted = Callable[[Client], bool]


def _list_filter(words: Sequence[bytes]) -> _Wanted:
    if len(words) == 2 and words[0].upper() == b"TYPE":
        normal = _is_normal(words[1])
        return lambda _: normal
    if len(words) > 1 and words[0].upper() == b"ID":
        numbers = {_number(word) for word in words[1:]}
        return lambda one: one.number in numbers
    raise syntax_error()


def _is_normal(kind: bytes) -> bool:
    if kind.lower() not in {b"normal", b"master", b"replica", b"slave", b"pubsub"}:
        raise CommandError(f"ERR Unknown client type '{printable(kind)}'")
    return kind.lower() == b"normal"


def _number(word: bytes) -> int:
    number = integer(word, "ERR client-id should be greater than 0")
    if number <= 0:
        raise CommandError("ERR client-id should be greater than 0")
    return number


def _kill(client: Client, clients: RequestBook, words: Sequence[bytes]) -> Killed:
    if len(words) == 1:
        found = [one.number for one in clients.by_number.values() if one.address == words[0]]
        if not found:
            raise CommandError("ERR No such client")
        return Killed(tuple(found), OK)
    if len(words) % 2 or len(words) > _MOST_FILTERS:
        raise syntax_error()
    skips_me = True
    filters: list[_Wanted] = []
    for option, value in _pairs(words):
        if option == b"SKIPME" and value.lower() in {b"yes", b"no"}:
            skips_me = value.lower() == b"yes"
        else:
            filters.append(_kill_filter(client, option, value))
    fitting = [one for one in clients.by_number.values() if not (skips_me and one is client)]
    for fits in filters:
        fitting = [one for one in fitting if fits(one)]
    return Killed(tuple(one.number for one in fitting), len(fitting))


def _pairs(words: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for place in range(0, len(words), 2):
        yield words[place].upper(), words[place + 1]


def _kill_filter(client: Client, option: bytes, value: bytes) -> _Wanted:
    if option == b"ID":
        number = _number(value)
        return lambda one: one.number == number
    if option == b"ADDR":
        return lambda one: one.address == value
    if option == b"LADDR":
        return lambda one: one.local_address == value
    if option == b"TYPE":
        normal = _is_normal(value)
        return lambda _: normal
    if option == b"USER":
        return lambda one: value == (one.user or b"default")
    if option == b"MAXAGE":
        oldest = client.seen - integer(value) * 1000
        return lambda one: one.since <= oldest
    raise syntax_error()
