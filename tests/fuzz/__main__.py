"""`python -m tests.fuzz`: fuzz all targets, or some, for a time; exit status 1 if one of them failed."""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from pathlib import Path

from tests.fuzz.engine import fuzz
from tests.fuzz.targets import TARGETS


def main(arguments: list[str] | None = None) -> int:
    """Fuzz; print a line for each target. Inputs that fail are written into a directory, to be run with `--input`."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=None, help="of the mutations; default: drawn")
    parser.add_argument("--keep", default="fuzz-failures", help="directory for inputs that fail")
    parser.add_argument(
        "--corpus", default="", help="directory of inputs found earlier: begin with them, and add to them"
    )
    parser.add_argument("--input", default="", help="run one target on this file")
    given = parser.parse_args(arguments)
    chosen = [TARGETS[name] for name in given.targets or TARGETS]
    if given.input:
        chosen[0].run(Path(given.input).read_bytes())
        return 0
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}")
    status = 0
    for target in chosen:
        rng = random.Random(f"{seed} {target.name}")
        known = _read_corpus(Path(given.corpus) / target.name) if given.corpus else []
        report = fuzz(target, given.seconds / len(chosen), rng, known=known)
        if given.corpus:
            _write_corpus(Path(given.corpus) / target.name, report.inputs)
        print(
            f"{report.target:12} {report.executions:8,} executions, {report.lines:5,} lines, corpus {report.corpus:3}, "
            f"slowest {report.slowest * 1000:.1f} ms, {len(report.failures)} failures",
            flush=True,
        )
        for failure in report.failures:
            status = 1
            place = Path(given.keep) / f"{failure.target}-{hashlib.sha256(failure.data).hexdigest()[:12]}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(failure.data)
            print(f"  {place}: {failure.problem}", flush=True)
    return status


def _read_corpus(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(directory.iterdir())] if directory.is_dir() else []


def _write_corpus(directory: Path, inputs: list[bytes]) -> None:
    """Replace the corpus by what reached new lines this time; inputs that no longer do are dropped."""
    directory.mkdir(parents=True, exist_ok=True)
    names = {hashlib.sha256(data).hexdigest()[:16]: data for data in inputs}
    for path in directory.iterdir():
        if path.name not in names:
            path.unlink()
    for name, data in names.items():
        (directory / name).write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
