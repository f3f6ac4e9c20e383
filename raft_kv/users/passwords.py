"""Passwords: hashed by scrypt with a salt of their own, checked in constant time.

A hash is text: `scrypt:14:8:1:SALT:HASH`, the cost as a power of two, block size and parallelism, salt and hash in
hexadecimal. One hash takes some 50 ms and 16 MiB, so it is computed in a thread and never in the loop.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from hashlib import scrypt
from typing import Final

__all__ = ["MAX_PASSWORD_BYTES", "hash_password", "is_hash", "matches", "new_password"]

MAX_PASSWORD_BYTES: Final = 512
_COST, _BLOCK, _PARALLEL = 14, 8, 1
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_MEMORY: Final = 65 * 1024 * 1024
"""A little more than a hash of the highest cost takes."""
_FORM: Final = re.compile(r"scrypt:(1[0-6]):(8):(1):([0-9a-f]{32}):([0-9a-f]{64})")
_NO_HASH: Final = f"scrypt:{_COST}:{_BLOCK}:{_PARALLEL}:{'00' * _SALT_BYTES}:{'00' * _HASH_BYTES}"
"""Compared with the password of a user that does not exist, so that its name cannot be found by the time it takes."""


def _derive(password: bytes, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return scrypt(password, salt=salt, n=1 << cost, r=block, p=parallel, maxmem=_MEMORY, dklen=_HASH_BYTES)


def hash_password(password: bytes, salt: bytes | None = None) -> str:
    """Return the hash of the password. `salt`: 16 bytes, for tests; random without it."""
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    derived = _derive(password, salt, _COST, _BLOCK, _PARALLEL)
    return f"scrypt:{_COST}:{_BLOCK}:{_PARALLEL}:{salt.hex()}:{derived.hex()}"


def is_hash(text: str) -> bool:
    """Return whether `text` is a hash that `matches` can check."""
    return _FORM.fullmatch(text) is not None


def matches(password: bytes, hashes: Iterable[str]) -> str:
    """Return the hash that belongs to the password, "" if none does. Takes the time of one hash even without any."""
    found = ""
    for text in list(hashes) or [_NO_HASH]:
        form = _FORM.fullmatch(text)
        if form is None:
            continue
        cost, block, parallel = (int(form[place]) for place in (1, 2, 3))
        derived = _derive(password[:MAX_PASSWORD_BYTES], bytes.fromhex(form[4]), cost, block, parallel)
        if hmac.compare_digest(derived, bytes.fromhex(form[5])) and text != _NO_HASH:
            found = text
    return found


def new_password(bits: int) -> str:
    """Return a random password of so many bits, in hexadecimal."""
    return secrets.token_hex(-(-bits // 8))[: -(-bits // 4)]
