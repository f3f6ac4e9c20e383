"""Patterns such as `KEYS user:*`, as regular expressions with bounded cost.

After a star, the shortest match of the following piece is final (an atomic group), so `a*a*a*a*b` costs at most the
product of the lengths, and is never exponential. Patterns are limited in length, which leaves at most a microsecond for
each byte of a key. No client can stop a node by a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from raft_kv.resp import CommandError

__all__ = ["MAX_PATTERN_BYTES", "matcher"]

MAX_PATTERN_BYTES: Final = 512
"""A longer one is refused, with the same error on every replica."""


@lru_cache(maxsize=256)
def matcher(pattern: bytes) -> Callable[[bytes], object]:
    """Return a predicate of keys for `pattern`, with `*` `?` `[a-c]` `[^x]` and backslashes.

    Raise `CommandError` for a pattern of more than `MAX_PATTERN_BYTES`.
    """
    if len(pattern) > MAX_PATTERN_BYTES:
        raise CommandError(f"ERR a pattern has at most {MAX_PATTERN_BYTES} bytes")
    chunks: list[bytes] = [b""]
    position = 0
    while position < len(pattern):
        sign = pattern[position : position + 1]
        position += 1
        if sign == b"*":
            if chunks[-1] or len(chunks) == 1:
                chunks.append(b"")
            continue
        if sign == b"?":
            chunks[-1] += b"."
        elif sign == b"[":
            piece, position = _character_class(pattern, position)
            chunks[-1] += piece
        else:
            if sign == b"\\" and position < len(pattern):
                sign = pattern[position : position + 1]
                position += 1
            chunks[-1] += re.escape(sign)
    first, *rest = chunks
    if not rest:
        return re.compile(first + rb"\Z", re.DOTALL).match
    middle = b"".join([b"(?>.*?" + chunk + b")" for chunk in rest[:-1]])
    return re.compile(first + middle + b".*" + rest[-1] + rb"\Z", re.DOTALL).match


def _character_class(pattern: bytes, position: int) -> tuple[bytes, int]:
    """Return the regular expression of the class whose inside begins at `position`, and the position after it.

    An unclosed class ends with the pattern, as in Redis.
    """
    negated = pattern[position : position + 1] == b"^"
    position += negated
    members: set[int] = set()
    while position < len(pattern) and pattern[position : position + 1] != b"]":
        if pattern[position : position + 1] == b"\\" and position + 1 < len(pattern):
            position += 1
        elif pattern[position + 1 : position + 2] == b"-" and position + 2 < len(pattern):
            low, high = sorted((pattern[position], pattern[position + 2]))
            members.update(range(low, high + 1))
            position += 3
            continue
        members.add(pattern[position])
        position += 1
    allowed = set(range(256)) - members if negated else members
    return (b"[" + _ranges(sorted(allowed)) + b"]" if allowed else b"(?!)"), position + 1


def _ranges(members: list[int]) -> bytes:
    """Return the inside of a class, shorter than the pattern's: `[^a]` 128 times took 0.3 s as single letters."""
    inside = b""
    first = before = members[0]
    for member in [*members[1:], 512]:
        if member != before + 1:
            inside += b"\\x%02x-\\x%02x" % (first, before)
            first = member
        before = member
    return inside
