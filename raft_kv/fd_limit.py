"""The limit on open files of this process, and the configuration that fits into it.

The limit is raised as far as the system allows. `raft_core.node.descriptors` decides how it is shared.
"""

from __future__ import annotations

from contextlib import suppress

import attrs

from raft_core.node.descriptors import share_descriptors
from raft_kv.config import ServeConfig

__all__ = ["most_open_files", "within_descriptors"]


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
    """Return `config` with clients and connections of peers limited to what `files` descriptors allow.

    The second value is a warning, empty unless the clients are fewer than configured.

    Raise `CallerError` if they leave room for none.
    """
    if files is None:
        return config, ""
    shares = share_descriptors(files, config.max_clients, config.host)
    fitting = attrs.evolve(config, max_clients=shares.clients, host=shares.limits)
    if shares.clients == config.max_clients:
        return fitting, ""
    told = (
        f"accepts {shares.clients} clients at most, not {config.max_clients}: this process may have "
        f"{files} files open at once (ulimit -n), and {files - shares.clients} are kept for its disk and its peers"
    )
    return fitting, told
