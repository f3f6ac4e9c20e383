"""`Command`: one subcommand of `raft-kv`, as data, and the way from its given values to its typed options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, final

import attrs

from raft_kv.options import Option, Values, structure

__all__ = ["CONNECTING_TEXT", "KINDS_TEXT", "Command", "collect"]

T = TypeVar("T")

KINDS_TEXT: Final = "PATH, file:PATH, sqlite:PATH, rocksdb:PATH or mdbx:PATH"
"""The forms of a location, for help texts."""


CONNECTING_TEXT: Final = """
It uses TLS if RAFT_KV_CLIENT_TLS_AUTHORITIES names the file of the authorities, and shows the certificate
of RAFT_KV_CLIENT_TLS_CERTIFICATE and RAFT_KV_CLIENT_TLS_KEY. If REDISCLI_AUTH holds a password, it
authenticates with it, as the user of REDISCLI_USER or as default.
"""
"""For help texts of commands that connect to nodes."""


@final
@attrs.frozen(kw_only=True)
class Command:
    """A subcommand: its texts, its options, and the function that carries it out and returns the exit status."""

    help: str
    description: str
    examples: str = ""
    options: tuple[Option, ...]
    execute: Callable[[Mapping[str, Any], Mapping[str, str]], int]


def collect(options: Sequence[Option], flags: Mapping[str, Any], environ: Mapping[str, str], into: type[T]) -> T:
    """Return the options as a value of class `into`, from flags and variables. Raise `SettingsError`."""
    values = Values()
    values.take(options, flags, environ)
    return structure(values, into)
