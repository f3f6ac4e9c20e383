"""Two ends of a connection, without a socket: what passes, what is refused, and in which words on each side."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from raft_core.errors import SettingsError
from raft_core.node.security import TLS
from raft_core.node.status import Drop
from raft_tls import Credentials, Step, TlsSession
from tests.certificates import CLUSTER, files, tls

REFUSAL = b"only TLS here"


def ends(dialler: Credentials, server: Credentials, *, plain_allowed: bool = False) -> tuple[TlsSession, TlsSession]:
    accepting = TlsSession(server.server, server=True, plain_allowed=plain_allowed, refusal=REFUSAL)
    return TlsSession(dialler.client, server=False), accepting


def talk(dialling: TlsSession, accepting: TlsSession, piece: int = 1 << 20) -> tuple[list[Step], list[Step]]:
    """Carry all bytes to and fro, in pieces, until both are silent. Return the steps of each end."""
    steps: tuple[list[Step], list[Step]] = ([], [])
    to_server, to_client = [dialling.start()], [b""]
    while any(to_server) or any(to_client):
        for queue, other, end, at in ((to_server, to_client, accepting, 1), (to_client, to_server, dialling, 0)):
            data = b"".join(queue)
            queue.clear()
            for start in range(0, len(data), piece):
                step = end.receive(data[start : start + piece])
                steps[at].append(step)
                other.append(step.send)
    return steps


def node(number: int) -> Credentials:
    return Credentials(tls(f"node-{number}"), (CLUSTER, number))


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_nodes_learn_each_others_names_however_bytes_are_cut(piece: int) -> None:
    dialling, accepting = ends(node(1), node(2))

    of_dialler, of_server = talk(dialling, accepting, piece)

    assert [step.names for step in of_dialler if step.names is not None] == [("raft://test/2",)]
    assert [step.names for step in of_server if step.names is not None] == [("raft://test/1",)]
    data = bytes(range(256)) * 2000
    sealed = dialling.encrypt(data)
    assert data[:64] not in sealed
    received = [accepting.receive(sealed[at : at + 1000]) for at in range(0, len(sealed), 1000)]
    assert b"".join(step.plain for step in received) == data
    assert dialling.receive(accepting.close()) == Step(ended=True)


def failures(steps: list[Step]) -> list[tuple[Drop, str]]:
    return [(step.failure.reason, step.failure.text) for step in steps if step.failure is not None]


BAD, TOLD = Drop.BAD_CERTIFICATE, Drop.REFUSED_BY_PEER
REFUSED = {  # the certificates of dialler and server, and what each says
    "dialler of another authority": (tls("node-1", place="other", authorities="both.crt"), tls("node-2"), TOLD, BAD),
    "server of another authority": (tls("node-1"), tls("node-2", place="other", authorities="both.crt"), BAD, TOLD),
    "expired dialler": (tls("node-1", place="expired"), tls("node-2"), TOLD, BAD),
    "expired server": (tls("node-2"), tls("node-1", place="expired"), BAD, TOLD),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_certificate_is_refused_with_reason_on_both_sides(case: str) -> None:
    own, theirs, of_dialler, of_server = REFUSED[case]
    dialling, accepting = ends(Credentials(own), Credentials(theirs))

    dialler_steps, server_steps = talk(dialling, accepting)

    assert [reason for reason, _ in failures(dialler_steps)] == [of_dialler]
    assert [reason for reason, _ in failures(server_steps)] == [of_server]
    assert dialling.encrypt(b"x") == accepting.encrypt(b"x") == b""


def test_client_without_certificate_is_refused_where_one_is_needed() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    accepting = TlsSession(node(2).server, server=True)

    dialler_steps, server_steps = talk(TlsSession(context, server=False), accepting)

    assert [reason for reason, _ in failures(server_steps)] == [Drop.BAD_CERTIFICATE]
    assert [reason for reason, _ in failures(dialler_steps)] == [Drop.REFUSED_BY_PEER]


def test_plain_bytes_are_refused_with_an_answer_or_taken() -> None:
    refusing = TlsSession(node(2).server, server=True, refusal=REFUSAL)
    step = refusing.receive(b"PING\r\n")
    assert step.send == REFUSAL
    assert step.failure is not None
    assert step.failure.reason is Drop.NOT_TLS
    assert refusing.receive(b"PING\r\n") == Step()

    taking = TlsSession(node(2).server, server=True, plain_allowed=True)
    assert taking.receive(b"PING\r\n") == Step(plain=b"PING\r\n")
    assert taking.encrypt(b"PONG") == b"PONG"


def test_dialler_says_that_the_other_side_does_not_use_tls() -> None:
    dialling = TlsSession(node(1).client, server=False)
    dialling.start()
    step = dialling.receive(b"HTTP/1.1 400 Bad Request\r\n")
    assert step.failure is not None
    assert step.failure.reason is Drop.NOT_TLS
    assert "HTTP/1.1 400" in step.failure.text


def test_garbage_after_the_first_byte_fails_and_raises_nothing() -> None:
    for data in (b"\x16" * 5000, b"\x16\x03\x01\xff\xff" + bytes(100_000), b"\x16\x03\x03\x00\x02\x01\x00"):
        accepting = TlsSession(node(2).server, server=True)
        assert accepting.receive(data).failure is not None or accepting.lost() is not None


# The files.


def test_certificate_of_another_node_or_authority_is_refused_at_start() -> None:
    for wrong, identity in (
        (tls("node-2"), (CLUSTER, 1)),
        (tls("node-1"), ("another", 1)),
        (tls("client-alice"), (CLUSTER, 1)),
        (tls("node-1", place="other"), (CLUSTER, 1)),
        (tls("node-1", place="expired"), (CLUSTER, 1)),
        (tls("node-1", authorities=""), (CLUSTER, 1)),
        (tls("nothing"), (CLUSTER, 1)),
    ):
        with pytest.raises(SettingsError):
            Credentials(wrong, identity)


def copied(name: str, to: Path, *, place: str = "") -> TLS:
    """Copies of the files of this certificate, which a test may replace."""
    for kind in ("crt", "key"):
        (to / f"own.{kind}").write_bytes((files() / place / f"{name}.{kind}").read_bytes())
    (to / "ca.crt").write_bytes((files() / "both.crt").read_bytes())
    return TLS(certificate=to / "own.crt", key=to / "own.key", authorities=to / "ca.crt")


def test_replaced_files_are_read_anew_and_bad_ones_leave_the_old_in_use(tmp_path: Path) -> None:
    credentials = Credentials(copied("node-1", tmp_path), (CLUSTER, 1))
    before, expires = credentials.server, credentials.state.expires
    assert credentials.look() is None

    (tmp_path / "own.crt").write_text("half a file")
    problem = credentials.look()
    assert problem is not None
    assert problem.problem
    assert problem.expires == expires
    assert credentials.server is before
    assert credentials.look() is None, "the same problem is told once"

    copied("node-1", tmp_path, place="other")
    renewed = credentials.look()
    assert renewed is not None
    assert renewed.problem == ""
    assert credentials.server is not before
    assert credentials.look() is None
    assert credentials.look(again=True) == renewed


def test_certificate_of_another_node_does_not_replace_the_own(tmp_path: Path) -> None:
    credentials = Credentials(copied("node-1", tmp_path), (CLUSTER, 1))
    before = credentials.server
    copied("node-2", tmp_path)
    found = credentials.look()
    assert found is not None
    assert found.problem
    assert credentials.server is before
