"""The reason of a failed TLS handshake, in one line for the operator, and the name under which it is counted."""

from __future__ import annotations

import ssl
from typing import Final, final

from raft_core.node.status import Drop
from raft_core.structs import Value

__all__ = ["ENDED_EARLY", "Failure", "failure_of", "no_tls"]


@final
class Failure(Value, frozen=True):
    """Why a connection's TLS failed."""

    reason: Drop
    text: str


ENDED_EARLY: Final = Failure(Drop.TLS_FAILED, "the other side closed the connection during the TLS handshake")

_VERIFY: Final = {
    9: "it is not valid yet: compare the clocks of both machines",
    10: "it has expired: renew it",
    18: "no authority that this node trusts has signed it (it is self-signed)",
    19: "no authority that this node trusts has signed it",
    20: "no authority that this node trusts has signed it",
    21: "no authority that this node trusts has signed it",
}
"""OpenSSL's X509_V_ERR codes."""
_ALERTS: Final = {
    "UNKNOWN_CA": "no authority that it trusts has signed it",
    "CERTIFICATE_EXPIRED": "it has expired: renew it",
    "CERTIFICATE_REVOKED": "it is revoked",
    "BAD_CERTIFICATE": "it is invalid",
    "CERTIFICATE_UNKNOWN": "it is invalid",
    "UNSUPPORTED_CERTIFICATE": "it is not meant for this purpose (extended key usage)",
    "CERTIFICATE_REQUIRED": "",
}
"""What the other side says of our certificate, by the name of its alert."""
_NONE_SHOWN: Final = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
_VERSIONS: Final = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW")


def no_tls(start: bytes, *, dialled: bool) -> Failure:
    """Return the failure of a connection whose first bytes are `start`, and not TLS."""
    shown = start[:40].split(b"\r", 1)[0].split(b"\n", 1)[0].decode("ascii", "backslashreplace")
    if dialled:
        text = f"the other side does not use TLS; it answers {shown!a}. Set up TLS there"
    else:
        text = "this port takes nothing but TLS, and the other side speaks without; set up TLS there"
    return Failure(Drop.NOT_TLS, text)


def failure_of(error: ssl.SSLError) -> Failure:
    """Return the failure for an exception of `ssl`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = _VERIFY.get(error.verify_code, error.verify_message)
        return Failure(Drop.BAD_CERTIFICATE, f"the certificate of the other side is refused: {why}")
    reason = error.reason or ""
    if _NONE_SHOWN in reason:
        return Failure(
            Drop.BAD_CERTIFICATE,
            "the other side shows no certificate, and needs one that an authority of this node has signed",
        )
    _, alert, name = reason.partition("_ALERT_")
    if alert and name in _ALERTS:
        if why := _ALERTS[name]:
            return Failure(Drop.REFUSED_BY_PEER, f"the other side refuses this node's certificate: {why}")
        return Failure(Drop.REFUSED_BY_PEER, "the other side refuses a connection without a certificate")
    if any(part in reason for part in _VERSIONS):
        text = "both sides have no version of TLS in common; see the lowest version that each allows"
        return Failure(Drop.TLS_FAILED, text)
    said = "the other side reports a failure of TLS" if alert else "TLS failed"
    readable = (name if alert else reason).replace("_", " ").lower() or "unknown"
    return Failure(Drop.TLS_FAILED, f"{said}: {readable}")
