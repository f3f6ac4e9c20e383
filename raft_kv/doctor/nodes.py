"""Checks of running nodes, from what they say of themselves: versions, clocks, members, quorum, addresses, lag."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, TypeAlias, final

import attrs

from raft_core.errors import SettingsError
from raft_core.node.config import split_address
from raft_kv.doctor.finding import Finding, note, right, warning, wrong
from raft_kv.effective import settings_in_words
from raft_kv.features import MAX_MEMORY, USERS
from raft_kv.node_client import NodeReport, report_of

__all__ = ["Examined", "check_nodes", "dials", "examine", "survives"]

Dials: TypeAlias = Callable[[str], str]
"""Tries to connect to an address; returns why it cannot be dialled, "" if it can."""

_CLOCK_SECONDS: Final = 1.0
_LAG_ENTRIES: Final = 50_000
_DIAL_SECONDS: Final = 3.0


@final
@attrs.frozen
class Examined:
    """One node: its address for clients, its report, and how far its wall clock is ahead of ours, in seconds.

    `uncertain`: half the time of the exchange, by which `ahead` may be wrong.
    """

    address: str
    report: NodeReport
    ahead: float = 0.0
    uncertain: float = 0.0

    @property
    def status(self) -> Mapping[str, Any]:
        """The names and values of RAFT STATUS; empty if the node did not answer."""
        return self.report.status


def examine(address: str, timeout: float) -> Examined:
    """Ask a node for its status, and compare its clock with ours."""
    before = time.time()
    report = report_of(split_address(address), timeout)
    after = time.time()
    wall = report.status.get("wall_milliseconds")
    ahead = wall / 1000 - (before + after) / 2 if isinstance(wall, int) and wall else 0.0
    return Examined(address, report, ahead, (after - before) / 2)


def dials(address: str) -> str:
    """Return why `address` cannot be dialled from here; "" if it can."""
    try:
        place = split_address(address)
    except SettingsError as failure:
        return str(failure)
    try:
        with closing(socket.create_connection(place, _DIAL_SECONDS)):
            return ""
    except OSError as failure:
        return str(failure) or type(failure).__name__


def check_nodes(nodes: Sequence[Examined], version: str, dial: Dials = dials) -> list[Finding]:
    """Return the findings about these nodes, and about the cluster they form. `version`: that of this program."""
    findings = [finding for node in nodes for finding in _reached(node)]
    alive = [node for node in nodes if node.status]
    if not alive:
        return findings
    findings += _one_cluster(alive)
    members = _known_members(alive)
    strangers = [node for node in alive if node.status.get("node") not in members]
    if len(strangers) < len(alive):
        findings += [_no_member(node) for node in strangers]
        alive = [node for node in alive if node not in strangers]
    elif not members and all(node.status.get("phase") == "running" for node in strangers):
        # started with --join: nothing can be said of the cluster, but whether they reach it
        findings += [_no_member(node) for node in alive]
        return findings + [finding for node in alive for finding in _addresses(node, members, dial)]
    findings += _versions(alive, version)
    findings += _entries(alive)
    findings += _features(alive, members)
    findings += _settings(alive)
    findings += [_clock(node) for node in alive]
    findings += _quorum(alive)
    findings += _members(alive)
    findings += [finding for node in alive for finding in _addresses(node, members, dial)]
    findings += [finding for node in alive for finding in _lag(node)]
    return findings


def _reached(node: Examined) -> Iterator[Finding]:
    if node.status:
        yield right("reachable", node.address, f"node {node.status.get('node')} answers")
        return
    if node.report.remedy:
        yield wrong("reachable", node.address, node.report.error, node.report.remedy)
        return
    remedy = "start the node, or correct the address: it is the one for clients (--listen), not the one for peers"
    yield wrong("reachable", node.address, f"no answer: {node.report.error}", remedy)


def _known_members(nodes: Sequence[Examined]) -> frozenset[int]:
    """Return the members by the newest configuration that one of these nodes knows; empty if none knows any."""
    newest = max(nodes, key=lambda node: int(node.status.get("members_index") or 0)).status
    return frozenset(member for kind in ("voters", "outgoing", "learners") for member in newest.get(kind) or [])


def _no_member(node: Examined) -> Finding:
    status = node.status
    if any(status.get(kind) for kind in ("voters", "outgoing", "learners")):
        text = f"node {status.get('node')} was removed from the cluster"
        return note("members", node.address, text, "stop it; its data directory is of no more use")
    where = status.get("peer_address") or "HOST:PORT"
    text = f"node {status.get('node')} waits to be added"
    return note("members", node.address, text, f"on any member: RAFT ADD {status.get('node')} {where}")


def _one_cluster(nodes: Sequence[Examined]) -> Iterator[Finding]:
    clusters = {str(node.status.get("cluster")) for node in nodes}
    where = ", ".join(f"{node.address} is in {node.status.get('cluster')!r}" for node in nodes)
    if len(clusters) > 1:
        yield wrong("cluster", where, "these nodes are in different clusters", "ask the nodes of one cluster at a time")
    ids: dict[object, str] = {}
    for node in nodes:
        other = ids.setdefault(node.status.get("node"), node.address)
        if other != node.address and node.status.get("listen") != _status_at(nodes, other).get("listen"):
            yield wrong(
                "cluster",
                node.address,
                f"node {node.status.get('node')} is also at {other}",
                "two processes must not have one id: stop the one that is not the member, and give it another id",
            )


def _status_at(nodes: Sequence[Examined], address: str) -> Mapping[str, Any]:
    return next(node.status for node in nodes if node.address == address)


def _versions(nodes: Sequence[Examined], version: str) -> Iterator[Finding]:
    found = {str(node.status.get("version")) for node in nodes}
    where = ", ".join(f"node {node.status.get('node')} {node.status.get('version')}" for node in nodes)
    if len(found) > 1:
        yield warning(
            "versions",
            where,
            "the nodes run different releases",
            "finish the upgrade, node by node; until then, use no command that the older release does not know",
        )
    elif found != {version}:
        yield note("versions", where, f"this program is {version}, the nodes are another release")
    else:
        yield right("versions", where, "all nodes that were asked run one release")


def _entries(nodes: Sequence[Examined]) -> Iterator[Finding]:
    """Find nodes that skip entries which others write. A release that knows users tells of them in its status."""
    old = [node for node in nodes if "users" not in node.status]
    uses = {
        what
        for node in nodes
        for name, what, feature in (("users", "users", USERS), ("max_memory", "--max-memory", MAX_MEMORY))
        if node.status.get(name) and feature in node.status.get("features", [feature])
    }
    if old and uses:
        yield wrong(
            "entries",
            ", ".join(f"node {node.status.get('node')} at {node.address}" for node in old),
            f"its release does not know {' and '.join(sorted(uses))}, which others use: it skips such entries of the "
            "log, checks no rights, and its copy of the data differs",
            "stop this node, RAFT REMOVE it, and let a node of the newer release with an empty directory join",
        )


def _features(nodes: Sequence[Examined], members: frozenset[int]) -> Iterator[Finding]:
    """Tell which features the cluster could use, and which node stands in the way."""
    known = [node for node in nodes if node.status.get("own_features")]
    if not known:
        return
    used = {feature for node in known for feature in node.status.get("features") or []}
    unused = sorted({feature for node in known for feature in node.status["own_features"]} - used)
    if not unused:
        yield right("features", f"{len(used)} features", "the cluster uses all that these nodes have")
        return
    asked = {node.status.get("node") for node in known}
    lacking = {
        peer["node"]
        for node in known
        for peer in node.status.get("peers") or []
        if peer.get("lacking") and peer["node"] not in asked and (not members or peer["node"] in members)
    }
    lacking |= {node.status.get("node") for node in nodes if node not in known}
    subject = ", ".join(unused)
    if lacking:
        names = ", ".join(f"node {node}" for node in sorted(lacking, key=str))
        yield note("features", subject, f"not used, because {names} does not have them; finish the upgrade first")
        return
    yield note(
        "features",
        subject,
        "not used yet: commands that need them are refused. raft-kv features --enable enables them; then there is no "
        "way back to the older release",
    )


_ALIKE: Final = ("election_timeout_seconds", "heartbeat_seconds", "log_max_bytes", "max_entry_bytes", "lease_reads")
"""Settings in which the members should agree: a difference costs availability, or large commands are refused."""


def _settings(nodes: Sequence[Examined]) -> Iterator[Finding]:
    """Tell the settings in force, and in which of them the nodes differ."""
    told = [node for node in nodes if node.status.get("settings")]
    groups: dict[str, list[str]] = {}
    for node in told:
        groups.setdefault(settings_in_words(node.status["settings"]), []).append(str(node.status.get("node")))
    for words, those in groups.items():
        yield right("settings", f"node {', '.join(those)}", words)
    yield from _heartbeats(told)
    for name in _ALIKE:
        values = {str(node.status.get("node")): node.status["settings"].get(name, "default") for node in told}
        if len(set(values.values())) > 1:
            where = ", ".join(f"node {node} {value}" for node, value in values.items())
            yield warning(
                "settings",
                f"{name}: {where}",
                "the members differ",
                "give all members the same value, and restart them one by one",
            )


def _heartbeats(told: Sequence[Examined]) -> Iterator[Finding]:
    """Tell of leaders whose heartbeats come too late for others, as while the election timeout is changed."""
    for leader in told:
        beat = float(leader.status["settings"].get("heartbeat_seconds", 0))
        for other in told:
            timeout = float(other.status["settings"].get("election_timeout_seconds", 0))
            if 0 < timeout <= beat:
                yield wrong(
                    "settings",
                    f"node {leader.status.get('node')} and node {other.status.get('node')}",
                    f"the first, as leader, sends a heartbeat every {beat:g} s, and the second deposes a leader that "
                    f"is silent for {timeout:g} s",
                    "change the election timeout in steps: no heartbeat is longer than half of another's timeout; "
                    "until then let a node with a short heartbeat lead (RAFT TRANSFER)",
                )


def _clock(node: Examined) -> Finding:
    if not node.status.get("wall_milliseconds"):
        return note("clock", node.address, "this release does not tell its clock")
    if abs(node.ahead) > _CLOCK_SECONDS + node.uncertain:
        side = "ahead of" if node.ahead > 0 else "behind"
        return warning(
            "clock",
            node.address,
            f"its wall clock is {abs(node.ahead):.1f} s {side} this machine's",
            "let a time service (chrony, systemd-timesyncd) set both; EXPIREAT and EXAT follow the leader's wall clock",
        )
    return right("clock", node.address, f"within {abs(node.ahead) + node.uncertain:.2f} s of this machine's")


_NO_LEADER: Final = (
    "start voters until a majority runs and is connected; RAFT EXPLAIN says what each waits for. Only if the disks of "
    "a majority are lost for ever: raft-kv recover-from-quorum-loss"
)


def _answering(nodes: Sequence[Examined]) -> str:
    """Return how many voters must run, and which of them answer here."""
    voters = _voters(nodes)
    if not voters:
        return ""
    here = [voter for voter in voters if any(node.status.get("node") == voter for node in nodes)]
    names = f"only {', '.join(map(str, here))}" if here else "none"
    return (
        f". {len(voters) // 2 + 1} of voters {', '.join(map(str, voters))} must run, and {names} of them answered here"
    )


def _quorum(nodes: Sequence[Examined]) -> Iterator[Finding]:
    leaders = {(node.status.get("term"), node.status.get("leader")) for node in nodes if node.status.get("leader")}
    if not leaders:
        subject = ", ".join(node.address for node in nodes)
        yield wrong("quorum", subject, f"no node knows a leader: nothing can be written{_answering(nodes)}", _NO_LEADER)
        return
    term, leader = max(leaders)
    for node in nodes:
        if not node.status.get("leader"):
            yield wrong(
                "quorum",
                node.address,
                "it knows no leader, although others do",
                "check the network between this node and the others, in both directions",
            )
    voters = _voters(nodes)
    told = next((node for node in nodes if node.status.get("node") == leader), None)
    if told is None:
        yield note(
            "quorum", f"node {leader}", f"it leads in term {term} and was not asked", "name its address with --from too"
        )
        return
    active = {peer["node"] for peer in told.status.get("peers", []) if peer.get("active") or peer.get("connected")}
    up = [voter for voter in voters if voter == leader or voter in active]
    spare = len(up) - (len(voters) // 2 + 1)
    missing = [voter for voter in voters if voter not in up]
    if missing:
        text = f"of voters {voters}, {missing} do not answer the leader; {max(spare, 0)} more may fail"
        yield (wrong if spare < 0 else warning)(
            "quorum", f"node {leader}", text, "start these nodes, or replace them: RAFT REMOVE, then RAFT ADD"
        )
    else:
        yield right("quorum", f"node {leader}", f"leads in term {term}; all voters answer, {spare} may fail")


def _voters(nodes: Sequence[Examined]) -> list[int]:
    newest = max(nodes, key=lambda node: int(node.status.get("members_index") or 0))
    return sorted(newest.status.get("voters") or [])


def survives(count: int, what: str) -> str:
    """Return how many failures so many voters survive: an even number as many as one voter less."""
    failures = (count - 1) // 2
    fewer = "" if count % 2 else ", as 1 does" if count == 2 else f", as {count - 1} do"
    return f"{count} {what} survive {failures} failure{'' if failures == 1 else 's'}{fewer}"


def _members(nodes: Sequence[Examined]) -> Iterator[Finding]:
    newest = max(nodes, key=lambda node: int(node.status.get("members_index") or 0))
    voters = _voters(nodes)
    subject = f"voters {', '.join(map(str, voters)) or 'none'}"
    if newest.status.get("outgoing"):
        yield warning(
            "members",
            subject,
            "a change of members is not finished: majorities of the old and of the new voters are needed",
            "start the nodes that are missing; RAFT LEAVE ends an explicit change",
        )
    if len(voters) == 1:
        yield warning("members", subject, "one voter: its disk is the only copy", "add two nodes with RAFT ADD")
    elif voters and len(voters) % 2 == 0:
        yield warning(
            "members",
            subject,
            survives(len(voters), "voters"),
            "add one with RAFT ADD, or make one a learner with RAFT DEMOTE",
        )
    elif voters:
        yield right("members", subject, survives(len(voters), "voters"))
    for node in nodes:
        if node.status.get("members_index") != newest.status.get("members_index"):
            yield warning(
                "members",
                node.address,
                "it does not know the newest members yet",
                "wait until it has caught up; if it does not, check its connection to the leader",
            )


def _addresses(node: Examined, members: frozenset[int], dial: Dials) -> Iterator[Finding]:
    peers = node.status.get("peers") or []
    for peer in peers:
        if members and peer["node"] not in members:  # it was removed, so nothing has to reach it
            continue
        subject = f"node {peer['node']} at {peer.get('address') or 'no address'}"
        whose = f"node {node.status.get('node')}"
        if not peer.get("address"):
            yield wrong(
                "address", subject, f"{whose} has no address of it", "give --peer with its address, and restart"
            )
            continue
        problem = dial(str(peer["address"]))
        if not peer.get("connected"):
            here = f"; from here: {problem}" if problem else "; from here it can"
            yield wrong(
                "address",
                subject,
                f"{whose} cannot dial it{here}",
                "start the node; check that --advertise is an address that the others reach, and the firewall",
            )
        elif problem:
            yield note("address", subject, f"{whose} is connected to it, but from here: {problem}")
        else:
            yield right("address", subject, f"{whose} is connected to it")


def _lag(node: Examined) -> Iterator[Finding]:
    status = node.status
    behind = int(status.get("commit") or 0) - int(status.get("applied") or 0)
    if behind > _LAG_ENTRIES:
        yield warning(
            "lag",
            node.address,
            f"{behind:,} committed entries are not applied here yet",
            "wait; if it grows, add memory",
        )
    for peer in status.get("peers") or []:
        lag = int(status.get("last_index") or 0) - int(peer.get("match") or 0)
        if status.get("role") == "leader" and peer.get("active") and lag > _LAG_ENTRIES:
            yield warning(
                "lag",
                f"node {peer['node']}",
                f"it is {lag:,} entries behind the leader",
                "check its disk and its connection (doctor --data on its machine)",
            )
