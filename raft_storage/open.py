"""`open_disk`: from a configuration to an open disk, the blocking part of starting a node.

Adapters run it in a thread.
"""

from __future__ import annotations

import attrs

from raft_core.errors import CallerError
from raft_core.ids import Index
from raft_core.node.config import NodeConfig
from raft_core.node.job_runner import JobRunner
from raft_core.node.raising import broken_call
from raft_core.node.sync_patience import SyncPatience
from raft_core.recovered import Recovered
from raft_core.state_machine import StateMachine, require_machine
from raft_core.store import Store
from raft_storage.location import open_store, parse_location
from raft_storage.workers import Workers

__all__ = ["open_disk"]


def open_disk(config: NodeConfig, machine: StateMachine) -> tuple[Recovered, Workers]:
    """Open the disk. Return its recovered state and the lanes on it; closing the lanes closes the store.

    Raise `SettingsError` if `config.data` names no store that can be opened here, `DiskError` if it cannot be opened,
    `CallerError` if `machine` lacks a method or its `init` raises that, and `MachineBroken` if `init` raises another.
    """
    require_machine(machine)
    store = _open_store(config)
    try:
        recovered = attrs.evolve(store.recover(), applied=_index_held(machine))
        work = JobRunner(store, machine, machine_blocks=config.machine_blocks)
        return recovered, Workers(store, work, f"node {config.node}", SyncPatience())
    except BaseException:
        store.close()
        raise


def _index_held(machine: StateMachine) -> Index:
    """Return the index that the machine holds already."""
    try:
        held = machine.init()
    except CallerError:  # it says what to do; nothing is broken
        raise
    except Exception as failure:
        raise broken_call(machine, "init", failure) from failure
    if not isinstance(held, int) or held < 0:
        raise broken_call(machine, "init", TypeError(f"an index is a number from 0 on, not {held!r}"))
    return Index(held)


def _open_store(config: NodeConfig) -> Store:
    if config.store is not None:
        return config.store
    assert config.data is not None  # checked by NodeConfig
    location = parse_location(config.data)
    return open_store(location, node=config.node, cluster=config.cluster)
