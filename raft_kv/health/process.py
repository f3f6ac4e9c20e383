"""`ProcessFigures`: what the operating system says about this process. Figures that it does not report are missing."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, final

import attrs

from raft_core.node.prometheus import Metric, MetricKind, number

__all__ = ["ProcessFigures", "memory_in_use", "memory_peak", "process_figures", "process_metrics"]

_STARTED: Final = time.time()


@final
@attrs.frozen(kw_only=True)
class ProcessFigures:
    """Figures of this process. Times are in seconds, memory in bytes; -1 where the system does not report it."""

    cpu_seconds: float
    start_time: float
    resident_bytes: int = -1
    virtual_bytes: int = -1
    open_files: int = -1
    most_files: int = -1
    threads: int = -1


def _pages(place: int) -> int:
    """Return a figure of /proc/self/statm in bytes, -1 if there is none."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[place])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return -1


def memory_in_use() -> int:
    """Return the bytes of memory in use by this process; the peak if the system does not report it."""
    resident = _pages(1)
    return resident if resident >= 0 else memory_peak()


def memory_peak() -> int:
    """Return the peak of memory in use by this process, in bytes; 0 if the system does not report it."""
    with suppress(ImportError, OSError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return 0


def _open_files() -> int:
    with suppress(OSError):
        return len(os.listdir("/proc/self/fd"))
    return -1


def _most_files() -> int:
    with suppress(ImportError, OSError, ValueError):
        import resource

        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return -1


def process_figures() -> ProcessFigures:
    """Return the present figures."""
    return ProcessFigures(
        cpu_seconds=time.process_time(),
        start_time=_STARTED,
        resident_bytes=_pages(1),
        virtual_bytes=_pages(0),
        open_files=_open_files(),
        most_files=_most_files(),
        threads=threading.active_count(),
    )


def process_metrics(figures: ProcessFigures) -> Iterator[Metric]:
    """Yield the figures under the names that all of Prometheus's client libraries use."""
    gauge = MetricKind.GAUGE
    text = "Processor time used, user and system."
    yield number(MetricKind.COUNTER, "process_cpu_seconds_total", text, figures.cpu_seconds)
    text = "Start of the process, in seconds since 1970."
    yield number(gauge, "process_start_time_seconds", text, figures.start_time)
    for name, text, value in (
        ("process_resident_memory_bytes", "Memory in use.", figures.resident_bytes),
        ("process_virtual_memory_bytes", "Address space in use.", figures.virtual_bytes),
        ("process_open_fds", "Open file descriptors.", figures.open_files),
        ("process_max_fds", "Most open file descriptors that are allowed.", figures.most_files),
        ("process_threads", "Threads of the interpreter.", figures.threads),
    ):
        if value >= 0:
            yield number(gauge, name, text, value)
