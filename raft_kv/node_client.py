"""A blocking connection to one node, for commands, tools and tests: one request, one reply, a deadline.

It stands on hiredis alone. A client library is no help here: redis-py repeats requests by itself, sends requests of its
own, and drops the first word of an error, which is the one that matters.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final, TypeAlias, final

import attrs
import hiredis

from raft_kv.client_remedies import PASSWORD_VARIABLE, USER_VARIABLE, needs_tls, reply_remedy, tls_problem, with_remedy
from raft_kv.client_tls import context

__all__ = [
    "Address",
    "Failed",
    "NodeConnection",
    "NodeReport",
    "node_status",
    "report_of",
    "wait_until",
]

Address: TypeAlias = tuple[str, int]
_READ_BYTES: Final = 256 * 1024


class Failed(Exception):  # named for what happened, as the library's errors are
    """The node was unreachable, refused this client, or did not answer in time; the outcome of the request is unknown.

    `remedy`: what to do, for problems with TLS and passwords; "" otherwise. The text ends with it. `refused`: it is
    certain that another attempt fails likewise. `answered`: the text is the node's own, so it is alive.
    """

    def __init__(self, text: str, remedy: str = "", *, refused: bool = False, answered: bool = False) -> None:
        super().__init__(with_remedy(text, remedy))
        self.problem: Final = text
        self.remedy: Final = remedy
        self.refused: Final = refused
        self.answered: Final = answered


@final
class NodeConnection:
    """A connection to one node. Once it has raised `Failed`, it is of no more use."""

    __slots__ = ("_heard", "_host", "_reader", "_socket")

    def __init__(self, address: Address, timeout: float = 2.0) -> None:
        self._reader: Final = hiredis.Reader()
        self._host: Final = address[0]
        self._heard = False
        try:
            plain = socket.create_connection(address, timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket: Final = (
                plain if (tls := context()) is None else tls.wrap_socket(plain, server_hostname=address[0])
            )
        except ssl.SSLError as failure:
            raise Failed(*tls_problem(failure, self._host), refused=True) from None
        except OSError as failure:
            raise Failed(str(failure)) from None
        self._authenticate()

    @property
    def user(self) -> str:
        """The user that REDISCLI_USER names; default without it."""
        return os.environ.get(USER_VARIABLE) or "default"

    def _authenticate(self) -> None:
        """Authenticate with REDISCLI_AUTH, the variable of redis-cli, as the user of REDISCLI_USER, if it is set."""
        password = os.environ.get(PASSWORD_VARIABLE)
        if not password:
            return
        reply = self.say("AUTH", self.user, password)
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("CLUSTERDOWN"):
            return  # it knows no users yet, so whoever connects may ask how it stands
        if isinstance(reply, hiredis.ReplyError):
            self.close()
            raise Failed(str(reply), self.remedy(reply), refused=True, answered=True)

    def remedy(self, error: object) -> str:
        """Return what to do about an error reply about users and rights; "" for another reply."""
        return reply_remedy(str(error), self.user) if isinstance(error, hiredis.ReplyError) else ""

    def say(self, *words: bytes | str | int) -> object:
        """Send a request; return the reply. An error reply is returned as a `hiredis.ReplyError`, not raised."""
        try:
            self._socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub says one word
            while (reply := self._reader.gets()) is False:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    raise Failed("the node closed the connection", self._maybe_tls())
                self._reader.feed(data)
        except hiredis.ProtocolError as failure:
            raise Failed(f"this is not the Redis protocol: {failure}", self._maybe_tls()) from None
        except ssl.SSLError as failure:
            raise Failed(*tls_problem(failure, self._host), refused=True) from None
        except ConnectionError as failure:
            raise Failed(str(failure), self._maybe_tls()) from None
        except OSError as failure:
            raise Failed(str(failure) or type(failure).__name__) from None
        if not self._heard and context() is None and isinstance(reply, hiredis.ReplyError) and "TLS" in str(reply):
            raise Failed(
                str(reply), needs_tls(), refused=True, answered=True
            )  # a port that takes nothing but TLS says so in plain
        self._heard = True
        return reply

    def _maybe_tls(self) -> str:
        """Return the remedy if the end of this connection may be because of its lack of TLS."""
        return "" if self._heard or context() is not None else needs_tls()

    def wait_for(self, seconds: float) -> None:
        """Let each later request take this long."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """Close the socket; harmless if repeated."""
        self._socket.close()


@final
@attrs.frozen
class NodeReport:
    """The state of a node by its own word, or the error if it gave none."""

    status: dict[str, object] = attrs.field(factory=dict)
    """The names and values of RAFT STATUS; empty if the node did not answer."""
    reasons: tuple[str, ...] = ()
    """The sentences of RAFT EXPLAIN."""
    error: str = ""
    remedy: str = ""
    """What to do about the error, if it is about TLS or users."""

    @property
    def leader(self) -> int:
        """Return the leader that the node knows; 0 if none."""
        leader = self.status.get("leader", 0)
        return leader if isinstance(leader, int) else 0


def report_of(address: Address, timeout: float = 0.5) -> NodeReport:
    """Ask the node for RAFT STATUS and RAFT EXPLAIN."""
    try:
        with closing(NodeConnection(address, timeout)) as connection:
            connection.say("HELLO", 3)
            status, reasons = connection.say("RAFT", "STATUS"), connection.say("RAFT", "EXPLAIN")
            if remedy := connection.remedy(status) or connection.remedy(reasons):
                error = status if isinstance(status, hiredis.ReplyError) else reasons
                return NodeReport(error=str(error), remedy=remedy)
    except Failed as failure:
        return NodeReport(error=failure.problem, remedy=failure.remedy)
    if not (isinstance(status, dict) and isinstance(reasons, list)):
        return NodeReport(error=f"this is no node of raft-kv: it answers RAFT STATUS with {_plain(status)!r}")
    named = _plain(status)
    assert isinstance(named, dict)
    return NodeReport(named, tuple(str(_plain(reason)) for reason in reasons))


def node_status(address: Address, timeout: float = 0.5) -> dict[str, object] | None:
    """Return the names and values of RAFT STATUS; None if the node does not answer."""
    return report_of(address, timeout).status or None


def _plain(value: object) -> object:
    """Return a reply with text in place of bytes."""
    if isinstance(value, dict):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def wait_until(condition: Callable[[], bool], timeout: float, pause: float = 0.02) -> bool:
    """Return whether the condition became true in time. It is checked again after each pause."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
