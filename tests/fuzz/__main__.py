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
        report = fuzz(target, given.seconds / len(chosen), random.Random(f"{seed} {target.name}"))
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


if __name__ == "__main__":
    sys.exit(main())
