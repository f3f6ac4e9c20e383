"""Certificates for people who have no authority of their own: `raft-kv certs`.

An authority signs certificates of nodes and of clients. Keys are on the curve P-256. A node's certificate names cluster
and node in a URI, for the other nodes, and the addresses of its client port, for clients. It needs the package
`cryptography`, the extra `certs`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from raft_core.errors import SettingsError
from raft_core.node.limits import check_node
from raft_core.node.security import node_uri
from raft_kv.log_output import print_line

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["CertsOptions", "certificate_step", "make_authority", "make_client", "make_node", "run_certs"]

_AUTHORITY_DAYS: Final = 3650
_CLUSTER: Final = "raft-kv"
_ADDRESSES: Final = ("localhost", "127.0.0.1", "::1")
_CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""A certificate is valid from this long ago on."""
_USAGE: Final = "say raft-kv certs init, raft-kv certs node ID, or raft-kv certs client NAME"


@attrs.frozen(kw_only=True)
class CertsOptions:
    """The options of `raft-kv certs`. `what`: init, node ID, or client NAME."""

    what: list[str] = attrs.field(factory=list)
    cluster: list[str] = attrs.field(factory=list)
    address: list[str] = attrs.field(factory=list)
    directory: str = "certs"
    days: int = 0
    renew: bool = False


def run_certs(options: CertsOptions) -> int:
    """Carry out the command; print the files written. Raise `SettingsError` or `OSError`."""
    if find_spec("cryptography") is None:
        raise SettingsError("certs needs the package cryptography (the extra certs): pip install cryptography")
    if options.days < 0:
        raise SettingsError(f"days is a positive number, not {options.days}")
    directory = Path(options.directory)
    match options.what:
        case ["init"]:
            cluster = options.cluster[0] if options.cluster else _CLUSTER
            written = make_authority(directory, cluster, options.days or _AUTHORITY_DAYS)
        case ["node", number]:
            if not number.isascii() or not number.isdigit():
                raise SettingsError(f"a node id is a positive number, not {number!r}")
            check_node(int(number))
            days = options.days or 365
            written = make_node(
                directory, options.cluster, int(number), options.address, days=days, renew=options.renew
            )
        case ["client", name]:
            written = make_client(directory, name, days=options.days or 365, renew=options.renew)
        case _:
            raise SettingsError(_USAGE)
    for path in written:
        print_line(f"wrote {path}")
    return 0


def make_authority(directory: Path, cluster: str, days: int = _AUTHORITY_DAYS) -> list[Path]:
    """Make an authority: ca.crt and ca.key. Raise `SettingsError` if there is one."""
    from cryptography import x509

    directory.mkdir(parents=True, exist_ok=True)
    crt, key_file = directory / "ca.crt", directory / "ca.key"
    _refuse_to_replace(
        "it signs the certificates of a cluster: make another authority in another --directory", crt, key_file
    )
    key = _new_key()
    name = _name(f"{cluster} authority {_now():%Y-%m-%d}")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    extensions = [(x509.BasicConstraints(ca=True, path_length=0), True), (usage, True)]
    _write_key(key_file, key)
    _write(crt, _pem(_sign(name, key, name, key, days, extensions)), 0o644)
    return [crt, key_file]


def make_node(
    directory: Path,
    cluster: str | Sequence[str],
    node: int,
    addresses: Sequence[str] = (),
    *,
    days: int = 365,
    renew: bool = False,
) -> list[Path]:
    """Make node-ID.crt and node-ID.key. With `renew`, replace the certificate and keep the key.

    `cluster`: the cluster's name, or several, such as that of a cluster and that of its restored copy. `addresses`:
    names of machines and IP addresses at which clients reach the node. What is empty is as in the certificate that is
    renewed, or else the default.
    """
    from cryptography import x509

    clusters = [cluster] if isinstance(cluster, str) else list(cluster)
    kept = _names(directory / f"node-{node}.crt") if renew else []
    uris = [name for name in kept if isinstance(name, x509.UniformResourceIdentifier)]
    places = [name for name in kept if name not in uris]
    if clusters or not uris:
        uris = [x509.UniformResourceIdentifier(node_uri(name, node)) for name in clusters or [_CLUSTER]]
    if addresses or not places:
        places = [_general_name(address) for address in addresses or _ADDRESSES]
    subject = f"node {node} of {clusters[0]}" if clusters else f"node {node}"
    return _make_leaf(directory, f"node-{node}", subject, [*uris, *places], days, renew=renew, serves=True)


