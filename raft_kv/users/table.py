"""`UserTable`: all users, as a part of the replicated state. The same changes give the same table on every replica."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, final

import msgspec

from raft_kv.commands import look_up
from raft_kv.commands.comparing import OPERATIONS
from raft_kv.commands.documentation import DOCUMENTATION
from raft_kv.commands.table import INTERNAL, Command
from raft_kv.resp import CommandError
from raft_kv.users.rules import DEFAULT, MAX_NAME_BYTES, Grant, RuleError, User, changed

__all__ = ["ALWAYS", "NO_AUTH", "VOUCHED", "Denied", "UserTable", "full_name"]

ALWAYS: Final = frozenset({"auth", "hello", "quit", "reset"})
"""Commands that everyone may carry out, also before AUTH."""
VOUCHED: Final = b" "
"""In an entry or a query, in place of a user's name or before it: the client's node takes its users from a file and has
checked the rights by it, so the users of the log do not count. No user of the log has such a name, because names have
no blanks."""
_MOST_USERS: Final = 1000
NO_AUTH: Final = "NOAUTH Authentication required."


@final
class Denied(CommandError):
    """The user may not do this. `reason`: "auth", "command" or "key"; `about`: the command or the key."""

    def __init__(self, text: str, reason: str, about: str) -> None:
        super().__init__(text)
        self.reason: Final = reason
        self.about: Final = about


def full_name(command: Command, call: Sequence[bytes]) -> str:
    """Return the name by which rules know the command: with its subcommand, if it has some."""
    if INTERNAL in command.flags:
        return "set" if command.name == "raft.set" else "raft|once" if command.name == "raft.once" else "eval"
    words = DOCUMENTATION[command.name].subcommands
    if words and len(call) > 1:
        word = call[1].decode("utf-8", "replace").lower()
        if word in words:
            return f"{command.name}|{word}"
    return command.name


def _called_by(command: Command, call: Sequence[bytes]) -> list[str]:
    """Return the commands that a script calls, as soon as it is translated into its operation."""
    if command.name != "raft.script" or len(call) < 2:
        return []
    operation = OPERATIONS.get(call[1].decode("ascii", "replace"))
    return [] if operation is None else operation.calls.split()


@final
class UserTable:
    """Users by name. Empty: there are no users, and everyone may do everything.

    `grants` is only looked at from outside. A change replaces it, so other threads see the table before or after it.
    """

    __slots__ = ("grants",)

    def __init__(self, users: Iterable[User] = ()) -> None:
        self.grants: dict[bytes, Grant] = {user.name: Grant(user) for user in users}

    @property
    def users(self) -> list[User]:
        """Return all users, in the order of their making."""
        return [grant.user for grant in self.grants.values()]

    # Changes.

    def change(self, name: bytes, rules: Sequence[bytes], index: int = 0) -> None:
        """Make or change a user by entry `index`. Raise `RuleError`; then nothing has changed."""
        if not name or len(name) > MAX_NAME_BYTES or any(byte <= 32 for byte in name):
            raise RuleError(f"a user's name has 1 to {MAX_NAME_BYTES} bytes and no blanks")
        before = self.grants.get(name)
        if before is None and len(self.grants) >= _MOST_USERS:
            raise RuleError(f"there are at most {_MOST_USERS} users")
        user = changed(User(name) if before is None else before.user, rules)
        user = msgspec.structs.replace(user, made=index if before is None else before.user.made)
        grants = self.grants | {name: Grant(user)}
        if not any(grant.administers for grant in grants.values()):
            raise RuleError(
                "one user at least must be an administrator, or no one could change users any more: give this one "
                "on >password +@all ~*"
            )
        self.grants = grants

    def delete(self, names: Sequence[bytes]) -> int:
        """Remove users; return how many there were. Raise `RuleError` if no administrator would be left.

        So the table never becomes empty again, which would open the server to everyone. If that is wanted, it is said:
        ACL SETUSER default on nopass ~* +@all.
        """
        gone = frozenset(names)
        left = {name: grant for name, grant in self.grants.items() if name not in gone}
        count = len(self.grants) - len(left)
        if count and not any(grant.administers for grant in left.values()):
            raise RuleError("the last administrator cannot be deleted")
        self.grants = left
        return count

    # Checks.

    def grant_of(self, name: bytes | None) -> Grant | None:
        """Return the rights of a client that has authenticated as `name`, or as no one; None if it has none.

        A client that has not authenticated is the user default, if that is on and needs no password.
        """
        grant = self.grants.get(DEFAULT if name is None else name)
        if grant is None or not grant.user.enabled or (name is None and not grant.user.nopass):
            return None
        return grant

    def check(self, name: bytes | None, command: Command, call: Sequence[bytes]) -> None:
        """Raise `Denied` if the client may not carry out the command. Without any users, everyone may."""
        if not self.grants or command.name in ALWAYS:
            return
        full = full_name(command, call)
        grant = self.grant_of(name)
        if grant is None:
            raise Denied(NO_AUTH, "auth", full)
        if not grant.may_call(full):
            user = grant.user.name.decode("utf-8", "replace")
            raise Denied(f"NOPERM User {user} has no permissions to run the '{full}' command", "command", full)
        for inner in _called_by(command, call):
            if not grant.may_call(inner):
                user = grant.user.name.decode("utf-8", "replace")
                text = f"NOPERM User {user} has no permissions to run the '{inner}' command, which the script calls"
                raise Denied(text, "command", inner)
        wrong = grant.wrong_key(command, call)
        if wrong is not None:
            raise Denied("NOPERM No permissions to access a key", "key", wrong[:128].decode("utf-8", "replace"))

    def refusal(self, name: bytes | None, call: Sequence[bytes]) -> str:
        """Return the error for a call that the machine is to carry out; "" if it may."""
        try:
            self.check(name, look_up(call), call)
        except CommandError as failure:
            return str(failure)
        return ""
