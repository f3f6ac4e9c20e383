"""What the workers do: every job against a store and a machine, and what is reported when either fails."""

from __future__ import annotations

import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest

from raft_core.effects import Apply, Persist, Restore, TakeSnapshot
from raft_core.entries import MEMBERS, HardState, SnapshotMeta
from raft_core.errors import CallerError, MachineBroken, StorageBroken
from raft_core.events import Applied, Persisted, Restored, SnapshotFailed, SnapshotTaken
from raft_core.ids import Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.node import JobRunner
from raft_core.node.events import (
    ChunkRead,
    ChunkStored,
    Formed,
    JobFailed,
    QueryAnswered,
    QueryFailed,
    SnapshotBegun,
    SnapshotComplete,
)
from raft_core.node.jobs import DropReceived, FormCluster, Job, Lane, Query, ReadChunk, StoreChunk, StoreSnapshot
from raft_core.store import SnapshotWriter
from raft_storage import MemoryStore

MEMBERS_1 = Members.initial([1])
META = SnapshotMeta(Index(5), Term(1), MEMBERS_1, Index(1))
PEER = NodeId(2)


class Machine:
    def __init__(self) -> None:
        self.applied: list[tuple[int, bytes]] = []
        self.restored = b""

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        return command

    def apply(self, index: Index, command: bytes) -> bytes:
        if command == b"poison":
            raise RuntimeError("cannot")
        self.applied.append((index, command))
        return b"r%d" % index

    def query(self, request: bytes) -> bytes:
        if request == b"bad":
            raise ValueError("what?")
        return b"%d" % len(self.applied)

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"abc", b"defg"])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.restored = b"".join(chunks)
        if self.restored == b"unreadable":
            raise ValueError("cannot restore")


class CountingStore:
    """A memory store that counts its writes."""

    def __init__(self) -> None:
        self.store = MemoryStore(1)
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def write(self, batch: Sequence[Persist]) -> None:
        self.batches.append(len(batch))
        self.store.write(batch)


def a_work() -> tuple[JobRunner, Machine, MemoryStore]:
    machine, store = Machine(), MemoryStore(1)
    return JobRunner(store, machine), machine, store


def persist(number: int) -> Persist:
    return Persist(WriteId(number), hard=HardState(Term(number)))


def page(*commands: bytes, first: int = 1, wanted: tuple[tuple[int, int], ...] | None = None) -> Apply:
    """An order to apply commands, whose results are all wanted unless `wanted` says otherwise."""
    last = first + len(commands) - 1
    made = tuple((Index(first + n), command) for n, command in enumerate(commands))
    pairs = ((first, last),) if wanted is None else wanted
    return Apply(Index(last), made, tuple((Index(one), Index(other)) for one, other in pairs))


class Long(Machine):
    """A machine with long results, some of whose calls take long."""

    def apply(self, index: Index, command: bytes) -> bytes:
        return super().apply(index, command) + bytes(400_000 if command == b"big" else 0)

    def is_long(self, request: bytes) -> bool:
        return request == b"long"


def after(count: int) -> Callable[[], bool]:
    left = iter(range(count - 1))
    return lambda: next(left, None) is None


def stored(store: MemoryStore, state: bytes, meta: SnapshotMeta = META) -> None:
    writer = store.create_snapshot(meta)
    writer.write(state)
    writer.finish()


def test_only_a_machine_that_blocks_needs_a_thread() -> None:
    assert JobRunner(MemoryStore(1), Machine()).inline(Lane.APPLY)
    assert not JobRunner(MemoryStore(1), Machine(), machine_blocks=True).inline(Lane.APPLY)
    assert not any(JobRunner(MemoryStore(1), Machine()).inline(lane) for lane in Lane if lane is not Lane.APPLY)


def test_all_writes_of_one_call_share_one_sync() -> None:
    store = CountingStore()
    work = JobRunner(store, Machine())  # type: ignore[arg-type]

    assert work.run(Lane.WRITE, [persist(1), persist(2), persist(3)]) == [Persisted(WriteId(3))]
    assert store.batches == [3]
    assert work.run(Lane.WRITE, []) == []


