"""`Access`: one node's view of users: the table of its machine or of a file, refused commands, failed logins.

A node checks its clients by the table that it has applied. Before the first linearizable read after a start, that table
may lack users of the log. `confirmed` says that such a read has succeeded; until then, commands that act without an
entry of the log or a query, those of an operator, wait for one (see `must_confirm`).
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, final

import attrs

from raft_kv.commands import Command
from raft_kv.users.passwords import matches
from raft_kv.users.rules import DEFAULT, User
from raft_kv.users.table import VOUCHED, Denied, UserTable, full_name

__all__ = ["WRONG_PASSWORD", "Access", "LogItem"]

WRONG_PASSWORD: Final = "WRONGPASS invalid username-password pair or user is disabled."
_UNKNOWN: Final = b"(unknown)"
_KEPT: Final = 128
_REMEMBERED: Final = 1024
_FIRST_DELAY: Final = 0.2
_MOST_DELAY: Final = 2.0
_ADDRESSES: Final = 4096
_FORGIVEN_AFTER: Final = 60.0
_BETWEEN_REPORTS: Final = 1.0
_CONFIRMED_FIRST: Final = frozenset({
    "raft|add", "raft|backup", "raft|demote", "raft|features", "raft|leave", "raft|promote", "raft|remove",
    "raft|transfer",
})  # fmt: skip


class HasUsers(Protocol):
    """The state machine, as far as users go."""

    @property
    def users(self) -> UserTable:
        """The users of the log."""
        ...


@final
@attrs.define
class LogItem:
    """An entry of ACL LOG: refused attempts of the same kind. `seen` is a time of the monotonic clock."""

    number: int
    reason: str
    context: str
    about: str
    user: bytes
    client: str
    created: float
    seen: float
    count: int = 1


@final
class Access:
    """Users for the clients of one node. `file`: the users, if they come from a file; then the log's do not count."""

    def __init__(
        self,
        machine: HasUsers | None = None,
        file: UserTable | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.confirmed = machine is None
        self.obstacle: Callable[[], str] = lambda: ""
        self.report: Callable[[str, str, int], None] = lambda _user, _address, _others: None
        """Called once a second at most with a failed login, and how many others there were since the last call."""
        self.log: Final[deque[LogItem]] = deque(maxlen=_KEPT)
        self.failures = 0
        self.refusals = 0
        self._machine: Final = machine
        self._file: Final = file
        self._none: Final = UserTable()
        self._clock: Final = clock
        self._numbers = 0
        self._secret: Final = secrets.token_bytes(32)
        self._report_due = 0.0
        self._unreported = 0
        self._known: Final[OrderedDict[bytes, None]] = OrderedDict()
        self._failed: Final[OrderedDict[bytes, tuple[int, float]]] = OrderedDict()

    @property
    def now(self) -> float:
        """The monotonic clock, in seconds."""
        return self._clock()

    @property
    def table(self) -> UserTable:
        """The users that count here."""
        return self.of_log if self._file is None else self._file

    @property
    def from_file(self) -> bool:
        """True if users come from a file, which no command changes."""
        return self._file is not None

    @property
    def of_log(self) -> UserTable:
        """The users that the log has, and that commands change."""
        return self._none if self._machine is None else self._machine.users

    def in_the_name_of(self, user: bytes | None, *, owns: bool = False) -> bytes:
        """Return the name that entries and queries of this user carry. `owns`: those of RAFT SESSION and RAFT ONCE.

        By a file's users rights are checked here alone. So the machine, whose own users the client does not know, is
        told that it is `VOUCHED` for; if it has none, there is nothing to tell. A session needs an owner all the same:
        it belongs to the user of this name in the files of all nodes, and to none of the log.
        """
        if self._file is None:
            return user or b""
        if owns:
            return VOUCHED + (DEFAULT if user is None else user)
        return VOUCHED if self.of_log.grants else b""

    def no_changes(self) -> str:
        """Return the error for a change of users here; "" if they can be changed. `obstacle` knows another reason.

        An administrator of a file may change users that the log has: the way back to a log whose passwords are lost.
        """
        if self._file is not None and not self.of_log.grants:
            return "ERR the users of this node come from a file: change the file on every node and restart it"
        return self.obstacle()

    @property
    def on(self) -> bool:
        """True if there are users, so that rights are checked."""
        if self._file is not None:
            return bool(self._file.grants)
        return self._machine is not None and bool(self._machine.users.grants)

    # Rights.

    def check(self, user: bytes | None, command: Command, call: Sequence[bytes], client: str, context: str) -> None:
        """Raise `Denied` if the client may not do this, and note it for ACL LOG."""
        try:
            self.table.check(user, command, call)
        except Denied as denied:
            self.refusals += 1
            if denied.reason != "auth":
                self._note(denied.reason, context, denied.about, user or DEFAULT, client)
            raise

    def made(self, user: bytes) -> int:
        """Return the entry that made the user; -1 if there is none of this name."""
        grant = self.table.grants.get(user)
        return -1 if grant is None else grant.user.made

    def must_confirm(self, command: Command, call: Sequence[bytes]) -> bool:
        """Return whether the command has to wait until the users of the log are known here."""
        return not self.confirmed and self._file is None and full_name(command, call) in _CONFIRMED_FIRST

    # Passwords.

    def password_check(self, name: bytes, password: bytes) -> Callable[[], bytes]:
        """Return the work that tells whether this is a password of an enabled user: b"1" or b"". It takes some 50 ms.

        A pair that was right a while ago is known by a keyed digest, so that a pool of connections costs one hash.
        """
        grant = self.table.grants.get(name)
        user = grant.user if grant is not None and grant.user.enabled else User(name)
        known = self._known
        secret = self._secret

        def work() -> bytes:
            if user.nopass:
                return b"1"
            stand = "\0".join(user.passwords).encode()
            digest = hmac.digest(secret, b"%d %d %b%b%b" % (len(name), len(stand), name, stand, password), "sha256")
            if user.passwords and digest in known:
                return b"1"
            if not matches(password, user.passwords):
                return b""
            known[digest] = None
            while len(known) > _REMEMBERED:
                known.popitem(last=False)
            return b"1"

        return work

    def login_failed(self, name: bytes, client: str, address: bytes) -> float:
        """Note a wrong password, or an unknown user.

        Return the seconds from its arrival until the client may be told, so that the time of the check does not show.
        An unknown name is not noted: some people type their password there, and made-up ones would fill ACL LOG.
        """
        self.failures += 1
        self._note("auth", "toplevel", "AUTH", name if name in self.table.grants else _UNKNOWN, client)
        now = self._clock()
        self._report_login(name, address, now)
        count, since = self._failed.pop(address, (0, now))
        count = 1 if now - since > _FORGIVEN_AFTER else count + 1
        self._failed[address] = (count, now)
        while len(self._failed) > _ADDRESSES:
            self._failed.popitem(last=False)
        return float(min(_MOST_DELAY, _FIRST_DELAY * 2 ** min(count - 1, 10)))

    def _report_login(self, name: bytes, address: bytes, now: float) -> None:
        """Report a failed login. An unknown name is not told: some people type their password there."""
        if now < self._report_due:
            self._unreported += 1
            return
        known = name in self.table.grants
        others, self._unreported, self._report_due = self._unreported, 0, now + _BETWEEN_REPORTS
        self.report(name.decode("utf-8", "replace") if known else "", address.decode("utf-8", "replace"), others)

    def login_succeeded(self, address: bytes) -> None:
        """Forget earlier failures from this address."""
        self._failed.pop(address, None)

    # ACL LOG.

    def _note(self, reason: str, context: str, about: str, user: bytes, client: str) -> None:
        now = self._clock()
        for item in self.log:
            same = (item.reason, item.context, item.about, item.user) == (reason, context, about, user)
            if same and now - item.created < _FORGIVEN_AFTER:
                item.count, item.seen = item.count + 1, now
                return
        self._numbers += 1
        self.log.appendleft(LogItem(self._numbers - 1, reason, context, about, user, client, now, now))

    def age(self, item: LogItem) -> float:
        """Return the seconds since the item was made."""
        return max(0.0, self._clock() - item.created)
