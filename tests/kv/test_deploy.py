"""The files of `deploy`: their form, their commands, and what of them can be run here."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from raft_core.errors import SettingsError
from raft_core.node.security import TLS, node_uri
from raft_kv.cli import main
from raft_kv.demo.cluster import free_ports
from raft_kv.node_client import wait_until
from raft_kv.options import Values
from raft_kv.ordinals import fill_in
from raft_kv.ping import PingOptions, run_ping
from raft_kv.serve_options import OPTIONS, serve_config
from raft_tls import Credentials
from tests.certificates import CLUSTER, files

DEPLOY = Path(__file__).parents[2] / "deploy"


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """The sections of a unit, with every value of each name."""
    sections: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    section = ""
    for line in (DEPLOY / "systemd" / name).read_text("utf-8").splitlines():
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = found[1]
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            sections[section][key].append(value)
    return sections


PLAIN, TLS_TOO = "raft-kv.yaml", "raft-kv-tls.yaml"
both_manifests = pytest.mark.parametrize("name", [PLAIN, TLS_TOO])


def manifests(name: str = PLAIN) -> dict[str, dict[str, Any]]:
    """The objects of the manifest by kind and name."""
    text = (DEPLOY / "kubernetes" / name).read_text("utf-8")
    return {f"{each['kind']} {each['metadata']['name']}": each for each in yaml.safe_load_all(text)}


def container() -> dict[str, list[str]]:
    """The instructions of the Containerfile's last stage."""
    text = (DEPLOY / "container" / "Containerfile").read_text("utf-8")
    stage = text.rpartition("\nFROM ")[2]
    found: dict[str, list[str]] = defaultdict(list)
    for line in stage.splitlines()[1:]:
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            assert word in {
                "RUN", "COPY", "ENV", "USER", "VOLUME", "WORKDIR", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT",
            }  # fmt: skip
            found[word].append(rest)
    return found


# systemd.


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_units_are_accepted_by_systemd(tmp_path: Path) -> None:
    for path in (DEPLOY / "systemd").glob("raft-kv*.*"):
        text = path.read_text("utf-8").replace("/usr/bin/raft-kv", shutil.which("true") or "/bin/true")
        (tmp_path / path.name).write_text(text, "utf-8")
    names = [str(path) for path in tmp_path.iterdir() if path.suffix in (".service", ".timer")]

    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_service_is_watched_and_stopped_as_the_server_expects() -> None:
    service = unit("raft-kv.service")["Service"]

    assert service["Type"] == ["notify"]
    assert service["KillSignal"] == ["SIGTERM"]
    assert service["Restart"] == ["on-failure"]  # a clean stop has status 0 and is not restarted
    assert int(service["WatchdogSec"][0]) >= 10
    assert service["TimeoutStartSec"] == ["infinity"]
    command = shlex.split(service["ExecStart"][0])
    assert command[1] == "serve"
    assert {word for word in command if word.startswith("--")} <= {f"--{option.name}" for option in OPTIONS}


def test_configuration_of_the_service_is_valid() -> None:
    values = Values()
    values.read_file(DEPLOY / "systemd" / "raft-kv.toml")

    config = serve_config(values)

    assert sorted(config.peers) == [1, 2, 3]


def test_backup_is_verified_before_old_ones_are_removed() -> None:
    service, timer = unit("raft-kv-backup.service")["Service"], unit("raft-kv-backup.timer")
    assert service["Type"] == ["oneshot"]
    words = [re.search(r"raft-kv (\w+)|/find", line) for line in service["ExecStart"]]
    assert [word[1] for word in words if word is not None] == ["backup", "verify", None]
    assert timer["Timer"]["OnCalendar"]
    assert timer["Timer"]["Persistent"] == ["true"]


# Container.


BARE_ROOT = """
set -eu
root=$1 data=$2 who=$3 read=$4; shift 4
mount -t tmpfs none "$root"
for place in $read; do
    [ ! -L "$place" ] || { mkdir -p "$root$(dirname "$place")"; cp -P "$place" "$root$place"; continue; }
    mkdir -p "$root$place"
    mount --bind "$place" "$root$place"
    mount -o remount,bind,ro "$root$place"
done
mkdir -p "$root$data" "$root/dev"
touch "$root/dev/null"
mount --bind /dev/null "$root/dev/null"
mount --bind "$VOLUME" "$root$data"
mount -o remount,ro "$root"
[ -z "$who" ] || exec chroot --userspec="$who" "$root" "$@"
exec chroot "$root" "$@"
"""
"""Give the command a root with nothing but what it may read, and the volume. Only the volume can be written."""


