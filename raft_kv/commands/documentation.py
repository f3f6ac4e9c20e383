"""The replies of COMMAND DOCS: group, first Redis release, summary and arguments of each command.

`arguments_of` reads the arguments in the usual notation: lower case is a value, upper case a literal word, which
belongs to the value after it; `[...]` is optional, `(...)` belongs together, `|` separates alternatives, `...` after an
item allows several. redis-cli derives its HELP and its hints from this.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, final

import attrs

from raft_kv.resp import Map, Reply, Simple

__all__ = ["DOCUMENTATION", "Documented", "arguments_of", "documentation_reply"]


@final
@attrs.frozen
class Documented:
    """One command or subcommand. `since` is a version of Redis, or `raft-kv` if Redis has no such command."""

    group: str
    since: str
    summary: str
    arguments: str = ""
    subcommands: dict[str, Documented] = attrs.field(factory=dict)


def _string(since: str, summary: str, arguments: str) -> Documented:
    return Documented("string", since, summary, arguments)


def _generic(since: str, summary: str, arguments: str = "") -> Documented:
    return Documented("generic", since, summary, arguments)


def _connection(since: str, summary: str, arguments: str = "", **subcommands: tuple[str, str, str]) -> Documented:
    return Documented("connection", since, summary, arguments, _named(subcommands, "connection"))


def _server(since: str, summary: str, arguments: str = "", **subcommands: tuple[str, str, str]) -> Documented:
    return Documented("server", since, summary, arguments, _named(subcommands, "server"))


def _transactions(since: str, summary: str, arguments: str = "") -> Documented:
    return Documented("transactions", since, summary, arguments)


def _named(subcommands: dict[str, tuple[str, str, str]], group: str) -> dict[str, Documented]:
    return {name.replace("_", "-"): Documented(group, *said) for name, said in subcommands.items()}


_EXPIRY: Final = "EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL"
_WHEN: Final = "[NX | XX | GT | LT]"
_COMPARED: Final = "IFEQ comparison-value | IFNE comparison-value"

DOCUMENTATION: Final[dict[str, Documented]] = {
    # Strings.
    "append": _string("2.0.0", "Append a value to a string; create the key if it is absent.", "key value"),
    "decr": _string("1.0.0", "Subtract one from the integer that a key holds.", "key"),
    "decrby": _string("1.0.0", "Subtract a number from the integer that a key holds.", "key decrement"),
    "delex": _string("8.4.0", "Delete a key if its value compares as said.", f"key [{_COMPARED}]"),
    "delifeq": _string("9.0.0", "Delete a key if it holds this value (since Valkey 9).", "key value"),
    "get": _string("1.0.0", "Return the string that a key holds.", "key"),
    "getdel": _string("6.2.0", "Return the string that a key holds, and delete the key.", "key"),
    "getrange": _string("2.4.0", "Return a part of the string that a key holds.", "key start end"),
    "getset": _string("1.0.0", "Set a key and return its previous value.", "key value"),
    "incr": _string("1.0.0", "Add one to the integer that a key holds.", "key"),
    "incrby": _string("1.0.0", "Add a number to the integer that a key holds.", "key increment"),
    "mget": _string("1.0.0", "Return the strings that several keys hold.", "key..."),
    "mset": _string("1.0.1", "Set several keys.", "(key value)..."),
    "msetnx": _string("1.0.1", "Set several keys if none of them exists.", "(key value)..."),
    "psetex": _string("2.6.0", "Set a key and its time to live in milliseconds.", "key milliseconds value"),
    "set": _string(
        "1.0.0", "Set a key, under a condition if one is given.", f"key value [NX | XX | {_COMPARED}] [GET] [{_EXPIRY}]"
    ),
    "setex": _string("2.0.0", "Set a key and its time to live in seconds.", "key seconds value"),
    "setnx": _string("1.0.0", "Set a key if it does not exist.", "key value"),
    "setrange": _string("2.2.0", "Overwrite a part of a string.", "key offset value"),
    "strlen": _string("2.2.0", "Return the length of the string that a key holds.", "key"),
    # Keys.
    "del": _generic("1.0.0", "Delete keys.", "key..."),
    "exists": _generic("1.0.0", "Count how many of the keys exist.", "key..."),
    "expire": _generic("1.0.0", "Set a key's time to live in seconds.", f"key seconds {_WHEN}"),
    "expireat": _generic("1.2.0", "Set when a key expires, in seconds since 1970.", f"key unix-time-seconds {_WHEN}"),
    "expiretime": _generic("7.0.0", "Return when a key expires, in seconds since 1970.", "key"),
    "keys": _generic("1.0.0", "Return all keys that match a pattern.", "pattern"),
    "persist": _generic("2.2.0", "Remove a key's time to live.", "key"),
    "pexpire": _generic("2.6.0", "Set a key's time to live in milliseconds.", f"key milliseconds {_WHEN}"),
    "pexpireat": _generic(
        "2.6.0", "Set when a key expires, in milliseconds since 1970.", f"key unix-time-milliseconds {_WHEN}"
    ),
    "pexpiretime": _generic("7.0.0", "Return when a key expires, in milliseconds since 1970.", "key"),
    "pttl": _generic("2.6.0", "Return a key's time to live in milliseconds.", "key"),
    "rename": _generic("1.0.0", "Rename a key; it replaces the key of the new name.", "key newkey"),
    "renamenx": _generic("1.0.0", "Rename a key if the new name does not exist.", "key newkey"),
    "scan": _generic("2.8.0", "Iterate over the keys.", "cursor [MATCH pattern] [COUNT count] [TYPE type]"),
    "touch": _generic("3.2.1", "Count how many of the keys exist.", "key..."),
    "ttl": _generic("1.0.0", "Return a key's time to live in seconds.", "key"),
    "type": _generic("1.0.0", "Return the type of a key's value.", "key"),
    "unlink": _generic("4.0.0", "Delete keys.", "key..."),
    # Transactions.
    "discard": _transactions("2.0.0", "Discard a transaction."),
    "exec": _transactions("1.2.0", "Carry out a transaction, as one entry of the log."),
    "multi": _transactions("1.2.0", "Begin a transaction."),
    "unwatch": _transactions("2.2.0", "Forget all watched keys."),
    "watch": _transactions("2.2.0", "Carry out the next transaction only if these keys have not changed.", "key..."),
    # Scripts.
    "eval": Documented(
        "scripting", "2.6.0", "Carry out a script of a known lock library.", "script numkeys [key...] [arg...]"
    ),
    "evalsha": Documented(
        "scripting", "2.6.0", "Carry out such a script, named by its SHA1.", "sha1 numkeys [key...] [arg...]"
    ),
    "script": Documented(
        "scripting",
        "2.6.0",
        "Commands about scripts.",
        subcommands=_named(
            {
                "exists": ("2.6.0", "Return which scripts EVALSHA finds.", "sha1..."),
                "flush": ("2.6.0", "Forget loaded scripts.", "[ASYNC | SYNC]"),
                "help": ("5.0.0", "Return a list of the subcommands.", ""),
                "kill": ("2.6.0", "Nothing: no script runs longer than its log entry.", ""),
                "load": ("2.6.0", "Return the SHA1 of a script that is known.", "script"),
            },
            "scripting",
        ),
    ),
    # Connection.
    "auth": _connection("1.0.0", "Authenticate as a user.", "[username] password"),
    "client": _connection(
        "2.4.0",
        "Commands about clients.",
        getname=("2.6.9", "Return the connection's name.", ""),
        help=("5.0.0", "Return a list of the subcommands.", ""),
        id=("5.0.0", "Return the connection's number.", ""),
        info=("6.2.0", "Return the state of this connection.", ""),
        kill=(
            "2.4.0",
            "Close connections of this node.",
            "old-format | (ID client-id | TYPE type | USER username | ADDR address | LADDR address | SKIPME yes-no"
            " | MAXAGE seconds)...",
        ),
        list=("2.4.0", "Return the state of this node's connections.", "[TYPE type] [ID client-id...]"),
        no_evict=("7.0.0", "Nothing: no connection is evicted.", "ON | OFF"),
        no_touch=("7.2.0", "Nothing: no key is evicted.", "ON | OFF"),
        setinfo=("7.2.0", "Say which library uses the connection.", "LIB-NAME libname | LIB-VER libver"),
        setname=("2.6.9", "Name the connection.", "connection-name"),
        tracking=("6.0.0", "Nothing but OFF: keys are not tracked.", "OFF"),
    ),
    "echo": _connection("1.0.0", "Return the message.", "message"),
    "hello": _connection("6.0.0", "Choose the protocol.", "[protover] [AUTH (username password)] [SETNAME clientname]"),
    "ping": _connection("1.0.0", "Return PONG, or the message.", "[message]"),
    "quit": _connection("1.0.0", "Close the connection."),
    "reset": _connection("6.2.0", "Make the connection as it was when it was new."),
    "select": _connection("1.0.0", "Select the database; there is one, 0.", "index"),
    # Server.
    "acl": _server(
        "6.0.0",
        "Commands about users.",
        cat=("6.0.0", "Return the categories, or the commands of one.", "[category]"),
        deluser=("6.0.0", "Delete users, on all nodes.", "username..."),
        genpass=("6.0.0", "Return a random password.", "[bits]"),
        getuser=("6.0.0", "Return the rules of a user.", "username"),
        help=("6.0.0", "Return a list of the subcommands.", ""),
        list=("6.0.0", "Return all users with their rules.", ""),
        log=("6.0.0", "Return the last refusals of this node, or forget them.", "[count | RESET]"),
        setuser=("6.0.0", "Make or change a user, on all nodes.", "username [rule...]"),
        users=("6.0.0", "Return the names of all users.", ""),
        whoami=("6.0.0", "Return the user of this connection.", ""),
    ),
    "command": _server(
        "2.8.13",
        "Return all commands.",
        count=("2.8.13", "Count the commands.", ""),
        docs=("7.0.0", "Return the documentation of commands.", "[command-name...]"),
        getkeys=("2.8.13", "Return the keys of a command.", "command [arg...]"),
        help=("5.0.0", "Return a list of the subcommands.", ""),
        info=("2.8.13", "Return the details of commands.", "[command-name...]"),
        list=(
            "7.0.0",
            "Return the commands' names.",
            "[FILTERBY (MODULE module-name | ACLCAT category | PATTERN pattern)]",
        ),
    ),
    "config": _server(
        "2.0.0",
        "Commands about settings.",
        get=("2.0.0", "Return settings as Redis would call them.", "parameter..."),
        help=("5.0.0", "Return a list of the subcommands.", ""),
        resetstat=("2.0.0", "Nothing.", ""),
        set=("2.0.0", "Refused: settings are given when a node starts.", "(parameter value)..."),
    ),
    "dbsize": _server("1.0.0", "Count the keys."),
    "flushall": _server("1.0.0", "Delete all keys.", "[ASYNC | SYNC]"),
    "flushdb": _server("1.0.0", "Delete all keys.", "[ASYNC | SYNC]"),
    "info": _server("1.0.0", "Return how this node stands.", "[section...]"),
    "raft": _server(
        "raft-kv",
        "Commands about the cluster.",
        add=("raft-kv", "Add a node.", "id host:port [LEARNER]"),
        backup=("raft-kv", "Read a backup piece by piece.", "OPEN [index term]|READ index term piece"),
        demote=("raft-kv", "Make a voter a learner.", "id"),
        explain=("raft-kv", "Return why things wait, one sentence each.", ""),
        features=("raft-kv", "Return which features the cluster uses, or enable some.", "[ENABLE [feature...]]"),
        help=("raft-kv", "Return a list of the subcommands.", ""),
        leave=("raft-kv", "Leave a joint configuration that was entered explicitly.", ""),
        once=("raft-kv", "Apply a command once, however often it is sent.", "session number [command [arg...]]"),
        promote=("raft-kv", "Make a learner a voter.", "id"),
        remove=("raft-kv", "Remove a node for good.", "id"),
        session=("raft-kv", "Open a session for RAFT ONCE.", ""),
        status=("raft-kv", "Return how this node stands.", ""),
        transfer=("raft-kv", "Hand the leadership over.", "[id]"),
    ),
    "role": _server("2.8.12", "Return the node's role as Redis clients hear it."),
}


# Arguments.

_PIECE: Final = re.compile(r"\.\.\.|[\[\]()|]|[^\s\[\]()|.]+")
_INTEGERS: Final = frozenset(
    {"client-id", "count", "cursor", "decrement", "end", "id", "increment", "index", "milliseconds", "number"}
    | {"numkeys", "offset", "protover", "seconds", "session", "start"}
)


@final
@attrs.frozen
class _Argument:
    name: str
    kind: str
    token: str = ""
    optional: bool = False
    multiple: bool = False
    inner: tuple[_Argument, ...] = ()

    def reply(self) -> Reply:
        pairs: list[tuple[Reply, Reply]] = [("name", self.name), ("type", self.kind)]
        if not self.inner:
            pairs.append(("display_text", self.name))
        if self.kind == "key":
            pairs.append(("key_spec_index", 0))
        if self.token:
            pairs.append(("token", self.token))
        flags = [Simple(flag) for flag, given in (("optional", self.optional), ("multiple", self.multiple)) if given]
        if flags:
            pairs.append(("flags", flags))
        if self.inner:
            pairs.append(("arguments", tuple(argument.reply() for argument in self.inner)))
        return Map(tuple(pairs))


def arguments_of(written: str) -> tuple[_Argument, ...]:
    """Return the arguments described by `written`, in the notation of the module's docstring."""
    pieces = _PIECE.findall(written)
    arguments = _alternatives(pieces)
    assert not pieces, f"{written!r} does not end where it should"
    return arguments


