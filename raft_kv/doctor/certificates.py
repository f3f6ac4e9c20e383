"""Checks of a node's certificates: files, key, names, authorities and expiry."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from raft_core.errors import SettingsError
from raft_core.node.security import TLS
from raft_kv.doctor.finding import Finding, right, warning, wrong
from raft_tls.credentials import Credentials

__all__ = ["check_certificate"]

_DAY: Final = 86_400
_SOON: Final = 21 * _DAY
"""Time for an operator to renew a certificate."""


def check_certificate(port: str, tls: TLS, identity: tuple[str, int] | None, now: float) -> Iterator[Finding]:
    """Judge the certificate of a port. `identity`: cluster and node that it must name; None at the clients' port."""
    subject = f"{port}, {tls.certificate}"
    renew = "make another one (raft-kv certs node --renew), and copy it here: it is read within seconds, no restart"
    try:
        state = Credentials(tls, identity).state
    except SettingsError as failure:
        yield wrong(
            "certificate", subject, str(failure), "correct the files or their names: raft-kv serve refuses them"
        )
        return
    until = datetime.fromtimestamp(state.expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if state.issued > now:
        yield wrong("certificate", subject, "it is not valid yet", "check this machine's clock")
    elif state.expires <= now:
        yield wrong("certificate", subject, f"it expired at {until}", renew)
    elif state.expires - now < _SOON:
        yield warning("certificate", subject, f"it expires at {until}", renew)
    else:
        yield right("certificate", subject, f"valid until {until}")