def in_a_bare_root(root: Path, volume: Path, data: str, uid: int) -> list[str]:
    """The beginning of a command line that runs in such a root, in the volume; [] if this user may not make one."""
    root.mkdir()
    places = ("/usr", "/bin", "/lib", "/lib64", sys.base_prefix, sys.prefix, str(DEPLOY.parent))
    parents = [place for place in dict.fromkeys(places) if Path(place).exists()]
    read = [one for one in parents if not any(one != other and one.startswith(f"{other}/") for other in parents)]
    mapped = [] if os.getuid() == 0 else ["--map-root-user"]
    who = f"{uid}:{uid}" if os.getuid() == 0 and _may_run(uid) else ""
    made = ["unshare", "--mount", *mapped, "env", f"VOLUME={volume}", "sh", "-c", BARE_ROOT, "sh", str(root), data]
    made += [who, " ".join(read), "env", "-i", "-C", data]
    tried = [*made, sys.executable, "-c", "import raft_kv.cli"]
    environ = {"PYTHONPATH": str(DEPLOY.parent)}
    tried[-3:-3] = [f"{name}={value}" for name, value in environ.items()]
    try:
        return made if subprocess.run(tried, capture_output=True).returncode == 0 else []
    except FileNotFoundError:
        return []


@pytest.fixture
def volume() -> Iterator[Path]:
    """A directory that another user can reach; pytest's own are closed to all but theirs."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        volume = Path(place) / "volume"
        volume.mkdir()
        yield volume


@pytest.mark.parametrize("rooted", [True, False], ids=["bare root", "bare environment"])
def test_entry_point_runs_in_a_bare_root_and_stops_by_its_signal(tmp_path: Path, volume: Path, *, rooted: bool) -> None:
    """As the container does: no variables but the image's, no root, the volume as the only place to write."""
    image = container()
    environ = dict(pair.split("=", 1) for line in image["ENV"] for pair in shlex.split(line))
    (data,) = image["VOLUME"]
    assert environ["RAFT_KV_DATA"].startswith(f"{data}/")
    port, peer_port = free_ports(2)
    bare = {name: value for name, value in environ.items() if name.startswith("RAFT_KV_")}
    bare |= {
        "RAFT_KV_DATA": environ["RAFT_KV_DATA"].replace(data, str(volume)),
        "RAFT_KV_LISTEN": f"127.0.0.1:{port}",
        "RAFT_KV_PEER_LISTEN": f"127.0.0.1:{peer_port}",
        "PYTHONPATH": str(DEPLOY.parent),
    }
    (uid,) = image["USER"]
    user: dict[str, Any] = {}
    prefix: list[str] = []
    if os.getuid() == 0 and _may_run(int(uid)):
        os.chown(volume, int(uid), -1)
        user = {"user": int(uid), "group": int(uid), "extra_groups": []}
    outside = dict(bare)
    if rooted:
        prefix = in_a_bare_root(tmp_path / "root", volume, data, int(uid))
        if not prefix:
            pytest.skip("this user may not make a root of its own (unshare, mount)")
        bare["RAFT_KV_DATA"] = environ["RAFT_KV_DATA"]
        prefix += [f"{name}={value}" for name, value in bare.items()]
        user, bare = {}, dict(os.environ)
    program = [sys.executable, "-m", "raft_kv"]
    entry = json.loads(image["ENTRYPOINT"][0])
    health = json.loads(image["HEALTHCHECK"][0].partition(" CMD ")[2])
    assert entry[0] == health[0] == "raft-kv"

    server = subprocess.Popen(
        [*prefix, *program, *entry[1:], "--id", "1"],
        env=bare, cwd=volume, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **user,
    )  # fmt: skip
    try:
        check = [*program, *health[1:], f"127.0.0.1:{port}"]
        healthy = wait_until(lambda: not subprocess.run(check, env=outside, capture_output=True).returncode, 30.0, 0.2)
        assert healthy, server.stderr and server.poll() is not None and server.stderr.read()
        assert wait_until(lambda: run_ping(PingOptions(address=[f"127.0.0.1:{port}"], ready=True)) == 0, 20.0, 0.2)
        server.send_signal(signal.Signals[image["STOPSIGNAL"][0]])
        _, log = server.communicate(timeout=30.0)
    finally:
        server.kill()
        server.communicate()
    assert server.returncode == 0
    assert json.loads(log.splitlines()[-1])["event"] == "stopped"
    assert container()["WORKDIR"] == [data]  # on a root that is read-only, it is also the place of temporary files
    assert [path.name for path in volume.iterdir()] == [Path(environ["RAFT_KV_DATA"]).name]


