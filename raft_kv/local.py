"""Commands that the session answers itself: about the client, the server and the cluster.

Pure functions from a command to a reply, or to an effect that has to be carried out first (`Later`). The facts about a
client are in `clients.Client`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import attrs

from raft_core.errors import SettingsError
from raft_core.features import features_problem
from raft_core.ids import MAX_INT63, NodeId
from raft_core.membership import AddLearner, AddVoter, Change, RemoveNode
from raft_core.node.config import split_address
from raft_core.requests import BackupRequest, OpenBackup, ReadBackup
from raft_kv.client_session_values import (
    BackUp,
    ChangeMembers,
    Disconnect,
    Inspect,
    LeaveJoint,
    SessionEffect,
    TransferLeadership,
)
from raft_kv.clients import Client, Killed, RequestBook, answer_client, checked_name
from raft_kv.commands.comparing import RAFT_ONCE
from raft_kv.commands.table import integer, syntax_error, unknown_subcommand, wrong_arity
from raft_kv.glob import MAX_PATTERN_BYTES, matcher
from raft_kv.listing import answer_command
from raft_kv.resp import EMPTY_ARRAY, OK, CommandError, Map, Reply
from raft_kv.status import ServerStatus
from raft_kv.status_replies import REDIS_VERSION, features_map, info_text, role_reply, status_reply
from raft_kv.version import version

__all__ = ["Later", "UnknownUser", "answer_locally", "is_once", "once_of"]


@final
class UnknownUser(CommandError):
    """There is no such user, as far as this node has applied the log."""


@final
@attrs.frozen
class Later:
    """A reply available once `effect` is carried out.

    After `Inspect`, ask again with the status. Otherwise it is `reply`; then the connection is closed if `closes`.
    """

    effect: SessionEffect
    reply: Reply = OK
    closes: bool = False


def answer_locally(
    client: Client, clients: RequestBook, call: list[bytes], status: ServerStatus | None
) -> Reply | Later:
    """Return the reply to a command without keys. `status` is given if an earlier `Later` requested it."""
    if call[0].lower() == b"client":
        return _client(client, clients, call)
    return _HANDLERS[call[0].lower()](client, call, status)


def _word(call: list[bytes]) -> str:
    return call[1].decode("utf-8", "replace").lower()


# HELLO, AUTH and CLIENT.


def _hello(client: Client, call: list[bytes], status: ServerStatus | None) -> Reply | Later:
    if status is None:
        return Later(Inspect())
    protocol, name = client.protocol, client.name
    if len(call) > 1:
        protocol = integer(call[1], "ERR Protocol version is not an integer or out of range")
        if protocol not in (2, 3):
            raise CommandError("NOPROTO unsupported protocol version")
    words = iter(call[2:])
    for word in words:
        option = word.upper()
        argument = next(words, None)
        if option == b"AUTH" and argument is not None and next(words, None) is not None:
            _check_user(argument, status)
        elif option == b"SETNAME" and argument is not None:
            name = checked_name(argument)
        else:
            raise syntax_error()
    client.protocol, client.name = protocol, name
    return Map(
        (
            ("server", "redis"),
            ("version", REDIS_VERSION),
            ("proto", protocol),
            ("id", client.number),
            ("mode", "standalone"),
            ("role", status.redis_role),
            ("modules", EMPTY_ARRAY),
        )
    )


def _auth(_client: Client, call: list[bytes], status: ServerStatus | None) -> Reply | Later:
    if len(call) > 3:
        raise syntax_error()
    if status is None and len(call) == 3 and call[1] != b"default":
        return Later(Inspect())
    if len(call) == 2:
        raise CommandError(
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
    _check_user(call[1], status)
    return OK


def _check_user(name: bytes, status: ServerStatus | None) -> None:
    """Raise unless it is the one user there is, who as in Redis may give any password where none is configured.

    A node that is not part of a cluster yet has no users, while the cluster may have this one: the password is not
    what is wrong. A node without a leader may not have read them yet.
    """
    if name == b"default":
        return
    if status is not None and not status.voters:
        raise CommandError(
            "CLUSTERDOWN this node is not part of a cluster yet (it waits for its founders, or for RAFT ADD on a "
            "member), so it knows no users; ask a member"
        )
    if status is not None and not status.leader:
        raise CommandError("CLUSTERDOWN no leader is known here, and no user either; try again, or ask another node")
    raise UnknownUser("WRONGPASS invalid username-password pair or user is disabled.")


def _client(client: Client, clients: RequestBook, call: list[bytes]) -> Reply | Later:
    answer = answer_client(client, clients, call)
    if not isinstance(answer, Killed):
        return answer
    others = tuple(number for number in answer.numbers if number != client.number)
    return Later(Disconnect(others), answer.reply, closes=client.number in answer.numbers)


# COMMAND, CONFIG, INFO.


def _command(_client: Client, call: list[bytes], _status: ServerStatus | None) -> Reply | Later:
    return answer_command(call)


_CONFIG: Final[dict[str, str]] = {
    "appendfsync": "always",
    "appendonly": "yes",
    "databases": "1",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "save": "",
    "timeout": "0",
}


_CONFIG_HELP: Final = (
    "CONFIG GET <pattern> [<pattern> ...] -- some settings under the names that Redis gives them.",
    "CONFIG RESETSTAT -- taken, without effect.",
    "CONFIG SET -- refused: settings are given when a node starts; see raft-kv serve --help.",
)


def _config(_client: Client, call: list[bytes], _status: ServerStatus | None) -> Reply | Later:
    if _word(call) == "get" and len(call) > 2:
        if sum(map(len, call[2:])) > MAX_PATTERN_BYTES:  # each is compiled, and Redis has no more names than fit here
            raise CommandError(f"ERR the patterns have at most {MAX_PATTERN_BYTES} bytes together")
        patterns = [matcher(pattern.lower()) for pattern in call[2:]]
        chosen = {name: value for name, value in _CONFIG.items() if any(fits(name.encode()) for fits in patterns)}
        return Map(tuple(chosen.items()))
    if _word(call) == "resetstat" and len(call) == 2:
        return OK
    if _word(call) == "help" and len(call) == 2:
        return list(_CONFIG_HELP)
    if _word(call) in {"get", "resetstat", "help"}:
        raise wrong_arity(f"config|{_word(call)}")
    if _word(call) == "set":
        raise CommandError("ERR settings are given when a node starts; see raft-kv serve --help")
    raise unknown_subcommand(call)


def _info(_client: Client, call: list[bytes], status: ServerStatus | None) -> Reply | Later:
    if status is None:
        return Later(Inspect())
    return info_text(status, [word.decode("utf-8", "replace") for word in call[1:]])


def _role(_client: Client, _call: list[bytes], status: ServerStatus | None) -> Reply | Later:
    return Later(Inspect()) if status is None else role_reply(status)


# SCRIPT.

_SCRIPT_HELP: Final = (
    "SCRIPT LOAD <script> -- the SHA1 of a script that this server knows; it runs no others.",
    "SCRIPT EXISTS <sha1> [<sha1> ...] -- which of these EVALSHA finds.",
    "SCRIPT FLUSH [ASYNC|SYNC] -- forget loaded scripts; those of released lock libraries stay known.",
)


def _script(client: Client, call: list[bytes], _status: ServerStatus | None) -> Reply | Later:
    match _word(call), call[2:]:
        case "load", [script]:
            return client.scripts.load(script)
        case "exists", [_, *_] as digests:
            return [int(client.scripts.knows(digest)) for digest in digests]
        case ("flush", []) | ("flush", [b"sync" | b"SYNC" | b"async" | b"ASYNC"]):
            client.scripts.flush()
            return OK
        case "kill", []:
            raise CommandError("NOTBUSY No scripts in execution right now.")
        case "help", []:
            return list(_SCRIPT_HELP)
        case "load" | "exists" | "flush" | "kill" | "help", _:
            raise wrong_arity(f"script|{_word(call)}")
    raise unknown_subcommand(call)


# RAFT: commands of an operator.

_RAFT_HELP: Final = (
    "RAFT STATUS -- the state and the settings of this node: lines of text; in RESP3 (HELLO 3), names and values.",
    "RAFT EXPLAIN -- why this node is not the leader, and everything that waits, one sentence each.",
    "RAFT ADD <id> <host:port> [LEARNER] -- add a node; it becomes a voter once it has caught up, unless LEARNER.",
    "    Start it first: raft-kv serve --id <id> --join …; the address is where it listens for peers.",
    "RAFT FEATURES -- which features the cluster uses, which this node has, and which members lack some.",
    "RAFT FEATURES ENABLE [<feature> ...] -- use these, or all that this node has, from now on; there is no way back.",
    "RAFT PROMOTE <id> -- make a learner a voter now.",
    "RAFT DEMOTE <id> -- make a voter a learner.",
    "RAFT REMOVE <id> -- remove a node; its id is never reused.",
    "RAFT TRANSFER [<id>] -- transfer leadership, to that voter or to the best one.",
    "RAFT SESSION -- open a session for RAFT ONCE; its number is the reply.",
    "RAFT ONCE <session> <number> <command> [<argument> ...] -- apply the command once, however often it is sent with",
    "    this number. In MULTI, RAFT ONCE <session> <number> names the whole transaction.",
    "RAFT LEAVE -- leave an explicit joint configuration.",
    "RAFT BACKUP OPEN [<index> <term>] -- begin a backup of this node, or continue that one; its first piece.",
    "RAFT BACKUP READ <index> <term> <piece> -- the next piece; use raft-kv backup, which writes and checks the file.",
)


_LABEL: Final = f"raft-kv {version()}"
_RAFT_WORDS: Final = frozenset(
    [
        "add",
        "promote",
        "demote",
        "remove",
        "transfer",
        "leave",
        "status",
        "explain",
        "features",
        "help",
        "session",
        "once",
        "backup",
    ]
)


def _node(text: bytes) -> NodeId:
    number = integer(text, "ERR a node id is a positive number")
    if number <= 0:
        raise CommandError("ERR a node id is a positive number")
    return NodeId(number)


def _raft(_client: Client, call: list[bytes], status: ServerStatus | None) -> Reply | Later:
    match _word(call), call[2:]:
        case "status", []:
            return Later(Inspect()) if status is None else status_reply(status)
        case "explain", []:
            return Later(Inspect()) if status is None else list(status.reasons)
        case "help", []:
            return list(_RAFT_HELP)
        case "leave", []:
            return Later(LeaveJoint())
        case "transfer", []:
            return Later(TransferLeadership())
        case "transfer", [node]:
            return Later(TransferLeadership(_node(node)))
        case ("add", [_, _, *_]) | ("promote" | "demote" | "remove", [_]):
            return Later(Inspect()) if status is None else _change(_word(call), call[2:], status)
        case "features", [] | [b"enable" | b"ENABLE", *_]:
            return Later(Inspect()) if status is None else _features(call[3:] if len(call) > 2 else None, status)
        case "backup", [word, *numbers]:
            return Later(BackUp(_backup(word.lower(), numbers)))
        case word, _ if word in _RAFT_WORDS:
            raise wrong_arity(f"raft|{_word(call)}")
    raise unknown_subcommand(call)


def _features(wanted: list[bytes] | None, status: ServerStatus) -> Reply | Later:
    """Return which features the cluster uses and could use, or the change that enables those wanted (none: all)."""
    if wanted is None:
        return features_map(status)
    names = tuple(sorted({name.decode("utf-8", "replace").lower() for name in wanted}))
    names = names or tuple(name for name in status.own_features if name not in status.features)
    if not names:
        raise CommandError(f"ERR the cluster uses all that this release has: {', '.join(status.features)}")
    if (problem := features_problem(names)) is not None:
        raise CommandError(f"ERR {problem}")
    return Later(ChangeMembers((), 0, names))


def _backup(word: bytes, numbers: list[bytes]) -> BackupRequest:
    """Return the request of RAFT BACKUP."""
    wrong = "ERR index, term and piece of a backup are numbers from 0 to 2^63 - 1"
    values = [integer(number, wrong) for number in numbers]
    if any(not 0 <= value <= MAX_INT63 for value in values):
        raise CommandError(wrong)
    match word, values:
        case b"open", []:
            return OpenBackup(_LABEL)
        case b"open", [index, term]:
            return OpenBackup(_LABEL, index, term)
        case b"read", [index, term, piece]:
            return ReadBackup(index, term, piece)
    raise syntax_error()


def is_once(call: list[bytes]) -> bool:
    """Return whether this is RAFT ONCE."""
    return call[0].lower() == b"raft" and call[1].lower() == b"once"


def once_of(call: list[bytes], *, in_transaction: bool) -> tuple[tuple[int, int], list[bytes]]:
    """Return the session and number of a RAFT ONCE call, and the command inside. Raise `CommandError`."""
    if len(call) < 4 or (len(call) == 4) is not in_transaction:
        raise wrong_arity("raft|once")
    session, number = (integer(word, "ERR a session and a number are positive numbers") for word in call[2:4])
    if session <= 0 or number <= 0:
        raise CommandError("ERR a session and a number are positive numbers")
    return (session, number), call[4:] or [RAFT_ONCE]


def _change(word: str, arguments: list[bytes], status: ServerStatus) -> Later:
    """Return the change of the members in force here.

    A word that contradicts its effect is refused: "add" for a voter, for example, would make it a learner. If the
    members change meanwhile, the change is refused.
    """
    node = _node(arguments[0])
    voter, learner = node in (*status.voters, *status.outgoing), node in status.learners
    change: Change
    if word == "add":
        if voter or learner:
            raise CommandError(f"ERR node {node} is a member already; see RAFT PROMOTE, DEMOTE and REMOVE")
        change = _addition(node, arguments[1], arguments[2:])
    elif word == "promote":
        if not learner:
            raise CommandError(f"ERR node {node} is no learner; to add a new node, use RAFT ADD")
        change = AddVoter(node)
    elif word == "demote":
        if not voter:
            raise CommandError(f"ERR node {node} is no voter")
        change = AddLearner(node)
    else:
        change = RemoveNode(node)
    return Later(ChangeMembers((change,), status.members_index))


def _addition(node: NodeId, address: bytes, options: list[bytes]) -> Change:
    """Return the change to add a node as a learner: the quorum stays the same while it catches up.

    Only the form of the address is checked: a node advertises its address in its greetings.
    """
    if options and (len(options) > 1 or options[0].upper() != b"LEARNER"):
        raise syntax_error()
    try:
        split_address(address.decode("utf-8", "replace"))
    except SettingsError as failure:
        raise CommandError(f"ERR {failure}") from None
    return AddLearner(node, promote_when_ready=not options)


_HANDLERS: Final[dict[bytes, Callable[[Client, list[bytes], ServerStatus | None], Reply | Later]]] = {
    b"auth": _auth,
    b"hello": _hello,
    b"command": _command,
    b"config": _config,
    b"info": _info,
    b"raft": _raft,
    b"role": _role,
    b"script": _script,
}
