"""`Portions`: copies of large plain containers, made and encoded some hundred entries at a time.

One call that copies or encodes a million entries keeps every other thread of the process waiting, the event loop's
included. So a container that is a field, and large, is never copied, encoded or decoded as a whole. One entry that is
itself a container of a million is not cut.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from heapq import merge
from itertools import chain, islice
from time import sleep
from typing import Any, Final, final

import attrs
import msgspec

from raft_objects.codec import FIXED, Codec, copied, field_names
from raft_objects.shards import SHARD

__all__ = [
    "LARGE",
    "Portions",
    "copied_in_portions",
    "extended",
    "is_large",
    "leave_out",
    "let_others_run",
    "packed_portions",
    "uncollected",
]

LARGE: Final = 4096
"""Entries from which on a container is copied in portions."""
_PLAIN, _NESTED = 2 * SHARD, 16
"""Entries of a portion: where they are single values, and where they are containers or objects."""
_DICT, _LIST, _DEQUE, _SET = range(2, 6)
_TAGS: Final[dict[type, int]] = {dict: _DICT, list: _LIST, deque: _DEQUE, set: _SET}
_HOLDS_OTHERS: Final = frozenset({dict, list, deque, set, frozenset, tuple})


@final
@attrs.frozen
class Portions:
    """A copy of a container: its tag, and its entries in lists, of a dict keys and values in turn."""

    tag: int
    parts: list[list[Any]]


def is_large(value: object, limit: int = LARGE) -> bool:
    """Return whether a value has so many entries, those of containers in it included. Look at no more than that."""
    waiting: list[Iterator[Any]] = [iter((value,))]
    while waiting:
        for one in waiting[-1]:
            kind = type(one)
            if kind in _HOLDS_OTHERS:
                limit -= len(one)
                if limit <= 0:
                    return True
                waiting.append(chain(one, one.values()) if kind is dict else iter(one))
                break
            if kind not in FIXED and (fields := field_names(kind)):
                limit -= 1
                waiting.append(iter([getattr(one, name) for name in fields]))
                break
        else:
            waiting.pop()
    return False


def copied_in_portions(value: Any) -> Any:
    """Return a copy of a field: `Portions` of a large container, else as `copied`."""
    tag = _TAGS.get(type(value))
    if tag is None or not is_large(value):
        return copied(value)
    flat = tag == _SET or type(next(iter(value.values() if tag == _DICT else value))) in FIXED
    entries = chain.from_iterable(value.items()) if tag == _DICT else iter(value)
    return Portions(tag, list(_cut(map(copied, entries), _PLAIN if flat else _NESTED)))


def packed_portions(copy: Portions, codec: Codec) -> Iterator[list[Any]]:
    """Yield the portions as the codec packs them; those of a set in the order of their bytes."""
    if copy.tag != _SET:
        for part in copy.parts:
            yield [codec.pack(entry) for entry in part]
            let_others_run()
        return
    encode = msgspec.msgpack.Encoder().encode
    runs = [
        sorted(((encode(packed), packed) for packed in map(codec.pack, part)), key=_bytes_of) for part in copy.parts
    ]
    yield from _cut((packed for _, packed in merge(*runs, key=_bytes_of)), _PLAIN)


def _bytes_of(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]


def extended(container: Any, tag: int, portion: list[Any]) -> Any:
    """Return the container with the entries of one more portion; None stands for none yet. Raise `ValueError`."""
    if tag == _DICT:
        container = {} if container is None else container
        container.update(zip(portion[::2], portion[1::2], strict=True))
    elif tag in (_LIST, _DEQUE):
        container = ([] if tag == _LIST else deque()) if container is None else container
        container.extend(portion)
    elif tag == _SET:
        container = set() if container is None else container
        container.update(portion)
    else:
        raise ValueError(f"a portion has the unknown tag {tag}")
    return container


def _cut(entries: Iterable[Any], size: int) -> Iterator[list[Any]]:
    left = iter(entries)
    while part := list(islice(left, size)):
        yield part
        let_others_run()


@contextmanager
def uncollected() -> Iterator[None]:
    """Begin no garbage collection while one portion is read. Nothing of it is garbage.

    Some thousand new objects would start several young collections, and each tenth a larger one: with a million
    messages in a queue, the collector took more time than everything else.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def leave_out() -> None:
    """Leave all objects of the process out of later garbage collections.

    A full collection looks at every object, 100 ms for some hundred thousand, and the event loop stands still. Objects
    left out are freed like others when nothing refers to them; only cycles among those of this moment are not. So this
    is called in proportion to what is restored.
    """
    gc.collect(1)
    gc.freeze()


def let_others_run() -> None:
    """Let a waiting thread run. Else it waits for five milliseconds, and an event loop does so several times a turn."""
    sleep(0)