def _may_run(uid: int) -> bool:
    """Whether this user can read the interpreter and the sources, which lie below a home directory on some machines."""
    command = [sys.executable, "-c", "import raft_kv.cli"]
    environ = {"PYTHONPATH": str(DEPLOY.parent)}
    try:
        found = subprocess.run(command, env=environ, cwd="/", user=uid, group=uid, extra_groups=[], capture_output=True)
    except PermissionError:
        return False
    return found.returncode == 0


# Kubernetes.


@both_manifests
def test_manifest_lets_nodes_find_each_other_before_they_are_ready(name: str) -> None:
    found = manifests(name)
    whole = found["StatefulSet raft-kv"]["spec"]
    nodes = found[f"Service {whole['serviceName']}"]["spec"]

    assert nodes["clusterIP"] == "None"
    assert nodes["publishNotReadyAddresses"] is True
    assert whole["podManagementPolicy"] == "Parallel"
    budget = found["PodDisruptionBudget raft-kv"]["spec"]
    assert budget["maxUnavailable"] <= (whole["replicas"] - 1) // 2
    labels = whole["template"]["metadata"]["labels"]
    assert labels == whole["selector"]["matchLabels"] == nodes["selector"] == budget["selector"]["matchLabels"]


@both_manifests
def test_manifest_probes_liveness_without_a_quorum_and_readiness_with_one(name: str) -> None:
    (server,) = manifests(name)["StatefulSet raft-kv"]["spec"]["template"]["spec"]["containers"]
    scheme = {"scheme": "HTTPS"} if name == TLS_TOO else {}

    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    environ = {each["name"]: each.get("value") for each in server["env"]}
    assert environ["RAFT_KV_HEALTH"] == f"0.0.0.0:{ports['health']}"
    alive = {"path": "/livez", "port": "health", **scheme}
    assert server["livenessProbe"]["httpGet"] == server["startupProbe"]["httpGet"] == alive
    assert server["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health", **scheme}
    assert server["securityContext"]["readOnlyRootFilesystem"] is True
    assert {ports["redis"], ports["peers"]} == {int(port) for port in container()["EXPOSE"][0].split()}
    written = {mount["mountPath"] for mount in server["volumeMounts"] if not mount.get("readOnly")}
    assert written == set(container()["VOLUME"])


@both_manifests
@pytest.mark.parametrize("ordinal", [0, 1, 2])
def test_arguments_of_the_manifest_make_each_pod_one_founder(ordinal: int, name: str) -> None:
    whole = manifests(name)["StatefulSet raft-kv"]["spec"]
    (server,) = whole["template"]["spec"]["containers"]
    words = [word.replace("$(POD)", f"raft-kv-{ordinal}") for word in server["args"]]
    values = Values()
    environ = {each["name"]: str(each.get("value")).replace("$(POD)", f"raft-kv-{ordinal}") for each in server["env"]}
    environ |= {"RAFT_KV_PEER_LISTEN": "0.0.0.0:7379", "RAFT_KV_LISTEN": "0.0.0.0:6379"}
    values.take(OPTIONS, {}, environ)
    for option, value in zip(words[::2], words[1::2], strict=True):
        values.put((option.removeprefix("--"),), value, option)

    fill_in(values, f"raft-kv-{ordinal}")

    config = serve_config(values)
    assert (config.id, config.join) == (ordinal + 1, False)
    assert config.peers == {each + 1: f"raft-kv-{each}.raft-kv-nodes:7379" for each in range(whole["replicas"])}
    assert config.advertise == config.peers[config.id]
    assert config.insecure is (name == PLAIN)
    assert config.health_uses_tls is (name == TLS_TOO)


