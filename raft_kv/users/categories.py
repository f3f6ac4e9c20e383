"""Names and categories of commands, as rules of users name them.

A command with subcommands has a name for each, such as `raft|add`. Its own name stands for all of them.

The machine decides by these tables on every replica. So they are part of what an entry of the log means: a command may
be added with its categories, but none may move to another category.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Final

from raft_kv.commands import LISTED, READ, WRITE, Command
from raft_kv.commands.documentation import DOCUMENTATION
from raft_kv.commands.table import ADMIN, FAST

__all__ = ["CATEGORIES", "categories_of", "in_category", "is_known", "names_of"]

_BY_GROUP: Final = {
    "connection": "connection",
    "generic": "keyspace",
    "scripting": "scripting",
    "string": "string",
    "transactions": "transaction",
}
CATEGORIES: Final = (
    "admin", "connection", "dangerous", "fast", "keyspace", "read", "scripting", "slow", "string", "transaction",
    "write",
)  # fmt: skip
_DANGEROUS: Final = frozenset({"flushall", "flushdb", "keys", "info"})
_ADMIN: Final = frozenset({"client|kill", "client|list", "role"})
"""Commands for administrators, as in Redis, that need no such flag here."""
_FOR_ALL: Final = frozenset({
    "acl|cat", "acl|genpass", "acl|help", "acl|whoami", "client|help", "command|help", "config|help", "raft|help",
    "raft|once", "raft|session", "script|help",
})  # fmt: skip
"""Subcommands that need no administrator, although their command does."""
_KEYSPACE: Final = frozenset({"dbsize", "flushall", "flushdb"})


@cache
def _names() -> dict[str, frozenset[str]]:
    """Return the categories of every full name."""
    found: dict[str, frozenset[str]] = {}
    for command in LISTED.values():
        words = DOCUMENTATION[command.name].subcommands
        found[command.name] = frozenset(_categories(command, command.name))
        for word in words:
            full = f"{command.name}|{word}"
            found[full] = frozenset(_categories(command, full))
    return found


def _categories(command: Command, name: str) -> Iterator[str]:
    group = DOCUMENTATION[command.name].group
    if group in _BY_GROUP:
        yield _BY_GROUP[group]
    if name in _KEYSPACE:
        yield "keyspace"
    if READ in command.flags:
        yield "read"
    if WRITE in command.flags and group != "scripting":
        yield "write"
    yield "fast" if FAST in command.flags else "slow"
    if (ADMIN in command.flags and name not in _FOR_ALL) or name in _ADMIN:
        yield "admin"
        yield "dangerous"
    elif name in _DANGEROUS:
        yield "dangerous"


def is_known(name: str) -> bool:
    """Return whether this is the name of a command or of a subcommand."""
    return name in _names()


def names_of(name: str) -> frozenset[str]:
    """Return the full names that a command's name stands for: its own, and those of its subcommands."""
    return frozenset(one for one in _names() if one == name or one.startswith(f"{name}|"))


@lru_cache(maxsize=32)
def in_category(category: str) -> frozenset[str]:
    """Return the full names of a category, or all of them for "all".

    A command with subcommands is in it by its own name only if all of them are.
    """
    every = _names()
    if category == "all":
        return frozenset(every)
    chosen = {name for name, categories in every.items() if category in categories}
    return frozenset(name for name in chosen if names_of(name) <= chosen)


def categories_of(name: str) -> list[str]:
    """Return the categories which hold the full name, in their order."""
    return [category for category in CATEGORIES if name in in_category(category)]
