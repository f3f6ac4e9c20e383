"""The wire between nodes: `frames` cut the stream, `codec` decodes and checks, `handshake` runs the connection."""

from raft_core.wire.codec import WireValue, decode, encode_message, encode_payload, encode_refusal
from raft_core.wire.frames import FRAME_OVERHEAD, FrameKind, FrameReader, encode_frame
from raft_core.wire.handshake import (
    Greeted,
    Limits,
    Link,
    LinkBroken,
    LinkEvent,
    LinkFault,
    MessageReceived,
    PayloadReceived,
)
from raft_core.wire.payloads import (
    WIRE_VERSION,
    BadFrame,
    Chunk,
    Forward,
    ForwardReply,
    Frame,
    Hello,
    Payload,
    Pull,
    Refuse,
)

__all__ = [
    "FRAME_OVERHEAD",
    "WIRE_VERSION",
    "BadFrame",
    "Chunk",
    "Forward",
    "ForwardReply",
    "Frame",
    "FrameKind",
    "FrameReader",
    "Greeted",
    "Hello",
    "Limits",
    "Link",
    "LinkBroken",
    "LinkEvent",
    "LinkFault",
    "MessageReceived",
    "Payload",
    "PayloadReceived",
    "Pull",
    "Refuse",
    "WireValue",
    "decode",
    "encode_frame",
    "encode_message",
    "encode_payload",
    "encode_refusal",
]
