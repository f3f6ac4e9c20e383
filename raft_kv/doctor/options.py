"""The command `doctor` of `raft-kv`, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from raft_kv.cli_command import CONNECTING_TEXT, KINDS_TEXT, Command
from raft_kv.options import Option, Values, structure, with_variables

__all__ = ["DOCTOR"]

_DESCRIPTION: Final = """\
Look at a running cluster, at a node's data and disk, and at a configuration, and say for each
what is right, what is not, and what to do.

Name every node with --from, so that they can be compared. Run it on a node's machine with
--data and --config: it verifies the data of a stopped node, measures the disk (a file of 16 MiB
is written and removed), and looks for settings that do not go together.

Exit status, for scripts: 0 if all is right, 3 if there are warnings, 1 if something is wrong,
2 for a wrong command line.
"""
_EXAMPLES: Final = """\
examples:
      raft-kv doctor --from 10.0.0.1:6379 --from 10.0.0.2:6379 --from 10.0.0.3:6379
      raft-kv doctor --config /etc/raft-kv.toml
      raft-kv doctor --data sqlite:/var/lib/raft-kv --json | jq '.[] | select(.level != "right")'
"""
_OPTIONS: Final = with_variables(
    "RAFT_KV_DOCTOR_",
    Option(
        name="from",
        metavar="HOST:PORT",
        help="address of a node for clients (repeatable)",
        default="127.0.0.1:6379, if nothing else is named",
        repeated=True,
    ),
    Option(name="data", metavar="LOCATION", help=f"data of a node on this machine: {KINDS_TEXT}"),
    Option(name="config", metavar="FILE", help="configuration file of a node on this machine"),
    Option(name="timeout", metavar="SECONDS", help="a node that does not answer in this time is down", default="3"),
    Option(name="scratch", metavar="PATH", help="directory for a copy of an engine's database", default="$TMPDIR"),
    Option(name="json", help="print one JSON list of findings", default="false"),
)


def _doctor(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from raft_kv.doctor.command import DoctorOptions, run_doctor

    values = Values()
    values.take(_OPTIONS, flags, environ)
    if "from" in values.tree:  # a keyword, so no name of a field
        values.put(("sources",), values.tree.pop("from"), values.origins.pop(("from",)))
    return run_doctor(structure(values, DoctorOptions), environ)


DOCTOR: Final = Command(
    help="say what is not right with a cluster, a node's data or its configuration",
    description=_DESCRIPTION + CONNECTING_TEXT,
    examples=_EXAMPLES,
    options=_OPTIONS,
    execute=_doctor,
)
"""The command."""
