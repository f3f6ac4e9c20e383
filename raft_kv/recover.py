"""`raft-kv recover-from-quorum-loss`: a new cluster from a survivor, after a majority of disks is lost for ever.

The old directories are not changed. The new one gets a report of possible losses, `SALVAGE.txt`.
"""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from raft_core.errors import SettingsError
from raft_core.quorum import quorum_reached
from raft_core.quorum_loss import best_survivor, log_end
from raft_kv.certificates import certificate_step
from raft_kv.config import check_name
from raft_storage import FileStore, Survivor, recover_from_quorum_loss

__all__ = ["run_recovery"]


def _list(nodes: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(nodes)))


def run_recovery(
    sources: Sequence[str],
    cluster: str,
    new_directory: Path,
    new_cluster: str,
    *,
    agreed: bool,
    tell: Callable[[str], None] = print,
) -> int:
    """Turn the best of the surviving disks into a new cluster of one, or change nothing. Return the exit status.

    `sources`: the data directory of every survivor. Without `agreed`, only compare them.
    """
    for name in (cluster, new_cluster):
        check_name(name)
    with ExitStack() as stack:
        disks: list[Survivor] = []
        for source in sources:
            if not Path(source).is_dir():
                raise SettingsError(f"there is no directory {source}: name the survivor's data directory")
            disks.append(Survivor(source, cluster))
            stack.callback(disks[-1].close)
        best = disks[best_survivor([disk.recovered for disk in disks])]
        for disk in disks:
            end = log_end(disk.recovered)
            mark = "  <- the most up to date" if disk is best else ""
            tell(f"node {disk.recovered.identity.node}: log ends at entry {end.index}, term {end.term}{mark}")
        here = {disk.recovered.identity.node for disk in disks}
        voters = best.recovered.members.all_voters
        if quorum_reached(best.recovered.members, here.__contains__):
            tell(f"THESE ARE A MAJORITY of the voters ({_list(voters)}), so nothing need be lost: instead, start nodes")
            tell(f"{_list(here)} on their own directories, and replace the others (RAFT REMOVE, then RAFT ADD).")
        if not agreed:
            tell("Nothing has been changed. Data on the lost disks only cannot be recovered; do this only")
            tell("if a majority of the voters can never start again. To go on, add --i-understand-what-may-be-lost.")
            return 1
        if new_directory.exists() and any(new_directory.iterdir()):
            raise SettingsError(f"{new_directory} is not empty: the new cluster needs a directory of its own")
        node = best.recovered.identity.node
        target = FileStore.open(new_directory, node=node, cluster=new_cluster)
        stack.callback(target.close)
        statement = recover_from_quorum_loss(best, target, tell)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record = f"{when}\n{statement.text()}\n"
    (new_directory / "SALVAGE.txt").write_text(record, "utf-8")
    tell(record)
    tell(certificate_step(node, cluster, new_cluster, renew=True))
    data = shlex.quote(str(new_directory))
    tell(f"Start it with: raft-kv serve --id {node} --cluster {shlex.quote(new_cluster)} --data {data}")
    return 0
