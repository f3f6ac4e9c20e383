"""The arguments of `python -m raft_testing`.

The parser, and the values that it makes of texts. It carries out nothing; `__main__` does.
"""

from __future__ import annotations

import argparse
import textwrap
from typing import Final

from raft_testing.faults.catalogue import Fault, Profile

__all__ = ["parser"]

_EXAMPLES: Final = """\
examples:
      python -m raft_testing simulate --seeds 20
      python -m raft_testing simulate --machine my.module:Machine --workload my.module:Workload
      python -m raft_testing simulate --seed 17 --seeds 1 --faults loss,kill --page 17.html
      python -m raft_testing crash-disk --store my.module:open_on_files
      python -m raft_testing COMMAND --help
"""
_EXAMPLES_OF: Final = {
    "simulate": """\
examples:
      python -m raft_testing simulate --seeds 300 --workers 4
      python -m raft_testing simulate --machine my.module:Machine --workload my.module:Workload
      python -m raft_testing simulate --seed 17 --seeds 1 --faults loss,kill --page 17.html
      python -m raft_testing simulate --seed 17 --seeds 1 --trace 17.json
      python -m raft_testing simulate --seed 1 --seeds 1 --seconds 2400 --operations 5200
""",
    "determinism": """\
examples:
      python -m raft_testing determinism --seeds 20
      python -m raft_testing determinism --machine my.module:Machine --workload my.module:Workload
""",
    "explore": """\
examples:
      python -m raft_testing explore
      python -m raft_testing explore --bounds second --states 5000000 --workers 2
""",
    "crash-disk": """\
examples:
      python -m raft_testing crash-disk
      python -m raft_testing crash-disk --scripts 50 --workers 4
      python -m raft_testing crash-disk --store my.module:open_on_files
""",
    "draw": """\
examples:
      python -m raft_testing simulate --seed 17 --seeds 1 --trace 17.json
      python -m raft_testing draw 17.json --output 17.html
""",
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments; `command` is the command they are for."""
    whole = argparse.ArgumentParser(
        prog="python -m raft_testing",
        description="Test a replicated state machine and its store with injected faults; the same seed is "
        "the same run.",
        epilog=_EXAMPLES + "\nExit status: 0 without a violation, 1 with one, 2 for wrong arguments.\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(required=True, dest="command", metavar="command")
    simulate = _command(
        commands,
        "simulate",
        summary="run whole clusters with faults, in virtual time",
        description="Run seeds. Each is a cluster of real nodes with simulated network, disks, clocks and clients, "
        "about two minutes of virtual time; every step of every core is checked. The first seed that fails is made "
        "smaller and drawn as an HTML page.",
    )
    _arguments_of_simulate(simulate)
    determinism = _command(
        commands,
        "determinism",
        summary="check that the same seed is the same run in every process",
        description="Runs every seed in two processes with different PYTHONHASHSEED, and compares all events and "
        "effects of all cores, byte for byte, and the states of all machines. Prints a digest that can be compared "
        "between machines.",
    )
    _arguments_of_determinism(determinism)
    explore = _command(
        commands,
        "explore",
        summary="check every interleaving of a small cluster",
        description="Search all states of a small cluster within bounds, for a violation of safety.",
    )
    _arguments_of_explore(explore)
    crash = _command(
        commands,
        "crash-disk",
        summary="check a store with every crash and every flipped bit",
        description="Runs scripted histories against a store, with a power loss at every call and in every write, "
        "every call failing once, every bit of the log flipped, and records dropped, doubled and zeroed.",
    )
    _arguments_of_crash_disk(crash)
    drawing = _command(
        commands,
        "draw",
        summary="draw a recorded trace as a page",
        description="Write an HTML page with the trace as a diagram. simulate --trace FILE writes a trace as JSON, and "
        "so does encode_trace of raft_testing.trace.records, for one of your own Tracer. Node.recording returns the "
        "recording of a node (NodeConfig.recorder_bytes); its bytes, in a file, are drawn too.",
    )
    _arguments_of_draw(drawing)
    return whole


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, *, summary: str, description: str
) -> argparse.ArgumentParser:
    """Add a command, with its examples below its arguments."""
    return commands.add_parser(
        name,
        help=summary,
        description="\n".join(textwrap.wrap(description, 96)),
        epilog=_EXAMPLES_OF[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _arguments_of_simulate(simulate: argparse.ArgumentParser) -> None:
    simulate.add_argument("--seeds", type=_positive, default=100, metavar="N", help="how many seeds (100)")
    simulate.add_argument("--seed", type=int, default=1, metavar="S", help="the first seed (1)")
    simulate.add_argument("--workers", type=_positive, default=2, metavar="N", help="processes at a time (2)")
    simulate.add_argument(
        "--faults",
        type=_faults,
        default=None,
        metavar="A,B",
        help="allow only these kinds of fault: " + _fault_names(),
    )
    _arguments_of_profile(simulate)
    _arguments_of_subject(simulate)
    simulate.add_argument("--page", metavar="FILE", help="file for the page of a failure (raft-seed-S.html)")
    simulate.add_argument(
        "--trace",
        metavar="FILE",
        help="file for the trace, as JSON, of the failure, or else of the first seed",
    )
    simulate.add_argument(
        "--details", action="store_true", help="show every count: faults injected, events seen, checks made"
    )
    simulate.add_argument("--no-shrink", action="store_true", help="draw a failure without making it smaller")


def _arguments_of_profile(simulate: argparse.ArgumentParser) -> None:
    """Add how long and how hard each seed is."""
    simulate.add_argument(
        "--fault-chance",
        type=_probability,
        default=Profile().fault_chance,
        metavar="P",
        help="probability of a kind of fault in a seed (0.4)",
    )
    simulate.add_argument(
        "--interval", type=_positive, metavar="N", help="mean virtual seconds from one fault of a kind to the next (16)"
    )
    simulate.add_argument(
        "--clients",
        type=_positive,
        default=Profile().clients,
        metavar="N",
        help="clients per seed, one operation at a time (5)",
    )
    simulate.add_argument(
        "--operations",
        type=_positive,
        default=Profile().operations,
        metavar="N",
        help="client operations per seed (260)",
    )
    simulate.add_argument(
        "--seconds",
        type=_positive,
        metavar="N",
        help="virtual seconds with faults per seed (116); more for long histories",
    )
    simulate.add_argument(
        "--leases",
        action="store_true",
        help="answer reads from the leader's lease: linearizable only while clocks run alike, so that with the faults "
        "clock_rate and clock_jump stale reads are found",
    )
    simulate.add_argument(
        "--purity",
        type=_probability,
        default=Profile().purity,
        metavar="P",
        help="share of steps executed twice, to compare their effects (0.01)",
    )


def _arguments_of_subject(command: argparse.ArgumentParser) -> None:
    command.add_argument("--machine", metavar="M:NAME", help="package.module:factory of a state machine")
    command.add_argument("--workload", metavar="M:NAME", help="package.module:factory of the operations of clients")
    command.add_argument("--store", metavar="M:NAME", help="package.module:function(disk, node, incarnation) → store")


def _arguments_of_determinism(determinism: argparse.ArgumentParser) -> None:
    determinism.add_argument("--seeds", type=_positive, default=20, metavar="N", help="how many seeds (20)")
    determinism.add_argument("--seed", type=int, default=1, metavar="S", help="the first seed (1)")
    determinism.add_argument(
        "--workers", type=_positive, default=2, metavar="N", help="processes at a time, at least 2 (2)"
    )
    _arguments_of_subject(determinism)


def _arguments_of_explore(explore: argparse.ArgumentParser) -> None:
    explore.add_argument(
        "--bounds",
        choices=("small", "second"),
        default="small",
        help="small (default): 875,316 states, complete in one to two minutes and 1 GB of memory; second: more values,"
        " a crash, a membership change; millions of states, so give --states",
    )
    explore.add_argument("--states", type=_positive, default=0, metavar="N", help="stop after so many distinct states")
    explore.add_argument("--workers", type=_positive, default=1, metavar="N", help="processes at a time (1)")
    explore.add_argument("--page", default="raft-explored.html", metavar="FILE", help="picture of a violation")


def _arguments_of_crash_disk(crash: argparse.ArgumentParser) -> None:
    crash.add_argument(
        "--scripts",
        type=_positive,
        default=1,
        metavar="N",
        help="how many histories (1); a minute or two for each and each worker",
    )
    crash.add_argument("--seed", type=int, default=0, metavar="S", help="the first one (0)")
    crash.add_argument("--workers", type=_positive, default=2, metavar="N", help="processes at a time (2)")
    crash.add_argument("--store", metavar="M:NAME", help="package.module:function(files) → store")


def _arguments_of_draw(drawing: argparse.ArgumentParser) -> None:
    drawing.add_argument("trace", help="a trace as JSON, or the recording of a node")
    drawing.add_argument("--output", metavar="FILE", help="where the page goes (the trace's name with .html)")


def _positive(text: str) -> int:
    """Return a whole number of at least 1: an empty run proves nothing."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return number


def _probability(text: str) -> float:
    try:
        chance = float(text)
    except ValueError:
        chance = -1.0
    if not 0 <= chance <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return chance


def _faults(text: str) -> frozenset[Fault]:
    if text in ("", "none"):
        return frozenset()
    known = {fault.name.lower(): fault for fault in Fault}
    unknown = [name for name in text.split(",") if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"no fault is called {unknown[0]!r}; there are: {', '.join(known)}")
    return frozenset(known[name] for name in text.split(","))


def _fault_names() -> str:
    return ", ".join(fault.name.lower() for fault in Fault)
