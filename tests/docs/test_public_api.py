"""The public face: what every module offers, pinned, and each of it explained."""

from __future__ import annotations

import enum
import importlib
import importlib.resources
import inspect
import pkgutil
import types

import pytest

import raft_anyio
import raft_core
import raft_storage
import raft_trio
from tests.docs.moved import MOVED

PINNED: dict[str, str] = {
    "raft_core.ids": (
        "HIGHEST_FOUNDER MAX_INT63 NODE_LEAP NO_NODE NO_INDEX NO_TERM NO_WRITE BootNumber ClusterId GroupId"
        " Incarnation Index MessageId NodeId ReadId RequestId Term WriteId"
    ),
    "raft_core.errors": (
        "CallerError RaftStopped DirectoryInUse DiskError FrameError InvariantBroken LogDamaged LogLost"
        " MachineBroken MembershipRefused NotLeader OutcomeUnknown PeerError QueueFull RaftError Refused RequestError"
        " SettingsError StorageBroken TransferInProgress WrongDirectory invariant"
    ),
    "raft_core.entries": (
        "COMMAND ENTRY_OVERHEAD MEMBERS NOOP START Checksum Entry EntryKind HardState LogPosition SnapshotMeta"
        " checksum_matches checksum_of first_mismatch seal_commands"
    ),
    "raft_core.membership": (
        "AddLearner AddVoter Change ChangeMode ChangeProblem Members MembersUndecodable MembershipHistory ChangeError"
        " RemoveNode"
    ),
    "raft_core.messages": (
        "COMMIT_UPDATE DATA HEARTBEAT AppendEntries AppendPurpose AppendReply InstallSnapshot Message ReadIndex"
        " ReadIndexReply RequestVote SnapshotReply TimeoutNow TransferRefused VoteKind VoteReply is_urgent"
    ),
    "raft_core.events": (
        "Applied CampaignRequested Event ForgetLeaderRequested LocalEvent MachineFailed"
        " PeerConnected PeerUnreachable Persisted Proposed Requested Restored SnapshotFailed"
        " SnapshotProgress SnapshotReceived SnapshotRejected SnapshotTaken StopRequested StorageFailed Tick"
        ""
    ),
    "raft_core.requests": (
        "ChangeMembership Forwarded LeaveJoint Propose Read ReadConsistency Request TransferLeadership"
    ),
    "raft_core.effects": (
        "Alarm AlarmKind RoleChanged Apply Effect Outcome Persist ReadReady ReceiveSnapshot Refusal "
        "RefusalReason Respond"
        " Restore RoleName Send Stop StopReason Success TakeSnapshot Indeterminate UnknownReason"
    ),
    "raft_core.quorum": "NO_LIMIT Verdict committed_index quorum_reached vote_verdict",
    "raft_core.settings": "LONGEST_LEASE Settings unfit",
    "raft_core.recovered": "RESTART_TEXT Identity Recovered check_founding formation",
    "raft_core.status": "PeerStatus Status picture",
    "raft_core.raft": "Raft",
    "raft_core.invariants": "check",
}

PACKAGES = (raft_core, raft_storage, raft_trio, raft_anyio)


def every_module() -> list[str]:
    """All modules of the packages that are made to be imported."""
    found = []
    for package in PACKAGES:
        found.append(package.__name__)
        found += [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [name for name in found if not name.rpartition(".")[2].startswith("_") and name not in MOVED]


@pytest.mark.parametrize("name", PINNED)
def test_the_names_of_a_public_module_are_pinned(name: str) -> None:
    module = importlib.import_module(name)

    assert sorted(module.__all__) == sorted(PINNED[name].split())


@pytest.mark.parametrize("name", every_module())
def test_all_names_that_a_module_offers_exist_and_none_is_offered_twice(name: str) -> None:
    module = importlib.import_module(name)
    offered = getattr(module, "__all__", [])

    assert len(set(offered)) == len(offered)
    for each in offered:
        assert hasattr(module, each), f"{name} offers {each}, which does not exist"


@pytest.mark.parametrize("name", every_module())
def test_every_public_class_and_function_says_what_it_is_for(name: str) -> None:
    module = importlib.import_module(name)
    for each in getattr(module, "__all__", []):
        thing = getattr(module, each)
        if inspect.isclass(thing) or isinstance(thing, types.FunctionType):
            own = thing.__doc__ if not inspect.isclass(thing) else thing.__dict__.get("__doc__")
            assert own, f"{name}.{each} has no docstring of its own"
            assert not own.startswith(f"{each}("), f"{name}.{each} has only the docstring that attrs made"
            if inspect.isclass(thing) and issubclass(thing, enum.Enum):
                assert own != enum.Enum.__doc__


def test_the_front_door_offers_what_other_modules_define() -> None:
    """`raft_core` re-exports; nothing is defined in it."""
    for each in raft_core.__all__:
        thing = getattr(raft_core, each)
        home = getattr(thing, "__module__", None)
        assert home != "raft_core", each
    for needed in ("Raft", "Settings", "Recovered", "Members"):
        assert needed in raft_core.__all__


@pytest.mark.parametrize("package", ["raft_core", "raft_storage", "raft_testing", "raft_trio", "raft_anyio", "raft_kv"])
def test_every_package_is_marked_as_typed(package: str) -> None:
    module = importlib.import_module(package)
    (place,) = module.__path__

    assert (importlib.resources.files(package) / "py.typed").is_file(), place
