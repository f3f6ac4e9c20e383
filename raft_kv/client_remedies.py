"""What to do when a command cannot connect to a node, or the node does not let it: which variable, in a line."""

from __future__ import annotations

import ssl
from typing import Final

from raft_kv.client_tls import TLS_VARIABLES

__all__ = ["PASSWORD_VARIABLE", "USER_VARIABLE", "needs_tls", "reply_remedy", "tls_problem", "with_remedy"]

PASSWORD_VARIABLE: Final = "REDISCLI_AUTH"
"""The variable of redis-cli."""
USER_VARIABLE: Final = "REDISCLI_USER"
_AUTHORITIES, _CERTIFICATE, _KEY = TLS_VARIABLES
_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_OTHER_NAME: Final = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_ABOUT_US: Final = (
    "CERTIFICATE_REQUIRED", "UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN",
)  # fmt: skip
_RIGHTS: Final = f"let {USER_VARIABLE} and {PASSWORD_VARIABLE} name a user with that right"


def with_remedy(text: str, remedy: str) -> str:
    """Return the error and its remedy in one line."""
    return f"{text.rstrip('.')}; {remedy}" if remedy else text


def needs_tls() -> str:
    """Return what to do if a node ends a connection without TLS before it has said anything."""
    return f"if the node has TLS, let {_AUTHORITIES} name the file with its authorities (ca.crt)"


def tls_problem(failure: ssl.SSLError, host: str) -> tuple[str, str]:
    """Return what went wrong with TLS to `host`, and what to do."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        text = f"the certificate of {host} is refused: {failure.verify_message}"
        if failure.verify_code in _OTHER_NAME:
            return text, f"use an address that is in the certificate, or make one with raft-kv certs --address {host}"
        if failure.verify_code == _EXPIRED:
            return text, "renew it: raft-kv certs node ID --renew"
        return text, f"let {_AUTHORITIES} name the file with the authority that signed it (ca.crt)"
    reason = getattr(failure, "reason", "") or str(failure)  # errors made in Python have none
    if any(alert in reason for alert in _ABOUT_US):
        text = f"the node refuses this client's certificate, or wants one: {reason}"
        return text, (
            f"let {_CERTIFICATE} and {_KEY} name a certificate (raft-kv certs client NAME) that its "
            "--tls-client-authorities accept"
        )
    remedy = (
        f"if the node has no TLS at this port, unset {_AUTHORITIES}; if it wants a certificate, let {_CERTIFICATE} and "
        f"{_KEY} name one (its refusal may be lost with the connection); else check that it is the port for clients"
    )
    return f"TLS with {host} failed: {reason}", remedy


def reply_remedy(error: str, user: str) -> str:
    """Return what to do about an error reply; "" if its own text says it. `user`: who has authenticated."""
    code = error.partition(" ")[0]
    if code == "NOAUTH":
        return (
            f"the server has users: set {PASSWORD_VARIABLE} to the password, and {USER_VARIABLE} to the user's name "
            "unless it is default"
        )
    if code == "WRONGPASS":
        return f"tried as user {user}: set {USER_VARIABLE} and {PASSWORD_VARIABLE} to a user and its password"
    if code == "NOPERM":
        return f"{_RIGHTS}; for status, doctor, backup and features an administrator (+@admin)"
    return ""
