"""The fuzzer finds what it is made for, and finds nothing in a short run of every target."""

from __future__ import annotations

import random
import time
import zlib
from pathlib import Path

import pytest

from raft_core.errors import LogDamaged
from raft_core.wal.records import RecordsUndecodable, decode
from raft_core.wal.snapshot_file import SnapshotFileReader
from raft_testing.disk.crash_disk import CrashDisk
from tests.fuzz.__main__ import main
from tests.fuzz.engine import Target, fuzz, mutated
from tests.fuzz.targets import _SNAPSHOT, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_target_fails_at_nothing_in_a_short_run(name: str) -> None:
    report = fuzz(TARGETS[name], 0.3, random.Random(7), most=400)

    assert report.failures == []
    assert report.executions >= len(TARGETS[name].seeds)


def _planted(data: bytes) -> None:
    if data[:2] == b"ab" and len(data) > 3:
        if data[3] == 7:
            raise ValueError("planted")
        if data[3] == 16:
            time.sleep(0)
            end = time.thread_time() + 0.05
            while time.thread_time() < end:
                pass


def test_exceptions_and_long_steps_are_found_behind_branches() -> None:
    target = Target("planted", [b"abcd"], _planted, ("test_fuzz",))

    report = fuzz(target, 20.0, random.Random(1), most=20_000)

    problems = {failure.problem.partition(":")[0].partition(" ms")[0][:9] for failure in report.failures}
    assert "it raises" in problems
    assert any(failure.data[:2] == b"ab" for failure in report.failures)


def test_input_that_takes_too_much_memory_is_found() -> None:
    target = Target("hungry", [b"a"], lambda data: bytearray(1 << 25), ("test_fuzz",))

    (failure,) = fuzz(target, 1.0, random.Random(1), most=2).failures

    assert "bytes" in failure.problem


def test_mutations_follow_their_generator() -> None:
    one, other = (mutated(b"0123456789", [b"other"], [b"word"], random.Random(3)) for _ in range(2))

    assert one == other != b"0123456789"


def test_failing_input_is_kept_and_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: bytes) -> None:
        raise KeyError("no")

    monkeypatch.setitem(TARGETS, "planted", Target("planted", [b"x"], refuse, ()))

    assert main(["planted", "--seconds", "1", "--keep", str(tmp_path)]) == 1
    assert "KeyError" in capsys.readouterr().out
    (kept, *_) = sorted(tmp_path.iterdir())
    with pytest.raises(KeyError):
        main(["planted", "--input", str(kept)])


# Found by fuzzing.


def test_text_that_is_no_utf_8_in_a_record_is_damage() -> None:
    with pytest.raises(RecordsUndecodable):
        decode(b"\x91\x9d\x01\xa1\xff" + b"\x01" * 12)


def test_text_that_is_no_utf_8_in_the_header_of_a_snapshot_is_damage() -> None:

    head, body = _SNAPSHOT[:16], bytearray(_SNAPSHOT[20:512])
    place = body.index(b"\xa1c") + 1
    body[place] = 0xFF
    length = int.from_bytes(head[12:16], "little")
    checksum = zlib.crc32(bytes(body[:length]), zlib.crc32(head)).to_bytes(4, "little")
    file = CrashDisk().create("snapshot")
    file.write_at(0, head + checksum + bytes(body) + _SNAPSHOT[512:])

    with pytest.raises(LogDamaged):
        SnapshotFileReader(file)
