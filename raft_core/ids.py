"""Distinct types for indexes, terms, node ids and other numbers, so they cannot be confused.

It holds NewTypes, their zero values and their limits, and computes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NewType

from raft_core._moved import moved_names

__all__ = [
    "HIGHEST_FOUNDER",
    "MAX_INT63",
    "NODE_LEAP",
    "NO_INDEX",
    "NO_NODE",
    "NO_TERM",
    "NO_WRITE",
    "BootNumber",
    "ClusterId",
    "GroupId",
    "Incarnation",
    "Index",
    "MessageId",
    "NodeId",
    "ReadId",
    "RequestId",
    "Term",
    "WriteId",
]

NodeId = NewType("NodeId", int)
"""A member's number: positive, and never used again once its member is removed."""
Term = NewType("Term", int)
"""An election's number; 0 before the first (§5.1)."""
Index = NewType("Index", int)
"""A position in the log; the first entry is at 1 (§5.3)."""
WriteId = NewType("WriteId", int)
"""The number of one `Persist`; increasing by one within a run of a node."""
RequestId = NewType("RequestId", int)
"""The caller's number for one batch of commands, one read or one change; echoed in every `Respond`."""
MessageId = NewType("MessageId", int)
"""The number of a request message, repeated in its reply; unique within (node, boot)."""
ReadId = NewType("ReadId", int)
"""A leader's number for one confirming round of reads; strictly increasing within one leadership."""
BootNumber = NewType("BootNumber", int)
"""How often this data directory was opened; durable, so ids are not reused after a restart."""
Incarnation = NewType("Incarnation", int)
"""A random 63-bit number drawn when a data directory is formatted; 0: none declared."""
ClusterId = NewType("ClusterId", str)
"""The name of a cluster, chosen by its operator and written into every data directory."""
GroupId = NewType("GroupId", int)
"""The number of a Raft group on a shared connection or log; always 0 for now."""

NO_NODE: Final = NodeId(0)
NO_TERM: Final = Term(0)
NO_INDEX: Final = Index(0)
NO_WRITE: Final = WriteId(0)
MAX_INT63: Final = (1 << 63) - 1
"""The highest value of these and all other numbers on disk and wire: 63 bits."""
HIGHEST_FOUNDER: Final = (1 << 53) - 1
"""The highest id of a founding member. It leaves nearly the whole range to later ids, which are higher."""
NODE_LEAP: Final = 1 << 40
"""Most an added member's id may exceed the highest ever used, so one change cannot use up all ids."""

if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
