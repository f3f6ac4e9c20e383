"""Plant each mutant in a copy of the tree and run its tests, which must fail: `python -m tests.mutation`.

The exit status is 1 if a mutant survives, or if it cannot be planted any more.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutation.catalogue import MUTANTS, Mutant
from tests.mutation.planting import CannotBePlanted, planted

_ROOT = Path(__file__).parents[2]
_COPIED = (
    *("raft_core", "raft_storage", "raft_trio", "raft_anyio", "raft_kv", "raft_testing"),
    *("tests", "benchmarks", "examples", "pyproject.toml"),
)
_TIMEOUT = 180


def plant(mutant: Mutant, tree: Path) -> None:
    """Write the mistake into a copy of the tree. Raise `CannotBePlanted` where its place is gone."""
    path = tree / mutant.file
    path.write_text(planted(mutant, path.read_text(encoding="utf-8")), encoding="utf-8")


def copy_tree(into: Path) -> None:
    """A copy of everything that the tests need."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in _COPIED:
        source = _ROOT / name
        if source.is_dir():
            shutil.copytree(source, into / name, ignore=ignored)
        elif source.exists():
            shutil.copy(source, into / name)


def caught_by(mutant: Mutant) -> str | None:
    """The first test that failed, None where all passed."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        tree = Path(directory)
        copy_tree(tree)
        plant(mutant, tree)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-m", "not slow", *mutant.tests]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
        try:
            done = subprocess.run(
                command, cwd=tree, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            return "a test that did not come to an end"
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{mutant.name}: the tests did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return found.group(1)


def chosen(only: str, part: str) -> list[Mutant]:
    """The mutants that the command line asks for. `part` is K/N: each N-th, beginning with the K-th from 1."""
    if only:
        return [mutant for mutant in MUTANTS if mutant.name == only]
    number, _, parts = part.partition("/")
    return list(MUTANTS[int(number) - 1 :: int(parts)])


def main() -> int:
    """Runs the chosen mutants; 0 if none survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Plants real mistakes, one by one.")
    parser.add_argument("--only", default="", metavar="NAME", help="only this mutant")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="each N-th mutant, beginning with the K-th")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    arguments = parser.parse_args()
    survivors: list[str] = []
    mutants = chosen(arguments.only, arguments.part)
    if not mutants:
        parser.error(f"no mutant is called {arguments.only!r}: --list names them")
    for mutant in mutants:
        if arguments.list:
            print(f"{mutant.name}: {mutant.mistake}")
            continue
        begun = time.monotonic()
        try:
            catcher = caught_by(mutant)
        except CannotBePlanted as failure:
            catcher = None
            print(failure)
        if catcher is None:
            survivors.append(mutant.name)
        print(f"{mutant.name}: {catcher or 'SURVIVED'} ({time.monotonic() - begun:.1f} s)", flush=True)
    if not arguments.list:
        print(f"{len(mutants) - len(survivors)} of {len(mutants)} caught; survived: {', '.join(survivors) or 'none'}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
