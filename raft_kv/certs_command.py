"""The command `raft-kv certs`: its help and its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from raft_kv.cli_command import Command, collect
from raft_kv.options import Option, with_variables

__all__ = ["CERTS_COMMAND"]

_DESCRIPTION: Final = """\
Make certificates for TLS: an authority, and certificates of nodes and clients signed by it.

For a cluster whose owner has no authority. Needs the package cryptography (extra: certs). The key
of the authority, ca.key, signs any node or client: keep it on a machine of its own.
"""
_EXAMPLES: Final = """\
examples:
      raft-kv certs init --cluster shop
      raft-kv certs node 1 --cluster shop --address 10.0.0.1 --address kv1.example
      raft-kv certs client alice
      raft-kv certs node 1 --renew                              # its names stay, unless you give others
      raft-kv certs node 1 --cluster shop-2 --cluster shop --renew     # also for a restored shop-2

Node 1 needs node-1.crt, node-1.key and ca.crt: see --tls-certificate, --tls-key and
--tls-authorities of raft-kv serve.
"""
_OPTIONS: Final = with_variables(
    "RAFT_KV_CERTS_",
    Option(name="what", metavar="WHAT", help="init, node ID, or client NAME", positional=True, repeated=True),
    Option(
        name="cluster",
        metavar="NAME",
        help="the cluster's name, which the nodes' certificates hold (repeatable)",
        default="raft-kv",
        repeated=True,
    ),
    Option(
        name="address",
        metavar="NAME",
        help="name of the machine or IP address at which clients reach the node (repeatable)",
        default="localhost",
        repeated=True,
    ),
    Option(name="directory", metavar="PATH", help="directory of the files", default="certs"),
    Option(name="days", metavar="N", help="days of validity", default="365; 3650 for the authority"),
    Option(name="renew", help="replace an existing certificate; its key stays", default="false"),
)


def _certs(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.certificates import CertsOptions, run_certs

    return run_certs(collect(_OPTIONS, flags, environ, CertsOptions))


CERTS_COMMAND: Final = Command(
    help="make certificates for TLS",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    options=_OPTIONS,
    execute=_certs,
)