def test_a_failed_write_is_reported_with_its_error_and_nothing_is_acknowledged_after_it() -> None:
    work, _, store = a_work()
    store.fail("disk full")

    (report,) = work.run(Lane.WRITE, [persist(1)])
    assert isinstance(report, JobFailed)
    assert isinstance(report.error, StorageBroken)
    assert "disk full" in str(report.error)
    assert type(work.run(Lane.WRITE, [persist(2)])[0]) is JobFailed


def test_an_error_that_is_none_of_ours_is_the_stores_failure_too() -> None:
    class Broken(CountingStore):
        def write(self, batch: Sequence[Persist]) -> None:
            raise OSError(28, "No space left on device")

    (report,) = JobRunner(Broken(), Machine()).run(Lane.WRITE, [persist(1)])  # type: ignore[arg-type]

    assert isinstance(report, JobFailed)
    assert isinstance(report.error, StorageBroken)
    assert isinstance(report.error.__cause__, OSError)


def test_forming_writes_the_first_entry() -> None:
    work, _, store = a_work()

    members = Members.initial([1], incarnations={NodeId(1): store.identity.incarnation})

    (report,) = work.run(Lane.WRITE, [FormCluster(members)])
    assert isinstance(report, Formed)
    assert [entry.kind for entry in report.recovered.entries] == [MEMBERS]
    assert type(work.run(Lane.WRITE, [FormCluster(members)])[0]) is JobFailed


def test_report_reaches_to_the_end_of_the_page_and_has_one_result_per_command() -> None:
    work, machine, _ = a_work()
    one = Apply(Index(4), ((Index(3), b"c"),), ((Index(3), Index(3)),))

    assert work.run(Lane.APPLY, [Apply(Index(2))]) == [Applied(Index(2), ())]
    assert work.run(Lane.APPLY, [one, Apply(Index(5))]) == [Applied(Index(5), (b"r3",))]
    assert machine.applied == [(3, b"c")]


def test_results_for_which_no_client_waits_are_dropped_where_they_arise() -> None:
    work, machine, _ = a_work()
    some = page(b"a", b"b", b"c", b"d", wanted=((1, 1), (3, 3)))

    assert work.run(Lane.APPLY, [page(b"x", b"y", wanted=())]) == [Applied(Index(2), ())]
    assert work.run(Lane.APPLY, [some]) == [Applied(Index(4), (b"r1", b"", b"r3", b""))]
    assert len(machine.applied) == 6


def test_the_replay_of_long_results_holds_one_of_them_at_a_time() -> None:
    """700 transactions with a reply of 1 MB each took more than 700 MB, again at every start."""

    class Counting(Machine):
        def apply(self, index: Index, command: bytes) -> bytes:
            return bytes(1_000_000)

    work = JobRunner(MemoryStore(1), Counting())
    tracemalloc.start()
    reports = work.run(Lane.APPLY, [page(*[b"x"] * 350, wanted=()), page(*[b"x"] * 350, first=351, wanted=())])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert reports == [Applied(Index(700), ())]
    assert peak < 8_000_000


def test_a_report_holds_no_more_than_a_bound_of_results() -> None:
    work = JobRunner(MemoryStore(1), Long())
    jobs: deque[Job] = deque([page(*[b"big"] * 10), Query(1, b"")])

    parts = []
    while jobs:
        parts.append(work.run_machine(jobs, lambda: False))

    applied = [report for part in parts for report in part]
    assert [report.upto for report in applied if isinstance(report, Applied)] == [3, 6, 9, 10]
    assert [type(report) for report in parts[-1]] == [Applied, QueryAnswered]


def test_the_machine_is_given_no_more_when_it_is_enough_and_the_rest_stays() -> None:
    work, machine, _ = a_work()
    jobs: deque[Job] = deque([page(b"a", b"b", b"c"), Query(1, b""), page(b"d", first=4)])

    assert work.run_machine(jobs, after(2)) == [Applied(Index(2), (b"r1", b"r2"))]
    assert work.run_machine(jobs, after(1)) == [Applied(Index(3), (b"r3",))]
    assert work.run_machine(jobs, after(1)) == [QueryAnswered(1, b"3")]
    assert work.run_machine(jobs, after(1)) == [Applied(Index(4), (b"r4",))]
    assert not jobs
    assert len(machine.applied) == 4


