"""`python -m tests.conformance DIR`: judges this library by the conformance data in DIR.

The command. One line per file: passed, FAILED with the first fact that does not hold (step, node,
field, wanted, got), or skipped with the missing features. `--all` shows every failure, `--choices` the facts that our
choices make different, each with its reason. The exit status is 1 after a failure or where DIR holds no data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.conformance import confchange, linearizability, quorum, scenarios
from tests.conformance.choices import CHOICES
from tests.conformance.linearizability import Line

__all__ = ["judge", "main"]

CASES: Final[tuple[tuple[str, Callable[[Path], list[Line]]], ...]] = (
    (quorum.FILE, quorum.run),
    (confchange.FILE, confchange.run),
    (linearizability.FILE, linearizability.run),
)


def judge(folder: Path, say: Callable[[str], None], *, everything: bool = False) -> bool:
    """Every file of `folder` has been judged and told about; true if nothing failed and something passed."""
    passed, failed = 0, 0
    for file in sorted(folder.glob("scenario_*.json")):
        try:
            scenario = scenarios.load(file)
        except msgspec.MsgspecError as problem:
            _tell(say, file.name, "", [f"cannot be read: {problem}"], everything=everything)
            failed += 1
            continue
        if scenario.missing:
            say(f"skipped {file.name}: needs {', '.join(scenario.missing)}")
            continue
        verdict = scenarios.run(scenario, CHOICES)
        chosen = f", {verdict.chosen} different by choice" if verdict.chosen else ""
        problems = [str(failure) for failure in verdict.failures]
        ok = _tell(say, file.name, f"{verdict.held} facts{chosen}", problems, everything=everything)
        passed, failed = passed + ok, failed + (not ok)
    for name, run in CASES:
        lines = run(folder)
        if lines:
            problems = [f"{line.name}: {line.detail}" for line in lines if not line.passed]
            ok = _tell(say, name, f"{len(lines)} cases", problems, everything=everything)
            passed, failed = passed + ok, failed + (not ok)
    return passed > 0 and not failed


def _tell(say: Callable[[str], None], name: str, size: str, problems: Sequence[str], *, everything: bool) -> bool:
    if not problems:
        say(f"passed  {name} ({size})")
        return True
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 and not everything else ""
    say(f"FAILED  {name}: {problems[0]}{more}")
    for problem in problems[1:] if everything else ():
        say(f"        {problem}")
    return False


def main(arguments: Sequence[str]) -> int:
    """The exit status of the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description="Judge the core by data in DIR.")
    parser.add_argument("folder", metavar="DIR", type=Path, nargs="?")
    parser.add_argument("--all", action="store_true", help="show every failure of a file, not only the first")
    parser.add_argument("--choices", action="store_true", help="show which facts our choices make different, and why")
    options = parser.parse_args(arguments)
    if options.choices:
        for choice in CHOICES:
            print(f"{choice.scenario} step {choice.step} node {choice.node} {choice.field}: {choice.ours!r}")
            print(f"    {choice.reason}")
        return 0
    if options.folder is None:
        parser.error("name the folder that holds the data")
    return 0 if judge(options.folder, print, everything=options.all) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
