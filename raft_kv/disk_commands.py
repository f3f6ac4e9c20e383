"""The commands for the disks of stopped nodes, `raft-kv migrate` and `recover-from-quorum-loss`: help and options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from raft_kv.cli_command import KINDS_TEXT, Command, collect
from raft_kv.options import Option, Values, with_variables

__all__ = ["DISK_COMMANDS"]

_MIGRATE: Final = """\
Move a stopped node's data to another kind of store.

Everything moves: identity, term and vote, the snapshot, the log. Every record is verified by its
checksum, and compared after it was written. The target becomes valid only once it is complete.
The source keeps its contents and is marked as moved, so that it is never started again by
mistake. After an interruption, start over.
"""
_MIGRATE_EXAMPLES: Final = """\
example:
      raft-kv migrate --from /var/lib/raft-kv --to sqlite:/var/lib/raft-kv-sqlite
      raft-kv serve --id 1 --data sqlite:/var/lib/raft-kv-sqlite ...
"""
_MIGRATE_OPTIONS: Final = with_variables(
    "RAFT_KV_MIGRATE_",
    Option(name="from", metavar="LOCATION", help=f"location of the data: {KINDS_TEXT}", required=True),
    Option(name="to", metavar="LOCATION", help="new location, in a directory which is missing or empty", required=True),
)
_RECOVERY: Final = """\
Create a new cluster from one surviving disk after permanently losing a majority of the voters.

This is the last resort: data that only the lost disks held cannot be recovered. The most up to
date survivor is copied into a new directory, as a cluster of one voter with a new name; nodes of
the old cluster are refused by it. The old directories are not changed. A report of the entries
that are kept, and of those that may be lost, is printed and written to SALVAGE.txt in the new
directory. Without --i-understand-what-may-be-lost the survivors are only compared.
"""
_RECOVERY_EXAMPLES: Final = """\
example (the disks of nodes 1 and 2 of three are lost, the disk of node 3 is left):
      raft-kv recover-from-quorum-loss --cluster raft-kv --survivor /var/lib/raft-kv \\
          --new-cluster raft-kv-2026 --new-data /var/lib/raft-kv-new

Then start it with the command that is printed, and let new nodes join with empty directories
and ids above every id that was ever used (4 and 5 here).
"""
_RECOVERY_OPTIONS: Final = (
    *with_variables(
        "RAFT_KV_RECOVER_",
        Option(
            name="survivor",
            metavar="PATH",
            help="data directory of a surviving node, which must not run (repeatable)",
            repeated=True,
            required=True,
        ),
        Option(name="cluster", metavar="NAME", help="name of the old cluster", default="raft-kv"),
        Option(name="new-cluster", metavar="NAME", help="name of the new cluster, never used before", required=True),
        Option(name="new-data", metavar="PATH", help="an empty directory for the new cluster", required=True),
    ),
    Option(name="i-understand-what-may-be-lost", help="create the new cluster"),  # a decision, so it has no variable
)


def _migrate(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.migrate import run_migrate

    values = Values()
    values.take(_MIGRATE_OPTIONS, flags, environ)
    return run_migrate(values.tree["from"], values.tree["to"])


@attrs.frozen(kw_only=True)
class _Recovery:
    survivor: list[str]
    cluster: str = "raft-kv"
    new_cluster: str
    new_data: str
    i_understand_what_may_be_lost: bool = False


def _recover(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.recover import run_recovery

    given = collect(_RECOVERY_OPTIONS, flags, environ, _Recovery)
    agreed = given.i_understand_what_may_be_lost
    return run_recovery(given.survivor, given.cluster, Path(given.new_data), given.new_cluster, agreed=agreed)


DISK_COMMANDS: Final[Mapping[str, Command]] = {
    "migrate": Command(
        help="move a stopped node's data to another kind of store",
        description=_MIGRATE,
        examples=_MIGRATE_EXAMPLES,
        options=_MIGRATE_OPTIONS,
        execute=_migrate,
    ),
    "recover-from-quorum-loss": Command(
        help="the last resort after the permanent loss of a majority",
        description=_RECOVERY,
        examples=_RECOVERY_EXAMPLES,
        options=_RECOVERY_OPTIONS,
        execute=_recover,
    ),
}
"""The commands by name."""
