"""A state that reaches a new node while the cluster serves, small: `python -m benchmarks transfer` takes 1 GiB."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.transfer import measure, size_of

SIZE = "32MiB"


def test_sizes_have_units() -> None:
    assert size_of("1GiB") == 2**30
    assert size_of("1.5KiB") == 1536
    assert size_of("7") == 7


@pytest.mark.slow
def test_state_reaches_new_node_in_bounded_memory(tmp_path: Path) -> None:
    figures = measure(size=SIZE, data=f"file:{tmp_path}")
    assert figures["sender_more_memory_mib"] < 32
    assert figures["receiver_more_than_state_mib"] < 32


@pytest.mark.slow
@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_transfer_goes_on_after_death_of_either_side(side: str, tmp_path: Path) -> None:
    measure(size=SIZE, data=f"file:{tmp_path}", interrupt=side)
