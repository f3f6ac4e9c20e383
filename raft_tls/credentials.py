"""`Credentials`: the files of a `TLS`, read into contexts of `ssl`, and read again when they change.

`look` does all the reading; it blocks, so adapters call it in a thread. A connection is made with the contexts of its
moment; those in use keep theirs. Files that cannot be used do not replace what is in use.

A new certificate is tried first in a handshake with itself, between two buffers. This reads its names and dates with
`ssl` alone, and shows whether this node's own authorities accept it.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from threading import Lock
from typing import Any, Final, final

import attrs

from raft_core.errors import SettingsError
from raft_core.node.config import NodeConfig
from raft_core.node.events import CertificateRead
from raft_core.node.security import TLS, node_uri
from raft_tls.failures import failure_of

__all__ = ["LOOK_SECONDS", "Credentials", "credentials_of"]

LOOK_SECONDS: Final = 5.0
"""How often adapters look whether the files have changed."""

_NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, without a name in `ssl`: an expired certificate is read too."""
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@final
@attrs.frozen
class _Read:
    """One reading of the files."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    names: tuple[str, ...]
    issued: int
    expires: int


@final
class Credentials:
    """Contexts for accepted and dialled connections. The first reading raises `SettingsError` if it fails.

    `identity`: cluster and node that the certificate must name; None at a port for clients. There, the certificate
    need not be of an authority of ours.
    """

    def __init__(self, tls: TLS, identity: tuple[str, int] | None = None) -> None:
        if identity is not None and not tls.authorities:
            raise SettingsError("TLS between nodes needs authorities: name the file with their certificates")
        self.tls: Final = tls
        self._identity = identity
        self._looking = Lock()
        self._stamp = self._look_at_files()
        self._read = self._read_files()
        self._problem = ""

    @property
    def server(self) -> ssl.SSLContext:
        """The context for accepted connections."""
        return self._read.server

    @property
    def client(self) -> ssl.SSLContext:
        """The context for dialled connections."""
        return self._read.client

    @property
    def state(self) -> CertificateRead:
        """The dates of the certificate in use, with the problem of the last reading."""
        return CertificateRead(self._read.issued, self._read.expires, self._problem)

    def look(self, *, again: bool = False) -> CertificateRead | None:
        """Read the files if they have changed, or in any case (`again`). Return the new state; None if unchanged.

        Blocks for some milliseconds. Never raises: a problem is part of the state.
        """
        with self._looking:
            return self._look(again=again)

    def _look(self, *, again: bool) -> CertificateRead | None:
        try:
            stamp = self._look_at_files()
            if stamp == self._stamp and not again:
                return None
            # Written in any order: a key that does not fit yet is a problem until its certificate comes.
            self._read = self._read_files()
            self._stamp = stamp
        except SettingsError as failure:
            if str(failure) == self._problem and not again:
                return None
            self._problem = str(failure)
        else:
            self._problem = ""
        return self.state

    def _files(self) -> list[Path]:
        named = (self.tls.certificate, self.tls.key, self.tls.authorities)
        return [Path(name) for name in named if name]

    def _look_at_files(self) -> tuple[tuple[int, int, int], ...]:
        stamps = []
        for path in self._files():
            try:
                found = path.stat()
            except OSError as failure:
                raise SettingsError(f"cannot read {path}: {failure.strerror or failure}") from None
            stamps.append((found.st_ino, found.st_mtime_ns, found.st_size))
        return tuple(stamps)

    def _read_files(self) -> _Read:
        server, client = self._context(server=True), self._context(server=False)
        details = self._details()
        names = tuple(value for kind, value in details.get("subjectAltName", ()) if kind == "URI")
        if self._identity is not None:
            self._check(server, client, names)
        issued, expires = (int(ssl.cert_time_to_seconds(details[key])) for key in ("notBefore", "notAfter"))
        return _Read(server, client, names, issued, expires)

    def _check(self, server: ssl.SSLContext, client: ssl.SSLContext, names: tuple[str, ...]) -> None:
        """Raise `SettingsError` if peers with our authorities would refuse the certificate."""
        assert self._identity is not None
        wanted = node_uri(*self._identity)
        if wanted not in names:
            said = ", ".join(names) or "no URI"
            raise SettingsError(
                f"{self.tls.certificate} names {said}; the certificate of this node must name {wanted} among its "
                "alternative names. A cluster with a new name, such as a restored one, needs new certificates: "
                f"raft-kv certs node {self._identity[1]} --cluster NAME, with --renew if there is one, and with "
                "several --cluster for several clusters"
            )
        try:
            _shake_hands(server, client)
        except ssl.SSLError as failure:
            why = failure_of(failure).text.rpartition(": ")[2]
            raise SettingsError(
                f"{self.tls.certificate} would be refused by this node's own authorities: {why}"
            ) from None

    def _context(self, *, server: bool) -> ssl.SSLContext:
        tls = self.tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # a node is known by the URI in its certificate
        context.minimum_version = _VERSIONS[tls.minimum]
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        if server:
            context.num_tickets = 0  # connections between nodes last; a client's next handshake is cheap enough
        context.verify_mode = ssl.CERT_REQUIRED if tls.authorities else ssl.CERT_NONE
        _load(context, tls)
        return context

    def _details(self) -> dict[str, Any]:
        """Return names and dates of the certificate, whoever signed it and however old it is."""
        pem = Path(self.tls.certificate).read_text("ascii", "replace")
        end = "-----END CERTIFICATE-----"
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load(server, attrs.evolve(self.tls, authorities=""))
        client.check_hostname = False
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
        try:
            client.load_verify_locations(cadata=pem[: pem.index(end) + len(end)])
            return _shake_hands(server, client)
        except (ssl.SSLError, ValueError) as failure:
            raise SettingsError(f"{self.tls.certificate} cannot be used: {failure}") from None


def credentials_of(config: NodeConfig) -> Credentials | None:
    """Read the files of a node's TLS; None without TLS. Blocks. Raise `SettingsError`."""
    return None if config.tls is None else Credentials(config.tls, config.identity)


def _load(context: ssl.SSLContext, tls: TLS) -> None:
    """Load the files into the context. Raise `SettingsError`, which names the file and the reason."""

    def no_password() -> str:
        raise SettingsError(f"{tls.key} is encrypted: give a key without a password, readable by this user alone")

    try:
        context.load_cert_chain(tls.certificate, tls.key, no_password)
    except ssl.SSLError as failure:
        fits = "VALUES_MISMATCH" not in (failure.reason or "")
        why = "no PEM files of a certificate and its key" if fits else "the key is not the certificate's"
        raise SettingsError(f"{tls.certificate} and {tls.key}: {why}") from None
    except OSError as failure:
        raise SettingsError(f"cannot read {tls.certificate} or {tls.key}: {failure.strerror or failure}") from None
    if not tls.authorities:
        return
    try:
        context.load_verify_locations(tls.authorities)
    except ssl.SSLError:
        raise SettingsError(f"{tls.authorities} holds no certificates of authorities in PEM form") from None
    except OSError as failure:
        raise SettingsError(f"cannot read {tls.authorities}: {failure.strerror or failure}") from None


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """Connect the two contexts with each other. Return the server's certificate as the client sees it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = server.wrap_bio(to_server, to_client, server_side=True)
    dialling = client.wrap_bio(to_client, to_server, server_side=False)
    waiting = [dialling, accepting]
    for _ in range(8):  # a handshake takes two round trips at most
        for end in tuple(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    if waiting:
        raise ssl.SSLError("the handshake with itself does not end")
    return dict(dialling.getpeercert() or {})
