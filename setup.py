"""Compile the modules of logic with mypyc if that is wanted: the only thing that pyproject.toml cannot say.

`RAFT_COMPILE` decides. Without it, or with `0`, the build is pure Python and takes a second. `1` compiles, which takes
one or two minutes, and fails where that is not possible. `auto` compiles if it can, and says why if it cannot.
Compiled and interpreted modules do the same; `raft_core.COMPILED` tells which are in use. Do not compile in place
(`build_ext --inplace`): Python prefers a compiled module to its source, so later changes of the source would have no
effect.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup

WISH = os.environ.get("RAFT_COMPILE", "")

CORE = [
    "raft_core/apply.py",
    "raft_core/invariants.py",
    "raft_core/log.py",
    "raft_core/outbox.py",
    "raft_core/pending.py",
    "raft_core/progress.py",
    "raft_core/quiet.py",
    "raft_core/raft.py",
    "raft_core/server.py",
    "raft_core/snapshots.py",
    "raft_core/validation.py",
    "raft_core/roles/candidate.py",
    "raft_core/roles/follower.py",
    "raft_core/roles/leader.py",
    "raft_core/roles/leadership_transfer.py",
    "raft_core/roles/membership_change.py",
    "raft_core/roles/proposals.py",
    "raft_core/roles/read_index.py",
    "raft_core/roles/replication.py",
    "raft_core/roles/role.py",
]
NODE = [
    "raft_core/node/address_book.py",
    "raft_core/node/alarm_limiter.py",
    "raft_core/node/cluster_time.py",
    "raft_core/node/core.py",
    "raft_core/node/forwards.py",
    "raft_core/node/handshake.py",
    "raft_core/node/leaving.py",
    "raft_core/node/notices.py",
    "raft_core/node/outputs.py",
    "raft_core/node/patience.py",
    "raft_core/node/peer_connection.py",
    "raft_core/node/peer_table.py",
    "raft_core/node/peers.py",
    "raft_core/node/pending_request.py",
    "raft_core/node/raising.py",
    "raft_core/node/replies.py",
    "raft_core/node/requests.py",
    "raft_core/node/retries.py",
    "raft_core/node/riders.py",
    "raft_core/node/snapshot_transfer.py",
    "raft_core/node/strangers.py",
    "raft_core/node/ticks.py",
    "raft_core/node/unreached.py",
    "raft_core/node/view.py",
    "raft_core/wal/log_state.py",
    "raft_core/wire/codec.py",
    "raft_core/wire/frames.py",
]
KV = [
    "raft_kv/commands/__init__.py",
    "raft_kv/commands/table.py",
    "raft_kv/creation_order.py",
    "raft_kv/keyspace.py",
    "raft_kv/shards.py",
    "raft_kv/state_machine.py",
]
"""Modules of logic.

Interpreted stay those of values (a compiled class is neither a Struct nor an attrs class), those that call what users
write or that adapters derive from, such as `node.job_runner` and `node.loop`, and in `raft_kv` those whose loops run
long in a thread, such as `snapshot_format`, because only the interpreter lets other threads run in between.
"""


def compiler_works() -> bool:
    """Compile and link a C file that includes Python.h."""
    from setuptools._distutils.ccompiler import new_compiler
    from setuptools._distutils.sysconfig import customize_compiler

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <Python.h>\nint probe(void) { return PY_VERSION_HEX != 0; }\n")
        try:
            compiler = new_compiler()
            customize_compiler(compiler)
            objects = compiler.compile(
                [str(source)], output_dir=folder, include_dirs=[sysconfig.get_paths()["include"]]
            )
            compiler.link_shared_object(objects, str(Path(folder, "probe.so")))
        except Exception as failure:
            print(f"sansio-raft: no working C compiler ({failure}): this build is pure Python", file=sys.stderr)
            return False
    return True


def extensions() -> list[Extension]:
    """Return the compiled modules; none where they are not wanted, or not possible and not demanded."""
    if WISH not in ("", "0", "1", "auto"):
        raise SystemExit(f"RAFT_COMPILE is {WISH!r}: it may be 0, 1 or auto")
    if WISH in ("", "0") or not {"bdist_wheel", "build_ext"} & set(sys.argv) or "editable_wheel" in sys.argv:
        return []
    if WISH != "1" and not compiler_works():
        return []
    try:
        from mypyc.build import mypycify

        found: list[Extension] = mypycify(
            ["--python-version", f"{sys.version_info.major}.{sys.version_info.minor}", *CORE, *NODE, *KV],
            opt_level=os.environ.get("RAFT_COMPILE_LEVEL", "3"),
            debug_level="0",
            separate=[(CORE, "raft_core"), (NODE, "raft_node"), (KV, "raft_kv")],
        )
    except (Exception, SystemExit) as failure:  # mypycify ends the process on a type error
        if WISH == "1":
            raise
        print(f"sansio-raft: mypyc failed ({failure}): this build is pure Python", file=sys.stderr)
        return []
    return found


setup(ext_modules=extensions(), options={"build_ext": {"parallel": os.cpu_count() or 1}})
