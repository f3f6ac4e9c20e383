"""Every class of error, raised where it belongs, and telling what to do."""

from __future__ import annotations

import inspect
import random
import re
from pathlib import Path

import pytest

from raft_core import errors
from raft_core.effects import Indeterminate, Persist, Refusal, RefusalReason, UnknownReason
from raft_core.entries import Entry
from raft_core.errors import (
    CallerError,
    DirectoryInUse,
    DiskError,
    FrameError,
    InvariantBroken,
    LogDamaged,
    LogLost,
    MembershipRefused,
    NotLeader,
    OutcomeUnknown,
    PeerError,
    QueueFull,
    RaftError,
    RaftStopped,
    Refused,
    RequestError,
    SettingsError,
    StorageBroken,
    TransferInProgress,
    WrongDirectory,
    invariant,
)
from raft_core.events import StopRequested, Tick
from raft_core.ids import NodeId, WriteId
from raft_core.log import Log
from raft_core.membership import Members
from raft_core.node.outcomes import error_of
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.settings import Settings
from raft_core.wire.codec import decode
from raft_core.wire.frames import FrameKind
from raft_core.wire.payloads import Frame
from raft_storage.file_store import FileStore
from raft_storage.memory_store import MemoryStore

FAULT: dict[type[RaftError], type[RaftError]] = {
    SettingsError: CallerError,
    RaftStopped: CallerError,
    FrameError: PeerError,
    LogLost: DiskError,
    LogDamaged: DiskError,
    StorageBroken: DiskError,
    DirectoryInUse: DiskError,
    WrongDirectory: DiskError,
    Refused: RequestError,
    NotLeader: Refused,
    QueueFull: Refused,
    TransferInProgress: Refused,
    MembershipRefused: Refused,
    OutcomeUnknown: RequestError,
}


def classes() -> list[type[RaftError]]:
    every = [getattr(errors, name) for name in errors.__all__]
    return [each for each in every if inspect.isclass(each) and issubclass(each, RaftError)]


def test_every_error_says_who_is_at_fault() -> None:
    for kind in classes():
        assert issubclass(kind, RaftError)
        assert issubclass(kind, FAULT.get(kind, RaftError))
        assert kind.__doc__


def test_every_error_that_can_be_raised_is_raised_by_some_test() -> None:
    tests = "\n".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    grounds = {RaftError, PeerError, DiskError, RequestError}  # never raised themselves

    for kind in set(classes()) - grounds:
        assert re.search(rf"raises\({kind.__name__}\b", tests), kind


def test_a_settings_error_names_the_setting_and_its_bound() -> None:
    with pytest.raises(SettingsError, match=r"election_ticks.*1"):
        Settings(election_ticks=1)


def test_misuse_of_a_core_is_the_callers_fault() -> None:
    raft = Raft(Settings(), Recovered.fresh(1, Members.initial([1])), random.Random(1))

    with pytest.raises(CallerError):
        raft.step(Tick(0))


def test_a_stopped_core_is_dead_and_says_why() -> None:
    raft = Raft(Settings(), Recovered.fresh(1, Members.initial([1])), random.Random(1))
    raft.step()
    raft.step(StopRequested())

    with pytest.raises(RaftStopped):
        raft.step(Tick())


def test_a_broken_invariant_is_our_fault_and_survives_optimisation() -> None:
    invariant(True, "this holds")

    with pytest.raises(InvariantBroken):
        Log().append((Entry.make(5, 1),))


def test_a_frame_that_does_not_decode_is_the_peers_fault() -> None:
    with pytest.raises(FrameError):
        decode(Frame(FrameKind.MESSAGE, 0, b"\xc1"))  # type: ignore[arg-type]
    with pytest.raises(PeerError):
        decode(Frame(99, 0, b""))  # type: ignore[arg-type]


def test_damage_names_file_offset_problem_and_remedy() -> None:
    with pytest.raises(LogDamaged) as caught:
        raise LogDamaged("000001.wal", 512, "wrong checksum", "Restore the node from its peers.")

    damage = caught.value
    assert (damage.file, damage.offset, damage.problem) == ("000001.wal", 512, "wrong checksum")
    for part in ("000001.wal", "512", "wrong checksum", "Restore the node from its peers."):
        assert part in str(damage)


def test_a_store_that_failed_acknowledges_nothing_more() -> None:
    store = MemoryStore(1)
    store.fail()

    with pytest.raises(StorageBroken):
        store.write([Persist(WriteId(1))])


def test_a_directory_is_opened_by_one_process_only(tmp_path: Path) -> None:
    store = FileStore.open(tmp_path, node=1)

    with pytest.raises(DirectoryInUse):
        FileStore.open(tmp_path, node=1)
    store.close()


def test_a_directory_belongs_to_one_node(tmp_path: Path) -> None:
    FileStore.open(tmp_path, node=1).close()

    with pytest.raises(WrongDirectory, match="node 1"):
        FileStore.open(tmp_path, node=2)


def test_a_log_that_lost_what_was_committed_is_the_disks_fault() -> None:
    with pytest.raises(LogLost) as caught:
        raise LogLost("what to do")
    assert isinstance(caught.value, DiskError)


@pytest.mark.parametrize("reason", RefusalReason)
def test_every_reason_of_a_refusal_has_an_error_and_a_text_of_its_own(reason: RefusalReason) -> None:
    error = error_of(Refusal(reason, NodeId(3)))
    assert isinstance(error, Refused)

    assert (error.reason, error.leader) == (reason, 3)
    assert len(str(error)) > len(reason)
    others = {str(error_of(Refusal(other))) for other in RefusalReason if other is not reason}
    assert str(error_of(Refusal(reason))) not in others


def test_refusals_are_told_apart_by_type() -> None:
    with pytest.raises(NotLeader, match=r"node 2 at 10\.0\.0\.2:7000") as caught:
        raise error_of(Refusal(RefusalReason.NOT_LEADER, NodeId(2)), lambda _: "10.0.0.2:7000")
    assert (caught.value.leader, caught.value.address) == (2, "10.0.0.2:7000")
    with pytest.raises(QueueFull):
        raise error_of(Refusal(RefusalReason.LOG_FULL))
    with pytest.raises(TransferInProgress):
        raise error_of(Refusal(RefusalReason.TRANSFERRING))
    with pytest.raises(MembershipRefused):
        raise error_of(Refusal(RefusalReason.CHANGE_PENDING))
    with pytest.raises(Refused):
        raise error_of(Refusal(RefusalReason.TOO_LARGE))


@pytest.mark.parametrize("reason", UnknownReason)
def test_an_unknown_outcome_is_no_refusal(reason: UnknownReason) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        raise error_of(Indeterminate(reason))

    assert not isinstance(caught.value, Refused)
    assert caught.value.reason == reason
