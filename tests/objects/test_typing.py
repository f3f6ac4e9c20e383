"""mypy infers arguments and results of commands and queries through the decorators."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_mypy_infers_arguments_and_results(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), "tests/objects/typed_sample.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    revealed = [found.removeprefix("builtins.") for found in re.findall(r'Revealed type is "(.*)"', done.stdout)]
    assert revealed == [
        "int",
        "tests.objects.samples.Receipt",
        "int",
        "int",
        "tests.objects.samples.Order | None",
    ], done.stdout
    assert done.returncode == 0, done.stdout