def _alternatives(pieces: list[str]) -> tuple[_Argument, ...]:
    """Take pieces up to the end or to a closing bracket. Several alternatives make one argument."""
    found: list[tuple[_Argument, ...]] = [_sequence(pieces)]
    while pieces and pieces[0] == "|":
        pieces.pop(0)
        found.append(_sequence(pieces))
    if len(found) == 1:
        return found[0]
    each = tuple(one[0] if len(one) == 1 else _Argument(one[0].name, "block", inner=one) for one in found)
    return (_Argument(each[0].name, "oneof", inner=each),)


def _sequence(pieces: list[str]) -> tuple[_Argument, ...]:
    items: list[_Argument] = []
    while pieces and pieces[0] not in {"|", "]", ")"}:
        items.append(_item(pieces))
        if pieces and pieces[0] == "...":
            pieces.pop(0)
            items[-1] = attrs.evolve(items[-1], multiple=True)
    return tuple(items)


def _item(pieces: list[str]) -> _Argument:
    piece = pieces.pop(0)
    if piece in {"[", "("}:
        inner = _alternatives(pieces)
        pieces.pop(0)
        one = inner[0] if len(inner) == 1 else _Argument(inner[0].name, "block", inner=inner)
        return attrs.evolve(one, optional=True) if piece == "[" else one
    if piece.upper() != piece:
        return _Argument(piece, _kind(piece))
    if pieces and (pieces[0] == "(" or pieces[0] not in {"|", "]", ")", "[", "..."}):
        return attrs.evolve(_item(pieces), token=piece)
    return _Argument(piece.lower(), "pure-token", piece)


def _kind(name: str) -> str:
    if name in {"key", "newkey"}:
        return "key"
    if name.startswith("unix-time"):
        return "unix-time"
    if name in _INTEGERS:
        return "integer"
    return "pattern" if name == "pattern" else "string"


# Replies.


@cache
def documentation_reply(name: str) -> Reply:
    """Return the reply of COMMAND DOCS for the command `name`. Raise `KeyError` if it is not documented."""
    return _reply(DOCUMENTATION[name], name)


def _reply(said: Documented, name: str) -> Reply:
    pairs: list[tuple[Reply, Reply]] = [("summary", said.summary), ("since", said.since), ("group", said.group)]
    if arguments := arguments_of(said.arguments):
        pairs.append(("arguments", tuple(argument.reply() for argument in arguments)))
    if said.subcommands:
        inner = tuple((f"{name}|{word}", _reply(one, f"{name}|{word}")) for word, one in said.subcommands.items())
        pairs.append(("subcommands", Map(inner)))
    return Map(tuple(pairs))
