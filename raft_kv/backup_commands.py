"""The commands `backup`, `restore` and `verify` of `raft-kv`, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from raft_kv.cli_command import CONNECTING_TEXT, KINDS_TEXT, Command, collect
from raft_kv.options import Option, Values, structure, with_variables

__all__ = ["BACKUP_COMMANDS"]

_BACKUP: Final = """\
Write a backup of a running cluster into a file, from any of its nodes.

The backup has every write that was answered before the command began, and the cluster serves
its clients meanwhile. Each block is checked as it arrives. FILE is at every moment absent, the
earlier backup, or a whole new one: until it is whole it is named FILE.part. After an
interruption, run the same command again: it continues if the node still has that snapshot.
"""
_BACKUP_EXAMPLES: Final = """\
examples:
      raft-kv backup --from 10.0.0.1:6379 /backup/raft-kv.backup
      raft-kv backup --from 10.0.0.1:6379 /backup/$(date +%F).backup && raft-kv verify /backup/$(date +%F).backup
"""
_RESTORE: Final = """\
Create a new cluster from a backup: one node, with all keys of the backup.

The new cluster has a name of its own, so nodes of the old one cannot join it. Every byte of the
backup is checked; a damaged, truncated or foreign file is refused, with the place, and nothing
is left behind. Then start the node, and add others with empty directories and RAFT ADD. Their
ids must be above every id that was ever used, also by members that were removed: the command
prints the first one that is free. Two nodes restored under one name are two clusters, which
never become one.
"""
_RESTORE_EXAMPLES: Final = """\
example (the backup is of a cluster that had the nodes 1, 2 and 3; each command on its own machine):
      raft-kv restore /backup/raft-kv.backup --new-cluster raft-kv-2 --data /var/lib/raft-kv
      raft-kv serve --id 1 --cluster raft-kv-2 --data /var/lib/raft-kv \\
          --listen 10.0.0.1:6379 --peer-listen 10.0.0.1:7379 ...
      raft-kv serve --id 4 --cluster raft-kv-2 --data /var/lib/raft-kv --join --peer 1=10.0.0.1:7379 \\
          --listen 10.0.0.4:6379 --peer-listen 10.0.0.4:7379 ...
      redis-cli -h 10.0.0.1 RAFT ADD 4 10.0.0.4:7379

With TLS the certificates must name the new cluster before the nodes start. One can name both:
      raft-kv certs node 1 --cluster raft-kv-2 --cluster raft-kv --renew
"""
_VERIFY: Final = """\
Check every byte of a backup, or of the data of a node that is stopped, without changing any.

The state in it is decoded and its keys are counted. Exit status 0: intact. 1: damaged; the
message names the file, the offset and the remedy.
"""
_VERIFY_EXAMPLES: Final = """\
examples:
      raft-kv verify /backup/raft-kv.backup
      raft-kv verify sqlite:/var/lib/raft-kv
"""

_BACKUP_OPTIONS: Final = with_variables(
    "RAFT_KV_BACKUP_",
    Option(name="from", metavar="HOST:PORT", help="address of a node for clients", default="127.0.0.1:6379"),
    Option(name="timeout", metavar="SECONDS", help="time for the node to take a snapshot", default="900"),
    Option(name="quiet", help="show no progress", default="false"),
    Option(name="file", metavar="FILE", help="the backup", positional=True, repeated=True),
)
_RESTORE_OPTIONS: Final = with_variables(
    "RAFT_KV_RESTORE_",
    Option(name="file", metavar="FILE", help="the backup", positional=True, repeated=True),
    Option(name="new-cluster", metavar="NAME", help="name of the new cluster, never used before", required=True),
    Option(name="data", metavar="LOCATION", help=f"an empty or missing location: {KINDS_TEXT}", required=True),
    Option(name="id", metavar="N", help="id of the node", default="1"),
    Option(name="quiet", help="show no progress", default="false"),
)
_VERIFY_OPTIONS: Final = with_variables(
    "RAFT_KV_VERIFY_",
    Option(
        name="file",
        metavar="FILE|LOCATION",
        help=f"a backup, or the data of a stopped node: {KINDS_TEXT}",
        positional=True,
        repeated=True,
    ),
    Option(name="scratch", metavar="PATH", help="directory for a copy of an engine's database", default="$TMPDIR"),
    Option(name="quiet", help="show no progress", default="false"),
)


def _backup(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.backup import BackupOptions, run_backup

    values = Values()
    values.take(_BACKUP_OPTIONS, flags, environ)
    if "from" in values.tree:  # a keyword, so no name of a field
        values.put(("source",), values.tree.pop("from"), values.origins.pop(("from",)))
    return run_backup(structure(values, BackupOptions))


def _restore(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.backup import RestoreOptions, run_restore

    return run_restore(collect(_RESTORE_OPTIONS, flags, environ, RestoreOptions))


def _verify(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.backup import VerifyOptions, run_verify

    return run_verify(collect(_VERIFY_OPTIONS, flags, environ, VerifyOptions))


BACKUP_COMMANDS: Final[Mapping[str, Command]] = {
    "backup": Command(
        help="write a backup of a running cluster",
        description=_BACKUP + CONNECTING_TEXT,
        examples=_BACKUP_EXAMPLES,
        options=_BACKUP_OPTIONS,
        execute=_backup,
    ),
    "restore": Command(
        help="create a new cluster from a backup",
        description=_RESTORE,
        examples=_RESTORE_EXAMPLES,
        options=_RESTORE_OPTIONS,
        execute=_restore,
    ),
    "verify": Command(
        help="check every byte of a backup, or of a stopped node's data",
        description=_VERIFY,
        examples=_VERIFY_EXAMPLES,
        options=_VERIFY_OPTIONS,
        execute=_verify,
    ),
}
"""The commands by name."""
