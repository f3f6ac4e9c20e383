"""The public face: the exported names of the packages, and a docstring for each exported name of every module."""

from __future__ import annotations

import enum
import importlib
import importlib.resources
import inspect
import pkgutil
import types
from importlib.util import find_spec

import pytest

import raft_anyio
import raft_core
import raft_storage
import raft_trio
from raft_core.setting_help import SettingsDoc
from tests.docs.moved import MOVED

PINNED: dict[str, str] = {
    "raft_core": (
        "AddLearner AddVoter Alarm Applied Apply COMPILED CallerError CampaignRequested ChangeMembership Effect Event"
        " Indeterminate LeaveJoint MachineFailed Members Outcome PeerConnected PeerUnreachable Persist"
        " Persisted Proposed Raft RaftError Read ReadConsistency ReadReady ReceiveSnapshot Recovered Refusal"
        " RemoveNode Requested Respond Restore Restored RoleChanged Send Settings SettingsError SnapshotFailed"
        " SnapshotProgress SnapshotReceived SnapshotRejected SnapshotTaken StateMachine Status Stop"
        " StopRequested StorageFailed Success TakeSnapshot Tick TransferLeadership"
    ),
    "raft_trio": (
        "AddLearner AddVoter Alarm AlarmKind CallerError Change ChangeMode Checksum DirectoryInUse DiskError"
        " Explanation FeatureUnknown InvariantBroken KeepsTime ListenFailed LogDamaged LogLost MachineBroken Members"
        " MembershipRefused Node NodeConfig NodeLimits NodeStatus NotLeader Openable OutcomeUnknown"
        " PreparesWithWallTime QueueFull RaftError ReadConsistency RefusalReason Refused RemoveNode"
        " RequestError RoleChanged RoleName Settings SettingsError StateMachine StorageBroken Store"
        " TLS TransferInProgress UnknownReason WrongDirectory open_node serve"
    ),
    "raft_anyio": (
        "AddLearner AddVoter Alarm AlarmKind CallerError Change ChangeMode Checksum DirectoryInUse DiskError"
        " Explanation FeatureUnknown InvariantBroken KeepsTime ListenFailed LogDamaged LogLost MachineBroken Members"
        " MembershipRefused Node NodeConfig NodeLimits NodeStatus NotLeader Openable OutcomeUnknown"
        " PreparesWithWallTime QueueFull RaftError ReadConsistency RefusalReason Refused RemoveNode"
        " RequestError RoleChanged RoleName Settings SettingsError StateMachine StorageBroken Store"
        " TLS TransferInProgress UnknownReason WrongDirectory open_node serve"
    ),
    "raft_storage": (
        "BackupFile BackupUnusable FileStore Location MemoryStore PackageMissing PosixFiles Survivor UnknownStore"
        " Verified migrate open_store parse_location recover_from_quorum_loss restore_backup verify_backup verify_store"
    ),
}
"""The names that users write. A new one is a promise, so it is added here on purpose."""

PACKAGES = (raft_core, raft_storage, raft_trio, raft_anyio)


def every_module() -> list[str]:
    """All modules of the packages that are made to be imported."""
    found = []
    for package in PACKAGES:
        found.append(package.__name__)
        found += [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    absent = () if find_spec("mdbx") else ("raft_storage.mdbx_store",)  # there is no wheel for Python 3.14
    return [n for n in found if not n.rpartition(".")[2].startswith("_") and n not in MOVED and n not in absent]


@pytest.mark.parametrize("name", PINNED)
def test_names_that_a_package_exports_are_pinned(name: str) -> None:
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
            own = own.text if isinstance(own, SettingsDoc) else own
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
