"""COMMAND: the list of commands for client libraries, and for HELP and the hints of redis-cli."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

from raft_kv import commands
from raft_kv.commands.documentation import DOCUMENTATION, documentation_reply
from raft_kv.commands.table import Call, Command, integer, syntax_error, unknown_subcommand, wrong_arity
from raft_kv.glob import matcher
from raft_kv.resp import CommandError, Encoded, Map, Reply, Simple, encode
from raft_kv.users.categories import CATEGORIES, categories_of, in_category

__all__ = ["answer_command"]

_HELP: Final = (
    "COMMAND -- the details of all commands.",
    "COMMAND COUNT -- the number of commands.",
    "COMMAND DOCS [<command> ...] -- their documentation.",
    "COMMAND GETKEYS <command> <argument> ... -- the keys of a command.",
    "COMMAND INFO [<command> ...] -- the details of some commands.",
    "COMMAND LIST [FILTERBY MODULE <name>|ACLCAT <category>|PATTERN <pattern>] -- their names.",
)
_SUBCOMMANDS: Final = frozenset({"count", "docs", "getkeys", "help", "info", "list"})


def answer_command(call: list[bytes]) -> Reply:
    """Return the reply to COMMAND and its subcommands. Raise `CommandError`."""
    if len(call) == 1:
        return _every_row()
    word = call[1].decode("utf-8", "replace").lower()
    match word, call[2:]:
        case "count", []:
            return len(commands.LISTED)
        case "list", filters:
            return _names(filters)
        case "docs", []:
            return _everything_documented()
        case "docs", names:
            return _documented(_chosen(names))
        case "info", names:
            rows = [commands.LISTED.get(name.lower()) for name in names or list(commands.LISTED)]
            return [None if command is None else _row(command) for command in rows]
        case "getkeys", [_, *_] as inner:
            return _keys(inner)
        case "help", []:
            return list(_HELP)
    if word in _SUBCOMMANDS:
        raise wrong_arity(f"command|{word}")
    raise unknown_subcommand(call)


@cache
def _every_row() -> Reply:
    rows = [_row(command) for command in commands.LISTED.values()]
    return Encoded(encode(rows, 2), encode(rows, 3))


@cache
def _everything_documented() -> Reply:
    docs = _documented(commands.LISTED.values())
    return Encoded(encode(docs, 2), encode(docs, 3))


def _documented(chosen: Iterable[Command]) -> Reply:
    return Map(tuple((command.name, documentation_reply(command.name)) for command in chosen))


def _chosen(names: Sequence[bytes]) -> list[Command]:
    """Return the commands of these names, each once."""
    wanted = dict.fromkeys(name.lower() for name in names)
    return [commands.LISTED[name] for name in wanted if name in commands.LISTED]


def _names(filters: Sequence[bytes]) -> Reply:
    if not filters:
        return list(commands.LISTED)
    if len(filters) != 3 or filters[0].upper() != b"FILTERBY":
        raise syntax_error()
    kind, value = filters[1].upper(), filters[2]
    if kind == b"MODULE":
        return []
    if kind == b"ACLCAT":
        category = value.decode("utf-8", "replace").lower()
        chosen = in_category(category) if category in CATEGORIES else frozenset()
        return [name for name, command in commands.LISTED.items() if command.name in chosen]
    if kind == b"PATTERN":
        fits = matcher(value.lower())
        return [name for name in commands.LISTED if fits(name)]
    raise syntax_error()


def _keys(call: Call) -> Reply:
    command = commands.look_up(call)
    if command.counted and not 0 <= integer(call[2]) <= len(call) - 3:
        raise CommandError("ERR Invalid arguments specified for command")
    keys = command.keys_of(call)
    if not keys:
        raise CommandError("ERR The command has no key arguments")
    return keys


def _categories(name: str) -> list[Reply]:
    return [Simple(f"@{category}") for category in categories_of(name)]


@cache
def _row(command: Command) -> Reply:
    row = _described(command)
    return Encoded(encode(row, 2), encode(row, 3))


def _described(command: Command) -> Reply:
    """Return ten items as in Redis 7; the last are categories, hints, key specifications and subcommands."""
    flags = [Simple(flag) for flag in sorted(command.flags) if flag != commands.SESSION]
    words = DOCUMENTATION[command.name].subcommands
    names = [f"{command.name}|{word}" for word in words]
    subcommands: list[Reply] = [[name, -2, [], 0, 0, 0, _categories(name), [], [], []] for name in names]
    position = (command.first, command.last, command.step)
    return [
        command.name,
        command.arity,
        flags,
        *position,
        _categories(command.name),
        [],
        _key_specs(command),
        subcommands,
    ]


def _key_specs(command: Command) -> Reply:
    if not command.first:
        return []
    last = command.last - command.first if command.last >= 0 else command.last
    found = (("lastkey", last), ("keystep", command.step), ("limit", 0))
    kind = "RO" if "readonly" in command.flags else "RW"
    return [
        Map(
            (
                ("flags", [Simple(kind), Simple("access" if kind == "RO" else "update")]),
                ("begin_search", Map((("type", "index"), ("spec", Map((("index", command.first),)))))),
                ("find_keys", Map((("type", "range"), ("spec", Map(found))))),
            )
        )
    ]
