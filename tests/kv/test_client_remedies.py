"""Commands that connect to a node say in a line what to do when TLS or a password is in the way."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from raft_kv.cli import main
from raft_kv.client_remedies import reply_remedy
from raft_kv.client_tls import TLS_VARIABLES, use_tls
from raft_kv.demo.cluster import Cluster
from raft_kv.doctor.finding import Level
from raft_kv.doctor.nodes import Examined
from raft_kv.node_client import Failed, NodeConnection, NodeReport, wait_until
from tests.certificates import files
from tests.kv.test_doctor import bad, judged

AUTHORITIES, CERTIFICATE, KEY = TLS_VARIABLES


def tls_environ(authorities: str = "ca.crt", client: str = "") -> dict[str, str]:
    own = {CERTIFICATE: str(files() / f"{client}.crt"), KEY: str(files() / f"{client}.key")} if client else {}
    return {AUTHORITIES: str(files() / authorities), **own}


@pytest.fixture(autouse=True)
def no_tls_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("REDISCLI_AUTH", raising=False)
    monkeypatch.delenv("REDISCLI_USER", raising=False)
    yield
    use_tls({})


# A real node with TLS, users, and certificates of clients.


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a node with TLS, whose users are root and bob; bob may read only."""
    directory = tmp_path_factory.mktemp("remedies")
    flags = [f"--tls-certificate={files() / 'node-1.crt'}", f"--tls-key={files() / 'node-1.key'}"]
    flags += [f"--tls-authorities={files() / 'ca.crt'}"]
    with Cluster(directory, name="test", flags={1: flags}) as cluster:
        cluster.found(1)
        address = ("127.0.0.1", cluster.members[1].port)
        use_tls(tls_environ())
        assert wait_until(lambda: main(["ping", "--ready", f"127.0.0.1:{address[1]}"], tls_environ()) == 0, 20.0)
        with closing(NodeConnection(address)) as root:
            assert root.say("ACL", "SETUSER", "root", "on", ">secret", "~*", "+@all") == b"OK"
            assert root.say("AUTH", "root", "secret") == b"OK"
            assert root.say("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+get", "+ping") == b"OK"
        yield f"127.0.0.1:{address[1]}"
    use_tls({})


def said(command: str, node: str, environ: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """What a command that is refused prints; its status says that it was."""
    words = {
        "ping": ["ping", "--ready", node], "status": ["status", node], "doctor": ["doctor", "--from", node],
        "backup": ["backup", "--quiet", "--from", node, str(tmp_path / "b")], "features": ["features", node],
    }[command]  # fmt: skip
    capfd.readouterr()
    assert main(words, environ) == 1
    shown = capfd.readouterr()
    return shown.out + shown.err


COMMANDS = ["ping", "status", "doctor", "backup", "features"]


def test_every_command_names_the_variable_that_is_missing(
    node: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in COMMANDS:
        assert AUTHORITIES in said(command, node, {}, tmp_path, capfd), command
        assert AUTHORITIES in said(command, node, tls_environ("other/ca.crt"), tmp_path, capfd), command
        text = said(command, node, tls_environ(), tmp_path, capfd)
        assert "REDISCLI_AUTH" in text, command
        assert "REDISCLI_USER" in text, command
    monkeypatch.setenv("REDISCLI_AUTH", "secret")  # root's, and the user is default
    for command in COMMANDS[:2]:
        assert "REDISCLI_USER" in said(command, node, tls_environ(), tmp_path, capfd), command
    monkeypatch.setenv("REDISCLI_USER", "bob")
    monkeypatch.setenv("REDISCLI_AUTH", "pw")
    for command in COMMANDS:
        assert "+@admin" in said(command, node, tls_environ(), tmp_path, capfd), command
    monkeypatch.setenv("REDISCLI_USER", "root")
    monkeypatch.setenv("REDISCLI_AUTH", "secret")
    assert main(["status", node], tls_environ()) == 0
    assert main(["backup", "--quiet", "--from", node, str(tmp_path / "b")], tls_environ()) == 0
    assert main(["ping", node], tls_environ()) == 0


# Other ends of a handshake, without a node.


class TlsServer:
    """A server that makes one handshake and closes the connection."""

    def __init__(self, certificate: str, authorities: str = "") -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files() / f"{certificate}.crt", files() / f"{certificate}.key")
        if authorities:
            self.context.load_verify_locations(files() / authorities)
            self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._serve)

    def __enter__(self) -> tuple[str, int]:
        self.thread.start()
        port: int = self.listener.getsockname()[1]
        return "127.0.0.1", port

    def __exit__(self, *_: object) -> None:
        self.thread.join()
        self.listener.close()

    def _serve(self) -> None:
        plain, _ = self.listener.accept()
        plain.settimeout(5.0)
        with plain, suppress(OSError), self.context.wrap_socket(plain, server_side=True) as secure:
            secure.recv(100)


