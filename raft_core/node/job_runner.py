"""`JobRunner`: runs the jobs of a node against its store and state machine, and returns their reports.

Plain and synchronous. Only this module calls store and machine, so every adapter does it the same way. It does not
raise: errors of the disk or the machine are in the reports.

Each lane is called by one worker at a time; two lanes may run at the same time. They share no state here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, final

from raft_core.effects import Apply, Persist, Restore, TakeSnapshot
from raft_core.entries import SnapshotMeta
from raft_core.errors import CallerError, DiskError, LogDamaged, RaftError, StorageBroken
from raft_core.events import Applied, Persisted, Restored, SnapshotFailed, SnapshotTaken
from raft_core.ids import NO_INDEX, Index
from raft_core.node.backup_pieces import BackupPieces
from raft_core.node.events import (
    ChunkRead,
    ChunkStored,
    Formed,
    JobFailed,
    MachineTime,
    NodeEvent,
    QueryAnswered,
    QueryFailed,
    SnapshotBegun,
    SnapshotComplete,
)
from raft_core.node.jobs import (
    CloseBackups,
    DropReceived,
    FormCluster,
    Job,
    Lane,
    Query,
    ReadChunk,
    ReadPiece,
    StoreChunk,
    StoreSnapshot,
)
from raft_core.node.raising import broken_apply, broken_call, broken_restore, described
from raft_core.state_machine import StateMachine, latest_time, unanswered
from raft_core.store import SnapshotReader, SnapshotWriter, Store

__all__ = ["JobRunner"]

_MOST_RESULT_BYTES: Final = 1024 * 1024
"""Results of the machine beyond this size are reported before the next entry is applied."""
_MOST_AT_ONCE: Final = 256
"""Commands handed to the machine's `apply_unanswered`."""
_MOST_READERS: Final = 2
"""Snapshots kept open for peers: the current one, and one that is still being fetched."""


