"""The conformance checks of stores, for ours and for yours.

Each check takes `open_store`, which opens the store on the same disk each time, empty before the first call, and raises
`AssertionError` with a sentence if the store breaks its contract. `crash_disk_check`, for stores on
`raft_core.wal.filesystem.Files`, is in `crash_check` and exported here too.

    @pytest.mark.parametrize("check", FUNCTIONAL_CHECKS)
    def test_my_store_keeps_its_word(check, tmp_path):
        check(lambda: MyStore.open(tmp_path, node=1, cluster="c"))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError, DiskError, StorageBroken
from raft_core.ids import Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.recovered import Recovered, formation
from raft_core.store import Store
from raft_testing.disk.crash_check import CrashReport, StoreViolation, crash_disk, crash_disk_check

__all__ = [
    "FUNCTIONAL_CHECKS",
    "CrashReport",
    "OpenStore",
    "StoreViolation",
    "crash_disk",
    "crash_disk_check",
]

OpenStore: TypeAlias = Callable[[], Store]
"""Opens the store of one disk. The one opened before has been closed."""

_MEMBERS: Final = Members.initial([1, 2, 3])


def _meta(index: int, term: int) -> SnapshotMeta:
    return SnapshotMeta(Index(index), Term(term), _MEMBERS, Index(1))


def _entries(first: int, last: int, term: int) -> tuple[Entry, ...]:
    return tuple(Entry.make(index, term, b"entry %d of term %d" % (index, term)) for index in range(first, last + 1))


def _ends_with(entries: tuple[Entry, ...], last: tuple[Entry, ...]) -> bool:
    return not last or entries[-len(last) :] == last


def _hard(term: int, vote: int = 0, commit: int = 0) -> HardState:
    return HardState(Term(term), NodeId(vote), Index(commit))


def _expect(holds: bool, text: str) -> None:
    if not holds:
        raise StoreViolation(text)


def _reopened(store: Store, open_store: OpenStore) -> tuple[Store, Recovered]:
    store.close()
    store = open_store()
    return store, store.recover()


def _with_snapshot(store: Store, meta: SnapshotMeta, state: bytes) -> None:
    writer = store.create_snapshot(meta)
    writer.write(state)
    writer.finish()


def _state_of(store: Store, meta: SnapshotMeta) -> bytes:
    reader = store.open_snapshot(meta)
    try:
        return b"".join(reader.chunks())
    finally:
        reader.close()


def check_an_empty_disk_is_not_formed(open_store: OpenStore) -> None:
    """Check that a new disk holds nothing and has an identity."""
    store = open_store()
    recovered = store.recover()
    _expect(not recovered.formed, "a new disk says that it is part of a cluster")
    _expect(recovered.identity == store.identity, "recovered another identity than the store has")
    _expect(recovered.boot >= 1, "a boot number is positive")
    store.close()


def check_the_boot_number_rises_with_every_opening(open_store: OpenStore) -> None:
    """Ids made before a restart are never made again."""
    store = open_store()
    last = store.recover()
    for _ in range(3):
        store, recovered = _reopened(store, open_store)
        _expect(recovered.boot == last.boot + 1, f"boot {recovered.boot} came after {last.boot}")
        _expect(recovered.identity == last.identity, "the identity changed with a restart")
        last = recovered
    store.close()


def check_forming_writes_the_founding_entry(open_store: OpenStore) -> None:
    """Check that `form` is durable, returns the state of a restart, and is done once."""
    store = open_store()
    boot = store.recover().boot
    node, disk = store.identity.node, store.identity.incarnation
    members = Members.initial([node], incarnations={node: disk} if disk else None)
    formed = store.form(members)
    hard, entry = formation(members)
    _expect((formed.hard, formed.entries, formed.boot) == (hard, (entry,), boot), "formed something else")
    store, recovered = _reopened(store, open_store)
    _expect((recovered.hard, recovered.entries) == (hard, (entry,)), "what was formed is not recovered")
    try:
        store.form(members)
    except CallerError:
        store.close()
        return
    raise StoreViolation("a disk that is part of a cluster was formed again")


def check_everything_written_is_recovered(open_store: OpenStore) -> None:
    """Hard state and entries of many writes, in one batch and in several."""
    store = open_store()
    store.recover()
    store.write([Persist(WriteId(1), hard=_hard(1, 2), entries=_entries(1, 3, 1))])
    store.write([Persist(WriteId(2), entries=_entries(4, 6, 1)), Persist(WriteId(3), hard=_hard(2, 3, 4))])
    store.write([])
    store, recovered = _reopened(store, open_store)
    _expect(recovered.hard == _hard(2, 3, 4), f"the hard state came back as {recovered.hard}")
    _expect(recovered.entries == _entries(1, 6, 1), "the entries came back changed")
    store.close()


def check_truncated_entries_do_not_come_back(open_store: OpenStore) -> None:
    """Check that truncation and the entries after it survive several restarts."""
    store = open_store()
    store.recover()
    store.write([Persist(WriteId(1), entries=_entries(1, 9, 1))])
    store.write([Persist(WriteId(2), hard=_hard(2), truncate_from=Index(4), entries=_entries(4, 5, 2))])
    store, recovered = _reopened(store, open_store)
    _expect(recovered.entries == _entries(1, 3, 1) + _entries(4, 5, 2), "truncation did not hold")
    store.write([Persist(WriteId(1), truncate_from=Index(1))])
    store, recovered = _reopened(store, open_store)
    _expect(recovered.entries == (), "truncation of everything did not hold")
    store.close()


def check_a_snapshot_that_the_log_holds_keeps_the_tail(open_store: OpenStore) -> None:
    """After the switch the entries behind the snapshot are there; of those up to it a store may give the last ones."""
    store = open_store()
    store.recover()
    store.write([Persist(WriteId(1), hard=_hard(1), entries=_entries(1, 10, 1))])
    meta = _meta(6, 1)
    _with_snapshot(store, meta, b"state" * 50_000)
    store.write([Persist(WriteId(2), snapshot=meta, drop_before=Index(5))])
    _expect(_state_of(store, meta) == b"state" * 50_000, "the snapshot reads differently")
    store, recovered = _reopened(store, open_store)
    _expect(recovered.snapshot == meta, f"recovered snapshot {recovered.snapshot}")
    _expect(recovered.entries == _entries(7, 10, 1), "the entries behind the snapshot are wrong")
    _expect(_ends_with(_entries(1, 6, 1), recovered.covered), "the covered entries are not those before the snapshot")
    _expect(_state_of(store, meta) == b"state" * 50_000, "the snapshot reads differently after a restart")
    store.close()


def check_a_snapshot_that_the_log_does_not_hold_discards_it(open_store: OpenStore) -> None:
    """Check that a snapshot beyond the log, or in conflict with it, replaces all of it."""
    store = open_store()
    store.recover()
    store.write([Persist(WriteId(1), hard=_hard(1), entries=_entries(1, 10, 1))])
    beyond = _meta(20, 2)
    _with_snapshot(store, beyond, b"")
    store.write([Persist(WriteId(2), hard=_hard(2, 0, 20), snapshot=beyond)])
    store.write([Persist(WriteId(3), entries=_entries(21, 25, 2))])
    store, recovered = _reopened(store, open_store)
    _expect(recovered.entries == _entries(21, 25, 2), "the log was not discarded")
    _expect(recovered.covered == (), "entries are given as covered by a snapshot that replaced them")
    _expect(_state_of(store, beyond) == b"", "an empty snapshot reads differently")
    contradicting = _meta(23, 3)
    _with_snapshot(store, contradicting, b"other")
    store.write([Persist(WriteId(1), snapshot=contradicting)])
    store, recovered = _reopened(store, open_store)
    _expect((recovered.snapshot, recovered.entries) == (contradicting, ()), "a contradicted log was kept")
    _expect(recovered.covered == (), "entries are given as covered by a snapshot that contradicts them")
    store.close()


def check_a_snapshot_counts_only_once_switched_to(open_store: OpenStore) -> None:
    """Check that a finished snapshot changes nothing by itself."""
    store = open_store()
    store.recover()
    store.write([Persist(WriteId(1), entries=_entries(1, 4, 1))])
    _with_snapshot(store, _meta(3, 1), b"finished")
    store.create_snapshot(_meta(4, 1)).write(b"unfinished")
    store, recovered = _reopened(store, open_store)
    _expect(recovered.snapshot is None and recovered.entries == _entries(1, 4, 1), "a snapshot switched itself")
    store.close()


def check_an_open_snapshot_outlives_its_replacement(open_store: OpenStore) -> None:
    """Check that a reader continues while a newer snapshot is switched to, and that the old one then disappears."""
    store = open_store()
    store.recover()
    store.write([Persist(WriteId(1), entries=_entries(1, 9, 1))])
    old, new = _meta(3, 1), _meta(7, 1)
    _with_snapshot(store, old, b"old" * 40_000)
    store.write([Persist(WriteId(2), snapshot=old)])
    reader = store.open_snapshot(old)
    _with_snapshot(store, new, b"new")
    store.write([Persist(WriteId(3), snapshot=new, drop_before=Index(8))])
    _expect((reader.meta, reader.size) == (old, 120_000), "the reader forgot what it reads")
    _expect(reader.read(65_530, 12) == (b"old" * 40_000)[65_530:65_542], "a part in the middle reads differently")
    _expect(reader.read(119_999, 10) == b"d" and reader.read(120_000, 10) == b"", "the end reads differently")
    _expect(b"".join(reader.chunks()) == b"old" * 40_000, "the old snapshot reads differently")
    reader.close()
    try:
        store.open_snapshot(old)
    except DiskError:
        store.close()
        return
    raise StoreViolation("a replaced snapshot can still be opened")


def check_a_received_snapshot_resumes(open_store: OpenStore) -> None:
    """Check that an interrupted transfer resumes, across a restart, and only for the same meta and source."""
    state = bytes(range(256)) * 1200
    store = open_store()
    store.recover()
    writer = store.resume_snapshot(_meta(5, 1), "peer")
    _expect(writer.offset == 0, "a new transfer does not begin at 0")
    writer.write(state[:200_000])
    _expect(writer.offset == 200_000, "the offset does not follow the writing")
    store, _ = _reopened(store, open_store)
    writer = store.resume_snapshot(_meta(5, 1), "peer")
    _expect(0 <= writer.offset <= 200_000, "the transfer resumes beyond what was written")
    writer.write(state[writer.offset :])
    writer.finish()
    store.write([Persist(WriteId(1), hard=_hard(1), snapshot=_meta(5, 1))])
    _expect(_state_of(store, _meta(5, 1)) == state, "the resumed snapshot reads differently")
    store.resume_snapshot(_meta(9, 1), "peer").write(bytes(300_000))
    _expect(store.resume_snapshot(_meta(9, 1), "another").offset == 0, "resumed another source's snapshot")
    _expect(store.resume_snapshot(_meta(9, 2), "another").offset == 0, "resumed another snapshot")
    writer = store.resume_snapshot(_meta(9, 2), "another")
    writer.write(b"x")
    writer.abort()
    _expect(store.resume_snapshot(_meta(9, 2), "another").offset == 0, "resumed an aborted snapshot")
    store.close()


def check_a_closed_store_does_nothing(open_store: OpenStore) -> None:
    """After `close` nothing is written."""
    store = open_store()
    store.recover()
    store.close()
    for attempt in (
        lambda: store.write([Persist(WriteId(1), entries=_entries(1, 1, 1))]),
        lambda: store.create_snapshot(_meta(1, 1)),
        lambda: store.open_snapshot(_meta(1, 1)),
    ):
        try:
            attempt()
        except StorageBroken:
            continue
        raise StoreViolation("a closed store does not refuse with StorageBroken")


def check_a_write_that_does_not_fit_is_refused(open_store: OpenStore) -> None:
    """Check that a gap is refused as the caller's fault, and the log on the disk stays sound."""
    store = open_store()
    store.recover()
    store.write([Persist(WriteId(1), entries=_entries(1, 2, 1))])
    try:
        store.write([Persist(WriteId(2), entries=_entries(4, 4, 1))])
    except CallerError:
        store, recovered = _reopened(store, open_store)
        _expect(recovered.entries == _entries(1, 2, 1), "a refused write changed the log")
        store.close()
        return
    raise StoreViolation("a gap in the log was written")


FUNCTIONAL_CHECKS: Final[tuple[Callable[[OpenStore], None], ...]] = (
    check_an_empty_disk_is_not_formed,
    check_the_boot_number_rises_with_every_opening,
    check_forming_writes_the_founding_entry,
    check_everything_written_is_recovered,
    check_truncated_entries_do_not_come_back,
    check_a_snapshot_that_the_log_holds_keeps_the_tail,
    check_a_snapshot_that_the_log_does_not_hold_discards_it,
    check_a_snapshot_counts_only_once_switched_to,
    check_an_open_snapshot_outlives_its_replacement,
    check_a_received_snapshot_resumes,
    check_a_closed_store_does_nothing,
    check_a_write_that_does_not_fit_is_refused,
)