def failure(address: tuple[str, int]) -> Failed:
    with pytest.raises(Failed) as caught, closing(NodeConnection(address, 5.0)) as connection:
        connection.say("PING")
    return caught.value


def test_server_that_wants_a_certificate() -> None:
    use_tls(tls_environ())
    with TlsServer("node-1", authorities="ca.crt") as address:
        failed = failure(address)
    assert CERTIFICATE in failed.remedy
    assert KEY in failed.remedy
    assert failed.refused


def test_certificate_that_has_expired_or_is_for_another_name() -> None:
    use_tls(tls_environ())
    with TlsServer("expired/node-1") as address:
        assert "--renew" in failure(("localhost", address[1])).remedy
    with TlsServer("elsewhere/node-2") as address:  # for localhost
        assert "--address 127.0.0.1" in failure(address).remedy


def test_port_without_tls_that_ends_the_connection() -> None:
    """It may have TLS, and the client none: the remedy says so, and another attempt may do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        failed = failure(listener.getsockname())
        thread.join()
    assert AUTHORITIES in failed.remedy
    assert not failed.refused


def test_tls_to_a_port_without() -> None:
    use_tls(tls_environ())
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as plain:
                plain.sendall(b"-ERR unknown command\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert AUTHORITIES in failure(listener.getsockname()).remedy
        thread.join()


@pytest.mark.parametrize(("words", "reply"), [(["ping"], b"+PONG\r\n"), (["ping", "--ready"], b":0\r\n")])
def test_node_that_knows_no_users_yet_is_asked_without_a_password(
    words: list[str], reply: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISCLI_USER", "root")
    monkeypatch.setenv("REDISCLI_AUTH", "secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as plain:
                for each in (b"-CLUSTERDOWN this node is not part of a cluster yet\r\n", reply):
                    plain.recv(1000)
                    plain.sendall(each)

        thread = threading.Thread(target=answer)
        thread.start()
        assert main([*words, f"127.0.0.1:{listener.getsockname()[1]}"], {}) == 0
        thread.join()


@pytest.mark.parametrize(
    ("password", "reply"),
    [
        ("old", b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        ("", b"-ERR this port takes nothing but TLS\r\n"),
        ("", b"-NOAUTH Authentication required.\r\n"),
    ],
)
def test_node_that_refuses_this_client_is_alive(password: str, reply: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a health check restarts all nodes when a password is changed."""
    monkeypatch.setenv("REDISCLI_AUTH", password)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(2):
                with listener.accept()[0] as plain:
                    plain.recv(1000)
                    plain.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        node = f"127.0.0.1:{listener.getsockname()[1]}"
        assert main(["ping", node], {}) == 0
        assert main(["ping", "--ready", node], {}) == 1
        thread.join()


def test_node_that_is_alive_and_not_ready_is_told_from_one_that_is_down(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            first, _ = listener.accept()  # the read, which is not answered in time
            with first, listener.accept()[0] as second:
                second.recv(1000)
                second.sendall(b"+PONG\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        node = f"127.0.0.1:{listener.getsockname()[1]}"
        assert main(["ping", "--ready", "--timeout", "0.1", node], {}) == 1
        thread.join()
    assert "alive" in capfd.readouterr().err
    assert main(["ping", "--ready", "--timeout", "0.1", node], {}) == 1
    assert "alive" not in capfd.readouterr().err


@pytest.mark.parametrize("reply", ["ERR unknown command", "LOADING", ""])
def test_other_replies_have_no_remedy_of_these(reply: str) -> None:
    assert reply_remedy(reply, "bob") == ""


def test_doctor_does_not_advise_to_start_a_node_that_runs() -> None:
    (finding,) = judged([Examined("n1:6379", NodeReport(error="NOAUTH", remedy="set the password"))])
    assert bad([finding]) == {("reachable", Level.WRONG)}
    assert finding.remedy == "set the password"
