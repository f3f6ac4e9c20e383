"""`raft-kv hash-password`: from standard input to a rule for a file of users."""

from __future__ import annotations

import getpass
import sys

from raft_core.errors import SettingsError
from raft_kv.users.passwords import MAX_PASSWORD_BYTES, hash_password

__all__ = ["run_hash_password"]


def run_hash_password() -> int:
    """Read a password, print the rule with its hash. Return the exit status."""
    text = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    password = text.encode()
    if not 0 < len(password) <= MAX_PASSWORD_BYTES:
        raise SettingsError(f"a password has 1 to {MAX_PASSWORD_BYTES} bytes")
    print(f"#{hash_password(password)}")
    return 0