def certificate_step(node: int, old: str, new: str, *, renew: bool) -> str:
    """Return what to do before the node of cluster `old` starts in cluster `new` with TLS.

    `renew`: the node had a certificate in the old cluster.
    """
    names = f"--cluster {shlex.quote(new)}" + (f" --cluster {shlex.quote(old)} --renew" if renew else "")
    return (
        f"With TLS, its certificate must name the new cluster first; where ca.key is: raft-kv certs node {node} {names}"
    )


def make_client(directory: Path, name: str, *, days: int = 365, renew: bool = False) -> list[Path]:
    """Make client-NAME.crt and client-NAME.key. Such a certificate names no node, so no peer port takes it."""
    if not name or not all(letter.isalnum() or letter in "-_." for letter in name):
        raise SettingsError(f"the name of a client is letters, digits and -_. , not {name!r}")
    return _make_leaf(directory, f"client-{name}", name, [], days, renew=renew, serves=False)


def _make_leaf(
    directory: Path,
    file: str,
    subject: str,
    names: list[x509.GeneralName],
    days: int,
    *,
    renew: bool,
    serves: bool,
) -> list[Path]:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    authority, authority_key = _authority(directory)
    crt, key_file = directory / f"{file}.crt", directory / f"{file}.key"
    if not renew:
        advice = "a node may be using it. --renew replaces the certificate and keeps the key"
        if serves:
            advice += ", and --cluster may name several clusters"
        _refuse_to_replace(
            f"{advice}; or make other files in another --directory, with ca.crt and ca.key", crt, key_file
        )
        _write_key(key_file, _new_key())
    key = _read_key(key_file)
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if serves else [])]
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage(purposes), False),
    ]
    if names:
        extensions.append((x509.SubjectAlternativeName(names), False))
    signed = _sign(_name(subject), key, authority.subject, authority_key, days, extensions)
    _write(crt, _pem(signed), 0o644)
    return [crt] if renew else [crt, key_file]


def _sign(
    subject: x509.Name,
    key: EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: EllipticCurvePrivateKey,
    days: int,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    now = _now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, SHA256())


def _authority(directory: Path) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509

    crt = directory / "ca.crt"
    if not crt.exists():
        raise SettingsError(f"there is no authority in {directory}: say raft-kv certs init, or name it by --directory")
    return x509.load_pem_x509_certificate(crt.read_bytes()), _read_key(directory / "ca.key")


def _names(crt: Path) -> list[x509.GeneralName]:
    """Return the alternative names in a certificate; none if there is no such file."""
    from cryptography import x509

    if not crt.exists():
        return []
    certificate = x509.load_pem_x509_certificate(crt.read_bytes())
    with suppress(x509.ExtensionNotFound):
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    return []


def _now() -> datetime:
    return datetime.now(UTC)


def _general_name(address: str) -> x509.GeneralName:
    from cryptography import x509

    with suppress(ValueError):
        return x509.IPAddress(ip_address(address))
    try:
        return x509.DNSName(address)
    except ValueError:
        raise SettingsError(f"an address is the name of a machine or an IP address, not {address!r}") from None


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    return generate_private_key(SECP256R1())


def _read_key(path: Path) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise SettingsError(f"{path} is no key of an elliptic curve, as raft-kv certs makes them")
    return key


def _write_key(path: Path, key: EllipticCurvePrivateKey) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _refuse_to_replace(advice: str, *paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise SettingsError(f"{path} exists and is not replaced: {advice}")


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write the file as a whole or not at all, so that a running node never reads half of it."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