@pytest.mark.parametrize("ordinal", [0, 1, 2])
def test_certificate_of_each_pod_names_its_node_and_is_mounted_where_it_is_looked_for(ordinal: int) -> None:
    found = manifests(TLS_TOO)
    pod = f"raft-kv-{ordinal}"
    made = found[f"Certificate {pod}"]["spec"]
    template = found["StatefulSet raft-kv"]["spec"]["template"]["spec"]
    (server,) = template["containers"]
    environ = {each["name"]: str(each.get("value")).replace("$(POD)", pod) for each in server["env"]}
    (mount,) = (each["mountPath"] for each in server["volumeMounts"] if each["name"] == "tls")
    (volume,) = (each["projected"] for each in template["volumes"] if each["name"] == "tls")
    secrets = {each["secret"]["name"]: each["secret"]["items"] for each in volume["sources"]}
    places = {item["key"]: f"{mount}/{item['path']}" for item in secrets[made["secretName"]]}

    assert made["uris"] == [node_uri("raft-kv", ordinal + 1)]
    assert {"server auth", "client auth"} <= set(made["usages"])
    names = ("CERTIFICATE", "KEY", "AUTHORITIES")
    assert [environ[f"RAFT_KV_TLS_{name}"] for name in names] == [
        places[key] for key in ("tls.crt", "tls.key", "ca.crt")
    ]
    assert all("subPath" not in each for each in server["volumeMounts"]), "such a mount is never updated"
    issuer = found[f"{made['issuerRef']['kind']} {made['issuerRef']['name']}"]
    assert issuer["spec"]["ca"]["secretName"] == found["Certificate raft-kv-authority"]["spec"]["secretName"]
    by_group = volume["defaultMode"]
    assert by_group == 0o440, "the group of fsGroup reads the key, and no other"


def test_secret_is_read_anew_when_the_kubelet_replaces_it(tmp_path: Path) -> None:
    """It writes a new directory and turns the link ..data to it, so that all files change at once."""

    def write(generation: str, source: Path) -> None:
        place = tmp_path / generation / "raft-kv-0"
        place.mkdir(parents=True)
        for key, file in {"tls.crt": "node-1.crt", "tls.key": "node-1.key", "ca.crt": "ca.crt"}.items():
            shutil.copy(source / file, place / key)
        (tmp_path / "..data_tmp").symlink_to(generation)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    write("..2026_01", files())
    (tmp_path / "raft-kv-0").symlink_to("..data/raft-kv-0")
    mounted = tmp_path / "raft-kv-0"
    own = TLS(certificate=mounted / "tls.crt", key=mounted / "tls.key", authorities=mounted / "ca.crt")
    credentials = Credentials(own, (CLUSTER, 1))
    before = credentials.server
    assert credentials.look() is None

    write("..2026_02", files() / "other")

    state = credentials.look()
    assert state is not None
    assert state.problem == ""
    assert credentials.server is not before


# Ordinals.


def filled(hostname: str, **given: object) -> dict[str, Any]:
    values = Values()
    for name, value in given.items():
        values.put((name,), value, f"--{name}")
    fill_in(values, hostname)
    return values.tree


def test_pod_beyond_the_founders_joins_them() -> None:
    tree = filled("kv-4.kv.default", dns="kv:1", expect="3")

    assert tree == {
        "id": 5,
        "join": True,
        "peers": {"1": "kv-0.kv:1", "2": "kv-1.kv:1", "3": "kv-2.kv:1", "5": "kv-4.kv:1"},
    }


def test_what_is_given_stays_and_without_dns_nothing_changes() -> None:
    assert filled("kv-0", dns="kv:1", expect="1", id="9", join="true")["id"] == "9"
    assert filled("anything", id="1") == {"id": "1"}


@pytest.mark.parametrize(
    ("hostname", "given"),
    [
        ("kv", {"dns": "kv:1", "expect": "3"}),
        ("0", {"dns": "kv:1", "expect": "3"}),
        ("kv-0", {"dns": "kv:1"}),
        ("kv-0", {"expect": "3"}),
        ("kv-0", {"dns": "kv:1", "expect": "0"}),
        ("kv-0", {"dns": "kv", "expect": "3"}),
    ],
)
def test_wrong_ordinals_and_halves_are_refused(hostname: str, given: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        filled(hostname, **given)


def test_ping_says_what_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)

    assert main(["ping", f"127.0.0.1:{port}"], {}) == 1
    assert str(port) in capsys.readouterr().err
    assert main(["ping", "nonsense"], {}) == 2
