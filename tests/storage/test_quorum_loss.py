"""After the permanent loss of a majority: what is kept, what is said about the rest, and what is refused."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from raft_core.effects import Apply, Persist, Restore, Send
from raft_core.entries import MEMBERS, Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError, DirectoryInUse, WrongDirectory
from raft_core.events import Applied, CampaignRequested, Event, Persisted, Proposed, Restored
from raft_core.ids import ClusterId, Incarnation, Index, NodeId, RequestId, Term, WriteId
from raft_core.membership import Members
from raft_core.quorum_loss import best_survivor, log_end, plan_quorum_loss_recovery
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered
from raft_core.settings import Settings
from raft_kv.cli import main
from raft_storage import FileStore, Survivor, recover_from_quorum_loss

DISKS = {NodeId(node): Incarnation(10 + node) for node in (1, 2, 3)}
TRIO = Members.initial([1, 2, 3], incarnations=DISKS)


def a_survivor(place: Path, node: int, *data: bytes, term: int = 2, snapshot: bool = False) -> Path:
    """A disk of the old cluster, with these commands behind the first entry."""
    store = FileStore.open(place, node=node, cluster="old", incarnation=DISKS[NodeId(node)])
    store.recover()
    store.form(TRIO)
    entries = tuple(Entry.make(2 + at, term, item) for at, item in enumerate(data))
    store.write([Persist(WriteId(1), HardState(Term(term), NodeId(1), Index(2)), entries=entries)])
    if snapshot:
        meta = SnapshotMeta(Index(2), Term(term), TRIO, Index(1))
        writer = store.create_snapshot(meta)
        writer.write(b"state at two")
        writer.finish()
        store.write([Persist(WriteId(2), snapshot=meta, drop_before=Index(3))])
    store.close()
    return place


def applied_by(recovered: Recovered) -> tuple[list[bytes], Raft, list[int]]:
    """What a lone core makes of this disk: the commands it applies, itself, and the snapshots it restores."""
    raft = Raft(Settings(), recovered, random.Random(1))
    applied: list[bytes] = []
    restored: list[int] = []
    events: list[Event] = [CampaignRequested()]
    while events:
        for effect in raft.step(events.pop(0)):
            assert not isinstance(effect, Send), "there is no other node"
            if isinstance(effect, Persist):
                events.append(Persisted(effect.write))
            elif isinstance(effect, Apply):
                applied.extend(command for _, command in effect.commands)
                events.append(Applied(effect.upto))
            elif isinstance(effect, Restore):
                restored.append(effect.meta.index)
                events.append(Restored(effect.meta.index))
    return applied, raft, restored


@pytest.fixture
def stores() -> Iterator[list[FileStore]]:
    opened: list[FileStore] = []
    yield opened
    for store in opened:
        store.close()


def test_a_new_cluster_of_one_holds_everything_that_the_survivor_held(tmp_path: Path, stores: list[FileStore]) -> None:
    source = Survivor(a_survivor(tmp_path / "old", 3, b"a", b"b", b"c"), "old")
    target = FileStore.open(tmp_path / "new", node=3, cluster="new")

    statement = recover_from_quorum_loss(source, target)
    source.close()

    assert (statement.last.index, statement.known_commit, statement.new_members_at) == (4, 2, 5)
    assert statement.gone == (1, 2)
    target.close()
    stores.append(FileStore.open(tmp_path / "new", node=3, cluster="new"))
    applied, raft, _ = applied_by(stores[-1].recover())
    assert applied == [b"a", b"b", b"c"]
    assert raft.status.leads
    assert raft.members.voters == (3,)
    assert raft.members.highest_id == 3, "the ids of lost nodes are not used again"


def test_a_snapshot_is_copied_with_the_log_behind_it(tmp_path: Path, stores: list[FileStore]) -> None:
    source = Survivor(a_survivor(tmp_path / "old", 2, b"a", b"b", b"c", snapshot=True), "old")
    target = FileStore.open(tmp_path / "new", node=2, cluster="new")

    recover_from_quorum_loss(source, target)
    source.close()

    target.close()
    stores.append(FileStore.open(tmp_path / "new", node=2, cluster="new"))
    recovered = stores[-1].recover()
    assert recovered.snapshot is not None
    assert b"".join(stores[-1].open_snapshot(recovered.snapshot).chunks()) == b"state at two"
    applied, _, restored = applied_by(recovered)
    assert (applied, restored) == ([b"b", b"c"], [2])
    assert recovered.snapshot.members.voters == (2,), "a node that joins later gets these"


def test_no_configuration_names_a_disk_of_the_old_cluster() -> None:
    """A node that joins later would refuse one that is a member again, with its new disk."""
    changed = Entry.make(4, 2, attrs.evolve(TRIO, learners=(NodeId(4),), highest_id=NodeId(4)).encode(), MEMBERS)
    entries = (Entry.make(3, 2, b"a"), changed)
    old = Recovered(
        Identity(NodeId(1), ClusterId("old"), DISKS[NodeId(1)]),
        HardState(Term(2), commit=Index(4)),
        SnapshotMeta(Index(2), Term(2), TRIO, Index(1)),
        entries,
    )
    plan = plan_quorum_loss_recovery(old, Identity(NodeId(1), ClusterId("new"), Incarnation(77)))

    assert plan.snapshot is not None
    assert plan.snapshot.members.incarnations == ((NodeId(1), Incarnation(77)),)
    command, before, founding = (entry for write in plan.writes for entry in write.entries)
    assert command == entries[0]
    assert Members.decode(before.data) == attrs.evolve(Members.decode(changed.data), incarnations=())
    assert Members.decode(founding.data) == plan.snapshot.members


def refuse_writing(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """As on a disk that the kernel has remounted read-only because of its errors."""
    real = os.open

    def read_only(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        inside = dir_fd is not None and os.path.samestat(os.fstat(dir_fd), os.stat(place))
        missing = inside and path not in os.listdir(place)
        if inside and (flags & (os.O_WRONLY | os.O_RDWR) or (flags & os.O_CREAT and missing)):
            raise OSError(errno.EROFS, "Read-only file system", path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", read_only)


@pytest.mark.parametrize("lock", [True, False], ids=["with its lock", "copied without its lock"])
def test_a_disk_that_can_only_be_read_is_salvaged(
    tmp_path: Path, stores: list[FileStore], monkeypatch: pytest.MonkeyPatch, *, lock: bool
) -> None:
    place = a_survivor(tmp_path / "old", 2, b"a", b"b", b"c", snapshot=True)
    if not lock:
        (place / "lock").unlink()
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    refuse_writing(monkeypatch, place)

    source = Survivor(place, "old")
    stores.append(FileStore.open(tmp_path / "new", node=2, cluster="new"))
    recover_from_quorum_loss(source, stores[-1])
    source.close()

    assert {file.name: file.read_bytes() for file in place.iterdir()} == before
    monkeypatch.undo()


def test_no_node_starts_on_a_disk_while_it_is_salvaged(tmp_path: Path) -> None:
    place = a_survivor(tmp_path / "old", 3, b"a")
    (place / "lock").unlink()
    first, second = Survivor(place, "old"), Survivor(place, "old")  # readers do not mind one another

    first.close()
    with pytest.raises(DirectoryInUse):
        FileStore.open(place, node=3, cluster="old")
    second.close()
    FileStore.open(place, node=3, cluster="old").close()


def test_the_survivor_whose_log_an_election_would_choose_is_the_best() -> None:
    def disk(node: int, index: int, term: int) -> Recovered:
        return Recovered(Identity(NodeId(node)), entries=(Entry.make(index, term),))

    assert best_survivor([disk(1, 9, 2), disk(2, 5, 3), disk(3, 4, 3)]) == 1
    assert log_end(disk(1, 9, 2)).index == 9


def test_disks_of_two_clusters_are_not_mixed() -> None:
    one = Recovered(Identity(NodeId(1), ClusterId("a")))
    other = Recovered(Identity(NodeId(2), ClusterId("b")))

    with pytest.raises(CallerError):
        best_survivor([one, other])
    with pytest.raises(CallerError):
        best_survivor([])


def test_the_new_cluster_needs_a_new_name_and_the_survivor_a_past() -> None:
    formed = Recovered.fresh(1, TRIO)

    with pytest.raises(CallerError):
        plan_quorum_loss_recovery(formed, formed.identity)
    with pytest.raises(CallerError):
        plan_quorum_loss_recovery(Recovered.fresh(1), Identity(NodeId(1), ClusterId("new")))


def a_life_of_its_own(survivor: Recovered, target: Identity, command: bytes) -> list[Entry]:
    """The log of the cluster that is founded on the survivor, after it has elected its leader and taken a command."""
    plan = plan_quorum_loss_recovery(survivor, target)
    entries = tuple(entry for write in plan.writes for entry in write.entries)
    hard = plan.writes[0].hard
    assert hard is not None
    raft = Raft.open(Recovered(target, hard, entries=entries), seed=1)
    raft.step(CampaignRequested())
    raft.step(Persisted(WriteId(1)))
    raft.step(Proposed(RequestId(1), (command,)))
    return [raft.log.entry(Index(index)) for index in range(1, raft.log.last_index + 1)]


def test_clusters_founded_twice_on_the_same_state_have_no_two_entries_of_one_index_and_term() -> None:
    """A name is used twice by mistake. Logs equal at one index and term count as equal (§5.3): none must be by chance.

    Example: a backup is restored on three machines, instead of on one that the others join.
    """
    entries = (Entry.make(1, 1, TRIO.encode(), MEMBERS), Entry.make(2, 2, b"x"))
    survivor = Recovered(Identity(NodeId(1), ClusterId("old")), HardState(Term(2), commit=Index(2)), entries=entries)
    one = a_life_of_its_own(survivor, Identity(NodeId(1), ClusterId("new"), Incarnation(1 << 40)), b"one")
    two = a_life_of_its_own(survivor, Identity(NodeId(2), ClusterId("new"), Incarnation(977)), b"two")
    assert one[-1].data == b"one"
    assert two[-1].data == b"two"
    for ours, theirs in zip(one, two, strict=True):
        assert ours == theirs or (ours.index == theirs.index and ours.term != theirs.term)


def test_the_command_asks_first_then_does_it_and_leaves_a_statement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_survivor(tmp_path / "3", 3, b"a", b"b")
    a_survivor(tmp_path / "2", 2, b"a")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    words = [
        "recover-from-quorum-loss",
        "--cluster",
        "old",
        "--survivor",
        str(tmp_path / "2"),
        "--survivor",
        str(tmp_path / "3"),
    ]
    words += ["--new-cluster", "new", "--new-data", str(tmp_path / "new")]

    assert main(words) == 1
    told = capsys.readouterr().out
    assert "Nothing has been changed" in told
    assert "A MAJORITY" in told, "they are a majority of 1, 2, 3, so nothing need be lost"
    assert main([*words[:3], *words[5:]]) == 1
    assert "MAJORITY" not in capsys.readouterr().out
    assert not (tmp_path / "new").exists()

    assert main([*words, "--i-understand-what-may-be-lost"]) == 0
    told = capsys.readouterr().out
    assert "node 3: log ends at entry 3, term 2  <- the most up to date" in told
    assert "May be lost: everything acknowledged by a majority without this disk, among nodes 1, 2." in told
    assert (tmp_path / "new" / "SALVAGE.txt").read_text("utf-8") in told
    assert {file: file.read_bytes() for file in before} == before, "the evidence is as it was"
    assert {file for file in tmp_path.rglob("*") if file.is_file() and "new" not in file.parts} == set(before)

    store = FileStore.open(tmp_path / "new", node=3, cluster="new")
    assert applied_by(store.recover())[0] == [b"a", b"b"]
    store.close()
    assert main([*words, "--i-understand-what-may-be-lost"]) == 2, "the new directory is not empty any more"


def test_a_survivor_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--new-cluster", "new", "--new-data", str(tmp_path / "new")]

    assert main(["recover-from-quorum-loss", "--survivor", str(tmp_path / "nowhere"), *words]) == 2
    assert "there is no directory" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_disk_of_this_cluster_or_still_in_use_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    place = a_survivor(tmp_path / "old", 3, b"a")

    with pytest.raises(WrongDirectory):
        Survivor(tmp_path / "empty", "old")
    assert list((tmp_path / "empty").iterdir()) == []
    with pytest.raises(WrongDirectory, match="'old'"):
        Survivor(place, "other")
    running = FileStore.open(place, node=3, cluster="old")
    with pytest.raises(DirectoryInUse):
        Survivor(place, "old")
    running.close()
