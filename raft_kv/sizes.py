"""Sizes of memory as Redis writes them."""

from __future__ import annotations

from typing import Final

from raft_core.errors import SettingsError

__all__ = ["bytes_of"]

_UNITS: Final = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "k": 1000, "m": 1000**2, "g": 1000**3}
_LEAST_MEMORY: Final = 1 << 20


def bytes_of(text: str) -> int:
    """Return a size as Redis writes it: 100mb is 100 MiB, 100m are 100 million. Raise `SettingsError`."""
    if not text:
        return 0
    digits = text.rstrip("bkmgBKMG")
    unit = text[len(digits) :].lower()
    if not (digits.isascii() and digits.isdigit()) or unit not in _UNITS:
        raise SettingsError(f"max-memory is a size such as 512mb or 2gb, not {text!r}")
    size = int(digits) * _UNITS[unit]
    if size < _LEAST_MEMORY:
        raise SettingsError(f"max-memory is at least 1mb, not {text!r}")
    return size
