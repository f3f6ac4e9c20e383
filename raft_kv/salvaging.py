"""`raft-kv salvage`: what is left to do when a majority of disks is gone for ever.

What lives here: the questions that are asked first, and the record that is left behind. Nothing is changed in the old
directories; the new one holds the statement of what may be lost, in `SALVAGE.txt`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from raft_core.errors import SettingsError
from raft_core.salvage import best_survivor, log_end
from raft_storage import FileStore, salvage

__all__ = ["run_salvage"]


def run_salvage(
    sources: Sequence[str],
    cluster: str,
    new_directory: Path,
    new_cluster: str,
    *,
    agreed: bool,
    tell: Callable[[str], None] = print,
) -> int:
    """The best of the surviving disks has become a new cluster of one, or nothing has been changed; the exit status.

    `sources`: ID=DIRECTORY of every survivor. Without `agreed` only says what would be done."""
    with ExitStack() as stack:
        stores: list[FileStore] = []
        for source in sources:
            number, _, place = source.partition("=")
            if not (number.isdecimal() and place):
                raise SettingsError(f"--survivor takes ID=DIRECTORY, not {source!r}")
            if not Path(place).is_dir():
                raise SettingsError(f"there is no directory {place}: name the survivor's data directory")
            store = FileStore.open(place, node=int(number), cluster=cluster)
            stack.callback(store.close)
            stores.append(store)
        survivors = [store.recover() for store in stores]
        best = best_survivor(survivors)
        for survivor in survivors:
            end = log_end(survivor)
            mark = "  <- the most up to date" if survivor is survivors[best] else ""
            tell(f"node {survivor.identity.node}: log ends at entry {end.index}, term {end.term}{mark}")
        if not agreed:
            tell("Nothing has been changed. This cannot bring back what only the lost disks held, and it is only for")
            tell("when a majority of the voters can never start again. To go on, add --i-understand-what-may-be-lost.")
            return 1
        if new_directory.exists() and any(new_directory.iterdir()):
            raise SettingsError(f"{new_directory} is not empty: the new cluster needs a directory of its own")
        node = survivors[best].identity.node
        target = FileStore.open(new_directory, node=node, cluster=new_cluster)
        stack.callback(target.close)
        statement = salvage(stores[best], survivors[best], target, tell)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record = f"{when}\n{statement.text()}\n"
    (new_directory / "SALVAGE.txt").write_text(record, "utf-8")
    tell(record)
    tell(f"Start it with: raft-kv serve --id {node} --cluster {new_cluster} --data {new_directory}")
    return 0
