"""How many files and connections the system lets this process have open.

What lives here: the limit of this process, raised as far as it may be, and how many clients that leaves room for. A
server that took clients until the last descriptor was gone could not make its next log segment, and would end.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import attrs

from raft_core.errors import CallerError
from raft_kv.config import ServeConfig

__all__ = ["RESERVED", "most_open_files", "within_descriptors"]

RESERVED: Final = 64
"""Descriptors for the log, snapshots, peers, listeners and the loop; clients have the rest."""


def most_open_files() -> int | None:
    """How many descriptors this process may have, after the limit was raised as far as it may be; None: no limit."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        return None if soft == resource.RLIM_INFINITY else soft
    return None


def within_descriptors(config: ServeConfig, files: int | None) -> tuple[ServeConfig, str]:
    """`config` with no more clients than `files` descriptors leave room for, and what to tell where that is fewer.

    Raises `CallerError` where they leave room for none."""
    if files is None or config.max_clients <= files - RESERVED:
        return config, ""
    room = files - RESERVED
    if room < 1:
        raise CallerError(
            f"this process may have {files} files open at once (ulimit -n), and a node needs {RESERVED} and one for "
            f"each client: raise the limit"
        )
    told = (
        f"node {config.id}: takes {room} clients at most, not {config.max_clients}: this process may have {files} "
        f"files open at once (ulimit -n), and {RESERVED} are kept for its disk and its peers"
    )
    return attrs.evolve(config, max_clients=room), told