def test_a_long_entry_or_query_takes_a_thread_alone() -> None:
    work = JobRunner(MemoryStore(1), Long())
    jobs: deque[Job] = deque([page(b"a", b"long", b"c"), Query(1, b"long")])

    assert work.take_blocking(jobs) is None
    assert work.run_machine(jobs, lambda: False, in_loop=True) == [Applied(Index(1), (b"r1",))]
    assert work.run_machine(jobs, lambda: False, in_loop=True) == []
    alone = work.take_blocking(jobs)
    assert isinstance(alone, Apply)
    assert work.run(Lane.APPLY, [alone]) == [Applied(Index(2), (b"r2",))]
    assert work.run_machine(jobs, lambda: False, in_loop=True) == [Applied(Index(3), (b"r3",))]
    assert work.take_blocking(jobs) == Query(1, b"long")
    assert not jobs


class Short(Long):
    """A machine with a shorter way for commands that begin with `x`. `says`: the number that it returns instead."""

    says: object = None

    def __init__(self) -> None:
        super().__init__()
        self.given: list[list[int]] = []

    def apply_unanswered(self, commands: Sequence[tuple[Index, bytes]]) -> int:
        self.given.append([index for index, _ in commands])
        if self.says is not None:
            return self.says  # type: ignore[return-value]
        count = 0
        for index, command in commands:
            if command[:1] != b"x":
                break
            self.applied.append((index, command))
            count += 1
        return count


def test_commands_whose_results_are_not_wanted_are_applied_together() -> None:
    machine = Short()
    work = JobRunner(MemoryStore(1), machine)

    reports = work.run(Lane.APPLY, [page(b"x", b"x", b"b", b"x", b"x", b"x", b"x", first=5, wanted=((9, 9),))])

    assert reports == [Applied(Index(11), (b"", b"", b"", b"", b"r9", b"", b""))]
    assert [index for index, _ in machine.applied] == [5, 6, 7, 8, 9, 10, 11]
    assert machine.given == [[5, 6, 7, 8], [7, 8], [10, 11]]  # never the one that is wanted


def test_page_applied_together_stops_when_it_is_enough_and_before_what_is_long() -> None:
    machine = Short()
    work = JobRunner(MemoryStore(1), machine)
    jobs: deque[Job] = deque([page(*[b"x"] * 300, b"long", b"x", b"x", wanted=())])

    assert work.run_machine(jobs, after(1), in_loop=True) == [Applied(Index(256))]
    assert work.run_machine(jobs, lambda: False, in_loop=True) == [Applied(Index(300))]
    alone = work.take_blocking(jobs)
    assert isinstance(alone, Apply)
    assert work.run(Lane.APPLY, [alone]) == [Applied(Index(301))]
    assert work.run_machine(jobs, lambda: False, in_loop=True) == [Applied(Index(303))]


@pytest.mark.parametrize("says", [-1, 3, "2"])
def test_machine_that_miscounts_what_it_applied_ends_the_lane(says: object) -> None:
    machine = Short()
    machine.says = says
    work = JobRunner(MemoryStore(1), machine)

    (report,) = work.run(Lane.APPLY, [page(b"x", b"x", wanted=())])

    assert isinstance(report, JobFailed)
    assert isinstance(report.error, MachineBroken)
    assert report.error.operation == "apply_unanswered"
    assert work.run(Lane.APPLY, [page(b"x", first=3)]) == []


def test_nothing_is_applied_after_a_machine_that_ends_its_thread() -> None:
    class Exiting(Machine):
        def apply(self, index: Index, command: bytes) -> bytes:
            raise SystemExit

    work = JobRunner(MemoryStore(1), Exiting())
    jobs: deque[Job] = deque([page(b"a", b"b")])
    with pytest.raises(SystemExit):
        work.run_machine(jobs, lambda: False)

    assert not jobs
    assert work.run(Lane.APPLY, [page(b"c")]) == []


def test_neighbouring_pages_make_one_report_and_queries_keep_their_place() -> None:
    work, _, _ = a_work()
    jobs: list[Job] = [page(b"a"), page(b"b", first=2), Query(1, b""), page(b"c", first=3)]
    jobs += [Query(2, b""), Query(3, b"bad")]

    assert work.run(Lane.APPLY, jobs) == [
        Applied(Index(2), (b"r1", b"r2")),
        QueryAnswered(1, b"2"),
        Applied(Index(3), (b"r3",)),
        QueryAnswered(2, b"3"),
        QueryFailed(3, "the state machine raised ValueError: what? for this query"),
    ]


