"""`TLS`: the files and rules of a port's transport security, and the names in a node's certificate.

Plain values: nothing here opens a file or a socket. `raft_tls` reads the files and speaks TLS for all adapters.

A node's certificate names it in a URI among its subject alternative names: `raft://CLUSTER/NODE`, the cluster's name
percent-encoded. `raft://orders/3` is node 3 of the cluster "orders". A certificate may hold several.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, Protocol, final

import attrs

from raft_core.errors import SettingsError
from raft_core.wire.certificates import node_uri

__all__ = ["MODES", "TLS", "VERSIONS", "PathLike", "is_loopback", "node_uri"]

MODES: Final = ("require", "accept")
VERSIONS: Final = ("1.3", "1.2")


class PathLike(Protocol):
    """A path of the operating system, as made by `pathlib`."""

    def __fspath__(self) -> str: ...


@final
@attrs.frozen(kw_only=True)
class TLS:
    """Transport security of one port. Raise `SettingsError` if values are invalid.

    The files are read when the node starts, and anew when they change: a certificate is renewed by replacing the files.

        TLS(certificate="node-1.crt", key="node-1.key", authorities="ca.crt")
    """

    certificate: str | PathLike
    """PEM file with this node's certificate, followed by intermediate ones. It names the node: see the module."""
    key: str | PathLike
    """PEM file with the certificate's private key, not encrypted, readable by this process alone."""
    authorities: str | PathLike = ""
    """PEM file with the authorities that sign the certificates of the other side. A peer port needs it. At a port for
    clients, empty: a client needs no certificate. While authorities are exchanged, the file holds the old and the new.
    """
    mode: str = "require"
    """"require": every connection uses TLS. "accept", only to move a running cluster to TLS: connections with and
    without TLS are accepted, and a peer is dialled with TLS first, then without.
    """
    minimum: str = "1.3"
    """Lowest version of TLS: 1.3, or 1.2 for other software that has no 1.3."""

    def __attrs_post_init__(self) -> None:
        if not (self.certificate and self.key):
            raise SettingsError("TLS needs a certificate and its key: name both files")
        if self.mode not in MODES:
            raise SettingsError(f"the mode of TLS is one of {', '.join(MODES)}, not {self.mode!r}")
        if self.minimum not in VERSIONS:
            raise SettingsError(f"the lowest version of TLS is one of {', '.join(VERSIONS)}, not {self.minimum!r}")

    @property
    def required(self) -> bool:
        """True if nothing is accepted without TLS."""
        return self.mode == "require"


def is_loopback(name: str) -> bool:
    """Return whether only this machine reaches the name or IP address, as far as its text tells.

    A name other than localhost could be any machine's, so it counts as reachable by others.
    """
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False
