"""Generic mutations of the modules that hold the quorum, the log and the members: `python -m
tests.mutation.mutmut_run`.

Running mutmut in a copy of the tree, counting, and comparing what survived with `survivors.md`, where
each survivor stands with the reason why no test kills it. Which files are mutated and which tests must notice is told
under `[tool.mutmut]` in `pyproject.toml`. Exit status 1 where fewer than nine tenths are killed, or where a survivor
is not in the list.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.mutation.__main__ import copy_tree

LIST: Final = Path(__file__).parent / "survivors.md"
_ENOUGH: Final = 0.9
_SURVIVED: Final = (0, 5, 33)  # what mutmut notes where the tests passed, or where none reaches the function
_LISTED: Final = re.compile(r"^- `(?P<function>[\w.]+)`: `(?P<old>.*)` → `(?P<new>.*)`$", re.MULTILINE)
_PROPERTY: Final = "property_"

Survivor = tuple[str, str, str]
"""The function, `raft_core.log.Log.append`; its line as it is, and as it was mutated without any test noticing."""


def listed() -> set[Survivor]:
    """The survivors that were reviewed."""
    return {(found["function"], found["old"], found["new"]) for found in _LISTED.finditer(LIST.read_text("utf-8"))}


def without_properties(source: str) -> str:
    """The same module, where the body of each property is an ordinary method: mutmut leaves decorated ones alone."""
    lines = source.splitlines()
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    functions = [node for one in classes for node in one.body if isinstance(node, ast.FunctionDef)]
    for function in reversed(functions):
        decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
        if decorators != ["property"] or function.end_lineno is None:
            continue
        name, begin = function.name, function.lineno - 1
        lines.insert(function.end_lineno, f"    {name} = property({_PROPERTY}{name})")
        lines[begin] = lines[begin].replace(f"def {name}(", f"def {_PROPERTY}{name}(", 1)
        lines[begin - 1] = ""
    return "\n".join(lines) + "\n"


def mutate(tree: Path, modules: list[str], children: int) -> None:
    """Every mutant of the chosen modules was run; the results are beside the mutated files. Runs again what a run
    that was broken off has left."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(children)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    patterns = [f"raft_core.{module}*" for module in modules]
    subprocess.run([*command, *patterns], cwd=tree, env=environment, check=True)


def results(tree: Path) -> Iterator[tuple[str, Path, dict[str, int]]]:
    """Each module whose mutants were run: its name, its mutated source, and how each mutant ended."""
    mutated = tree / "mutants"
    for path in sorted((mutated / "raft_core").rglob("*.py.meta")):
        ends: dict[str, int | None] = json.loads(path.read_text("utf-8"))["exit_code_by_key"]
        done = {name: end for name, end in ends.items() if end is not None}
        if done:
            source = path.with_suffix("")
            yield ".".join(source.relative_to(mutated).with_suffix("").parts), source, done


def survivors(module: str, source: Path, ends: dict[str, int]) -> list[Survivor]:
    """The mutants that no test noticed."""
    text = source.read_text("utf-8")
    functions = {
        node.name: ast.get_source_segment(text, node) or ""
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    }
    found = []
    for mutant in sorted(name for name, end in ends.items() if end in _SURVIVED):
        name = mutant.rpartition(".")[2]
        plain = name.partition("__mutmut_")[0]
        method = plain.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".").replace(_PROPERTY, "")
        own = method.rpartition(".")[2]
        old, new = (functions[one].replace(one, own, 1) for one in (f"{plain}__mutmut_orig", name))
        old, new = _changed(old, new)
        found.append((f"{module}.{method}", old, new))
    return found


def _changed(old: str, new: str) -> tuple[str, str]:
    """The lines in which two functions differ."""
    lines = list(difflib.ndiff(old.splitlines(), new.splitlines()))
    gone, come = ([line[2:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
    return " ".join(gone), " ".join(come)


def report(tree: Path) -> bool:
    """Prints the table and the survivors that were not reviewed; true if enough were killed and all were reviewed."""
    reviewed = listed()
    unknown: list[Survivor] = []
    total = killed = 0
    print(f"{'module':32} {'mutants':>8} {'killed':>8} {'survived':>9}")
    for module, source, ends in results(tree):
        alive = survivors(module, source, ends)
        unknown += [survivor for survivor in alive if survivor not in reviewed]
        total, killed = total + len(ends), killed + len(ends) - len(alive)
        print(f"{module:32} {len(ends):8} {len(ends) - len(alive):8} {len(alive):9}")
    print(f"{'all':32} {total:8} {killed:8} {total - killed:9}")
    for function, old, new in unknown:
        print(f"- `{function}`: `{old}` → `{new}`")
    print(f"{100 * killed / max(1, total):.1f} % killed; {len(unknown)} survivors are not in {LIST.name}")
    return bool(total) and killed >= _ENOUGH * total and not unknown


def main() -> int:
    """Runs the mutants of the chosen modules; 0 if enough were killed and the survivors are those in the list."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation.mutmut_run", description="Mutates and counts what is noticed."
    )
    parser.add_argument("--module", action="append", default=[], metavar="NAME", help="such as quorum or wal.reader")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="how many processes at a time")
    parser.add_argument("--tree", type=Path, metavar="DIR", help="work there, and go on there if it was broken off")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutation-") as temporary:
        tree = arguments.tree or Path(temporary)
        if not (tree / "raft_core").exists():
            tree.mkdir(parents=True, exist_ok=True)
            copy_tree(tree)
            for path in [*(tree / "raft_core").glob("*.py"), *(tree / "raft_core" / "wal").glob("*.py")]:
                path.write_text(without_properties(path.read_text("utf-8")), "utf-8")
        mutate(tree, arguments.module, arguments.children)
        return 0 if report(tree) else 1


if __name__ == "__main__":
    sys.exit(main())
