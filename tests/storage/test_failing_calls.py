"""Stores that call the operating system themselves, while one of their calls fails: nothing acknowledged is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.storage.engine_child import content_of, open_at
from tests.storage.syscalls import strace_works

PACKAGES = {"file": "zlib", "sqlite": "sqlite3", "rocksdb": "rocksdict", "mdbx": "mdbx"}
KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed"))
    for kind, package in PACKAGES.items()
]

NUMBERS = [int(number) for number in os.environ.get("FAILING_CALLS", "14").split(",")]

pytestmark = pytest.mark.skipif(not strace_works(), reason="strace is not installed, or may not trace")


@pytest.mark.parametrize("call", ["fdatasync", "fsync", "pwrite64"])
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", KINDS)
def test_failing_call_breaks_the_store_and_loses_nothing(kind: str, number: int, call: str, tmp_path: Path) -> None:
    """From the call with this number on every one fails, as on a disk that has died."""
    location = f"{kind}:{tmp_path / 'data'}"
    open_at(location).close()
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}"]
    command += ["-e", f"inject={call}:error=EIO:when={number}+", sys.executable, "-m", "tests.storage.engine_child"]
    done = subprocess.run(
        [*command, location, "3", "200"], cwd=Path(__file__).parents[2], capture_output=True, check=False
    )
    lines = done.stdout.split(b"\n")
    if done.returncode:
        assert b"\nraft_core." in done.stderr, done.stderr.decode()[-2000:]
    last, base = map(int, lines[-2].split()) if len(lines) > 1 else (0, 0)
    for _ in range(2):
        store = open_at(location)
        recovered = store.recover()
        start = recovered.snapshot.index if recovered.snapshot else 0
        assert start >= base
        assert start + len(recovered.entries) >= last - 3
        assert all(entry.data == content_of(entry.index) for entry in recovered.entries)
        store.close()
    assert done.returncode or len(lines) == 201