def test_an_exception_in_apply_ends_the_lane_and_skips_nothing() -> None:
    work, machine, _ = a_work()

    applied, report = work.run(Lane.APPLY, [page(b"a", b"poison", b"c"), Query(1, b"")])
    assert isinstance(applied, Applied)
    assert applied.upto == 1
    assert isinstance(report, JobFailed)
    assert isinstance(report.error, MachineBroken)
    assert (report.error.operation, report.error.index, report.error.command) == ("apply", 2, b"poison")
    assert machine.applied == [(1, b"a")]
    assert work.run(Lane.APPLY, [page(b"d", first=4)]) == []
    assert machine.applied == [(1, b"a")]


def test_a_snapshot_is_begun_in_the_apply_lane_and_stored_in_its_own() -> None:
    work, _, store = a_work()
    (begun,) = work.run(Lane.APPLY, [TakeSnapshot(META)])
    assert isinstance(begun, SnapshotBegun)

    assert work.run(Lane.SNAPSHOT, [StoreSnapshot(META, begun.chunks)]) == [SnapshotTaken(META)]
    assert store.open_snapshot(META).read(0, 100) == b"abcdefg"


def test_a_snapshot_that_cannot_be_finished_leaves_nothing_and_is_told() -> None:
    work, _, store = a_work()

    def chunks() -> Iterator[bytes]:
        yield b"abc"
        raise MemoryError("too big")

    (report,) = work.run(Lane.SNAPSHOT, [StoreSnapshot(META, chunks())])
    assert isinstance(report, SnapshotFailed)
    assert "MemoryError: too big" in report.text
    with pytest.raises(Exception, match="no snapshot"):
        store.open_snapshot(META)


def test_the_machine_is_restored_from_the_store() -> None:
    work, machine, store = a_work()
    stored(store, b"state")

    assert work.run(Lane.APPLY, [Restore(META)]) == [Restored(Index(5))]
    assert machine.restored == b"state"


@pytest.mark.parametrize("state", [None, b"unreadable"])
def test_a_machine_that_cannot_be_restored_ends_the_node(state: bytes | None) -> None:
    work, _, store = a_work()
    if state is not None:
        stored(store, state)

    (report,) = work.run(Lane.APPLY, [Restore(META)])
    assert isinstance(report, JobFailed)
    assert report.lane is Lane.APPLY


def test_pieces_of_a_snapshot_are_read_and_one_that_is_gone_is_said_to_be() -> None:
    work, _, store = a_work()
    stored(store, b"0123456789")
    gone = SnapshotMeta(Index(4), Term(1), MEMBERS_1)

    assert work.run(Lane.CHUNKS, [ReadChunk(PEER, META, 3, 4), ReadChunk(PEER, META, 8, 9)]) == [
        ChunkRead(PEER, META, 3, 10, b"3456"),
        ChunkRead(PEER, META, 8, 10, b"89"),
    ]
    assert work.run(Lane.CHUNKS, [ReadChunk(PEER, gone, 0, 4)]) == [ChunkRead(PEER, gone, 0, 0, b"", gone=True)]


def test_an_open_snapshot_stays_readable_for_a_peer_while_newer_ones_appear() -> None:
    work, _, store = a_work()
    stored(store, b"older")
    work.run(Lane.CHUNKS, [ReadChunk(PEER, META, 0, 2)])
    newer = SnapshotMeta(Index(9), Term(1), MEMBERS_1, Index(1))
    stored(store, b"newer", newer)
    store.write([Persist(WriteId(1), hard=HardState(Term(1)), snapshot=newer)])

    assert work.run(Lane.CHUNKS, [ReadChunk(PEER, META, 2, 9), ReadChunk(PEER, newer, 0, 9)]) == [
        ChunkRead(PEER, META, 2, 5, b"der"),
        ChunkRead(PEER, newer, 0, 5, b"newer"),
    ]


