"""Corruption: a store's reaction to flipped bits, and to records and segments that are lost, doubled or zeroed.

This is the part of the crash disk check in which the medium loses durable data. A store must refuse such a disk with an
error that names the place, or recover everything nevertheless. Records and segments are those of the shipped store's
format; every other file is changed bit by bit, whichever store wrote it.
"""

from __future__ import annotations

from typing import Final

from raft_core.errors import DiskError, LogDamaged
from raft_testing.disk.crash_disk import Call, CrashDisk
from raft_testing.disk.script import (
    Script,
    WriteBatch,
    batches_in,
    broken_copies,
    is_segment,
    plain_script,
    used_bytes,
)
from raft_testing.disk.trial import Standing, Trial

__all__ = ["EMPTY_BYTES", "LOG_BYTES", "break_records", "flip_bits"]

LOG_BYTES: Final = 16 * 1024
"""How long the log is of which every bit is flipped."""
EMPTY_BYTES: Final = 64
"""Of the empty space behind a segment's last batch, and of a file of zeros, every bit of so many bytes is flipped."""


def flip_bits(trial: Trial) -> None:
    """Every bit of a log of 16 KiB, of the empty space behind it, and of every other file is flipped once."""
    script = plain_script(trial.seed, LOG_BYTES)
    disk = _written(trial, script, orderly=False)
    budget = LOG_BYTES * 8
    flips: list[tuple[CrashDisk, Script, str, int]] = []
    for name in disk.listing():
        content = disk.content(name)
        used = used_bytes(content) * 8
        bits = min(used, budget) if is_segment(name, content) else 0
        budget -= bits
        behind = min(len(content) * 8 - used, EMPTY_BYTES * 8) if 0 < bits == used else 0
        flips.append((disk, script, name, bits + behind))
    small = _written(trial, trial.script, orderly=True)
    for name in small.listing():
        content = small.content(name)
        if not is_segment(name, content):
            count = len(content) if content.strip(b"\0") else min(len(content), EMPTY_BYTES)  # a prepared segment
            flips.append((small, trial.script, name, count * 8))
    done, total = 0, sum(bits for _, _, _, bits in flips)
    for one, then, name, bits in flips:
        _flip_each(trial, one, then, name, bits, done, total)
        done += bits


def _flip_each(trial: Trial, disk: CrashDisk, script: Script, name: str, bits: int, done: int, total: int) -> None:
    """Flip the first `bits` of the file; `done` of `total` are flipped already."""
    # A store that refuses has written nothing, so that the same disk serves again.
    flipped, changed = disk.twin(), [False]

    def note(call: Call) -> None:
        changed[0] = changed[0] or call.changes

    flipped.watch = note
    for bit in range(0, bits, trial.every):
        trial.portion((done + bit) / total)
        flipped.flip(name, bit)
        _refuses(trial, flipped, script, name, f"bit {bit} of {name} flipped", "flipped bits", damaged=bit // 8)
        if changed[0]:
            flipped, changed[0] = disk.twin(), False
            flipped.watch = note
        else:
            flipped.flip(name, bit)


def _refuses(
    trial: Trial,
    disk: CrashDisk,
    script: Script,
    name: str,
    where: str,
    kind: str,
    *,
    damaged: int,
    at_risk: int = 0,
) -> None:
    """Check that the store names the damaged file, and a position not after the byte at `damaged`.

    Or it recovers everything nevertheless, except the last `at_risk` persists.
    """
    trial.counts[f"{kind}: tried"] += 1
    try:
        store = trial.open_store(disk)
        recovered = store.recover()
    except LogDamaged as damage:
        if damage.file != name or not 0 <= damage.offset <= damaged:
            trial.violated(where, f"the error names another place: {damage}")
        trial.counts[f"{kind}: refused"] += 1
        return
    except Exception as failure:  # a store under test may raise anything
        trial.failed(where, "refused without naming file and offset", failure)
    whole = len(script.states) - 1
    trial.must_hold(store, recovered, Standing(whole - at_risk, whole), script, where)
    store.close()
    trial.counts[f"{kind}: harmless"] += 1


def _written(trial: Trial, script: Script, *, orderly: bool) -> CrashDisk:
    """Return a disk after a whole history: after an orderly close, or after a power loss with all acknowledged."""
    disk = CrashDisk()
    for _ in trial.play(disk, Standing(), script, orderly=orderly):
        pass
    return disk.crash()


def break_records(trial: Trial) -> None:
    """Drop, repeat and zero every record of the log, and remove every file of it.

    Without an orderly close, no data proves the very last record acknowledged: it may be missing.
    """
    segments: list[tuple[CrashDisk, Script, str, bool]] = []
    for script in (plain_script(trial.seed, LOG_BYTES), trial.script):
        for orderly in (True, False):
            disk = _written(trial, script, orderly=orderly)
            names = [name for name in disk.listing() if is_segment(name, disk.content(name))]
            segments += [(disk, script, name, name == names[-1] and not orderly) for name in names]
    for at, (disk, script, name, unproven) in enumerate(segments):
        _break_each(trial, disk, script, name, at / len(segments), (at + 1) / len(segments), unproven=unproven)
        without = disk.twin()
        without.remove(name)
        _refuses_missing(trial, without, script, name)


def _break_each(
    trial: Trial, disk: CrashDisk, script: Script, name: str, begin: float, end: float, *, unproven: bool
) -> None:
    """Break each batch of the file: the part of the work from `begin` to `end`, of 1."""
    content = disk.content(name)
    batches = batches_in(content)
    last = script.steps[-1]
    assert type(last) is WriteBatch
    for number, (start, stop) in enumerate(batches):
        trial.portion(begin + (end - begin) * number / len(batches))
        at_risk = len(last.batch) if unproven and (start, stop) == batches[-1] else 0
        for what, broken in broken_copies(content, start, stop):
            changed = disk.twin()
            changed.overwrite(name, broken)
            where = f"record at {start} of {name} {what}"
            _refuses(trial, changed, script, name, where, f"records {what}", damaged=stop, at_risk=at_risk)


def _refuses_missing(trial: Trial, disk: CrashDisk, script: Script, name: str) -> None:
    trial.counts["segments removed: tried"] += 1
    try:
        store = trial.open_store(disk)
        recovered = store.recover()
    except Exception as failure:  # a store under test may raise anything
        if not isinstance(failure, DiskError) or name not in str(failure):
            trial.failed(f"{name} removed", "the error does not name it", failure)
        trial.counts["segments removed: refused"] += 1
        return
    whole = Standing(len(script.states) - 1, len(script.states) - 1)
    trial.must_hold(store, recovered, whole, script, f"{name} removed")
