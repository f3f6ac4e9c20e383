"""Our quorum arithmetic judged by `quorum_cases.json` of a given folder.

The translation of that file, and `run`. A case has voters, perhaps outgoing voters (then it is
joint), and either acknowledged indexes with the committed one, or votes with the verdict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

import msgspec

from raft_core.ids import NO_INDEX, Index, NodeId
from raft_core.membership import Members
from raft_core.quorum import NO_LIMIT, Verdict, committed_index, vote_verdict
from tests.conformance.linearizability import Line

__all__ = ["FILE", "run"]

FILE: Final = "quorum_cases.json"
VERDICTS: Final = {Verdict.WON: "won", Verdict.LOST: "lost", Verdict.OPEN: "pending"}


@final
class _Case(msgspec.Struct, frozen=True):
    kind: str
    voters: list[NodeId]
    expect: int | str
    voters_outgoing: list[NodeId] = []
    acked: dict[NodeId, Index] = {}
    votes: dict[NodeId, bool] = {}
    file: str = ""
    line: int = 0

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}"


class _Cases(msgspec.Struct, frozen=True):
    cases: list[_Case]


def run(path: str | Path) -> list[Line]:
    """One line per case of the folder `path`; none where the folder has no such file."""
    file = Path(path) / FILE
    if not file.exists():
        return []
    return [_judge(case) for case in msgspec.json.decode(file.read_bytes(), type=_Cases, strict=False).cases]


def _judge(case: _Case) -> Line:
    members = Members(voters=tuple(sorted(case.voters)), outgoing=tuple(sorted(case.voters_outgoing)))
    found = _committed(members, case) if case.kind == "committed" else VERDICTS[vote_verdict(members, case.votes)]
    return Line(case.name, found == case.expect, f"wanted {case.expect}, got {found}")


def _committed(members: Members, case: _Case) -> int | str:
    index = committed_index(members, lambda node: case.acked.get(node, NO_INDEX))
    return "infinity" if index == NO_LIMIT else index
