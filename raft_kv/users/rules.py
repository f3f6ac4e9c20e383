"""`User`: one user and its rules, as ACL SETUSER has them. `Grant`: the same, compiled for quick checks.

A user is a value: a rule makes another one. Passwords come hashed; `>password` is replaced before it gets here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias, final

import msgspec

from raft_kv.commands.table import Command
from raft_kv.glob import MAX_PATTERN_BYTES, matcher
from raft_kv.users.categories import CATEGORIES, in_category, is_known, names_of
from raft_kv.users.passwords import is_hash

__all__ = ["DEFAULT", "MAX_NAME_BYTES", "READS", "WRITES", "Grant", "RuleError", "User", "changed", "described",
           "pattern_text"]  # fmt: skip

DEFAULT: Final = b"default"
READS: Final = 1
WRITES: Final = 2
_BOTH: Final = READS | WRITES
MAX_NAME_BYTES: Final = 128
_MOST_PASSWORDS: Final = 8
_MOST_RULES: Final = 256
"""Patterns of keys, and rules about commands."""


class RuleError(ValueError):
    """A rule that cannot be followed; the text says why."""


@final
class User(msgspec.Struct, frozen=True, array_like=True):
    """One user. `commands` are rules in order, such as `+@all`, `-flushall`; `keys` are (READS | WRITES, pattern)."""

    name: bytes
    enabled: bool = False
    nopass: bool = False
    passwords: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    keys: tuple[tuple[int, bytes], ...] = ()
    made: int = 0
    """Index of the entry that made the user: a later one of the same name is another user. 0: from a file."""


# Rules.


def changed(user: User, rules: Sequence[bytes]) -> User:
    """Return the user after these rules, in order. Raise `RuleError`; then no rule has an effect."""
    for rule in rules:
        try:
            user = _after(user, rule)
        except RuleError as failure:
            shown = "(a password)" if rule[:1] in b"><#!" else rule[:64].decode("utf-8", "replace")
            raise RuleError(f"Error in ACL SETUSER modifier '{shown}': {failure}") from None
        if len(user.commands) > _MOST_RULES or len(user.keys) > _MOST_RULES:  # at once: each costs as many steps
            raise RuleError(f"a user has at most {_MOST_RULES} rules about commands, and as many about keys")
    return user


def _after(user: User, rule: bytes) -> User:
    replace = msgspec.structs.replace
    sign = rule[:1]
    if sign in (b"+", b"-"):
        return replace(user, commands=_with_command(user.commands, rule))
    if sign in (b"~", b"%"):
        return _with_keys(user, rule)
    if sign in (b"#", b"!"):
        return _with_password(user, rule)
    match rule.lower():
        case b"on" | b"off" as word:
            return replace(user, enabled=word == b"on")
        case b"nopass":
            return replace(user, nopass=True, passwords=())
        case b"resetpass":
            return replace(user, nopass=False, passwords=())
        case b"allkeys":
            return replace(user, keys=((_BOTH, b"*"),))
        case b"resetkeys":
            return replace(user, keys=())
        case b"allcommands":
            return replace(user, commands=("+@all",))
        case b"nocommands":
            return replace(user, commands=())
        case b"reset":
            return User(user.name)
        case b"allchannels" | b"resetchannels" | b"clearselectors" | b"sanitize-payload" | b"skip-sanitize-payload":
            return user  # there are no channels, selectors or payloads here
    if sign == b"&":
        return user
    if sign == b"(":
        raise RuleError("selectors are not supported: give the rights to the user itself")
    raise RuleError("Syntax error")


def _with_command(rules: tuple[str, ...], rule: bytes) -> tuple[str, ...]:
    text = rule.decode("utf-8", "replace").lower()
    name = text[1:]
    known = name[1:] in (*CATEGORIES, "all") if name.startswith("@") else is_known(name)
    if not known:
        raise RuleError("Unknown command or category name in ACL")
    if text in ("+@all", "-@all"):
        return (text,) if text == "+@all" else ()
    kept = tuple(one for one in rules if one[1:] != name)  # a later rule about the same thing replaces the earlier one
    return (*kept, text)


def _with_keys(user: User, rule: bytes) -> User:
    flags, pattern = _BOTH, rule[1:]
    if rule[:1] == b"%":
        letters, tilde, pattern = rule[1:].partition(b"~")
        chosen = letters.upper()
        if not tilde or chosen not in (b"R", b"W", b"RW", b"WR"):
            raise RuleError("Syntax error")
        flags = (READS if b"R" in chosen else 0) | (WRITES if b"W" in chosen else 0)
    if len(pattern) > MAX_PATTERN_BYTES:
        raise RuleError(f"a pattern has at most {MAX_PATTERN_BYTES} bytes")
    before = {each: kept for kept, each in user.keys}
    before[pattern] = before.get(pattern, 0) | flags
    return msgspec.structs.replace(user, keys=tuple((kept, each) for each, kept in before.items()))


def _with_password(user: User, rule: bytes) -> User:
    text = rule[1:].decode("utf-8", "replace")
    if rule[:1] == b"!":
        if text not in user.passwords:
            raise RuleError("The password you are trying to remove from the user does not exist")
        left = tuple(one for one in user.passwords if one != text)
        return msgspec.structs.replace(user, passwords=left)
    if not is_hash(text):
        raise RuleError("The password hash must be one of this server, as ACL LIST shows it")
    if text in user.passwords:
        return user
    if len(user.passwords) >= _MOST_PASSWORDS:
        raise RuleError(f"a user has at most {_MOST_PASSWORDS} passwords")
    return msgspec.structs.replace(user, nopass=False, passwords=(*user.passwords, text))


def described(user: User, *, hashes: bool) -> list[bytes]:
    """Return the user's rules, as ACL LIST and a file of users have them. Without `hashes`, passwords are left out."""
    words = [b"on" if user.enabled else b"off"]
    words += [b"nopass"] if user.nopass else []
    words += [b"#" + each.encode() for each in user.passwords] if hashes else []
    words += [pattern_text(flags, pattern) for flags, pattern in user.keys]
    if user.commands[:1] != ("+@all",):
        words.append(b"-@all")
    return words + [rule.encode() for rule in user.commands]


