"""Error texts for an address that cannot be listened on or dialled, with the address and the remedy; who dialled us.

Adapters pass the operating system's exceptions to these functions, so that every adapter reports the same text.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final, final

__all__ = ["ListenFailed", "dial_failure", "listen_failure", "remote_address"]

_MOST_REASONS: Final = 3

_LISTENING: Final = {
    errno.EADDRINUSE: "the address is in use: another process listens there. Stop that one, or listen elsewhere",
    errno.EADDRNOTAVAIL: "this machine has no such address. Take one that it has, or 0.0.0.0 for all of them",
    errno.EACCES: "this user may not listen at that port. Take one above 1023, or give the process the right to it",
}


@final
class ListenFailed(OSError):
    """An address that cannot be listened on. `address` is the requested one, `errno` the system's number."""

    def __init__(self, address: str, reason: str, number: int | None) -> None:
        super().__init__(f"cannot listen at {address}: {reason}")
        self.address: Final = address
        self.errno = number


def listen_failure(address: str, failure: OSError) -> ListenFailed:
    """Return the error to raise if listening on `address` failed."""
    number = failure.errno
    reason = _LISTENING.get(number or 0) or "; ".join(_reasons(failure))
    return ListenFailed(address, reason, number)


def dial_failure(failure: BaseException) -> str:
    """Return the text of a `DialFailed`: the reasons of the system or its resolver, each once."""
    return "; ".join(_reasons(failure)[:_MOST_REASONS])


def remote_address(peer_name: Callable[[], object]) -> str:
    """Return the IP address of the other side of an accepted socket, whose `getpeername` is given; "" if it is gone."""
    try:
        address = peer_name()
    except OSError:
        return ""
    return str(address[0]) if isinstance(address, tuple) and address else ""


def _reasons(failure: BaseException) -> list[str]:
    """Return the innermost errors. Libraries that try several addresses wrap many exceptions in one."""
    if isinstance(failure, BaseExceptionGroup):
        inner = [reason for one in failure.exceptions for reason in _reasons(one)]
        return list(dict.fromkeys(inner))
    if isinstance(failure, OSError) and failure.strerror:
        return [failure.strerror]
    cause = failure.__cause__
    if isinstance(failure, OSError) and cause is not None:
        return _reasons(cause)
    return [str(failure) or type(failure).__name__]
