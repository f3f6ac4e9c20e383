"""`raft-kv features`: what the cluster uses, what each member has, what could be enabled and what stands in the way.

Exit status, for scripts: 0 if the cluster uses all that its members have, 3 if it could use more, or cannot yet, 1 if
no node answered or the change was refused. (2 is a wrong command line.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final, final

import attrs

from raft_core.errors import SettingsError
from raft_core.features import features_problem
from raft_core.node.config import split_address
from raft_kv.cli_command import CONNECTING_TEXT, Command, collect
from raft_kv.options import Option, with_variables

__all__ = ["FEATURES_COMMAND", "FeaturesOptions", "FeaturesView", "run_features", "view_of"]

_DESCRIPTION: Final = """\
Show which features a cluster uses, which of them each member has, which could be enabled, and
what stands in the way of the others. With --enable, enable what can be.

A feature is what an older release would skip in the log, such as users. A new cluster uses all
that its release has; an upgraded one none that is new, until all members are upgraded and they
are enabled. After that there is no way back to the older release.

Exit status, for scripts: 0 if the cluster uses all that its members have, 3 if it could use
more, or cannot yet, 1 if no node answered or the change was refused.
"""
_EXAMPLES: Final = """\
examples:
      raft-kv features 10.0.0.1:6379
      raft-kv features 10.0.0.1:6379 10.0.0.2:6379 10.0.0.3:6379
      raft-kv features 10.0.0.1:6379 --enable
      raft-kv features 10.0.0.1:6379 --enable --feature kv-users

It shows for example, while node 3 still runs an older release:
      feature        used  node 1  node 2  node 3
      kv-compare     yes   has     has     has
      kv-users       no    has     has     lacks
      kv-users cannot be enabled: node 3 at 10.0.0.3:7379 lacks this; start it with a newer release
"""
_OPTIONS: Final = with_variables(
    "RAFT_KV_FEATURES_",
    Option(
        name="addresses",
        metavar="HOST:PORT",
        help="addresses of nodes for clients; one is enough",
        default="127.0.0.1:6379",
        positional=True,
        repeated=True,
    ),
    Option(name="enable", help="enable all that can be; there is no way back", default="false"),
    Option(name="feature", metavar="NAME", help="enable only this one (repeatable)", repeated=True),
    Option(name="timeout", metavar="SECONDS", help="a node that does not answer in this time is down", default="3"),
    Option(name="json", help="print one JSON object", default="false"),
)


@final
@attrs.frozen(kw_only=True)
class FeaturesOptions:
    """The options of `raft-kv features`. Raise `SettingsError` if values are invalid."""

    addresses: list[str] = attrs.field(factory=lambda: ["127.0.0.1:6379"])
    enable: bool = False
    feature: list[str] = attrs.field(factory=list)
    timeout: float = 3.0
    json: bool = False

    def __attrs_post_init__(self) -> None:
        for address in self.addresses:
            split_address(address)
        if not 0 < self.timeout < 1e6:
            raise SettingsError(f"timeout must be a positive number of seconds, not {self.timeout}")
        if self.feature and not self.enable:
            raise SettingsError("--feature says what to enable: give --enable too")
        if self.feature and (problem := features_problem(tuple(self.feature))) is not None:
            raise SettingsError(problem)


@final
@attrs.frozen
class FeaturesView:
    """What is known of a cluster's features. `has`: for each member what it has, None if that is not known."""

    used: tuple[str, ...]
    has: Mapping[int, frozenset[str] | None]
    addresses: Mapping[int, str]

    @property
    def known(self) -> tuple[str, ...]:
        """All features that the cluster uses or a member has."""
        return tuple(sorted({*self.used, *(name for names in self.has.values() for name in names or ())}))

    @property
    def ready(self) -> tuple[str, ...]:
        """Those that all members have and that are not used yet."""
        return tuple(name for name in self.known if name not in self.used and not list(self.obstacles(name)))

    def obstacles(self, feature: str) -> Iterator[str]:
        """Yield why this feature cannot be enabled: each member that lacks it, or that nothing is known of."""
        for node, names in self.has.items():
            where = f"node {node} at {self.addresses[node]}" if self.addresses.get(node) else f"node {node}"
            if names is None:
                yield f"{where} is not connected, so nothing is known of it; start it, or RAFT REMOVE {node}"
            elif feature not in names:
                yield f"{where} lacks this; start it with a newer release"


