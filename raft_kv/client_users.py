"""`ClientUser`: the user of one session: its rights, AUTH, HELLO with AUTH, and ACL.

No waiting here: a method returns the reply, or with `Begun` what has to be carried out first.
"""

from __future__ import annotations

from typing import Final, final

import attrs

from raft_core.errors import OutcomeUnknown, Refused
from raft_kv import log_format as entries
from raft_kv.client_session_values import Inspect, OffLoop, Propose, Read, SessionEffect, Wait
from raft_kv.clients import Client
from raft_kv.commands import look_up
from raft_kv.error_replies import explain
from raft_kv.local import is_once
from raft_kv.log_format import Calls, ChangeUser, DeleteUsers, Once, OpenSession, Transaction, Versions
from raft_kv.open_requests import Authenticating, Confirming, Inspecting, Open, Refusing, SettingUser, Writing
from raft_kv.resp import OK, CommandError, Failure, Reply
from raft_kv.scripts import translate
from raft_kv.users.access import WRONG_PASSWORD, Access
from raft_kv.users.acl import HELLO_WITHOUT_AUTH, acl_reply, decode_rules, hashing, hello_credentials

__all__ = ["Begun", "ClientUser"]


_DELETED: Final = b"\0deleted"
"""In place of the name of a deleted user. No name has a byte up to 32; nor must this begin as `VOUCHED` does."""


@final
@attrs.frozen
class Begun:
    """A session waits for the outcome of `effect`; `waiting` says what for."""

    waiting: Open
    effect: SessionEffect


@final
class ClientUser:
    """The user of one client. `checks`: there are users, so entries are made on behalf of one."""

    __slots__ = ("_access", "_client")

    def __init__(self, client: Client, access: Access) -> None:
        self._client: Final = client
        self._access: Final = access

    def look(self) -> None:
        """Take all rights from a client whose user was deleted, even if there is another one of that name by now."""
        client = self._client
        if client.user is not None and client.user_made != self._access.made(client.user):
            client.user = _DELETED

    def check(self, call: list[bytes], *, in_transaction: bool) -> None:
        """Raise `CommandError` if the user may not do this; in RAFT ONCE, neither it nor the command inside."""
        context = "multi" if in_transaction else "toplevel"
        self._access.check(self._client.user, look_up(call), call, self._about, context)
        if is_once(call) and len(call) > 4:  # once: RAFT ONCE in RAFT ONCE is refused later
            self._access.check(self._client.user, look_up(call[4:]), call[4:], self._about, context)

    def translated(self, call: list[bytes], *, checks: bool) -> list[bytes]:
        """Return the call as it enters the log. Raise `CommandError`, also without the right to what a script does."""
        translated = translate(call, self._client.scripts)
        if checks and translated is not call:
            self._access.check(self._client.user, look_up(translated), translated, self._about, "lua")
        return translated

    def proposal(
        self, command: Calls | Transaction | Once | OpenSession | ChangeUser | DeleteUsers, *, checks: bool
    ) -> Propose:
        """Return the effect that has the command applied."""
        entry = entries.encode_entry(command)
        owns = type(command) is OpenSession or type(command) is Once  # a release that knows these knows `OnBehalf` too
        name = self._access.in_the_name_of(self._client.user, owns=owns)
        if checks and (name or not self._access.from_file):
            entry = entries.on_behalf(entry, name)
        return Propose(entry)

    @property
    def name(self) -> bytes:
        """The name that entries and queries carry."""
        return self._access.in_the_name_of(self._client.user)

    # AUTH and HELLO.

    def authenticate(self, name: bytes, password: bytes, then: list[bytes] | None = None) -> Begun:
        """Begin the check of a password; `then`: the rest of HELLO."""
        waiting = Authenticating(name, password, self._access.made(name), self._access.now, then)
        return Begun(waiting, OffLoop(self._access.password_check(name, password)))

    def on_password(self, waiting: Authenticating, *, right: bool) -> Begun | Reply:
        """Take the outcome of that check."""
        client, access = self._client, self._access
        if not right and not access.confirmed and not access.from_file:  # the rest of the log may have changed the user
            return Begun(Confirming(waiting), Read(entries.encode_query(Versions([]), 0)))
        if not right:
            return self._wrong(waiting, WRONG_PASSWORD)
        client.user, client.user_made = waiting.user, waiting.made
        access.login_succeeded(self._address)
        return OK if waiting.then is None else Begun(Inspecting(waiting.then), Inspect())

    def hello(self, call: list[bytes]) -> Begun:
        """Answer HELLO where users count: first the password, then the rest. Raise `CommandError`."""
        given = hello_credentials(call)
        if given is not None:
            return self.authenticate(*given)
        if self._access.table.grant_of(self._client.user) is None:
            raise CommandError(HELLO_WITHOUT_AUTH)
        return Begun(Inspecting(call), Inspect())

    def unconfirmed(self, waiting: Authenticating, error: Refused | OutcomeUnknown) -> Begun:
        """Refuse this password: it is wrong as far as is known here. It counts as any wrong one."""
        return self._wrong(waiting, explain(error))

    def _wrong(self, waiting: Authenticating, text: str) -> Begun:
        delay = self._access.login_failed(waiting.user, self._about, self._address)
        return Begun(Refusing(text), Wait(max(0.0, delay - (self._access.now - waiting.since))))

    def again(self, waiting: Authenticating) -> Begun:
        """Begin the check of this password once more, by the users that the whole log has."""
        begun = self.authenticate(waiting.user, waiting.password, waiting.then)
        assert isinstance(begun.waiting, Authenticating)
        return attrs.evolve(begun, waiting=attrs.evolve(begun.waiting, since=waiting.since))

    # ACL.

    def acl(self, call: list[bytes], *, checks: bool) -> Begun | Reply:
        """Answer ACL. Raise `CommandError`."""
        word = call[1].lower()
        if word not in (b"setuser", b"deluser") or len(call) < 3:
            return acl_reply(self._access, self._client.user, call)
        if refusal := self._access.no_changes():
            raise CommandError(refusal)
        if word == b"deluser":
            return Begun(Writing(1), self.proposal(DeleteUsers(call[2:]), checks=checks))
        return Begun(SettingUser(call[2]), OffLoop(hashing(self._access, call[2], call[3:])))

    def on_hashed(self, waiting: SettingUser, data: bytes, *, checks: bool) -> Begun | Reply:
        """Take the rules with hashed passwords."""
        if not data:  # the work has failed
            return Failure("ERR the password could not be hashed; this node's log says why")
        return Begun(Writing(1), self.proposal(ChangeUser(waiting.user, decode_rules(data)), checks=checks))

    @property
    def _address(self) -> bytes:
        return self._client.address.rpartition(b":")[0]

    @property
    def _about(self) -> str:
        return f"id={self._client.number} addr={self._client.address.decode('utf-8', 'replace')}"
