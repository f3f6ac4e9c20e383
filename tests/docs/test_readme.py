"""The README's examples do what the README says: they are run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def example(name: str) -> str:
    """The code block behind the mark `<!-- example: name -->`."""
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert found, f"the README has no example {name}"
    return found.group(1)


def test_the_core_example_elects_a_leader_and_applies_everywhere() -> None:
    done = subprocess.run([sys.executable, "-c", example("core")], capture_output=True, text=True, check=True)
    assert "7 Success(first=3, results=(b'ok', b'ok'))" in done.stdout
    applied = [(3, b"hello"), (4, b"world")]
    assert f"leader {dict.fromkeys((1, 2, 3), applied)}" in done.stdout


def test_the_trio_example_started_by_hand_forms_a_cluster_and_counts(tmp_path: Path) -> None:
    script = tmp_path / "counter.py"
    script.write_text(example("trio"), "utf-8")
    nodes: list[subprocess.Popen[str]] = []
    try:
        for number in (1, 2, 3):
            time.sleep(1.2 if nodes else 0)  # by hand, as a reader starts them
            command = [sys.executable, "-u", str(script), str(number)]
            nodes.append(subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True))
        lines = [node.stdout.readline() for node in nodes if node.stdout is not None]
    finally:
        for node in nodes:
            node.kill()
            node.communicate()
    totals = sorted(int(line.split()[1][2:-1]) for line in lines)
    assert totals == [1, 2, 3], lines
