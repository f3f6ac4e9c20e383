"""`Engine`: the operations that a store needs of a database engine, so that every engine is a thin layer.

An engine keeps numbered rows in one directory, which the store has locked, and commits changes atomically.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol, TypeAlias

__all__ = ["Engine", "Range", "Row"]

Row: TypeAlias = tuple[int, bytes]
Range: TypeAlias = tuple[int, int]
"""Numbers from the first up to, but without, the second."""


class Engine(Protocol):
    """An open database. Raise `FileFailed` (`NoSpace`) if the disk fails, `LogDamaged` if the contents are invalid."""

    @property
    def file(self) -> str:
        """Return the name of the database, for error texts."""
        ...

    @property
    def tail(self) -> str:
        """Return the name of the file with the newest rows at opening, "" if the engine does not keep them apart."""
        ...

    def rows(self) -> Generator[Row, None, None]:
        """Yield every row in the order of the numbers."""
        ...

    def commit(self, rows: Sequence[Row], drop: Range) -> bool:
        """Put `rows` and delete those numbered in `drop`, all or nothing, and durable on return.

        Return whether the engine has made a checkpoint: the mark is then synced too.
        """
        ...

    def close(self) -> None:
        """Free everything. A second call does nothing."""
        ...
