"""A file of users, one a line as ACL LIST prints them: the option `--users`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from raft_core.errors import SettingsError
from raft_kv.resp import CommandError
from raft_kv.users.rules import RuleError, User, changed
from raft_kv.users.table import UserTable

__all__ = ["read_users", "users_of_file"]


def users_of_file(path: str) -> UserTable | None:
    """Return the users of the file; None for an empty path. Raise `SettingsError` with file, line and reason."""
    if not path:
        return None
    try:
        table = read_users(Path(path).read_text("utf-8").splitlines())
    except OSError as failure:
        raise SettingsError(f"cannot read {path}: {failure.strerror or failure}") from None
    except (UnicodeDecodeError, CommandError) as failure:
        raise SettingsError(f"{path}: {failure}") from None
    if not table.grants:
        raise SettingsError(f"{path} has no user in it")
    return table


def read_users(lines: Sequence[str]) -> UserTable:
    """Return the users of a file's lines, each `user NAME RULE...`, as ACL LIST prints them. Raise `CommandError`.

    Passwords must be hashed, as `raft-kv hash-password` prints them.
    """
    users: dict[bytes, User] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] != "user" or len(words) < 2:
            raise CommandError(f"line {number}: a user is written as: user NAME on #HASH ~* +@all")
        name = words[1].encode()
        if name in users:
            raise CommandError(f"line {number}: the user {words[1]} occurs twice")
        if any(word.startswith((">", "<")) for word in words[2:]):
            raise CommandError(f"line {number}: a password must be hashed; see raft-kv hash-password")
        try:
            users[name] = changed(User(name), [word.encode() for word in words[2:]])
        except RuleError as failure:
            raise CommandError(f"line {number}: {failure}") from None
    table = UserTable(users.values())
    if users and not any(grant.administers for grant in table.grants.values()):
        raise CommandError("one user at least must be an administrator: on #HASH ~* +@all")
    return table
