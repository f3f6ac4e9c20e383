"""`python -m tests.scenarios [--record] [NAME ...]`: performs the scripts, and compares or records their narration.

The command. Without `--record` it shows what differs and exits with 1; with it, the files are
rewritten, and the change is to be read as a diff before it is committed. A failed expectation is never recorded.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.scenarios.language import perform, scripts

__all__ = ["compare", "main"]


def compare(file: Path) -> str:
    """Empty, or what differs between the recorded narration and what happens now."""
    recorded = file.read_text()
    found = perform(recorded)
    difference = difflib.unified_diff(recorded.splitlines(), found.splitlines(), "recorded", "now", lineterm="")
    return "\n".join(difference)


def main(arguments: Sequence[str]) -> int:
    """The exit status of the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios", description="Perform the scripts.")
    parser.add_argument("names", metavar="NAME", nargs="*", help="only scripts whose name contains one of these")
    parser.add_argument("--record", action="store_true", help="write what happens now into the files")
    options = parser.parse_args(arguments)
    status = 0
    for file in scripts():
        if options.names and not any(name in file.stem for name in options.names):
            continue
        try:
            if options.record:
                file.write_text(perform(file.read_text()))
            elif difference := compare(file):
                print(f"{file.name} differs:\n{difference}")
                status = 1
        except AssertionError as failure:
            print(f"{file.name}: {failure}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
