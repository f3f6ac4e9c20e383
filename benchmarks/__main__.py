"""`python -m benchmarks [compare | PART …] [--json FILE] [--quick] [--loop …]`: the choice of parts and the table.

Each part is a module with `measure(quick) -> dict[str, float]`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from pathlib import Path

PARTS = {
    "core": "three cores in one process, 64-byte entries, no disk",
    "wire": "frames and messages to bytes and back",
    "wal": "the write-ahead log on a real disk",
    "store": "every store side by side, 256-byte entries, on a real disk",
    "kv": "the way of a SET through raft_kv, without sockets, node and disk",
    "keys": "the cost of a SET by the number of keys; a snapshot of many while entries are applied",
    "transfer": "a state of 1 GiB on its way to a new node while the cluster serves",
    "locks": "locks of raft_objects on three durable nodes, beside etcd's",
    "simulator": "simulated time per real time, checks after every step",
    "node": "three embedded nodes in three processes, 256-byte commands",
    "timeline": "the way of one SET through three processes, moment by moment (uvloop)",
    "cluster": "three durable processes on loopback, 256-byte values",
}


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    about = "\n".join(f"  {name:10} {text}" for name, text in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Take the library's figures. The parts:\n{about}\n"
        "  compare    the key-value server beside etcd, redis and PySyncObj: compare --help",
        epilog="Run it in a checkout, with the extra test. Most parts take a minute or two, all of them half an hour;\n"
        "--quick takes seconds each. locks needs etcd, transfer 3 GiB of disk.\n\n"
        "    python -m benchmarks core wal --quick\n"
        "    python -m benchmarks cluster --loop asyncio,uvloop\n\n"
        "Machines are noisy: compare only what was measured in one run, and quote medians and ratios.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="which parts (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it runs, not to quote")
    parser.add_argument("--loop", default="trio", help="cluster, node: trio, asyncio, uvloop, several with commas")
    parser.add_argument("--size", default="", help="transfer: bytes of the state, such as 256MiB (default: 1GiB)")
    parser.add_argument("--data", default="file:", help="transfer: the store, such as sqlite: or rocksdb:DIRECTORY")
    parser.add_argument(
        "--interrupt", choices=["sender", "receiver"], help="transfer: kill this side in the middle, and start it again"
    )
    parser.add_argument("--peer", action="store_true", help="core: beside etcd/raft, which is built for it (needs Go)")
    return parser


def main() -> int:
    """Prints a table, and writes JSON if asked."""
    if sys.argv[1:2] == ["compare"]:
        from benchmarks.compare import main as compare

        return compare(sys.argv[2:])
    parser = command_line()
    chosen = parser.parse_args()
    unknown = [part for part in chosen.parts if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if chosen.peer:
        if chosen.parts != ["core"]:
            parser.error("--peer belongs to the part core alone")
        return beside_peer(quick=chosen.quick, json_file=chosen.json)
    figures: dict[str, dict[str, float]] = {}
    for part in chosen.parts or list(PARTS):
        runs: list[tuple[str, dict[str, str]]] = [("", {})]
        if part in ("cluster", "node"):
            runs = [(loop, {"loop": loop}) for loop in chosen.loop.split(",")]
        if part == "transfer":
            runs = [("", {"size": chosen.size, "data": chosen.data, "interrupt": chosen.interrupt or ""})]
        for suffix, options in runs:
            name = f"{part} {suffix}".strip()
            print(f"{name}: {PARTS[part]} …", file=sys.stderr, flush=True)
            begin = time.perf_counter()
            figures[name] = importlib.import_module(f"benchmarks.{part}").measure(quick=chosen.quick, **options)
            print(f"{name}: done in {time.perf_counter() - begin:.1f} s", file=sys.stderr, flush=True)
    show(figures)
    if chosen.json:
        machine = {"python": platform.python_version(), "system": platform.platform()}
        with open(chosen.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine, "figures": figures}, file, indent=2, ensure_ascii=False)
    return 0


def beside_peer(*, quick: bool, json_file: str | None) -> int:
    """Print the core's figures beside those of etcd/raft, or what is missing for it."""
    from benchmarks.core_peer import compare, table
    from benchmarks.load.build import Missing

    try:
        found = compare(quick=quick)
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 1
    print(table(found))
    if json_file:
        Path(json_file).write_text(json.dumps(found, indent=2, ensure_ascii=False), encoding="utf-8")
    return 0


def show(figures: dict[str, dict[str, float]]) -> None:
    """One line per figure, aligned."""
    width = max(len(name) for part in figures.values() for name in part)
    for part, found in figures.items():
        print(f"\n{part}")
        for name, value in found.items():
            print(f"  {name:{width}}  {value:>12,.3f}" if value < 100 else f"  {name:{width}}  {value:>12,.0f}")


if __name__ == "__main__":
    sys.exit(main())
