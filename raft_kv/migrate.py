"""`raft-kv migrate`: move a stopped node's data to another store, with a progress bar."""

from __future__ import annotations

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from raft_core.errors import SettingsError
from raft_kv.log_output import print_error
from raft_storage.location import kind_at, parse_location
from raft_storage.migration import migrate

__all__ = ["run_migrate"]


def run_migrate(source: str, target: str) -> int:
    """Move the data of `source` to `target`, and say how to go on. Return the exit status."""
    old, new = parse_location(source), parse_location(target)
    if kind_at(old.directory) is None:
        raise SettingsError(f"there is no node's data at {source}")
    columns = TextColumn("moving"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("moving", total=None)
        recovered = migrate(old, new, lambda done, total: bar.update(task, completed=done, total=total))
    base = recovered.snapshot.index if recovered.snapshot is not None else 0
    print_error(
        f"node {recovered.identity.node} of cluster {recovered.identity.cluster!r} has moved from {old} to {new}: "
        f"{'no snapshot' if not base else f'a snapshot at entry {base}'}, {len(recovered.entries)} entries behind it"
    )
    print_error(f"Start it with --data {new}. {old.directory} is marked as moved, and can be deleted.")
    return 0
