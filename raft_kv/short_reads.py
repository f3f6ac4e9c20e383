"""The answer to short reads of many clients, which came in one query.

Only what is short is answered: a look at one key, and its value if that is no longer than `SHORT_VALUE`. The reply to
anything else is None, and its client asks again in a query of its own, which knows the rest: long values, keys that
should have expired (`NeedsClock`), users whose rights are checked.
"""

from __future__ import annotations

from typing import Final

from raft_kv.commands import SHORT_READS
from raft_kv.keyspace import Keyspace, NeedsClock
from raft_kv.long_values import Long
from raft_kv.resp import CommandError, encode, encode_failure

__all__ = ["SHORT_VALUE", "answer_short"]

SHORT_VALUE: Final = 8 * 1024
"""The commands of one query are few (`sharing.MOST_CALLS`), so an answer has some four megabytes at most."""


def answer_short(keyspace: Keyspace, calls: list[list[bytes]], protocol: int) -> list[bytes | None]:
    """Return the encoded reply to each command; None if its client has to ask by itself."""
    replies: list[bytes | None] = []
    for call in calls:
        known = SHORT_READS.get(call[0]) if call else None
        if known is None or len(call) != known.words:
            replies.append(None)
            continue
        try:
            reply = known.command.run(keyspace, call)
        except NeedsClock:
            replies.append(None)
            continue
        except CommandError as failure:
            replies.append(encode_failure(str(failure)))
            continue
        if type(reply) is bytes:  # by far the most
            size = len(reply)
            replies.append(b"$%d\r\n%b\r\n" % (size, reply) if size <= SHORT_VALUE else None)
        else:
            replies.append(None if isinstance(reply, Long) else encode(reply, protocol))
    return replies
