"""The names in a node's certificate, and whether they allow what a greeting claims.

The adapter hands over the URIs among the certificate's subject alternative names; the decision is made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raft_core.ids import ClusterId, NodeId

__all__ = ["node_uri", "stranger_in"]

_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SHOWN: Final = 3
_LONGEST: Final = 80


def node_uri(cluster: str, node: int) -> str:
    """Return the URI that names a node in its certificate, such as raft://orders/3."""
    name = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in cluster.encode("utf-8", "replace"))
    return f"raft://{name}/{node}"


def stranger_in(names: Sequence[str], cluster: ClusterId, node: NodeId) -> str:
    """Return why a certificate with these URIs does not belong to the node, "" if it does.

    `node` 0 stands for any node of the cluster.
    """
    wanted = node_uri(cluster, node)
    if node and wanted in names:
        return ""
    home = wanted.rpartition("/")[0] + "/"
    if not node and any(name.startswith(home) for name in names):
        return ""
    return f"the certificate names {_listed(names)}, not {wanted if node else home + 'NODE'}"


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "no node (it has no URI)"
    shown = [ascii(name)[1:-1][:_LONGEST] for name in names[:_SHOWN]]
    return ", ".join(shown) + (", …" if len(names) > _SHOWN else "")
