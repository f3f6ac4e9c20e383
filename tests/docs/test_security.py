"""The five minutes of docs/security.md, as they stand there: certificates, three nodes, users, and what they may do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raft_kv.demo.cluster import free_ports
from tests.docs.blocks import ROOT, blocks

PREPARED = """
set -e
trap 'kill -9 $(jobs -p)' EXIT
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="the page calls redis-cli, which is not here")
def test_five_minutes_end_as_the_page_says(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(ROOT / "docs" / "security.md") if block.mark == "cluster: five minutes"]
    ports = dict(zip(["6381", "6382", "6383", "7381", "7382", "7383"], map(str, free_ports(6)), strict=True))
    text = block.text
    for first in ("638", "738"):  # the loop writes the last digit itself
        text = text.replace(f"{first}$n", f"${{port_{first}[$n]}}")
    text = re.sub(r"\b[67]38[123]\b", lambda found: ports[found[0]], text)
    arrays = [f"port_{first}=(0 {' '.join(ports[f'{first}{n}'] for n in (1, 2, 3))})" for first in ("638", "738")]
    program = tmp_path / "bin" / "raft-kv"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m raft_kv "$@"\n', "utf-8")
    program.chmod(0o755)
    script = "\n".join([PREPARED, *arrays, text])
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("RAFT_KV_", "REDISCLI"))}

    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**surroundings, "PYTHONPATH": str(ROOT), "PATH": f"{program.parent}:{os.environ['PATH']}"},
        input="open sesame\n",
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line]  # redis-cli ends an error with an empty line
    assert said[-4:-2] == ["OK", "3"]
    assert [line.split()[0] for line in said[-2:]] == ["NOPERM", "NOPERM"]
    assert "voters 1, 2, 3" in done.stdout
