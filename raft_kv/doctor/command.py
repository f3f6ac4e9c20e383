"""`raft-kv doctor`: looks at what it is given, prints the findings, and returns the exit status."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import attrs
from rich.console import Console
from rich.text import Text

from raft_core.errors import SettingsError
from raft_core.node.config import split_address
from raft_kv.config import ServeConfig
from raft_kv.doctor.certificates import check_certificate
from raft_kv.doctor.disk import DiskFacts, check_data, check_disk, look_at_disk
from raft_kv.doctor.finding import Finding, Level, exit_status, note, right, warning, wrong
from raft_kv.doctor.nodes import check_nodes, examine
from raft_kv.doctor.settings import check_settings, election_seconds, room_needed
from raft_kv.effective import effective_settings, settings_in_words
from raft_kv.log_output import print_line
from raft_kv.serve_options import given_values, serve_config
from raft_kv.version import version
from raft_storage.location import parse_location

__all__ = ["DoctorOptions", "run_doctor"]

_STYLES: Final = {Level.RIGHT: "green", Level.NOTE: "dim", Level.WARNING: "yellow", Level.WRONG: "bold red"}


@attrs.frozen(kw_only=True)
class DoctorOptions:
    """The options of `raft-kv doctor`. Raise `SettingsError` if values are invalid."""

    sources: list[str] = attrs.field(factory=list)
    data: str = ""
    config: str = ""
    timeout: float = 3.0
    scratch: str = ""
    json: bool = False

    def __attrs_post_init__(self) -> None:
        for address in self.sources:
            split_address(address)
        if not 0 < self.timeout < 1e6:
            raise SettingsError(f"timeout must be a positive number of seconds, not {self.timeout}")


def run_doctor(options: DoctorOptions, environ: Mapping[str, str]) -> int:
    """Look at everything that is named; print what was found. Return the exit status."""
    sources = options.sources
    if not (sources or options.data or options.config):
        sources = ["127.0.0.1:6379"]
    findings: list[Finding] = []
    if sources:
        with ThreadPoolExecutor(len(sources)) as pool:
            findings += check_nodes(list(pool.map(lambda at: examine(at, options.timeout), sources)), version())
    findings += _locally(options, environ)
    _print(findings, as_json=options.json)
    return exit_status(findings)


def _locally(options: DoctorOptions, environ: Mapping[str, str]) -> list[Finding]:
    """Return the findings about configuration and data on this machine."""
    findings: list[Finding] = []
    config: ServeConfig | None = None
    if options.config:
        try:
            config = serve_config(given_values({"config": options.config}, environ))
            findings.append(right("configuration", options.config, f"it is one of node {config.id}"))
            findings.append(note("settings", options.config, settings_in_words(effective_settings(config))))
        except (SettingsError, OSError) as failure:
            text = str(failure).replace("\n", ";")
            findings.append(wrong("configuration", options.config, text, "correct it: raft-kv serve refuses it"))
    data = options.data or (config.directory if config is not None else "")
    facts: DiskFacts | None = None
    if data:
        location = parse_location(data)
        owner = (config.cluster, config.id) if config is not None else None
        found, state_bytes = check_data(location, scratch=options.scratch or None, owner=owner)
        findings += found
        facts = look_at_disk(location.directory)
        judged_by = config or ServeConfig(id=1)
        election, needed = election_seconds(judged_by), room_needed(judged_by, state_bytes)
        findings += check_disk(facts, needed=needed, election=election)
    if config is not None:
        findings += check_settings(config, sync=facts.sync if facts is not None else 0.0)
        findings += _certificates(config)
    return findings


def _certificates(config: ServeConfig) -> list[Finding]:
    """Return the findings about the certificates of both ports, or their absence."""
    findings: list[Finding] = []
    peers, clients, now = config.peer_tls(), config.client_tls(), time.time()
    if peers is not None:
        findings += check_certificate("peers", peers, (config.cluster, config.id), now)
    if clients is not None:
        findings += check_certificate("clients", clients, None, now)
    if config.insecure and (peers is None or clients is None):
        text = "ports without TLS are open to the network"
        remedy = "give the node a certificate (raft-kv certs), unless every machine there may read and write"
        findings.append(warning("certificate", "insecure = true", text, remedy))
    return findings


def _print(findings: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        print_line(json.dumps([_plain(finding) for finding in findings]))
        return
    console = Console(soft_wrap=True)
    for finding in findings:
        line = Text(f"{finding.level.value:8}", _STYLES[finding.level])
        line.append(f"{finding.check}: {finding.subject}: {finding.text}", "")
        console.print(line)
        if finding.remedy:
            console.print(Text(f"        → {finding.remedy}", "italic"))
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    console.print(f"{counts[Level.WRONG]} wrong, {counts[Level.WARNING]} warnings, {counts[Level.RIGHT]} right")


def _plain(finding: Finding) -> dict[str, Any]:
    return attrs.asdict(finding) | {"level": finding.level.value}