def pattern_text(flags: int, pattern: bytes) -> bytes:
    """Return the rule about keys as text."""
    return {READS: b"%R~", WRITES: b"%W~"}.get(flags, b"~") + pattern


# Checks.


_Matcher: TypeAlias = Callable[[bytes], object]


@final
class Grant:
    """The rights of one user, compiled."""

    __slots__ = ("_keys", "allowed", "user")

    def __init__(self, user: User) -> None:
        self.user: Final = user
        self.allowed: Final = _allowed(user.commands)
        self._keys: Final = tuple((flags, _matcher(pattern)) for flags, pattern in user.keys)

    def may_call(self, name: str) -> bool:
        """Return whether the user may carry out the command with this full name."""
        return name in self.allowed

    def may_use(self, key: bytes, flags: int) -> bool:
        """Return whether the user may read or write the key: the union of its matching patterns counts."""
        for granted, fits in self._keys:
            if flags & granted and (fits is None or fits(key)):
                flags &= ~granted
                if not flags:
                    return True
        return False

    def wrong_key(self, command: Command, call: Sequence[bytes]) -> bytes | None:
        """Return the first key of the call that the user may not use so; None if there is none."""
        keys = command.keys_of(call)
        if not keys:
            return None
        flags = _flags_of(command, call)
        return next((key for key in keys if not self.may_use(key, flags)), None)

    @property
    def administers(self) -> bool:
        """True for an administrator: enabled, able to log in, and allowed to change users and members."""
        user = self.user
        return user.enabled and (user.nopass or bool(user.passwords)) and self.allowed >= _ADMINISTRATION


_ADMINISTRATION: Final = frozenset({"acl|setuser", "acl|deluser", "raft|add", "raft|remove"})


@lru_cache(maxsize=256)
def _allowed(rules: tuple[str, ...]) -> frozenset[str]:
    names: set[str] = set()
    for rule in rules:
        name = rule[1:]
        chosen = in_category(name[1:]) if name.startswith("@") else names_of(name)
        if rule.startswith("+"):
            names |= chosen
        else:
            names -= chosen
            names.discard(name.partition("|")[0])  # the whole command is not allowed any more
    return frozenset(names)


def _matcher(pattern: bytes) -> _Matcher | None:
    """Return a predicate of keys, None for all keys."""
    return None if pattern == b"*" else matcher(pattern)


def _flags_of(command: Command, call: Sequence[bytes]) -> int:
    """Return which rights the command needs on its keys."""
    if command.writes is None:
        return READS
    shows = command.writes.shows
    reads = shows if isinstance(shows, bool) else any(word.upper() in shows for word in call[3:])
    return _BOTH if reads else WRITES