@final
class JobRunner:
    """Runs the jobs of one node. `machine_blocks`: applying can take long enough to need a thread."""

    def __init__(self, store: Store, machine: StateMachine, *, machine_blocks: bool = False) -> None:
        self._store = store
        self._machine = machine
        self._apply_unanswered = unanswered(machine)
        self._is_long: Callable[[bytes], bool] | None = getattr(machine, "is_long", None)
        self._snapshot_is_long: Callable[[], bool] | None = getattr(machine, "snapshot_is_long", None)
        self._machine_blocks = machine_blocks
        self._machine_failed = False
        self._readers: dict[tuple[int, int], SnapshotReader] = {}
        self._backups = BackupPieces(store)
        self._writer: SnapshotWriter | None = None  # of the incoming snapshot
        self._writing: tuple[SnapshotMeta, str] | None = None
        self._completed: SnapshotMeta | None = None
        self.stored_bytes = 0  # of the last snapshot of this machine

    def inline(self, lane: Lane) -> bool:
        """Return whether the loop runs this lane itself, except for jobs that block."""
        return lane is Lane.APPLY and not self._machine_blocks

    def take_blocking(self, jobs: deque[Job]) -> Job | None:
        """Remove and return the first of `jobs` if it needs a thread even in an inline lane.

        From a page that begins with a long command, take this command alone; the rest stays.
        """
        if not jobs or not self._blocks(jobs[0]):
            return None
        job = jobs.popleft()
        if type(job) is Apply and len(job.commands) > 1:
            jobs.appendleft(Apply(job.upto, job.commands[1:], job.wanted))
            return Apply(job.commands[0][0], job.commands[:1], job.wanted)
        return job

    def _blocks(self, job: Job) -> bool:
        """Return whether the job, or the first command of its page, takes long.

        Restoring reads the disk, in proportion to the state. For the rest the machine decides.
        """
        if type(job) is Apply:
            return bool(job.commands) and self._says_long(job.commands[0][1])
        if type(job) is Query:
            return self._says_long(job.request)
        if type(job) is TakeSnapshot:
            return self._snapshot_is_long is not None and _certainly(self._snapshot_is_long)
        return type(job) is Restore

    def _says_long(self, request: bytes) -> bool:
        """Return the machine's answer. A request for which it raises is not long: `apply` will judge it."""
        return self._is_long is not None and _certainly(self._is_long, request)

    def run(self, lane: Lane, jobs: Sequence[Job]) -> list[NodeEvent]:
        """Run all jobs and return their reports, in order. After a failure that ends the lane, skip the rest."""
        if lane is Lane.WRITE:
            return self._run_writes(jobs)
        reports: list[NodeEvent] = []
        if lane is Lane.APPLY:
            queue = deque(jobs)
            while queue:
                reports += self.run_machine(queue, _never)
            return reports
        for job in jobs:
            if isinstance(job, StoreSnapshot):
                reports.append(self._store_snapshot(job))
            elif isinstance(job, ReadChunk):
                reports.append(self._read_chunk(job))
            elif isinstance(job, StoreChunk):
                reports.append(self._store_chunk(job))
            elif isinstance(job, DropReceived):
                self._drop_received()
            elif isinstance(job, ReadPiece):
                reports.append(self._read_piece(job))
            elif isinstance(job, CloseBackups):
                self._backups.close()
            else:
                raise CallerError(f"{type(job).__name__} does not belong in the lane {lane.value}")
        return reports

    # The write lane.

    def _run_writes(self, jobs: Sequence[Job]) -> list[NodeEvent]:
        reports: list[NodeEvent] = []
        batch: list[Persist] = []
        for job in jobs:
            if isinstance(job, Persist):
                batch.append(job)
            elif isinstance(job, FormCluster):
                reports.append(self._form(job))
            else:
                raise CallerError(f"{type(job).__name__} does not belong in the write lane")
        if batch:
            reports.append(self._write(batch))
        return reports

    def _form(self, job: FormCluster) -> NodeEvent:
        try:
            return Formed(self._store.form(job.members))
        except Exception as failure:
            return JobFailed(Lane.WRITE, _disk_error(failure))

    def _write(self, batch: list[Persist]) -> NodeEvent:
        try:
            self._store.write(batch)
        except Exception as failure:
            return JobFailed(Lane.WRITE, _disk_error(failure))
        return Persisted(batch[-1].write)

    # The apply lane.

    def run_machine(self, jobs: deque[Job], enough: Callable[[], bool], *, in_loop: bool = False) -> list[NodeEvent]:
        """Do jobs of the apply lane from the left, until `enough()` or until the reports are large. Return the reports.

        `enough` is called after each command and each other job. `in_loop`: also stop before anything `take_blocking`
        takes. The unfinished part stays in `jobs`, including the rest of a page; otherwise at least one command or job
        is done. Adjacent pages make one report. An exception in `apply` skips nothing: the lane is finished, and
        `jobs` is emptied.
        """
        finished = False
        try:
            reports = self._run_machine(jobs, enough, in_loop=in_loop)
            finished = True
            return self._with_time(reports)
        except CallerError:  # a job of another lane: the machine is untouched
            finished = True
            raise
        finally:
            if not finished:  # a machine may raise SystemExit: apply nothing after it
                self._machine_failed = True
                jobs.clear()

    def _with_time(self, reports: list[NodeEvent]) -> list[NodeEvent]:
        """Put the machine's present time before the last report of applied commands."""
        for place in reversed(range(len(reports))):
            if type(reports[place]) is Applied:
                try:
                    time = latest_time(self._machine)
                except Exception as failure:
                    self._machine_failed = True
                    reports[place:] = [JobFailed(Lane.APPLY, broken_call(self._machine, "latest_time", failure))]
                    break
                if time:
                    reports.insert(place, MachineTime(time))
                break
        return reports

    def _run_machine(self, jobs: deque[Job], enough: Callable[[], bool], *, in_loop: bool) -> list[NodeEvent]:
        reports: list[NodeEvent] = []
        if self._machine_failed:
            jobs.clear()
            return reports
        done = _Applied()
        held = 0
        while jobs and not (in_loop and self._blocks(jobs[0])):
            job = jobs.popleft()
            if type(job) is Apply:
                failed = self._apply(job, done, jobs, enough, in_loop=in_loop)
                if failed is not None:
                    self._machine_failed = True
                    jobs.clear()
                    done.into(reports)  # callers of the entries before it get their answers
                    reports.append(failed)
                    return reports
                if done.paused:
                    break
                continue
            done.into(reports)
            report, *more = self._run_rare(job)
            reports += (report, *more)
            if type(report) is JobFailed:
                self._machine_failed = True
                jobs.clear()
                return reports
            held += len(report.data) if type(report) is QueryAnswered else 0
            if enough() or held > _MOST_RESULT_BYTES:
                break
        done.into(reports)
        return reports

    def _apply(
        self, job: Apply, done: _Applied, jobs: deque[Job], enough: Callable[[], bool], *, in_loop: bool
    ) -> JobFailed | None:
        """Apply the page into `done` until it is enough; put the rest back into `jobs`."""
        apply, wanted = self._machine.apply, deque(job.wanted)
        commands, place = job.commands, 0
        while place < len(commands):
            index, command = commands[place]
            while wanted and wanted[0][1] < index:
                wanted.popleft()
            try:
                count = self._skip_results(commands, place, wanted[0][0] if wanted else None)
            except Exception as failure:
                return JobFailed(Lane.APPLY, broken_call(self._machine, "apply_unanswered", failure))
            if count:
                place += count
                done.add_unanswered(commands[place - 1][0], count)
            else:
                try:
                    result = _bytes(apply(index, command))
                except Exception as failure:
                    return JobFailed(Lane.APPLY, broken_apply(self._machine, index, command, failure))
                place += 1
                if wanted and wanted[0][0] <= index:
                    done.add_wanted(index, result)
                else:
                    done.add_unanswered(index, 1)
            next_is_long = in_loop and place < len(commands) and self._says_long(commands[place][1])
            done.paused = enough() or done.size > _MOST_RESULT_BYTES or next_is_long
            if done.paused and place < len(commands):
                jobs.appendleft(Apply(job.upto, commands[place:], tuple(wanted)))
                return None
        done.last = job.upto
        return None

    def _skip_results(self, commands: tuple[tuple[Index, bytes], ...], place: int, wanted: Index | None) -> int:
        """Let the machine apply as many commands as it will at once, from `place` on, before the first wanted one.

        Return how many; 0 if the next one has to be applied by itself.
        """
        apply_unanswered = self._apply_unanswered
        if apply_unanswered is None:
            return 0
        some = commands[place : place + _MOST_AT_ONCE]
        if wanted is not None:
            some = some[: bisect_left(some, wanted, key=_index_of)]
        if len(some) < 2:
            return 0
        count = apply_unanswered(some)
        if not (isinstance(count, int) and 0 <= count <= len(some)):
            raise TypeError(f"it was given {len(some)} commands and says to have applied {count!r}")
        return count

    def _run_rare(self, job: Job) -> tuple[NodeEvent, ...]:
        if isinstance(job, Query):
            try:
                return (QueryAnswered(job.ticket, _bytes(self._machine.query(job.request))),)
            except Exception as failure:
                return (QueryFailed(job.ticket, f"the state machine raised {described(failure)} for this query"),)
        if isinstance(job, TakeSnapshot):
            try:
                return (SnapshotBegun(job.meta, iter(self._machine.snapshot())),)
            except Exception as failure:
                return (SnapshotFailed(job.meta.index, f"the state machine raised {described(failure)} in snapshot()"),)
        if isinstance(job, Restore):
            return self._restore(job.meta)
        raise CallerError(f"{type(job).__name__} does not belong in the apply lane")

    def _restore(self, meta: SnapshotMeta) -> tuple[NodeEvent, ...]:
        try:
            reader = self._store.open_snapshot(meta)
            try:
                self._machine.restore(reader.chunks())
            finally:
                reader.close()
            time = latest_time(self._machine)
        except DiskError as failure:
            return (JobFailed(Lane.APPLY, failure),)
        except Exception as failure:
            return (JobFailed(Lane.APPLY, broken_restore(self._machine, meta.index, failure)),)
        restored = Restored(meta.index)
        return (MachineTime(time), restored) if time else (restored,)

    # Our own snapshots.

    def _store_snapshot(self, job: StoreSnapshot) -> NodeEvent:
        writer: SnapshotWriter | None = None
        try:
            writer = self._store.create_snapshot(job.meta)
            size = 0
            for chunk in job.chunks:
                writer.write(chunk)
                size += len(chunk)
            writer.finish()
            self.stored_bytes = size
        except Exception as failure:  # of the disk or of the machine; the snapshot is ordered again later
            _close(job.chunks)
            if writer is not None:
                with suppress(Exception):
                    writer.abort()
            if isinstance(failure, StorageBroken):
                return _broken(failure)
            return SnapshotFailed(
                job.meta.index, f"the snapshot at {job.meta.index} was not stored: {described(failure)}"
            )
        return SnapshotTaken(job.meta)

    # Snapshots on their way.

    def _read_chunk(self, job: ReadChunk) -> NodeEvent:
        meta = job.meta
        try:
            reader = self._reader(meta)
            data = reader.read(job.offset, job.length) if job.offset <= reader.size else b""
            return ChunkRead(job.peer, meta, job.offset, reader.size, data)
        except (StorageBroken, LogDamaged) as failure:  # a kept snapshot has changed on the disk: end the node
            return _broken(failure)
        except DiskError:  # only the asker is affected; it will be offered another snapshot
            return self._gone(job)
        except Exception as failure:
            return self._gone(job, f"the snapshot at {meta.index} cannot be given to others: {described(failure)}")

    def _read_piece(self, job: ReadPiece) -> NodeEvent:
        try:
            return QueryAnswered(job.ticket, self._backups.read(job.meta, job.piece, job.label))
        except (StorageBroken, LogDamaged) as failure:  # as for peers: our state has changed on the disk
            return _broken(failure)
        except Exception as failure:
            return QueryFailed(job.ticket, f"the backup at {job.meta.index} cannot be read: {described(failure)}")

    def _gone(self, job: ReadChunk, text: str = "") -> ChunkRead:
        self._close_reader((job.meta.index, job.meta.term))
        return ChunkRead(job.peer, job.meta, job.offset, 0, b"", gone=True, text=text)

    def _reader(self, meta: SnapshotMeta) -> SnapshotReader:
        key = (meta.index, meta.term)
        reader = self._readers.get(key)
        if reader is None:
            reader = self._store.open_snapshot(meta)
            while len(self._readers) >= _MOST_READERS:
                self._close_reader(min(self._readers))
            self._readers[key] = reader
        return reader

    def _close_reader(self, key: tuple[int, int]) -> None:
        reader = self._readers.pop(key, None)
        if reader is not None:
            with suppress(Exception):
                reader.close()

    def _store_chunk(self, job: StoreChunk) -> NodeEvent:
        """Write the bytes if they belong at the current offset; otherwise report that offset."""
        if job.meta == self._completed:
            return SnapshotComplete(job.meta)
        try:
            writer = self._writer_for(job.meta, job.source)
            if writer.offset == job.offset:
                if job.data:
                    writer.write(job.data)
                if job.last:
                    writer.finish()
                    self._writer, self._writing, self._completed = None, None, job.meta
                    return SnapshotComplete(job.meta)
            return ChunkStored(job.meta, writer.offset)
        except StorageBroken as failure:
            return _broken(failure)
        except Exception as failure:
            self._drop_received()
            return JobFailed(Lane.CHUNKS, _disk_error(failure))

    def _writer_for(self, meta: SnapshotMeta, source: str) -> SnapshotWriter:
        if self._writer is None or self._writing != (meta, source):
            self._writer, self._writing = None, None
            self._writer = self._store.resume_snapshot(meta, source)
            self._writing = (meta, source)
        return self._writer

    def close(self) -> None:
        """Close the snapshots open for peers and backups. Call it when all lanes have stopped."""
        self._backups.close()
        for key in list(self._readers):
            self._close_reader(key)

    def _drop_received(self) -> None:
        writer, self._writer, self._writing = self._writer, None, None
        if writer is not None:
            with suppress(Exception):
                writer.abort()


