"""A type for every number with a meaning, so that an index is never taken for a term.

What lives here: NewTypes, their zero values and the highest value of all; nothing that computes.
"""

from __future__ import annotations

from typing import Final, NewType

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
"""A place in the log; the first entry is at 1 (§5.3)."""
WriteId = NewType("WriteId", int)
"""The number of one `Persist`; increasing by one within a run of a node."""
RequestId = NewType("RequestId", int)
"""The caller's number for one batch of commands, one read or one change; echoed in every `Respond`."""
MessageId = NewType("MessageId", int)
"""The number of a request message, named again by its reply; unique within (node, boot)."""
ReadId = NewType("ReadId", int)
"""A leader's number for one confirming round of reads; strictly increasing within one leadership."""
BootNumber = NewType("BootNumber", int)
"""How often this data directory has been opened; durable, so ids made before a restart are never made again."""
Incarnation = NewType("Incarnation", int)
"""A random 63-bit number drawn when a data directory is formatted; 0 means that none was declared."""
ClusterId = NewType("ClusterId", str)
"""The name of a cluster, chosen by its operator and written into every data directory."""
GroupId = NewType("GroupId", int)
"""The number of a Raft group on a shared connection or log; always 0 for now."""

NO_NODE: Final = NodeId(0)
NO_TERM: Final = Term(0)
NO_INDEX: Final = Index(0)
NO_WRITE: Final = WriteId(0)
MAX_INT63: Final = (1 << 63) - 1
"""The highest that any of these numbers may be, and any other that is written down or sent: 63 bits hold it."""
HIGHEST_FOUNDER: Final = (1 << 53) - 1
"""The highest id of a founding member. Later ids are above it, so this leaves them nearly the whole range."""
NODE_LEAP: Final = 1 << 40
"""An added member's id is at most this far above the highest ever used, or one change could use up all ids."""
