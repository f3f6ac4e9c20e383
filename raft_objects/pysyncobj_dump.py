"""Read a full dump of PySyncObj (`fullDumpFile`) without running what it says.

    python -m raft_objects.pysyncobj_dump full.dump              # shows what is in it
    dump = read_dump("full.dump", classes=[Money])               # then send its contents as commands

A dump is a compressed pickle, and unpickling calls whatever the pickle names. This reader calls nothing but the
constructors of plain values and of the classes that it is given; anything else is refused by name. A hostile file can
still ask for more memory than there is, so read dumps of your own only.
"""

from __future__ import annotations

import gzip
import pickle
import re
import sys
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from io import BytesIO
from os import PathLike
from pprint import pprint
from typing import Any, Final, final
from uuid import UUID

import attrs

from raft_core.errors import CallerError

__all__ = ["Dump", "DumpRefused", "read_dump"]

MAX_BYTES: Final = 1 << 30
"""Largest dump that is read, in bytes without compression."""
_MANGLED: Final = re.compile(r"_[A-Za-z]\w*?__(\w+)")


class DumpRefused(CallerError):
    """The file is no dump of PySyncObj, or it names a class or function that is not known here."""


@final
@attrs.frozen
class Dump:
    """The contents: the fields of the `SyncObj` itself, and those of each consumer, in the order of `consumers=`.

    Names are as in the class: `_ReplDict__data` is `data`. `index` and `term` are those of the last command in it.
    """

    index: int
    term: int
    fields: dict[str, Any]
    consumers: list[dict[str, Any]]


def read_dump(path: str | PathLike[str], *, classes: Iterable[type] = (), max_bytes: int = MAX_BYTES) -> Dump:
    """Read a dump. `classes`: your own, whose instances are in the state; they are made as pickle makes them.

    Raise `DumpRefused` if the file cannot be read so, and `OSError` if not at all.
    """
    try:
        with gzip.open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as failure:
        raise DumpRefused(
            f"{path} is no full dump of PySyncObj, or it was written by a serializer of yours"
        ) from failure
    if len(data) > max_bytes:
        raise DumpRefused(f"{path} has more than {max_bytes} bytes; raise max_bytes")
    try:
        state, (_, index, term), *_ = _Reader(BytesIO(data), classes).load()
        own, consumers = (state[0], state[1:]) if isinstance(state, list) else (state, [])
        own = {name: value for name, value in own.items() if name != "_SyncObj__enabledCodeVersion"}
        return Dump(int(index), int(term), _plain_names(own), [_plain_names(one) for one in consumers])
    except DumpRefused:
        raise
    except MemoryError:
        raise
    except Exception as failure:  # pickle raises whatever a damaged file leads it to
        raise DumpRefused(f"{path} is no full dump of PySyncObj: {type(failure).__name__}: {failure}") from failure


def _plain_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {match[1] if (match := _MANGLED.fullmatch(name)) else name: value for name, value in fields.items()}


class _Node:
    """Stands for `pysyncobj.node.TCPNode`, of which nothing is needed."""


def _bytes(text: str, encoding: str) -> bytes:
    """Return bytes as pickles of protocol 2 write them: as text, with one code point per byte."""
    if encoding != "latin1":
        raise DumpRefused(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _bytearray(text: str = "", encoding: str = "latin-1") -> bytearray:
    """Return a bytearray of which pickle wrote the text."""
    return bytearray(text, "latin-1")


def _no_bytes() -> bytes:
    """Return b"": pickle writes it as a call."""
    return b""


_PLAIN: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytes"): _no_bytes,
    ("builtins", "bytearray"): _bytearray,
    ("collections", "deque"): deque,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _bytes,
    ("datetime", "date"): date,
    ("datetime", "datetime"): datetime,
    ("datetime", "time"): time,
    ("datetime", "timedelta"): timedelta,
    ("datetime", "timezone"): timezone,
    ("decimal", "Decimal"): Decimal,
    ("uuid", "UUID"): UUID,
    ("pysyncobj.node", "TCPNode"): _Node,
    ("pysyncobj.node", "Node"): _Node,
}
_OLD_MODULES: Final = {"__builtin__": "builtins"}  # protocol 2 writes the names of Python 2


class _Reader(pickle.Unpickler):
    """Knows a table of names, and imports nothing."""

    def __init__(self, file: BytesIO, classes: Iterable[type]) -> None:
        super().__init__(file)
        self._known = {**_PLAIN, **{(one.__module__, one.__qualname__): one for one in classes}}

    def find_class(self, module: str, name: str) -> Any:
        known = self._known.get((_OLD_MODULES.get(module, module), name))
        if known is None:
            raise DumpRefused(f"the dump names {module}.{name}: pass it in classes= if it is a class of yours")
        return known

    def persistent_load(self, pid: object) -> Any:
        raise DumpRefused("the dump refers to objects outside of it")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m raft_objects.pysyncobj_dump FILE")
    try:
        pprint(attrs.asdict(read_dump(sys.argv[1])), sort_dicts=False)
    except (DumpRefused, OSError) as failure:
        sys.exit(str(failure))
