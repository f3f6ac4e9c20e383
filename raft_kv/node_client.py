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
    """The node was unreachable or did not answer in time; the outcome of the request is unknown."""


@final
class NodeConnection:
    """A connection to one node. Once it has raised `Failed`, it is of no more use."""

    __slots__ = ("_reader", "_socket")

    def __init__(self, address: Address, timeout: float = 2.0) -> None:
        self._reader: Final = hiredis.Reader()
        try:
            plain = socket.create_connection(address, timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket: Final = (
                plain if (tls := context()) is None else tls.wrap_socket(plain, server_hostname=address[0])
            )
        except ssl.SSLError as failure:
            raise Failed(f"TLS with {address[0]} failed: {failure.reason or failure}") from None
        except OSError as failure:
            raise Failed(str(failure)) from None
        self._authenticate()

    def _authenticate(self) -> None:
        """Authenticate with REDISCLI_AUTH, the variable of redis-cli, as the user of REDISCLI_USER, if it is set."""
        password = os.environ.get("REDISCLI_AUTH")
        if not password:
            return
        reply = self.say("AUTH", os.environ.get("REDISCLI_USER", "default"), password)
        if isinstance(reply, hiredis.ReplyError):
            self.close()
            raise Failed(str(reply))

    def say(self, *words: bytes | str | int) -> object:
        """Send a request; return the reply. An error reply is returned as a `hiredis.ReplyError`, not raised."""
        try:
            self._socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub says one word
            while (reply := self._reader.gets()) is False:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    raise Failed("the node closed the connection")
                self._reader.feed(data)
        except hiredis.ProtocolError as failure:
            raise Failed(f"this is not the Redis protocol: {failure}") from None
        except OSError as failure:
            raise Failed(str(failure) or type(failure).__name__) from None
        return reply

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
    except Failed as failure:
        return NodeReport(error=str(failure))
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
