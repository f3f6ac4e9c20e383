"""How long a server that is alone in its cluster takes from its start to its first read, by the entries in its log."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from raft_core.effects import Persist
from raft_core.entries import HardState, seal_commands
from raft_core.ids import Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_kv.demo.cluster import free_ports
from raft_kv.log_format import Calls, encode_entry, stamp
from raft_storage import FileStore

__all__ = ["restart_seconds"]

_PAGE = 1000
_VALUE = b"v" * 256
_PATIENCE = 120.0


def _fill(directory: Path, entries: int) -> None:
    """Make a data directory whose log holds so many SETs of distinct keys, all committed."""
    store = FileStore.open(directory, node=NodeId(1), cluster="raft-kv")
    store.recover()
    store.form(Members.initial([NodeId(1)], incarnations={NodeId(1): store.identity.incarnation}))
    index = 2
    while index < entries + 2:
        some = range(index, min(index + _PAGE, entries + 2))
        commands = [stamp(encode_entry(Calls(2, [[b"SET", b"%08d" % key, _VALUE]])), 1) for key in some]
        sealed = seal_commands(Index(index), Term(1), commands)
        index += len(sealed)
        state = HardState(Term(1), NodeId(1), Index(index - 1))
        store.write([Persist(WriteId(index), state, Index(0), sealed, None, Index(0))])
    store.close()


def restart_seconds(directory: Path, entries: int, loop: str, python: Sequence[str]) -> float:
    """Return the seconds from the start of the process to the reply to DBSIZE. The best of three, to warm the cache."""
    with tempfile.TemporaryDirectory(dir=directory) as data:
        _fill(Path(data), entries)
        return min(_restart(data, loop, python, entries) for _ in range(3))


def _restart(data: str, loop: str, python: Sequence[str], entries: int) -> float:
    port, peer_port = free_ports(2)
    command = [*python, "-m", "raft_kv", "serve", "--id", "1", "--data", data, "--loop", loop]
    command += ["--listen", f"127.0.0.1:{port}", "--peer-listen", f"127.0.0.1:{peer_port}"]
    for setting in ("snapshot_entries=1000000000", "snapshot_bytes=1000000000000", "log_max_bytes=1000000000000"):
        command += ["--set", setting]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAFT_KV_")}
    begin = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    try:
        while time.perf_counter() - begin < _PATIENCE:
            reply = _ask(port)
            if reply.startswith(b":"):
                took = time.perf_counter() - begin
                if int(reply[1:]) < entries:
                    raise RuntimeError(f"only {int(reply[1:])} of {entries} keys were there")
                return took
            if server.poll() is not None and server.stderr is not None:
                raise RuntimeError(server.stderr.read().decode())
            time.sleep(0.005)
        raise TimeoutError("the server does not answer")
    finally:
        server.kill()
        server.wait()
        if server.stderr is not None:
            server.stderr.close()


def _ask(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as client:
            client.settimeout(_PATIENCE)
            client.sendall(b"DBSIZE\r\n")
            return client.recv(100)
    except OSError:
        return b""
