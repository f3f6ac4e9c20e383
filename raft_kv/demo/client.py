"""A blocking connection to one node, for tools and tests: one request, one reply, a deadline.

What lives here: `NodeConnection`, and `leader_of` and `wait_until`, which build on it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, final

import hiredis

__all__ = ["Failed", "NodeConnection", "node_status", "wait_until"]

Address = tuple[str, int]
_READ_BYTES: Final = 256 * 1024


class Failed(Exception):  # named for what happened, as the library's errors are
    """The node could not be reached, or gave no answer in time: nobody knows what became of the request."""


@final
class NodeConnection:
    """A connection to one node. Raise `Failed` when it is of no more use; open another one then."""

    __slots__ = ("_reader", "_socket")

    def __init__(self, address: Address, timeout: float = 2.0) -> None:
        self._reader: Final = hiredis.Reader()
        try:
            self._socket: Final = socket.create_connection(address, timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as failure:
            raise Failed(str(failure)) from None

    def say(self, *words: bytes | str | int) -> object:
        """Send a command and return its reply; an error reply is a returned `hiredis.ReplyError`, not a raised one."""
        try:
            self._socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub says one word
            while (reply := self._reader.gets()) is False:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    raise Failed("the node closed the connection")
                self._reader.feed(data)
        except OSError as failure:
            raise Failed(str(failure) or type(failure).__name__) from None
        return reply

    def close(self) -> None:
        """Close the socket; harmless twice."""
        self._socket.close()


def node_status(address: Address, timeout: float = 0.5) -> dict[str, object] | None:
    """Return the reply of RAFT STATUS, by names; None if the node does not answer."""
    try:
        connection = NodeConnection(address, timeout)
    except Failed:
        return None
    try:
        reply = connection.say("RAFT", "STATUS")
    except Failed:
        return None
    finally:
        connection.close()
    if not isinstance(reply, list):
        return None
    return {_text(name): _plain(value) for name, value in zip(reply[::2], reply[1::2], strict=True)}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def wait_until(condition: Callable[[], bool], timeout: float, pause: float = 0.02) -> bool:
    """Whether the condition became true in time. It is asked again after each pause."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def redis_line(addresses: Sequence[Address]) -> str:
    """Return the command line that connects a person to the first of these nodes."""
    host, port = addresses[0]
    return f"redis-cli -h {host} -p {port}"
