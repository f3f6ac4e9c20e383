"""TLS for the sockets of nodes and servers, on every event loop: bytes in, bytes out.

`Credentials` reads the files of a `TLS` and reads them again when they change. `TlsSession` is one end of one
connection. `SecureConnections` stands between an adapter's connections and its node. No module here opens a socket or
waits; the adapters do.
"""

from __future__ import annotations

from raft_tls.connections import SecureConnections, with_tls
from raft_tls.credentials import LOOK_SECONDS, Credentials, credentials_of
from raft_tls.session import Failure, Step, TlsSession
from raft_tls.sockets import LEAST_BUFFER, TlsFailed, TlsSocket

__all__ = [
    "LEAST_BUFFER",
    "LOOK_SECONDS",
    "Credentials",
    "Failure",
    "SecureConnections",
    "Step",
    "TlsFailed",
    "TlsSession",
    "TlsSocket",
    "credentials_of",
    "with_tls",
]
