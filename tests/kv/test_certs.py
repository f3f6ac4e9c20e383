"""`raft-kv certs`: the files it makes are those that nodes and clients take; nothing is replaced by mistake."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from raft_core.node.security import TLS
from raft_kv.certificates import certificate_step
from raft_kv.cli import main
from raft_kv.client_tls import TLS_VARIABLES, use_tls
from raft_tls import Credentials
from tests.certificates import files


def certs(directory: Path, *words: str) -> int:
    return main(["certs", *words, "--directory", str(directory)], {})


def test_made_files_are_taken_by_a_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert certs(tmp_path, "init", "--cluster", "a b") == 0
    assert certs(tmp_path, "node", "7", "--cluster", "a b", "--address", "10.0.0.7", "--address", "kv7") == 0
    assert certs(tmp_path, "client", "alice") == 0
    wrote = {Path(line.split()[-1]).name for line in capsys.readouterr().out.splitlines()}
    assert wrote == {"ca.crt", "ca.key", "node-7.crt", "node-7.key", "client-alice.crt", "client-alice.key"}
    assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("*.key")} == {0}

    tls = TLS(certificate=tmp_path / "node-7.crt", key=tmp_path / "node-7.key", authorities=tmp_path / "ca.crt")
    assert Credentials(tls, ("a b", 7)).state.expires > 0


WITHOUT = """
import sys
for name in ("hiredis", "anyio", "trio", "h11", "rich", "uvloop"):
    sys.modules[name] = None  # importing it fails
from raft_kv.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_certificates_are_made_without_the_packages_of_the_server(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", WITHOUT, *words], capture_output=True, text=True, cwd=tmp_path)

    for words in (["init"], ["node", "1"], ["client", "alice"]):
        done = run("certs", *words)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "certs" / "node-1.crt").exists()
    missing = run("status")
    assert missing.returncode == 1
    assert "sansio-raft[kv]" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_existing_files_stay_and_renewal_keeps_the_key(tmp_path: Path) -> None:
    certs(tmp_path, "init")
    certs(tmp_path, "node", "1")
    key, certificate = (tmp_path / "node-1.key").read_bytes(), (tmp_path / "node-1.crt").read_bytes()
    assert certs(tmp_path, "init") == 2
    assert certs(tmp_path, "node", "1") == 2
    assert (tmp_path / "node-1.crt").read_bytes() == certificate
    assert certs(tmp_path, "node", "1", "--renew") == 0
    assert (tmp_path / "node-1.key").read_bytes() == key
    assert (tmp_path / "node-1.crt").read_bytes() != certificate
    assert not list(tmp_path.glob(".*"))


def uris(directory: Path, node: int) -> list[str]:
    """The URIs and addresses in a node's certificate."""
    certificate = x509.load_pem_x509_certificate((directory / f"node-{node}.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def test_renewal_keeps_the_names_unless_others_are_given(tmp_path: Path) -> None:
    certs(tmp_path, "init")
    certs(tmp_path, "node", "1", "--cluster", "shop", "--address", "10.0.0.1")
    certs(tmp_path, "node", "1", "--renew")
    assert uris(tmp_path, 1) == ["raft://shop/1", "10.0.0.1"]
    certs(tmp_path, "node", "1", "--renew", "--address", "kv1")
    assert uris(tmp_path, 1) == ["raft://shop/1", "kv1"]


def test_certificate_of_two_clusters_serves_both_also_by_the_command_that_restore_prints(tmp_path: Path) -> None:
    certs(tmp_path, "init", "--cluster", "my shop")
    certs(tmp_path, "node", "1", "--cluster", "my shop", "--address", "10.0.0.1")
    step = shlex.split(certificate_step(1, "my shop", "shop-2", renew=True).partition("raft-kv certs ")[2])
    assert certs(tmp_path, *step) == 0
    assert uris(tmp_path, 1) == ["raft://shop-2/1", "raft://my%20shop/1", "10.0.0.1"]
    tls = TLS(certificate=tmp_path / "node-1.crt", key=tmp_path / "node-1.key", authorities=tmp_path / "ca.crt")
    for cluster in ("my shop", "shop-2"):
        assert Credentials(tls, (cluster, 1)).state.expires > 0
    new = shlex.split(certificate_step(9, "my shop", "shop-2", renew=False).partition("raft-kv certs ")[2])
    assert certs(tmp_path, *new) == 0
    assert uris(tmp_path, 9)[0] == "raft://shop-2/9"


@pytest.mark.parametrize("words", [[], ["node"], ["node", "x"], ["node", "0"], ["client", "a/b"], ["nonsense"]])
def test_wrong_words_are_refused(words: list[str], tmp_path: Path) -> None:
    certs(tmp_path, "init")
    assert certs(tmp_path, *words) == 2


def test_nothing_is_signed_without_an_authority(tmp_path: Path) -> None:
    assert certs(tmp_path, "node", "1") == 2


def test_variables_of_tls_are_checked_before_a_command_connects(capsys: pytest.CaptureFixture[str]) -> None:
    authorities, certificate, key = TLS_VARIABLES
    own = files() / "client-alice"
    environ = {authorities: str(files() / "ca.crt"), certificate: f"{own}.crt", key: f"{own}.key"}
    try:
        use_tls(environ)
        assert main(["status"], {certificate: "x"}) == 2
        assert authorities in capsys.readouterr().err
        assert main(["status"], {authorities: "/nonexistent"}) == 2
    finally:
        use_tls({})
