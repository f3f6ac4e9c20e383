"""The replies to ACL, and the checks of AUTH's and ACL SETUSER's arguments. No hash is computed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from raft_kv.commands.table import integer, printable, syntax_error, unknown_subcommand, wrong_arity
from raft_kv.resp import OK, CommandError, Map, Reply
from raft_kv.users.access import Access
from raft_kv.users.categories import CATEGORIES, in_category
from raft_kv.users.passwords import MAX_PASSWORD_BYTES, hash_password, matches, new_password
from raft_kv.users.rules import DEFAULT, READS, WRITES, RuleError, User, changed, described, pattern_text

__all__ = ["HELLO_WITHOUT_AUTH", "acl_reply", "credentials", "decode_rules", "hashing", "hello_credentials"]

HELLO_WITHOUT_AUTH: Final = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> "
    "option can be used to authenticate the client and select the RESP protocol version at the same time"
)

_HELP: Final = (
    "ACL CAT [<category>] -- the categories of commands, or the commands of one.",
    "ACL DELUSER <name> [<name> ...] -- delete users, on all nodes.",
    "ACL GENPASS [<bits>] -- a random password.",
    "ACL GETUSER <name> -- the rules of a user.",
    "ACL LIST -- all users with their rules.",
    "ACL LOG [<count> | RESET] -- the last refusals of this node.",
    "ACL SETUSER <name> [<rule> ...] -- make or change a user, on all nodes.",
    "ACL USERS -- the names of all users.",
    "ACL WHOAMI -- the user of this connection.",
)
_WORDS: Final = frozenset(
    ["cat", "deluser", "genpass", "getuser", "help", "list", "log", "setuser", "users", "whoami", "save", "load"]
)
_MOST_BITS: Final = 4096


def credentials(words: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the name and the password of AUTH's arguments; one alone is the password of the user default."""
    return (DEFAULT, words[0]) if len(words) == 1 else (words[0], words[1])


def hello_credentials(call: list[bytes]) -> tuple[bytes, bytes, list[bytes]] | None:
    """Return name and password in HELLO, and HELLO without them; None if there are none."""
    place = 2
    while place < len(call):
        if call[place].upper() == b"AUTH":
            if place + 2 >= len(call):
                raise syntax_error()
            return call[place + 1], call[place + 2], [*call[:place], *call[place + 3 :]]
        place += 2
    return None


def decode_rules(data: bytes) -> list[bytes]:
    """Return the rules that the work of `hashing` has encoded."""
    return msgspec.msgpack.decode(data, type=list[bytes])


def hashing(access: Access, name: bytes, rules: Sequence[bytes]) -> Callable[[], bytes]:
    """Return the work that hashes passwords in rules and encodes them. Raise `CommandError` for a wrong rule.

    Everything but the passwords is checked at once, so that no hash is computed in vain.
    """
    grant = access.of_log.grants.get(name)
    user = User(name) if grant is None else grant.user
    plain = [rule for rule in rules if rule[:1] in (b">", b"<")]
    if any(not 1 < len(rule) <= MAX_PASSWORD_BYTES + 1 for rule in plain):
        raise CommandError(f"ERR a password has 1 to {MAX_PASSWORD_BYTES} bytes")
    if len(plain) > _MOST_HASHED:
        raise CommandError(f"ERR at most {_MOST_HASHED} passwords can be set or removed at once")
    try:
        changed(user, [rule for rule in rules if rule not in plain and rule[:1] != b"!"])
    except RuleError as failure:
        raise CommandError(f"ERR {failure}") from None
    hashes = user.passwords

    def work() -> bytes:
        found = []
        for rule in rules:
            if rule[:1] == b">":
                rule = b"#" + hash_password(rule[1:]).encode()
            elif rule[:1] == b"<":
                rule = b"!" + matches(rule[1:], hashes).encode()
            found.append(rule)
        return msgspec.msgpack.encode(found)

    return work


_MOST_HASHED: Final = 4


def acl_reply(access: Access, user: bytes | None, call: Sequence[bytes]) -> Reply:
    """Return the reply to ACL, except to SETUSER and DELUSER. Raise `CommandError`."""
    table = access.table
    word = call[1].decode("utf-8", "replace").lower()
    match word, call[2:]:
        case "whoami", []:
            return user or DEFAULT
        case "users", []:
            return sorted(table.grants) or [DEFAULT]
        case "list", []:
            users = table.users or [_EVERYONE]
            return [b" ".join([b"user", one.name, *described(one, hashes=True)]) for one in users]
        case "getuser", [name]:
            return _user(access, name)
        case "cat", []:
            return list(CATEGORIES)
        case "cat", [category]:
            chosen = category.decode("utf-8", "replace").lower().removeprefix("@")
            if chosen not in CATEGORIES:
                raise CommandError(f"ERR Unknown category '{printable(category)}'")
            return sorted(in_category(chosen))
        case "genpass", bits if len(bits) <= 1:
            return _password(bits)
        case "log", arguments if len(arguments) <= 1:
            return _log(access, arguments)
        case "help", []:
            return list(_HELP)
        case (("save" | "load"), []):
            raise CommandError("ERR users are kept in the log, or read from the file of --users when a node starts")
    if word in _WORDS:
        raise wrong_arity(f"acl|{word}")
    raise unknown_subcommand(call)


_EVERYONE: Final = User(DEFAULT, enabled=True, nopass=True, commands=("+@all",), keys=((READS | WRITES, b"*"),))
"""What is true while there are no users."""


def _user(access: Access, name: bytes) -> Reply:
    table = access.table
    grant = table.grants.get(name)
    if grant is None and (table.grants or name != DEFAULT):
        return None
    user = _EVERYONE if grant is None else grant.user
    flags = ["on" if user.enabled else "off", *(["nopass"] if user.nopass else [])]
    commands = " ".join(["-@all"] * (user.commands[:1] != ("+@all",)) + list(user.commands))
    keys = b" ".join(pattern_text(flag, pattern) for flag, pattern in user.keys)
    return Map(
        (
            ("flags", flags),
            ("passwords", list(user.passwords)),
            ("commands", commands),
            ("keys", keys),
            ("channels", ""),
            ("selectors", []),
        )
    )


def _password(arguments: Sequence[bytes]) -> Reply:
    bits = integer(arguments[0]) if arguments else 256
    if not 0 < bits <= _MOST_BITS:
        raise CommandError(f"ERR ACL GENPASS argument must be the number of bits: 1 to {_MOST_BITS}")
    return new_password(bits)


def _log(access: Access, arguments: Sequence[bytes]) -> Reply:
    if arguments and arguments[0].lower() == b"reset":
        access.log.clear()
        return OK
    count = integer(arguments[0]) if arguments else 10
    return [
        Map(
            (
                ("count", item.count),
                ("reason", item.reason),
                ("context", item.context),
                ("object", item.about),
                ("username", item.user),
                ("age-seconds", f"{access.age(item):.3f}"),
                ("client-info", item.client),
                ("entry-id", item.number),
            )
        )
        for item in list(access.log)[: max(0, count)]
    ]
