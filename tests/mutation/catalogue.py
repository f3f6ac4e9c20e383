"""The mutants: mistakes that implementations of Raft were really shipped with, as replacements of code.

Most come from a bug report of another project; the tests in `tests/rules` name the sources. How a place is found is
told in `tests.mutation.planting`.
"""

# ruff: noqa: E501 - a statement stands here on one line where that reads better

from __future__ import annotations

from typing import Final, final

import attrs

__all__ = ["MUTANTS", "Mutant"]


@final
@attrs.frozen
class Mutant:
    """One mistake.

    `mistake` says what was once got wrong. `function` is the qualified name of the function, the class or the constant
    in `file` that it is in, "" for the module. `old` is an expression or a run of statements that is there exactly
    once, and `new` what takes its place. `tests` are the smallest sensible set that must notice.
    """

    name: str
    mistake: str
    file: str
    function: str
    old: str
    new: str
    tests: tuple[str, ...]


_FIRE: Final = "tests/testing/test_simulator.py::test_clusters_under_fire_keep_every_promise"
_VOTES: Final = ("tests/rules/test_votes.py", "tests/paper/test_section_5.py", "tests/core/test_raft.py", _FIRE)
_LOYALTY: Final = (
    "tests/rules/test_pre_vote_and_check_quorum.py",
    "tests/paper/test_section_5.py",
    "tests/core/test_raft.py",
    _FIRE,
)
_COMMIT: Final = ("tests/rules/test_commit.py", "tests/paper/test_section_5.py", "tests/core/test_raft.py", _FIRE)
_APPEND: Final = ("tests/rules/test_append.py", "tests/paper/test_section_5.py", "tests/core/test_raft.py", _FIRE)
_FLOW: Final = ("tests/core/test_progress.py", "tests/rules/test_flow_control.py", _FIRE)
_SNAPSHOT: Final = (
    "tests/regressions/test_simulator_findings.py",
    "tests/rules/test_snapshots.py",
    "tests/paper/test_sections_6_and_7.py",
    _FIRE,
)
_READS: Final = ("tests/core/test_reads.py", "tests/rules/test_read_index.py", "tests/paper/test_section_8.py", _FIRE)
_LEASES: Final = ("tests/rules/test_leases.py", *_READS)
_MEMBERS: Final = (
    "tests/core/test_membership.py",
    "tests/core/test_membership_history.py",
    "tests/rules/test_membership.py",
    "tests/paper/test_sections_6_and_7.py",
    _FIRE,
)
_DISK: Final = (
    "tests/core/test_outbox.py",
    "tests/regressions/test_simulator_findings.py",
    "tests/rules/test_removal_transfer_durability.py",
    _FIRE,
)
_REMOVAL: Final = ("tests/rules/test_removal_transfer_durability.py", "tests/rules/test_membership.py", _FIRE)
_QUORUM: Final = ("tests/core/test_quorum.py", _FIRE)
_WAL: Final = ("tests/wal/test_blocks.py", "tests/wal/test_reader.py", "tests/wal/test_recovery.py", _FIRE)
_STORE: Final = ("tests/storage/test_file_store.py", "tests/wal/test_recovery.py", _FIRE)
_SQLITE: Final = ("tests/storage/test_sqlite_store.py",)
_ENGINES: Final = ("tests/storage/test_rows.py", "tests/storage/test_engine_stores.py", *_SQLITE)
_ROCKS: Final = ("tests/storage/test_rocks_store.py", "tests/storage/test_power_loss.py")
_MIGRATION: Final = ("tests/storage/test_migration.py",)
_CLIENTS: Final = (
    "tests/core/test_pending.py",
    "tests/node/test_requests.py",
    "tests/node/test_node_cluster.py",
    _FIRE,
)
_HOST: Final = (
    "tests/node/test_job_runner.py",
    "tests/node/test_decisions.py",
    "tests/node/test_node_cluster.py",
    _FIRE,
)
_SESSIONS: Final = ("tests/core/test_sessions.py", _FIRE)
_WIRE: Final = ("tests/wire/test_frames.py", "tests/wire/test_codec.py", "tests/wire/test_handshake.py", _FIRE)
_FEATURES: Final = "tests/rules/test_features.py"
_VALIDATION: Final = "tests/core/test_validation.py"
_READING: Final = "tests/regressions/test_findings_by_reading.py"
_UNLIKE: Final = "tests/testing/test_leases_among_unlike_nodes.py"
_FOLLOWER: Final = "raft_core/roles/follower.py"
_LEADER: Final = "raft_core/roles/leader.py"
_CANDIDATE: Final = "raft_core/roles/candidate.py"
_SERVER: Final = "raft_core/server.py"
_OUTBOX: Final = "raft_core/outbox.py"

