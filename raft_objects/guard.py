"""`watched`: finds what a command must not use, by name and line: real clocks, global random numbers, the system's.

It looks at every call of one thread through `sys.setprofile`, so it does not matter under which name a function was
imported. That costs several times the command's own time; it is for development and the simulator.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, Final

from raft_objects.errors import NotDeterministic

__all__ = ["watched"]

_CLOCKS: Final = (
    "time",
    "time_ns",
    "monotonic",
    "monotonic_ns",
    "perf_counter",
    "perf_counter_ns",
    "process_time",
    "localtime",
    "gmtime",
)
_C_FUNCTIONS: Final[dict[Any, str]] = {
    **{getattr(time, name): f"time.{name}" for name in _CLOCKS},
    os.urandom: "os.urandom",
    os.getpid: "os.getpid",
    id: "id",
    open: "open",
}
_PYTHON_FUNCTIONS: Final[dict[CodeType, str]] = {
    uuid.uuid1.__code__: "uuid.uuid1",
    uuid.uuid4.__code__: "uuid.uuid4",
    random.SystemRandom.random.__code__: "random.SystemRandom",
    random.SystemRandom.getrandbits.__code__: "random.SystemRandom",
}
_CLASS_METHODS: Final = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}
_GLOBAL_RANDOM: Final = getattr(random.random, "__self__", None)
_REMEDIES: Final = {"random": "self.random", "uuid": "self.random", "os.": "an argument of the command"}


@contextmanager
def watched(command: str) -> Iterator[None]:
    """Raise `NotDeterministic` from a call that replicas would answer differently, and again at the end."""
    found: list[NotDeterministic] = []

    def look(frame: FrameType, event: str, argument: Any) -> None:
        name = ""
        if event == "c_call":
            name = _c_name(argument)
        elif event == "call":
            name = _PYTHON_FUNCTIONS.get(frame.f_code, "")
            frame = frame.f_back or frame
        if name:
            found.append(_error(command, name, frame))
            raise found[-1]

    before: Callable[..., Any] | None = sys.getprofile()
    collects = gc.isenabled()
    gc.disable()  # what the collector calls, in whatever command it happens to begin, is not the command's
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
        if found:
            raise found[0]


def _c_name(called: Any) -> str:
    owner, name = getattr(called, "__self__", None), getattr(called, "__name__", "")
    if owner is _GLOBAL_RANDOM:
        return f"random.{name}"
    if isinstance(owner, type) and (owner.__name__, name) in _CLASS_METHODS:
        return f"{owner.__name__}.{name}"
    try:
        return _C_FUNCTIONS.get(called, "")
    except TypeError:  # a method of something that cannot be hashed
        return ""


def _error(command: str, name: str, frame: FrameType) -> NotDeterministic:
    where: FrameType | None = frame
    while where is not None and _is_library(where):
        where = where.f_back
    where = where or frame
    remedy = next((text for part, text in _REMEDIES.items() if name.startswith(part)), "self.now")
    return NotDeterministic(
        f"{command} uses {name} in {where.f_code.co_filename}, line {where.f_lineno}: replicas would differ."
        f" Use {remedy}"
    )


def _is_library(frame: FrameType) -> bool:
    """Return whether the frame is the standard library's own: the line to name is the caller's."""
    return frame.f_globals.get("__name__") in ("random", "uuid", "secrets")
