"""The few things that a store asks of a database engine, so that every engine is a thin layer.

An engine keeps numbered rows in one directory, which the store has locked, and commits changes of them as a whole.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol, TypeAlias

__all__ = ["Engine", "Range", "Row"]

Row: TypeAlias = tuple[int, bytes]
Range: TypeAlias = tuple[int, int]
"""Numbers from the first up to, without, the second."""


class Engine(Protocol):
    """An open database. Raises `FileFailed` (`NoSpace`) where the disk fails, `LogDamaged` where it holds nonsense."""

    @property
    def file(self) -> str:
        """The name of the database, for error texts."""
        ...

    @property
    def tail(self) -> str:
        """The name of the file in which the newest rows were when it was opened, where the engine keeps them apart."""
        ...

    def rows(self) -> Generator[Row, None, None]:
        """Give every row in the order of the numbers."""
        ...

    def commit(self, rows: Sequence[Row], drop: Range) -> bool:
        """Put `rows` and delete those numbered in `drop`, all or nothing, and durable on return.

        Return whether the engine has made a checkpoint: the mark is then synced too."""
        ...

    def close(self) -> None:
        """Free everything; harmless when done twice."""
        ...