def test_a_received_snapshot_is_written_where_it_belongs_and_resumed() -> None:
    work, machine, store = a_work()

    def store_chunk(offset: int, data: bytes, *, last: bool = False) -> StoreChunk:
        return StoreChunk(META, "2", offset, data, last)

    assert work.run(Lane.CHUNKS, [store_chunk(0, b"")]) == [ChunkStored(META, 0)]
    assert work.run(Lane.CHUNKS, [store_chunk(0, b"abc"), store_chunk(9, b"zzz")]) == [
        ChunkStored(META, 3),
        ChunkStored(META, 3),
    ]
    again = JobRunner(store, machine)  # after a restart
    assert again.run(Lane.CHUNKS, [store_chunk(0, b"")]) == [ChunkStored(META, 3)]
    assert again.run(Lane.CHUNKS, [store_chunk(3, b"de", last=True)]) == [SnapshotComplete(META)]
    assert again.run(Lane.CHUNKS, [store_chunk(0, b"")]) == [SnapshotComplete(META)]
    assert store.open_snapshot(META).read(0, 9) == b"abcde"


def test_a_piece_of_a_snapshot_that_comes_again_is_not_written_again() -> None:
    work, _, store = a_work()
    first, last = StoreChunk(META, "2", 0, b"abc", last=False), StoreChunk(META, "2", 3, b"def", last=True)

    assert work.run(Lane.CHUNKS, [first, first]) == [ChunkStored(META, 3), ChunkStored(META, 3)]
    assert work.run(Lane.CHUNKS, [first]) == [ChunkStored(META, 3)]
    assert work.run(Lane.CHUNKS, [last, last]) == [SnapshotComplete(META), SnapshotComplete(META)]
    assert store.open_snapshot(META).read(0, 9) == b"abcdef"


def test_a_dropped_snapshot_starts_from_nothing() -> None:
    work, _, _ = a_work()
    chunk = StoreChunk(META, "2", 0, b"abc", last=False)

    assert work.run(Lane.CHUNKS, [chunk, DropReceived(), StoreChunk(META, "2", 0, b"", last=False)]) == [
        ChunkStored(META, 3),
        ChunkStored(META, 0),
    ]


def test_a_failure_while_receiving_ends_only_the_transfer() -> None:
    class Refusing(CountingStore):
        def resume_snapshot(self, meta: SnapshotMeta, source: str) -> SnapshotWriter:
            raise OSError(13, "not today")

    (report,) = JobRunner(Refusing(), Machine()).run(  # type: ignore[arg-type]
        Lane.CHUNKS, [StoreChunk(META, "2", 0, b"abc", last=False)]
    )
    assert isinstance(report, JobFailed)
    assert report.lane is Lane.CHUNKS


@pytest.mark.parametrize(
    ("lane", "job"),
    [
        (Lane.CHUNKS, StoreChunk(META, "2", 0, b"abc", last=False)),
        (Lane.CHUNKS, ReadChunk(PEER, META, 0, 4)),
        (Lane.SNAPSHOT, StoreSnapshot(META, iter([b"abc"]))),
    ],
    ids=["receiving", "serving", "storing our own"],
)
def test_a_broken_store_ends_the_node_although_it_has_nothing_to_write(lane: Lane, job: Job) -> None:
    """Otherwise a follower that waits for a snapshot would refuse it for ever, and never be started again."""
    work, _, store = a_work()
    store.fail("unplugged")

    (report,) = work.run(lane, [job])
    assert isinstance(report, JobFailed)
    assert report.lane is Lane.WRITE
    assert isinstance(report.error, StorageBroken)


@pytest.mark.parametrize("lane", list(Lane))
def test_a_job_in_the_wrong_lane_is_a_mistake_of_the_adapter(lane: Lane) -> None:
    work, _, _ = a_work()
    job = ReadChunk(PEER, META, 0, 1) if lane in (Lane.WRITE, Lane.APPLY) else persist(1)

    with pytest.raises(CallerError):
        work.run(lane, [job])


def test_job_of_another_lane_leaves_the_machine_as_it_was() -> None:
    machine = Machine()
    work = JobRunner(MemoryStore(1, "c"), machine)
    with pytest.raises(CallerError):
        work.run(Lane.APPLY, [DropReceived()])
    work.run(Lane.APPLY, [page(b"x", wanted=())])
    assert machine.applied == [(1, b"x")]
