"""Certificates for tests, made once per process: an authority, nodes, a client, and ones that are to be refused."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final
from unittest import mock

from raft_core.node.security import TLS
from raft_kv import certificates

__all__ = ["CLUSTER", "files", "tls"]

CLUSTER: Final = "test"
_HOLDER: Final[list[tempfile.TemporaryDirectory[str]]] = []


@cache
def files() -> Path:
    """The directory: node-1 to node-4, client-alice, expired/node-1, elsewhere/node-2, other/ with another authority.

    The authority has signed elsewhere/node-2 too, for another cluster.
    """
    holder = tempfile.TemporaryDirectory(prefix="raft-certs-")
    _HOLDER.append(holder)
    directory = Path(holder.name)
    for place in (directory, directory / "other"):
        certificates.make_authority(place, CLUSTER)
        for node in (1, 2, 3, 4):
            certificates.make_node(place, CLUSTER, node, ["localhost", "127.0.0.1"])
    certificates.make_client(directory, "alice")
    expired, elsewhere = directory / "expired", directory / "elsewhere"
    for place in (expired, elsewhere):
        place.mkdir()
        for name in ("ca.crt", "ca.key"):
            (place / name).write_bytes((directory / name).read_bytes())
    certificates.make_node(elsewhere, "elsewhere", 2, ["localhost"])
    with mock.patch.object(certificates, "_now", return_value=datetime.now(UTC) - timedelta(days=30)):
        certificates.make_node(expired, CLUSTER, 1, ["localhost"], days=1)
    both = (directory / "ca.crt").read_bytes() + (directory / "other" / "ca.crt").read_bytes()
    (directory / "both.crt").write_bytes(both)
    return directory


def tls(name: str = "node-1", *, place: str = "", authorities: str = "ca.crt", mode: str = "require") -> TLS:
    """The transport security with the certificate `name` of this place."""
    own = files() / place
    trusted = files() / authorities if authorities else ""
    return TLS(certificate=own / f"{name}.crt", key=own / f"{name}.key", authorities=trusted, mode=mode)