@final
class _Applied:
    """Commands applied since the last report: the last index, and the wanted results, of `size` bytes."""

    __slots__ = ("_results", "_wanted", "last", "paused", "size")

    def __init__(self) -> None:
        self.last = NO_INDEX
        self._results: list[bytes] = []
        self._wanted = False
        self.size = 0
        self.paused = False

    def add_unanswered(self, index: Index, count: int) -> None:
        self.last = index
        self._results += [b""] * count

    def add_wanted(self, index: Index, result: bytes) -> None:
        self.last = index
        self._results.append(result)
        self._wanted = True
        self.size += len(result)

    def into(self, reports: list[NodeEvent]) -> None:
        """Append a report if anything was applied; leave out the results if none is wanted."""
        if self.last != NO_INDEX:
            reports.append(Applied(self.last, tuple(self._results) if self._wanted else ()))
            self.last, self._results, self._wanted, self.size = NO_INDEX, [], False, 0


def _index_of(command: tuple[Index, bytes]) -> Index:
    return command[0]


def _certainly(says: Callable[..., bool], *about: bytes) -> bool:
    """Return whether a machine's method says yes. An exception means no: it is user code, called in the loop."""
    try:
        return bool(says(*about))
    except Exception:
        return False


def _never() -> bool:
    return False


def _bytes(given: object) -> bytes:
    """Check a machine's return value: it must be bytes."""
    if not isinstance(given, bytes):
        raise TypeError(f"a state machine gives bytes, not {type(given).__name__}")
    return given


def _disk_error(failure: Exception) -> RaftError:
    if isinstance(failure, DiskError):
        return failure
    return _caused(StorageBroken(f"the store raised {described(failure)}; nothing more is acknowledged"), failure)


def _broken(failure: StorageBroken | LogDamaged) -> JobFailed:
    """Fail the node: a broken store accepts no job in any lane, even if nothing is to be written now.

    A node that lived on would refuse every offered snapshot for ever.
    """
    return JobFailed(Lane.WRITE, failure)


def _caused(error: RaftError, cause: Exception) -> RaftError:
    error.__cause__ = cause
    return error


def _close(chunks: Iterator[bytes]) -> None:
    """Close an iterator that holds a state of the machine."""
    close = getattr(chunks, "close", None)
    if close is not None:
        with suppress(Exception):
            close()