MUTANTS: Final = (
    # Votes.
    Mutant(
        "vote-not-recorded",
        "A vote is granted without being recorded: two leaders in one term.",
        _SERVER,
        "Server.answer_vote",
        """
        self.vote = request.sender
        self.outbox.touch_hard()
        """,
        "pass",
        _VOTES,
    ),
    Mutant(
        "vote-not-written",
        "A vote is recorded in memory only: a restarted node votes twice.",
        _SERVER,
        "Server.answer_vote",
        "self.outbox.touch_hard()",
        "",
        _VOTES,
    ),
    Mutant(
        "term-not-written",
        "A new term is kept in memory only.",
        _SERVER,
        "Server.enter_term",
        "self.outbox.touch_hard()",
        "",
        _VOTES,
    ),
    Mutant(
        "vote-for-shorter-log",
        "The log of a candidate is compared by length before term.",
        "raft_core/entries.py",
        "LogPosition.at_least_as_up_to_date_as",
        """
        if self.term != other.term:
            return self.term > other.term
        return self.index >= other.index
        """,
        """
        if self.index != other.index:
            return self.index > other.index
        return self.term >= other.term
        """,
        ("tests/core/test_entries.py", *_VOTES),
    ),
    Mutant(
        "vote-for-any-log",
        "The candidate's log is not looked at.",
        _SERVER,
        "Server.answer_vote",
        "free and request.last.at_least_as_up_to_date_as(self.log.last)",
        "free",
        _VOTES,
    ),
    Mutant(
        "vote-kept-in-new-term",
        "Entering a term does not clear the vote.",
        _SERVER,
        "Server.enter_term",
        "self.vote = vote",
        "self.vote = vote or self.vote",
        _VOTES,
    ),
    Mutant(
        "votes-counted-not-collected",
        "Votes of another campaign count.",
        _CANDIDATE,
        "Campaign.count",
        "reply.kind is not self.kind or reply.id != self.id",
        "reply.kind is not self.kind",
        _VOTES,
    ),
    Mutant(
        "vote-of-another-disk",
        "A vote from a wiped disk counts.",
        _CANDIDATE,
        "Campaign.count",
        "reply.incarnation != self.server.members.incarnation_of(reply.sender)",
        "False",
        _VOTES,
    ),
    Mutant(
        "own-vote-before-durable",
        "The candidate's own vote counts before it is written.",
        _CANDIDATE,
        "Candidate.on_persisted",
        "self.server.me in self.campaign.votes or self.server.outbox.durable < self.own_write",
        "self.server.me in self.campaign.votes",
        ("tests/regressions/test_simulator_findings.py", *_VOTES),
    ),
    Mutant(
        "vote-request-does-not-wait",
        "A vote request leaves before term, vote and log are durable.",
        _CANDIDATE,
        "Campaign.ask",
        "server.outbox.promise_all(voter, request, server.log)",
        "server.outbox.send(voter, request)",
        _VOTES,
    ),
    Mutant(
        "timeout-drawn-once",
        "The election timeout is not random, so two candidates split votes for ever.",
        _SERVER,
        "Server.election_timeout",
        "base + int(self.rng.random() * base)",
        "base",
        ("tests/core/test_raft.py", *_VOTES),
    ),
    Mutant(
        "pre-vote-raises-term",
        "A pre-vote request makes its receiver enter the term.",
        "raft_core/validation.py",
        "speaks_of_future",
        "return message.kind is VoteKind.PRE",
        "return False",
        _LOYALTY,
    ),
    Mutant(
        "disloyal-to-a-living-leader",
        "A follower that hears its leader votes for whoever asks.",
        _FOLLOWER,
        "Follower.ignores_vote",
        "server.settings.check_quorum and self.heard and loyal and (not self.suspect)",
        "False",
        _LOYALTY,
    ),
    Mutant(
        "old-candidates-unanswered",
        "A vote request of an older term is dropped in silence: its sender stays stuck (the upgrade deadlock).",
        _SERVER,
        "Server.answer_old",
        "self.refuse_old_vote(message)",
        "pass",
        _LOYALTY,
    ),
    Mutant(
        "leader-without-quorum-stays",
        "CheckQuorum never fires (the comparison was inverted, the code dead).",
        _LEADER,
        "Leader.on_tick",
        "not self._quorum_active()",
        "self._quorum_active() is None",
        _LOYALTY,
    ),
    # Commit.
    Mutant(
        "commit-of-an-older-term",
        "Entries of older terms are committed by counting (figure 8).",
        _LEADER,
        "Leader._commit",
        "server.log.term_at(index) != server.term",
        "server.log.term_at(index) is None",
        _COMMIT,
    ),
    Mutant(
        "commit-to-last-index",
        "A follower commits up to its last index instead of the last verified one.",
        _FOLLOWER,
        "Follower._advance",
        "commit if commit < verified else verified",
        "min(commit, server.log.last_index)",
        _COMMIT,
    ),
    Mutant(
        "heartbeat-commits-too-much",
        "A heartbeat's commit index is not bounded by what is known to match.",
        _FOLLOWER,
        "Follower._on_heartbeat",
        "min(request.commit, self.verified)",
        "min(request.commit or request.tip, server.log.last_index)",
        _COMMIT,
    ),
    Mutant(
        "own-match-before-write",
        "The leader counts its own entries before they are durable.",
        _LEADER,
        "Leader.acked",
        "self.server.outbox.durable_index",
        "self.server.log.last_index",
        _COMMIT,
    ),
    Mutant(
        "no-empty-entry-at-election",
        "A new leader appends nothing, so that it cannot commit what it inherited.",
        _LEADER,
        "Leader.begin",
        "server.append((Entry.make(server.log.last_index + 1, server.term, algorithm=server.settings.checksum),))",
        "",
        _COMMIT,
    ),
    Mutant(
        "majority-of-half",
        "Half of the voters is taken for a majority.",
        "raft_core/quorum.py",
        "_majority_agrees",
        "2 * sum([agrees(node) for node in voters]) > len(voters)",
        "2 * sum([agrees(node) for node in voters]) >= len(voters)",
        _QUORUM,
    ),
    Mutant(
        "committed-index-off-by-one",
        "The quorum's index is taken one place too high.",
        "raft_core/quorum.py",
        "majority_index",
        "(len(acked) - 1) // 2",
        "len(acked) // 2",
        _QUORUM,
    ),
    Mutant(
        "joint-needs-one-half",
        "A joint configuration commits with the incoming half alone.",
        "raft_core/quorum.py",
        "committed_index",
        "settled if settled < other else other",
        "settled",
        _QUORUM,
    ),
    Mutant(
        "joint-votes-one-half",
        "An election in a joint configuration is won in one half.",
        "raft_core/quorum.py",
        "vote_verdict",
        "verdicts = (_majority_verdict(members.voters, votes), _majority_verdict(members.outgoing, votes))",
        """
        verdicts = (_majority_verdict(members.voters, votes), _majority_verdict(members.outgoing, votes))
        if Verdict.WON in verdicts:
            return Verdict.WON
        """,
        _QUORUM,
    ),
    # Appending.
    Mutant(
        "truncates-what-matches",
        "Every re-delivered append truncates, although the terms match.",
        "raft_core/log.py",
        "Log.first_conflict",
        """
        if self.term_at(entry.index) != entry.term:
            return count
        """,
        "return count",
        ("tests/core/test_log.py", *_APPEND),
    ),
    Mutant(
        "goes-on-after-rejecting",
        "After a mismatch the handler goes on, appends and accepts as well.",
        _FOLLOWER,
        "Follower.on_append_entries",
        """
        if log.term_at(prev) != prev_term:
            self._reject(request)
            return None
        """,
        """
        if log.term_at(prev) != prev_term:
            self._reject(request)
        """,
        _APPEND,
    ),
    Mutant(
        "acknowledges-its-last-index",
        "A follower acknowledges its last index instead of what the message verified.",
        _FOLLOWER,
        "Follower.on_append_entries",
        "server.append_reply(message_id, purpose, read, verified)",
        "server.append_reply(message_id, purpose, read, server.log.last_index)",
        _APPEND,
    ),
    Mutant(
        "committed-entries-contradicted",
        "An append that contradicts what is committed is taken where it overlaps.",
        _FOLLOWER,
        "Follower._overlap_commit",
        """
        if request.entries[place].term != server.log.term_at(commit):
            self._conflict(request)
            return
        """,
        "",
        _APPEND,
    ),
    Mutant(
        "committed-entries-not-compared",
        "An append that ends at or below the commit index is acknowledged without a look at its end.",
        _FOLLOWER,
        "Follower._accept_known",
        "held is not None and held != (request.entries[-1].term if request.entries else request.prev_term)",
        "False",
        _APPEND,
    ),
    Mutant(
        "older-terms-accepted",
        "Messages of an older term are processed after all.",
        "raft_core/raft.py",
        "Raft._admits_term",
        """
        if term < server.term:
            server.answer_old(message)
            return False
        """,
        """
        if term < server.term:
            server.answer_old(message)
            return True
        """,
        _APPEND,
    ),
    Mutant(
        "hint-ignores-terms",
        "A rejection's hint is the end of the log, whatever its terms.",
        _FOLLOWER,
        "Follower._reject",
        "request.prev_term",
        "server.term",
        _APPEND,
    ),
    # Progress.
    Mutant(
        "stray-rejection-moves-next",
        "A stray rejection moves next down to match or below it.",
        "raft_core/progress.py",
        "Progress.rejected",
        """
        if at != self.next - 1:
            return False
        """,
        "",
        _FLOW,
    ),
    Mutant(
        "window-without-end",
        "The window of a follower is never full.",
        "raft_core/progress.py",
        "Progress.full",
        "len(self.inflight) >= self.max_messages or self.inflight_bytes >= self.max_bytes",
        "False",
        _FLOW,
    ),
    Mutant(
        "full-window-waits-for-ever",
        "A window that is lost as a whole is never asked about.",
        _LEADER,
        "Leader._heartbeat_answered",
        "self.replication.empty_append(peer)",
        "pass",
        _FLOW,
    ),
    Mutant(
        "snapshot-sent-again-and-again",
        "A snapshot is offered anew for every message while one is under way.",
        "raft_core/roles/replication.py",
        "Replication.offer_snapshot",
        "peer.become_snapshot(meta.index)",
        "",
        _SNAPSHOT,
    ),
    # Snapshots.
    Mutant(
        "snapshot-discards-the-tail",
        "A snapshot whose place the log holds throws the tail away.",
        _FOLLOWER,
        "Follower.on_snapshot_received",
        """
        if server.log.matches(meta.index, meta.term):
            server.commit_to(meta.index)
        else:
            server.install(meta)
        """,
        "server.install(meta)",
        _SNAPSHOT,
    ),
    Mutant(
        "snapshot-with-newest-members",
        "A snapshot carries the newest configuration instead of the one at its index.",
        "raft_core/snapshots.py",
        "Snapshots._take",
        "self.configurations.at(applying)",
        "(self.configurations.index, self.configurations.members)",
        _SNAPSHOT,
    ),
    Mutant(
        "old-snapshot-installed",
        "A snapshot behind the commit index is installed.",
        _FOLLOWER,
        "Follower.on_snapshot_received",
        "meta.index > server.commit",
        "meta.index",
        _SNAPSHOT,
    ),
    # Reads.
    Mutant(
        "read-joins-the-round-under-way",
        "A read is confirmed by a round that was sent before it was asked.",
        "raft_core/roles/read_index.py",
        "ReadQueue.confirmed",
        "self.rounds[0].id <= upto",
        "self.rounds[0].id <= upto + 1",
        _READS,
    ),
    Mutant(
        "read-before-first-commit",
        "A new leader answers reads before it has committed in its term.",
        "raft_core/roles/read_index.py",
        "Reading.begin_if_wanted",
        "self.settled and self.queue.wants_round",
        "self.queue.wants_round",
        _READS,
    ),
    Mutant(
        "read-without-a-round",
        "A read needs no majority.",
        "raft_core/roles/read_index.py",
        "Reading.confirm",
        """
        if not quorum_reached(self.server.members, self._has_answered(wanted)):
            return
        """,
        "",
        _READS,
    ),
    Mutant(
        "read-before-applied",
        "A read is answered when it is confirmed, not when the machine has come so far.",
        "raft_core/apply.py",
        "ApplyPipeline.read_when_applied",
        "index <= self.applied",
        "index >= 0",
        _READS,
    ),
    Mutant(
        "lease-survives-handover",
        "The lease is used after the successor was told to stand.",
        _LEADER,
        "Leader._spend_lease",
        "self.reading.lease_spent = True",
        "pass",
        _LEASES,
    ),
    # Members.
    Mutant(
        "two-changes-at-once",
        "A second change is taken while the first is uncommitted.",
        "raft_core/roles/membership_change.py",
        "MembershipChange._forbidden",
        "self.pending",
        "False",
        _MEMBERS,
    ),
    Mutant(
        "change-before-commit-in-term",
        "A change is taken before an entry of the term is committed (Ongaro 2015).",
        "raft_core/roles/membership_change.py",
        "MembershipChange._forbidden",
        "not settled",
        "False",
        _MEMBERS,
    ),
    Mutant(
        "truncation-keeps-the-members",
        "A truncated configuration stays in force.",
        _SERVER,
        "Server.truncate_from",
        "self.configurations.truncate_from(index)",
        "",
        _MEMBERS,
    ),
    Mutant(
        "joint-never-left",
        "A joint configuration is not left when it is committed.",
        "raft_core/roles/membership_change.py",
        "MembershipChange.leave_if_committed",
        "not members.auto_leave",
        "members.auto_leave",
        _MEMBERS,
    ),
    Mutant(
        "joint-left-too-early",
        "A joint configuration is left before it is committed.",
        "raft_core/roles/membership_change.py",
        "MembershipChange.leave_if_committed",
        "self.pending or not members.joint or (not members.auto_leave)",
        "not members.joint or not members.auto_leave",
        _MEMBERS,
    ),
    Mutant(
        "ids-used-again",
        "The id of a removed node is given to a new one.",
        "raft_core/membership.py",
        "Members._target",
        "node <= self.highest_id",
        "False",
        _MEMBERS,
    ),
    Mutant(
        "removed-leader-stays",
        "A leader that is no member any more leads on.",
        _LEADER,
        "Leader._commit_to",
        "arrow is None and (not self.replication.leader_votes) and (not self.change.pending)",
        "False",
        _REMOVAL,
    ),
    Mutant(
        "transfer-to-one-that-lags",
        "TimeoutNow is sent to a successor that lacks entries.",
        "raft_core/roles/leadership_transfer.py",
        "LeadershipTransfer.order_if_ready",
        """
        if self.replication.progress[handover.target].match < server.log.last_index:
            return
        """,
        "",
        _REMOVAL,
    ),
    Mutant(
        "late-no-ends-a-transfer",
        "A refusal of an earlier transfer, which comes late, is taken for an answer to the present one.",
        "raft_core/roles/leadership_transfer.py",
        "LeadershipTransfer.refused",
        "handover is None or handover.target != reply.sender or reply.id not in handover.orders",
        "handover is None or handover.target != reply.sender",
        _REMOVAL,
    ),
    Mutant(
        "error-never-freed",
        "A value that holds an exception is not tracked by the garbage collector, so that every error a caller is told keeps its frames for ever.",
        "raft_core/node/events.py",
        "",
        """
        @final
        class Answer(Value, frozen=True, eq=False, gc=True):
            ...
        """,
        """
        @final
        class Answer(Value, frozen=True, eq=False):
            ...
        """,
        ("tests/docs/test_values.py",),
    ),
    Mutant(
        "reads-lost-while-forming",
        "A read at a node that has no core yet is handed to nobody, and never answered.",
        "raft_core/node/requests.py",
        "RequestBook.flush",
        """
        if forming:
            for item in reads:
                ...
        else:
            ...
        """,
        """
        if False:
            for item in reads:
                ...
        else:
            ...
        """,
        _CLIENTS,
    ),
    Mutant(
        "confirmed-reads-left-behind",
        "A confirmed read that needs entries of a leader that is gone waits for ever.",
        "raft_core/roles/follower.py",
        "Follower.refuse_reads",
        "[*(request for _, request in waiting), *self.server.pipeline.reads_beyond(self.server.commit)]",
        "[*(request for _, request in waiting)]",
        ("tests/rules/test_read_index.py",),
    ),
    Mutant(
        "beats-by-turn",
        "Heartbeats are counted by turns of the loop and not by time, so that a leader whose loop turns slowly is deposed.",
        _LEADER,
        "Leader.on_tick",
        "self.beat_ticks += elapsed",
        "self.beat_ticks += 1",
        ("tests/regressions/test_other_projects.py",),
    ),
    Mutant(
        "lease-survives-a-short-transfer",
        "A transfer that is given up in the tick of its order leaves the lease as it was.",
        _LEADER,
        "Leader.on_tick",
        """
        self._spend_lease()
        arrow = succession.on_tick(elapsed)
        """,
        "arrow = succession.on_tick(elapsed)",
        ("tests/rules/test_leases.py",),
    ),
    Mutant(
        "no-room-for-the-past",
        "A full follower keeps out what its leader held before its office, so that nothing is ever committed again.",
        "raft_core/roles/follower.py",
        "Follower._room",
        "free < 0 and entry.kind is COMMAND and (entry.term == server.term or entry.index <= committed)",
        "free < 0 and entry.kind is COMMAND",
        ("tests/rules/test_limits.py",),
    ),
    Mutant(
        "batch-not-counted",
        "What a batch has added already does not count against the limit of what is uncommitted.",
        "raft_core/roles/proposals.py",
        "_append_what_fits",
        "uncommitted += size",
        "",
        ("tests/regressions/test_simulator_findings.py", _FIRE),
    ),
    # DurabilityChecker and the disk.
    Mutant(
        "promises-leave-at-once",
        "Replies leave before the write they rest on.",
        _OUTBOX,
        "Outbox._promise",
        "rests_on <= self.durable",
        "rests_on >= 0",
        _DISK,
    ),
    Mutant(
        "reply-ignores-term-of-its-step",
        "A reply rests on the last written term, not on the one that this step writes.",
        _OUTBOX,
        "Outbox.promise_term",
        "self._next() if self._hard_dirty else self._hard_write",
        "self._hard_write",
        ("tests/core/test_outbox_stateful.py",),
    ),
    Mutant(
        "reported-write-undoes-truncation",
        "The report of a write counts entries as durable that a later write under way replaces.",
        _OUTBOX,
        "Outbox._settle",
        "write_cap < cap",
        "False",
        ("tests/core/test_outbox_stateful.py",),
    ),
    Mutant(
        "acknowledgement-rests-on-term-only",
        "An acknowledgement does not wait for its entries.",
        _OUTBOX,
        "Outbox.promise_entries",
        "self._promise(to, message, self._next())",
        "self._promise(to, message, self._next() if self._hard_dirty else self._hard_write)",
        _DISK,
    ),
    Mutant(
        "overwritten-entries-count-as-durable",
        "What is about to be overwritten counts as durable (the ABA of asynchronous writes).",
        _OUTBOX,
        "Outbox._write_urgent",
        "cap = Index(self._truncate - 1)",
        "pass",
        _DISK,
    ),
    Mutant(
        "truncated-counts-within-its-step",
        "An entry that replaces a durable one is applied before it is written.",
        _OUTBOX,
        "Outbox.truncate",
        "self.durable_index = self.written_last",
        "pass",
        _DISK,
    ),
    Mutant(
        "truncation-not-written",
        "The disk is not told that entries are gone.",
        _OUTBOX,
        "Outbox.truncate",
        "self._truncate = first if not self._truncate or first < self._truncate else self._truncate",
        "pass",
        _DISK,
    ),
    Mutant(
        "applies-before-durable",
        "Committed entries are applied before this node has them on disk.",
        "raft_core/apply.py",
        "ApplyPipeline.order",
        "commit if commit < outbox.durable_index else outbox.durable_index",
        "commit",
        _DISK,
    ),
    # The log on disk.
    Mutant(
        "damage-taken-for-a-torn-tail",
        "A wrong checksum cuts the log instead of raising.",
        "raft_core/wal/reader.py",
        "WalReader._take",
        """
        self._damaged(self._offset, 'all of a batch was written, but its checksum is wrong')
        return 0
        """,
        """
        self._torn = self._dirty = True
        return size
        """,
        _WAL,
    ),
    Mutant(
        "checksum-not-checked",
        "The checksum of a batch is not compared.",
        "raft_core/wal/blocks.py",
        "content_of",
        """
        if zlib.crc32(blocks) != head.checksum:
            return None
        """,
        "",
        _WAL,
    ),
    Mutant(
        "batch-in-another-place",
        "A batch is believed wherever it stands.",
        "raft_core/wal/reader.py",
        "WalReader._head",
        "head is None or head.at != Position(self._sequence, self._offset) or head.synced > head.at",
        "head is None",
        _WAL,
    ),
    Mutant(
        "never-synced",
        "The journal is written and never synced.",
        "raft_storage/file_store.py",
        "FileStore._append",
        "self._file.sync()",
        "",
        _STORE,
    ),
    Mutant(
        "directory-not-synced",
        "A new segment's name is not made durable.",
        "raft_storage/file_store.py",
        "FileStore._create_segment",
        "self._files.sync_directory()",
        "",
        ("tests/testing/test_crash_disk.py", _FIRE),
    ),
    Mutant(
        "full-disk-eats-what-is-freed",
        "A segment for which there was no room is left behind, by every restart another one.",
        "raft_storage/file_store.py",
        "FileStore._create_segment",
        "discard(self._files, name)",
        "",
        ("tests/storage/test_full_disk.py",),
    ),
    Mutant(
        "next-segment-not-prepared",
        "The zeros of a new segment are written inside the write that begins it.",
        "raft_storage/file_store.py",
        "FileStore._append",
        "self._next.prepare()",
        "pass",
        ("tests/storage/test_next_segment.py",),
    ),
    Mutant(
        "snapshot-takes-the-engines-room",
        "A snapshot that is being written fills the disk, and the engine's next commit ends the node.",
        "raft_storage/engine_store.py",
        "EngineStore._commit",
        "self._shelf.make_way_below(RESERVE // 2)",
        "",
        ("tests/storage/test_snapshot_room.py",),
    ),
    Mutant(
        "segment-dropped-too-early",
        "A segment goes as soon as its first entry is not needed any more.",
        "raft_storage/file_store.py",
        "FileStore._drop_segments",
        "self._kept[1]",
        "self._kept[0]",
        ("tests/testing/test_crash_disk.py",),
    ),
    Mutant(
        "tail-trusted-from-page-cache",
        "What stands behind the last proven place is kept as it was read, and not written again.",
        "raft_core/wal/recovery.py",
        "_replay",
        "record.at >= head.proven",
        "record.at > 1 << 40",
        ("tests/testing/test_crash_disk.py",),
    ),
    Mutant(
        "finished-part-not-checked",
        "A snapshot counts as finished in a file that an interrupted writing had left longer: nobody can read it.",
        "raft_storage/snapshot_store.py",
        "SnapshotStore.finish",
        "self._check_finished(name)",
        "",
        ("tests/storage/test_file_store.py",),
    ),
    Mutant(
        "salvage-needs-a-writable-disk",
        "What is only read is opened for writing: a disk that was remounted read-only cannot be salvaged.",
        "raft_storage/quorum_loss.py",
        "Survivor.__init__",
        "PosixFiles(place, read_only=True)",
        "PosixFiles(place)",
        ("tests/storage/test_quorum_loss.py",),
    ),
    Mutant(
        "failed-close-keeps-the-lock",
        "A file that cannot be closed keeps the directory locked.",
        "raft_storage/file_store.py",
        "FileStore.close",
        """
        try:
            ...
        finally:
            self._files.close()
        """,
        """
        try:
            ...
        except LockHeld:
            raise
        self._files.close()
        """,
        ("tests/storage/test_file_store.py",),
    ),
    Mutant(
        "restored-in-the-loop",
        "A machine is restored in the event loop, which for seconds neither sends nor answers heartbeats.",
        "raft_core/node/job_runner.py",
        "JobRunner._blocks",
        "type(job) is Restore",
        "False",
        ("tests/storage/test_workers.py",),
    ),
    Mutant(
        "applied-beside-a-restore",
        "While a thread restores the machine, the loop goes on applying to it.",
        "raft_storage/workers.py",
        "_InlineLane.run",
        """
        try:
            events += self.back.get_nowait()
        except Empty:
            return events
        """,
        """
        try:
            events += self.back.get_nowait()
        except Empty:
            pass
        """,
        ("tests/storage/test_workers.py",),
    ),
    Mutant(
        "damage-passed-over-in-an-anchored-segment",
        "A damaged segment is passed over although the anchor names it: what it held was acknowledged.",
        "raft_core/wal/recovery.py",
        "_read_head",
        "number > anchor.synced.segment",
        "number >= anchor.synced.segment",
        ("tests/wal/test_recovery.py",),
    ),
    Mutant(
        "damage-passed-over-in-a-continued-segment",
        "A damaged segment is passed over although it was continued, because the anchor was put back.",
        "raft_core/wal/recovery.py",
        "_read_head",
        "number > anchor.synced.segment and (not was_continued(number, data))",
        "number > anchor.synced.segment",
        ("tests/wal/test_recovery.py",),
    ),
    Mutant(
        "superfluous-deleted-too-early",
        "A segment that a later one repeats is deleted before that later one is known to be on the medium.",
        "raft_core/wal/recovery.py",
        "_rubbish",
        "number > head",
        "number != head",
        ("tests/wal/test_recovery.py", "tests/testing/test_crash_disk.py"),
    ),
    Mutant(
        "goes-on-after-a-failed-sync",
        "After a failed sync the store acknowledges again.",
        "raft_storage/disk_store.py",
        "DiskStore._breaking",
        """
        self._failure = str(failure)
        raise StorageBroken(...) from failure
        """,
        "raise StorageBroken(...) from failure",
        _STORE,
    ),
    # The host, its workers, and sessions.
    Mutant(
        "one-round-is-enough",
        "A founder that has met all others writes: with a disk that is replaced meanwhile, two clusters form.",
        "raft_core/node/bootstrap.py",
        "Bootstrap._meet_founder",
        "other.founding == self.founding",
        "other.founding",
        ("tests/node/test_bootstrap.py", "tests/node/test_node_cluster.py"),
    ),
    Mutant(
        "goes-back-to-a-replaced-disk",
        "A founder plans with one disk and with another, of two that run under one number, for ever and without a word.",
        "raft_core/node/bootstrap.py",
        "Bootstrap._meet_founder",
        "(node, disk) in self._replaced or len(self._replaced) >= _MOST_REPLACED",
        "len(self._replaced) >= _MOST_REPLACED",
        ("tests/node/test_bootstrap.py",),
    ),
    Mutant(
        "counts-what-was-said-before-it-changed-its-plan",
        "Two founders that cross write different entries, because each counts what the other said before.",
        "raft_core/node/bootstrap.py",
        "Bootstrap._meet_founder",
        "self.founding != before",
        "self.founding != before and len({other.sender for other in standing}) < 2",
        ("tests/node/test_bootstrap.py",),
    ),
    Mutant(
        "counts-greetings-that-waited-at-the-door",
        "A founder counts what was said on connections that others opened, perhaps before its plan changed.",
        "raft_core/node/peer_table.py",
        "PeerTable.standing_greetings",
        "self._dialled.values()",
        "(*self._dialled.values(), *self._accepted.values())",
        ("tests/node/test_peers.py",),
    ),
    Mutant(
        "believed-before-it-is-judged",
        "A node of another founding takes the place of the one whose number it has: it is dialled instead.",
        "raft_core/node/handshake.py",
        "Handshake.on_greeted",
        "judgement = self.bootstrap.judge(hello, self._peers.table.standing_greetings())",
        """
        self._peers.welcome(connection, hello)
        judgement = self.bootstrap.judge(hello, self._peers.table.standing_greetings())
        """,
        ("tests/node/test_decisions.py",),
    ),
    Mutant(
        "greeted-before-founding-is-enough",
        "A node that has formed tells those whom it met before nothing of how it was founded.",
        "raft_core/node/handshake.py",
        "Handshake._greet_anew",
        "self._peers.greet_anew(why)",
        "",
        ("tests/node/test_node_cluster.py", "tests/node/test_decisions.py"),
    ),
    Mutant(
        "everywhere-is-an-address",
        "A node that listens on every interface tells that as its address, and whoever dials it reaches itself.",
        "raft_core/node/config.py",
        "NodeConfig.node_limits",
        "'' if is_everywhere(listening_at) else listening_at",
        "listening_at",
        ("tests/node/test_config.py",),
    ),
    Mutant(
        "damaged-snapshot-is-called-gone",
        "A node that finds its snapshot damaged when another asks for it says that it is gone, and lives on.",
        "raft_core/node/job_runner.py",
        "JobRunner._read_chunk",
        "(StorageBroken, LogDamaged)",
        "StorageBroken",
        ("tests/regressions/test_review_findings.py",),
    ),
    Mutant(
        "slow-pieces-asked-for-again-and-again",
        "Pieces of a snapshot that take longer than the time to wait are all sent several times.",
        "raft_core/node/snapshot_transfer.py",
        "Receiving.on_stored",
        "self._bounded(_STEPS * (self.now - incoming.last_progress))",
        "self._config.pull_timeout",
        ("tests/node/test_snapshot_transfer.py",),
    ),
    Mutant(
        "slow-is-taken-for-dead",
        "A connection is closed because pings wait behind an entry that takes long, which is then sent again for ever.",
        "raft_core/node/peers.py",
        "Peers.on_tick",
        "connection.peer in self._accepted",
        "False",
        ("tests/node/test_peers.py", "tests/node/test_node_cluster.py"),
    ),
    Mutant(
        "broken-store-lives-on",
        "A node whose store broke while it fetched a snapshot lives on, and refuses every snapshot.",
        "raft_core/node/job_runner.py",
        "_broken",
        "Lane.WRITE",
        "Lane.CHUNKS",
        _HOST,
    ),
    Mutant(
        "failed-write-reported-as-done",
        "An exception of the disk is swallowed.",
        "raft_core/node/job_runner.py",
        "JobRunner._write",
        """
        try:
            self._store.write(batch)
        except Exception as failure:
            return JobFailed(Lane.WRITE, _disk_error(failure))
        """,
        """
        try:
            self._store.write(batch)
        except Exception:
            pass
        """,
        _HOST,
    ),
    Mutant(
        "poisonous-entry-skipped",
        "An exception in apply skips the entry.",
        "raft_core/node/job_runner.py",
        "JobRunner._apply",
        "return JobFailed(Lane.APPLY, broken_apply(self._machine, index, command, failure))",
        "result = b''",
        _HOST,
    ),
    Mutant(
        "truncated-means-refused",
        "A truncated proposal is reported as certainly not carried out.",
        "raft_core/pending.py",
        "PendingProposals.truncated_from",
        "Indeterminate(UnknownReason.TRUNCATED)",
        "Refusal(RefusalReason.SUPERSEDED)",
        _CLIENTS,
    ),
    Mutant(
        "lost-forward-means-refused",
        "A forwarded request whose connection broke is sent again.",
        "raft_core/node/requests.py",
        "RequestBook.on_lost",
        "self._answer(item, Indeterminate(UnknownReason.FORWARD_LOST))",
        "self._hold(item, NO_NODE)",
        _CLIENTS,
    ),
    Mutant(
        "retry-applied-again",
        "A repeated command of a session is applied again.",
        "raft_core/sessions.py",
        "Sessions._apply_once",
        """
        if known is not None:
            return known
        """,
        "",
        _SESSIONS,
    ),
    Mutant(
        "expired-session-made-anew",
        "A command of an ended session is applied.",
        "raft_core/sessions.py",
        "Sessions._apply_once",
        """
        if session is None or session.last_used < self._now - self._limits.lifetime:
            return _EXPIRED
        """,
        """
        if session is None:
            session = Session(self._now, lowest, {}, self._moment)
        """,
        _SESSIONS,
    ),
    Mutant(
        "ended-session-used-until-freed",
        "A session that has ended is used until its memory is freed, which replicas may do at different entries.",
        "raft_core/sessions.py",
        "Sessions._apply_once",
        "session is None or session.last_used < self._now - self._limits.lifetime",
        "session is None",
        ("tests/core/test_sessions_stateful.py",),
    ),
    # The wire.
    Mutant(
        "frame-checksum-not-checked",
        "The checksum of a frame's payload is not compared.",
        "raft_core/wire/frames.py",
        "FrameReader.feed",
        "_crc32(payload) != self._crc",
        "False",
        _WIRE,
    ),
    Mutant(
        "frame-length-not-limited",
        "A stranger's frame may be of any length.",
        "raft_core/wire/frames.py",
        "FrameReader._read_header",
        "length > self._limit",
        "False",
        _WIRE,
    ),
    # Found by planting, in places where nothing looked.
    Mutant(
        "install-old-log-counts-durable",
        "A follower acknowledges its old log while it switches to a snapshot that replaces it.",
        "raft_core/snapshots.py",
        "Snapshots.install",
        "self.outbox.switch(meta, discard=True, cap=cap)",
        "self.outbox.switch(meta, discard=True, cap=meta.index)",
        (
            "tests/testing/test_simulator_checks.py::test_a_log_that_is_replaced_by_a_snapshot_as_it_must_be_is_no_violation",
        ),
    ),
    Mutant(
        "restore-before-switch-durable",
        "The machine is set to a snapshot that the disk has not switched to.",
        "raft_core/snapshots.py",
        "Snapshots.restore_if_durable",
        "self.installing is not None and self.installing[0] <= self.outbox.durable and (not self.pipeline.restoring)",
        "self.installing is not None and (not self.pipeline.restoring)",
        (
            "tests/testing/test_simulator_checks.py::test_a_log_that_is_replaced_by_a_snapshot_as_it_must_be_is_no_violation",
        ),
    ),
    Mutant(
        "repeated-chunk-appended",
        "A piece of a snapshot that comes twice is appended twice.",
        "raft_core/node/job_runner.py",
        "JobRunner._store_chunk",
        "writer.offset == job.offset",
        "writer.offset >= job.offset",
        ("tests/node/test_job_runner.py",),
    ),
    # Planted from outside, and missed.
    Mutant(
        "heartbeat-verifies-whole-log",
        "A heartbeat counts a follower's log as verified up to its end, not up to the place that it names.",
        _FOLLOWER,
        "Follower._on_heartbeat",
        """
        if prev > self.verified:
            self.verified = prev
        """,
        "self.verified = log.last_index",
        (_VALIDATION,),
    ),
    Mutant(
        "order-of-another-node-obeyed",
        "A follower of one leader stands on the order of another node.",
        _FOLLOWER,
        "Follower.on_timeout_now",
        """
        if self.leader not in (NO_NODE, request.sender):
            return None
        """,
        "",
        (_VALIDATION,),
    ),
    Mutant(
        "order-of-a-stranger-obeyed",
        "A follower without a leader stands on the order of a node that is no member.",
        _FOLLOWER,
        "Follower.on_timeout_now",
        "self.leader == NO_NODE and (not self.server.knows(request.sender))",
        "False",
        (_VALIDATION,),
    ),
    Mutant(
        "overtaken-snapshot-believed",
        "A snapshot of this node's own is believed although one from the leader has overtaken it.",
        "raft_core/snapshots.py",
        "Snapshots.on_taken",
        "meta.index != self.pending",
        "False",
        (_VALIDATION,),
    ),
    Mutant(
        "snapshot-complete-by-index",
        "A received snapshot is taken for the wanted one because it has the same index.",
        _FOLLOWER,
        "Follower.on_snapshot_received",
        "server.snapshots.receiving.meta != meta",
        "server.snapshots.receiving.meta.index != meta.index",
        (_VALIDATION,),
    ),
    Mutant(
        "received-chunks-of-another-snapshot",
        "The host takes a stored snapshot of the same index for the one that it is receiving.",
        "raft_core/node/snapshot_transfer.py",
        "Receiving._of",
        "incoming.meta == meta",
        "incoming.meta.index == meta.index",
        ("tests/node/test_transfer_of_another_snapshot.py",),
    ),
    Mutant(
        "offer-of-later-term-taken",
        "A snapshot of a later term than its leader's is fetched and installed.",
        "raft_core/validation.py",
        "_malformed_offer",
        "meta.term > offer.term",
        "False",
        (_VALIDATION,),
    ),
    Mutant(
        "any-term-believed",
        "One message may use up the range of terms.",
        "raft_core/validation.py",
        "term_in_reach",
        "theirs <= ours + (TERM_LEAP if theirs <= FAR_TERM else TERM_STEP)",
        "True",
        (_VALIDATION,),
    ),
    Mutant(
        "strangers-answer-raises-term",
        "An answer of a node that is no member deposes a leader.",
        "raft_core/validation.py",
        "may_raise_term",
        "known or isinstance(message, RequestVote | AppendEntries | InstallSnapshot)",
        "True",
        (_VALIDATION,),
    ),
    Mutant(
        "lease-by-own-timeout",
        "A lease lasts as long as the leader's own election timeout, whatever the voters promise.",
        "raft_core/roles/read_index.py",
        "Reading._lends",
        "min(peer.lease_promised // settings.tick_nanoseconds, settings.election_ticks)",
        "settings.election_ticks",
        (_UNLIKE,),
    ),
    Mutant(
        "promise-forgotten-by-restart",
        "A voter that was restarted with a shorter election timeout breaks what it promised before.",
        _SERVER,
        "Server.__init__",
        "max(settings.election_ticks, longest)",
        "settings.election_ticks",
        (_UNLIKE,),
    ),
    Mutant(
        "promise-shortened-by-heartbeat",
        "The first heartbeat after a restart ends what a voter may have promised before it.",
        _FOLLOWER,
        "Follower._hear",
        "server.loyalty < server.loyal_ticks",
        "True",
        (_READING,),
    ),
    Mutant(
        "late-tick-shortens-promise",
        "A tick that was due before the leader was heard counts against what was promised then.",
        _SERVER,
        "Server.__init__",
        "settings.election_ticks + 2",
        "settings.election_ticks + 1",
        (_READING,),
    ),
    Mutant(
        "half-done-change-refused",
        "A change whose joint configuration is committed is told that it was not carried out.",
        "raft_core/pending.py",
        "PendingProposals.truncated_from",
        "at <= committed and (not waiting.half_done)",
        "at <= committed",
        (_READING,),
    ),
    Mutant(
        "leader-syncs-in-its-loop",
        "A leader's loop syncs itself, and a disk that hangs costs an election.",
        "raft_core/node/core.py",
        "NodeCore._on_effect",
        "not self._leads",
        "self._leads",
        ("tests/node/test_sync_patience.py",),
    ),
    Mutant(
        "loop-overtakes-its-thread",
        "The loop writes while earlier writes are with the thread.",
        "raft_storage/short_wait.py",
        "ShortWait.inline",
        "not self._jobs",
        "True",
        ("tests/storage/test_inline_sync.py",),
    ),
    Mutant(
        "late-loop-reads-by-lease",
        "A loop that is late by less than two ticks answers another node's read before it has counted them.",
        "raft_core/node/ticks.py",
        "Ticks.due",
        "self._length",
        "2 * self._length",
        (_UNLIKE,),
    ),
    Mutant(
        "joint-left-during-transfer",
        "A joint configuration is left while a transfer is under way, and the target lacks that entry.",
        _LEADER,
        "Leader._commit_to",
        "self.succession.handover is None",
        "True",
        ("tests/core/test_transfer_quiet.py",),
    ),
    Mutant(
        "leaving-leader-refuses-clients-of-others",
        "What a leader refuses because it hands over or stops is refused to the client, not sent to the next leader.",
        "raft_core/node/retries.py",
        "may_ask_again",
        "reason in _NOT_LEADER or (reason in _LEAVING and type(request) is not TransferLeadership)",
        "reason in _NOT_LEADER",
        ("tests/node/test_forwards.py",),
    ),
    Mutant(
        "stops-with-requests-open",
        "A node that is asked to stop ends while requests that it passed on are open.",
        "raft_core/node/leaving.py",
        "Leaving._drained",
        "now >= self._linger_until and (not self._clients.count) and (not self._peers.table.answering)",
        "now >= self._linger_until and (not self._peers.table.answering)",
        ("tests/node/test_leaving.py",),
    ),
    Mutant(
        "vanished-leader-need-not-prove-that-it-lives",
        "What was passed on to a leader whose machine vanished waits for long although another node leads.",
        "raft_core/node/forwards.py",
        "Forwards.on_leader",
        "self._peers.prove(connection)",
        "pass",
        ("tests/node/test_forwards.py",),
    ),
    Mutant(
        "any-number-of-strangers-is-remembered",
        "Every number that a stranger makes up is remembered until it has been gone for a minute.",
        "raft_core/node/strangers.py",
        "RoguePeers.met",
        "len(self._met) >= MOST",
        "False",
        ("tests/node/test_strangers.py",),
    ),
    # Stores on a database engine.
    Mutant(
        "mark-before-commit",
        "The mark names a write before the database has it.",
        "raft_storage/engine_store.py",
        "EngineStore._commit",
        """
        checkpoint = self._engine.commit([(STATE, seal_state(state)), (newest.number, row)], drop)
        self._at = newest
        self._mark.put(newest)
        """,
        """
        self._mark.put(newest)
        checkpoint = self._engine.commit([(STATE, seal_state(state)), (newest.number, row)], drop)
        self._at = newest
        """,
        _SQLITE,
    ),
    Mutant(
        "mark-never-written",
        "Nothing outside the database tells how far it has to reach.",
        "raft_storage/engine_store.py",
        "EngineStore._commit",
        "self._mark.put(newest)",
        "",
        _ENGINES,
    ),
    Mutant(
        "opening-commits-nothing",
        "What was read at opening is taken for durable, and the number of the opening does not rise.",
        "raft_storage/engine_store.py",
        "EngineStore._begin",
        "self._commit([])",
        "",
        _ENGINES,
    ),
    Mutant(
        "row-dropped-too-early",
        "A row goes as soon as its first entry is not needed any more.",
        "raft_storage/engine_store.py",
        "EngineStore._droppable",
        "self._before[place + 1]",
        "self._before[place]",
        _ENGINES,
    ),
    Mutant(
        "failed-commit-goes-on",
        "After a failed commit the store takes the next write.",
        "raft_storage/disk_store.py",
        "DiskStore._breaking",
        """
        self._failure = str(failure)
        raise StorageBroken(...) from failure
        """,
        "raise StorageBroken(...) from failure",
        _ENGINES,
    ),
    Mutant(
        "rows-need-no-chain",
        "A row is believed behind any other one.",
        "raft_storage/rows.py",
        "_Reader.read",
        "before != self.last.chain or next_before != self.image.next",
        "next_before != self.image.next",
        _ENGINES,
    ),
    Mutant(
        "shorter-database-believed",
        "A database that ends before what was acknowledged is taken for a shorter one.",
        "raft_storage/rows.py",
        "_Reader.finish",
        """
        if reached.number < self.mark.number:
            raise LogLost(...)
        """,
        """
        if reached.number < 0:
            raise LogLost(...)
        """,
        _ENGINES,
    ),
    Mutant(
        "sqlite-synced-at-checkpoints-only",
        "SQLite runs with synchronous=NORMAL, which does not sync a commit.",
        "raft_storage/sqlite_store.py",
        "SETTINGS",
        "2",
        "1",
        _SQLITE,
    ),
    Mutant(
        "sqlite-log-believed",
        "A bad frame is the end of SQLite's log, whatever follows.",
        "raft_storage/sqlite_store.py",
        "SqliteEngine._examine",
        "damage is not None",
        "False",
        _SQLITE,
    ),
    Mutant(
        "torn-log-refused",
        "A frame that a power loss tore is taken for the end of a transaction.",
        "raft_storage/sqlite_wal.py",
        "_goes_on",
        "found[1] != 0 and start % _SECTOR + _TOLD <= _SECTOR",
        "found[1] != 0",
        _SQLITE,
    ),
    Mutant(
        "rocksdb-not-synced",
        "RocksDB writes its log without a sync.",
        "raft_storage/rocks_store.py",
        "RocksEngine.__init__",
        "self._sync.sync = True",
        "self._sync.sync = False",
        _ROCKS,
    ),
    Mutant(
        "rocksdb-log-believed",
        "Where RocksDB stops reading its log is taken for the end of it.",
        "raft_storage/rocks_store.py",
        "RocksEngine.rows",
        "last < self._logged - 1",
        "last < 0",
        _ROCKS,
    ),
    Mutant(
        "mdbx-syncs-no-meta-page",
        "MDBX does not sync its meta pages.",
        "raft_storage/mdbx_store.py",
        "",
        "_NOSUBDIR | _EXCLUSIVE | _VALIDATION",
        "_NOSUBDIR | _EXCLUSIVE | _VALIDATION | 262144",
        ("tests/storage/test_mdbx_store.py", "tests/storage/test_power_loss.py"),
    ),
    Mutant(
        "moved-node-counts-openings-anew",
        "After a move ids are made that were made before it.",
        "raft_storage/migration.py",
        "_build",
        "_raise_boot(writing, identity, recovered.boot)",
        "",
        _MIGRATION,
    ),
    Mutant(
        "source-of-a-move-not-marked",
        "After a move both directories can be started.",
        "raft_storage/migration.py",
        "_take_place",
        "replace_file(files, MOVED, f'{target.kind}:{place}\\n'.encode())",
        "",
        _MIGRATION,
    ),
    Mutant(
        "backup-of-an-older-snapshot",
        "A backup lacks writes that were answered before it was requested.",
        "raft_core/node/backups.py",
        "Backups.look",
        "newest is not None and newest.index >= wanted",
        "newest is not None",
        ("tests/node/test_backups.py",),
    ),
    Mutant(
        "backup-of-a-snapshot-not-in-force",
        "After a crash the same index and term stand for other bytes, and a continued backup is made of both.",
        "raft_core/node/backups.py",
        "Backups.look",
        "server.snapshots.to_offer",
        "server.snapshots.newest",
        ("tests/node/test_backups.py",),
    ),
    Mutant(
        "piece-of-a-backup-fits-any-place",
        "Blocks of a backup in another order are accepted.",
        "raft_core/backup_format.py",
        "BackupHeader._digest",
        "_NUMBER.pack(number)",
        "_NUMBER.pack(0)",
        ("tests/core/test_backup_format.py",),
    ),
    Mutant(
        "snapshot-on-request-although-there-is-one",
        "Every backup of an idle cluster writes the whole state anew.",
        "raft_core/snapshots.py",
        "Snapshots.on_requested",
        "self.pipeline.applying > covered",
        "self.pipeline.applying >= covered",
        ("tests/rules/test_snapshots.py",),
    ),
    Mutant(
        "configuration-with-a-feature-it-lacks-taken",
        "A node acknowledges entries that it cannot apply.",
        "raft_core/validation.py",
        "_wrong_members",
        "enabled and not set(enabled).issubset(features)",
        "False",
        (_FEATURES,),
    ),
    Mutant(
        "snapshot-with-a-feature-it-lacks-taken",
        "A node installs a state that it cannot go on from.",
        "raft_core/validation.py",
        "_malformed_offer",
        "not set(meta.members.features).issubset(features)",
        "False",
        (_FEATURES,),
    ),
    Mutant(
        "feature-used-before-its-commit",
        "Another leader's log may lack the entry that enables the feature, and hold a command that needs it.",
        "raft_core/server.py",
        "Server.features",
        "self.configurations.at(self.commit)[1].features",
        "self.members.features",
        (_FEATURES,),
    ),
    Mutant(
        "features-lost-by-the-next-change",
        "A feature is forgotten when another one is enabled.",
        "raft_core/membership.py",
        "Members.enabling",
        "(*self.features, *new)",
        "new",
        (_FEATURES,),
    ),
    Mutant(
        "old-member-asked-for-nothing",
        "A feature is enabled although a member runs an older release.",
        "raft_core/node/features.py",
        "_judged",
        "missing_features(required, features)",
        "()",
        ("tests/node/test_features.py",),
    ),
    Mutant(
        "absent-member-asked-for-nothing",
        "A feature is enabled although it is not known what a member can do.",
        "raft_core/node/features.py",
        "_judged",
        "features is None",
        "False",
        ("tests/node/test_features.py",),
    ),
    Mutant(
        "connected-node-without-the-feature-kept",
        "A node that greeted before the feature was enabled stays connected without it.",
        "raft_core/node/features.py",
        "refuse_lacking",
        "missing_features(features, greeting.features)",
        "()",
        ("tests/node/test_features.py",),
    ),
    Mutant(
        "founders-enable-what-one-lacks",
        "A new cluster begins with a feature that one of its founders does not have.",
        "raft_core/node/bootstrap.py",
        "Bootstrap._plan",
        "set(self._settings.features).intersection(*self._features.values())",
        "set(self._settings.features)",
        ("tests/node/test_bootstrap.py",),
    ),
    Mutant(
        "greeting-without-the-feature-welcome",
        "A node of an older release is greeted by a cluster that uses what it lacks.",
        "raft_core/wire/handshake.py",
        "Link._problem_of",
        "missing_features(self._required, hello.features)",
        "()",
        ("tests/wire/test_handshake.py",),
    ),
)