def view_of(statuses: Sequence[Mapping[str, Any]]) -> FeaturesView:
    """Return what nodes tell by RAFT STATUS, all together. A release that tells nothing of features has none."""
    newest = max(statuses, key=lambda status: int(status.get("members_index") or 0))
    members = [node for kind in ("voters", "outgoing", "learners") for node in newest.get(kind) or []]
    used = {name for status in statuses for name in status.get("features") or []}
    has: dict[int, frozenset[str] | None] = dict.fromkeys(sorted(set(members)))
    addresses: dict[int, str] = {}
    for status in statuses:
        own = frozenset(status.get("own_features") or [])
        for peer in status.get("peers") or []:
            node, lacking = peer.get("node"), peer.get("lacking")
            addresses.setdefault(node, peer.get("address") or "")
            if node in has and own and lacking is not None:
                has[node] = (has[node] or frozenset()) | (own - frozenset(lacking))
    for status in statuses:  # its own word counts more than what others heard
        if status.get("node") in has:
            has[status["node"]] = frozenset(status.get("own_features") or [])
            addresses[status["node"]] = str(status.get("peer_address") or "")
    return FeaturesView(tuple(sorted(used)), has, addresses)


def run_features(options: FeaturesOptions) -> int:
    """Show the features, after enabling some if that is wanted. Return the exit status."""
    from raft_kv.log_output import print_error, print_line

    statuses = _ask(options, print_error)
    if not statuses:
        return 1
    if options.enable:
        view = view_of(list(statuses.values()))
        wanted = options.feature or list(view.ready)
        if wanted:
            address = next((at for at, status in statuses.items() if status.get("own_features")), next(iter(statuses)))
            if problem := _enable(address, wanted, options.timeout):
                print_error(f"raft-kv: {address}: {problem}")
                return 1
            print_error(f"enabled: {', '.join(wanted)}")
            statuses = _ask(options, print_error) or statuses
    view = view_of(list(statuses.values()))
    for line in [json.dumps(_plain(view))] if options.json else _lines(view):
        print_line(line)
    return 0 if set(view.known) <= set(view.used) else 3


def _ask(options: FeaturesOptions, complain: Callable[[str], None]) -> dict[str, Mapping[str, Any]]:
    """Return the status of each node that answers, by its address; complain about the others."""
    from raft_kv.client_remedies import with_remedy
    from raft_kv.node_client import report_of

    addresses = list(dict.fromkeys(options.addresses))
    with ThreadPoolExecutor(len(addresses)) as pool:
        reports = list(pool.map(lambda at: report_of(split_address(at), options.timeout), addresses))
    for address, report in zip(addresses, reports, strict=True):
        if report.error:
            complain(f"raft-kv: {address}: {with_remedy(report.error, report.remedy)}")
    return {address: report.status for address, report in zip(addresses, reports, strict=True) if not report.error}


def _enable(address: str, features: Sequence[str], timeout: float) -> str:
    """Have the cluster use these features; return why it does not, "" if it does."""
    from raft_kv.client_remedies import with_remedy
    from raft_kv.node_client import Failed, NodeConnection

    try:
        with closing(NodeConnection(split_address(address), timeout)) as node:
            node.wait_for(max(timeout, 10.0))  # members that are not connected are waited for
            reply = node.say("RAFT", "FEATURES", "ENABLE", *features)
            return "" if reply == b"OK" else with_remedy(str(reply), node.remedy(reply))
    except Failed as failure:
        return str(failure)


def _plain(view: FeaturesView) -> dict[str, Any]:
    return {
        "used": view.used,
        "ready": view.ready,
        "members": {str(node): None if names is None else sorted(names) for node, names in view.has.items()},
        "obstacles": {name: list(view.obstacles(name)) for name in view.known if name not in view.used},
    }


def _lines(view: FeaturesView) -> Iterator[str]:
    """Yield a table with a column for each member, then a sentence for each feature that is not used."""
    if not view.known:
        yield "these nodes have no features: their release knows none"
        return
    wide = max(map(len, ("feature", *view.known)))
    nodes = [f"node {node}" for node in view.has]
    yield "  ".join([f"{'feature':{wide}}", "used", *nodes])
    for name in view.known:
        cells = ["?" if names is None else "has" if name in names else "lacks" for names in view.has.values()]
        padded = [f"{cell:{len(node)}}" for cell, node in zip(cells, nodes, strict=True)]
        yield "  ".join([f"{name:{wide}}", f"{'yes' if name in view.used else 'no':4}", *padded]).rstrip()
    blocked: dict[str, list[str]] = {}
    for name in view.known:
        for obstacle in view.obstacles(name) if name not in view.used else ():
            blocked.setdefault(obstacle, []).append(name)
    for obstacle, names in blocked.items():
        yield f"{', '.join(names)} cannot be enabled: {obstacle}"
    if view.ready:
        yield (
            f"can be enabled: {', '.join(view.ready)} (raft-kv features --enable; then there is no way back to an "
            "older release)"
        )


def _features(flags: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    return run_features(collect(_OPTIONS, flags, environ, FeaturesOptions))


FEATURES_COMMAND: Final = Command(
    help="show which features the cluster uses and could use, or enable them",
    description=_DESCRIPTION + CONNECTING_TEXT,
    examples=_EXAMPLES,
    options=_OPTIONS,
    execute=_features,
)
"""The command."""
