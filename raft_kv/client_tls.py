"""TLS of the commands that connect to nodes, as the environment says. It stands on the standard library alone."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Final

from raft_core.errors import SettingsError

__all__ = ["TLS_VARIABLES", "context", "use_tls"]

TLS_VARIABLES: Final = ("RAFT_KV_CLIENT_TLS_AUTHORITIES", "RAFT_KV_CLIENT_TLS_CERTIFICATE", "RAFT_KV_CLIENT_TLS_KEY")
"""Environment variables of all commands that connect to nodes: files for TLS. With the first one, they use TLS."""
_tls: ssl.SSLContext | None = None


def use_tls(environ: Mapping[str, str]) -> None:
    """Have every later `NodeConnection` of this process use TLS if the variables say so. Raise `SettingsError`."""
    global _tls
    authorities, certificate, key = (environ.get(name, "") for name in TLS_VARIABLES)
    _tls = None
    if not authorities:
        if certificate or key:
            raise SettingsError(f"{TLS_VARIABLES[0]} is missing: the file with the authorities of the nodes")
        return
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        made.load_verify_locations(authorities)
        if certificate:
            made.load_cert_chain(certificate, key or None)
    except OSError as failure:
        raise SettingsError(f"cannot use the files of {', '.join(TLS_VARIABLES)}: {failure}") from None
    _tls = made


def context() -> ssl.SSLContext | None:
    """Return the context for a connection; None without TLS."""
    return _tls
