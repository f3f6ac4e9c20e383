"""The mutants: mistakes that implementations of Raft were really shipped with, as replacements of text.

What lives here: data. `old` must stand in `file` exactly once; `tests` are the smallest sensible set that must notice.
The first line of most comes from a bug report of another project; see the rules tests for the sources.
"""

# ruff: noqa: E501 - the replaced lines stand as they are in the code

from __future__ import annotations

from typing import Final, final

import attrs

__all__ = ["MUTANTS", "Mutant"]


@final
@attrs.frozen
class Mutant:
    """One mistake: in `file`, `old` becomes `new`. `mistake` says what somebody once got wrong."""

    name: str
    mistake: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_FIRE: Final = "tests/test_simulator.py::test_clusters_under_fire_keep_every_promise"
_VOTES: Final = ("tests/test_rules_01_votes.py", "tests/test_paper_section_5.py", "tests/test_core_raft.py", _FIRE)
_LOYALTY: Final = ("tests/test_rules_02_loyalty.py", "tests/test_paper_section_5.py", "tests/test_core_raft.py", _FIRE)
_COMMIT: Final = ("tests/test_rules_03_commit.py", "tests/test_paper_section_5.py", "tests/test_core_raft.py", _FIRE)
_APPEND: Final = ("tests/test_rules_04_appending.py", "tests/test_paper_section_5.py", "tests/test_core_raft.py", _FIRE)
_FLOW: Final = ("tests/test_core_progress.py", "tests/test_rules_05_flow.py", _FIRE)
_SNAPSHOT: Final = (
    "tests/test_found_by_fire.py",
    "tests/test_rules_06_snapshots.py",
    "tests/test_paper_sections_6_and_7.py",
    _FIRE,
)
_READS: Final = ("tests/test_core_reads.py", "tests/test_rules_07_reads.py", "tests/test_paper_section_8.py", _FIRE)
_LEASES: Final = ("tests/test_rules_08_leases.py", *_READS)
_MEMBERS: Final = (
    "tests/test_core_membership.py",
    "tests/test_core_configurations.py",
    "tests/test_rules_09_membership.py",
    "tests/test_paper_sections_6_and_7.py",
    _FIRE,
)
_DISK: Final = ("tests/test_core_outbox.py", "tests/test_found_by_fire.py", "tests/test_rules_10_to_12.py", _FIRE)
_REMOVAL: Final = ("tests/test_rules_10_to_12.py", "tests/test_rules_09_membership.py", _FIRE)
_QUORUM: Final = ("tests/test_core_quorum.py", _FIRE)
_WAL: Final = ("tests/test_wal_blocks.py", "tests/test_wal_reader.py", "tests/test_wal_recovery.py", _FIRE)
_STORE: Final = ("tests/test_file_store.py", "tests/test_wal_recovery.py", _FIRE)
_CLIENTS: Final = ("tests/test_core_requests.py", "tests/test_host_clients.py", "tests/test_host_cluster.py", _FIRE)
_HOST: Final = ("tests/test_host_work.py", "tests/test_host_decisions.py", "tests/test_host_cluster.py", _FIRE)
_SESSIONS: Final = ("tests/test_sessions.py", _FIRE)
_WIRE: Final = ("tests/test_wire_frames.py", "tests/test_wire_codec.py", "tests/test_wire_link.py", _FIRE)
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
        "            self.vote = request.sender\n            self.outbox.touch_hard()",
        "            pass",
        _VOTES,
    ),
    Mutant(
        "vote-not-written",
        "A vote is recorded in memory only: a restarted node votes twice.",
        _SERVER,
        "            self.vote = request.sender\n            self.outbox.touch_hard()",
        "            self.vote = request.sender",
        _VOTES,
    ),
    Mutant(
        "term-not-written",
        "A new term is kept in memory only.",
        _SERVER,
        "        self.term = term\n        self.vote = vote\n        self.outbox.touch_hard()",
        "        self.term = term\n        self.vote = vote",
        _VOTES,
    ),
    Mutant(
        "vote-for-shorter-log",
        "The log of a candidate is compared by length before term.",
        "raft_core/entries.py",
        "        if self.term != other.term:\n            return self.term > other.term\n        return self.index >= other.index",
        "        if self.index != other.index:\n            return self.index > other.index\n        return self.term >= other.term",
        ("tests/test_core_entries.py", *_VOTES),
    ),
    Mutant(
        "vote-for-any-log",
        "The candidate's log is not looked at.",
        _SERVER,
        "granted = free and request.last.at_least_as_up_to_date_as(self.log.last)",
        "granted = free",
        _VOTES,
    ),
    Mutant(
        "vote-kept-in-new-term",
        "Entering a term does not clear the vote.",
        _SERVER,
        "        self.term = term\n        self.vote = vote\n",
        "        self.term = term\n        self.vote = vote or self.vote\n",
        _VOTES,
    ),
    Mutant(
        "votes-counted-not-collected",
        "Votes of another campaign count.",
        _CANDIDATE,
        "if reply.kind is not self.kind or reply.id != self.id:",
        "if reply.kind is not self.kind:",
        _VOTES,
    ),
    Mutant(
        "vote-of-another-disk",
        "A vote from a wiped disk counts.",
        _CANDIDATE,
        "if reply.incarnation != self.server.members.incarnation_of(reply.sender):",
        "if False:",
        _VOTES,
    ),
    Mutant(
        "own-vote-before-durable",
        "The candidate's own vote counts before it is written.",
        _CANDIDATE,
        "if self.server.me in self.campaign.votes or self.server.outbox.durable < self.own_write:",
        "if self.server.me in self.campaign.votes:",
        ("tests/test_found_by_fire.py", *_VOTES),
    ),
    Mutant(
        "vote-request-does-not-wait",
        "A vote request leaves before term, vote and log are durable.",
        _CANDIDATE,
        "server.outbox.promise_all(voter, request, server.log)",
        "server.outbox.send(voter, request)",
        _VOTES,
    ),
    Mutant(
        "timeout-drawn-once",
        "The election timeout is not random, so two candidates split votes for ever.",
        _SERVER,
        "return base + int(self.rng.random() * base) + patience",
        "return base + patience",
        ("tests/test_core_raft.py", *_VOTES),
    ),
    Mutant(
        "pre-vote-raises-term",
        "A pre-vote request makes its receiver enter the term.",
        "raft_core/raft.py",
        "            return message.kind is VoteKind.PRE\n",
        "            return False\n",
        _LOYALTY,
    ),
    Mutant(
        "disloyal-to-a-living-leader",
        "A follower that hears its leader votes for whoever asks.",
        _FOLLOWER,
        "return server.settings.check_quorum and self.heard and loyal and not self.suspect",
        "return False",
        _LOYALTY,
    ),
    Mutant(
        "old-candidates-unanswered",
        "A vote request of an older term is dropped in silence: its sender stays stuck (the upgrade deadlock).",
        "raft_core/stale.py",
        "        server.refuse_old_vote(message)\n",
        "        pass\n",
        _LOYALTY,
    ),
    Mutant(
        "leader-without-quorum-stays",
        "CheckQuorum never fires (the comparison was inverted, the code dead).",
        _LEADER,
        "if settings.check_quorum and not self._quorum_active():",
        "if settings.check_quorum and self._quorum_active() is None:",
        _LOYALTY,
    ),
    # Commit.
    Mutant(
        "commit-of-an-older-term",
        "Entries of older terms are committed by counting (figure 8).",
        _LEADER,
        "or server.log.term_at(index) != server.term:",
        "or server.log.term_at(index) is None:",
        _COMMIT,
    ),
    Mutant(
        "commit-to-last-index",
        "A follower commits up to its last index instead of the last verified one.",
        _FOLLOWER,
        "server.commit_to(request.commit if request.commit < verified else verified)",
        "server.commit_to(min(request.commit, server.log.last_index))",
        _COMMIT,
    ),
    Mutant(
        "heartbeat-commits-too-much",
        "A heartbeat's commit index is not bounded by what is known to match.",
        _FOLLOWER,
        "server.commit_to(min(request.commit, self.verified))",
        "server.commit_to(min(request.commit or request.tip, server.log.last_index))",
        _COMMIT,
    ),
    Mutant(
        "own-match-before-write",
        "The leader counts its own entries before they are durable.",
        _LEADER,
        "            return self.server.outbox.durable_index\n",
        "            return self.server.log.last_index\n",
        _COMMIT,
    ),
    Mutant(
        "no-empty-entry-at-election",
        "A new leader appends nothing, so that it cannot commit what it inherited.",
        _LEADER,
        "        server.append((Entry.make(server.log.last_index + 1, server.term, algorithm=server.settings.checksum),))\n",
        "",
        _COMMIT,
    ),
    Mutant(
        "majority-of-half",
        "Half of the voters is taken for a majority.",
        "raft_core/quorum.py",
        "2 * sum([agrees(node) for node in voters]) > len(voters)",
        "2 * sum([agrees(node) for node in voters]) >= len(voters)",
        _QUORUM,
    ),
    Mutant(
        "committed-index-off-by-one",
        "The quorum's index is taken one place too high.",
        "raft_core/quorum.py",
        "sorted([acked(node) for node in voters])[(count - 1) // 2]",
        "sorted([acked(node) for node in voters])[count // 2]",
        _QUORUM,
    ),
    Mutant(
        "joint-needs-one-half",
        "A joint configuration commits with the incoming half alone.",
        "raft_core/quorum.py",
        "    return settled if settled < other else other\n",
        "    return settled\n",
        _QUORUM,
    ),
    Mutant(
        "joint-votes-one-half",
        "An election in a joint configuration is won in one half.",
        "raft_core/quorum.py",
        "    if Verdict.LOST in verdicts:\n",
        "    if Verdict.WON in verdicts:\n        return Verdict.WON\n    if Verdict.LOST in verdicts:\n",
        _QUORUM,
    ),
    # Appending.
    Mutant(
        "truncates-what-matches",
        "Every re-delivered append truncates, although the terms match.",
        "raft_core/log.py",
        "            if self.term_at(entry.index) != entry.term:\n                return count\n",
        "            return count\n",
        ("tests/test_core_log.py", *_APPEND),
    ),
    Mutant(
        "goes-on-after-rejecting",
        "After a mismatch the handler goes on, appends and accepts as well.",
        _FOLLOWER,
        "                    self._reject(request)\n                return None\n",
        "                    self._reject(request)\n",
        _APPEND,
    ),
    Mutant(
        "acknowledges-its-last-index",
        "A follower acknowledges its last index instead of what the message verified.",
        _FOLLOWER,
        "                request.read,\n                verified,\n            )\n            server.outbox.promise_entries(request.sender, reply, verified)",
        "                request.read,\n                server.log.last_index,\n            )\n            server.outbox.promise_entries(request.sender, reply, verified)",
        _APPEND,
    ),
    Mutant(
        "committed-entries-contradicted",
        "An append that contradicts what is committed is taken where it overlaps.",
        _FOLLOWER,
        "        if request.entries[place].term != server.log.term_at(commit):\n            self._conflict(request)\n            return\n",
        "",
        _APPEND,
    ),
    Mutant(
        "committed-entries-not-compared",
        "An append that ends at or below the commit index is acknowledged without a look at its end.",
        _FOLLOWER,
        "        if held is not None and held != (request.entries[-1].term if request.entries else request.prev_term):\n",
        "        if False:\n",
        _APPEND,
    ),
    Mutant(
        "older-terms-accepted",
        "Messages of an older term are processed after all.",
        "raft_core/raft.py",
        "            answer_old(server, message)\n            return\n",
        "            answer_old(server, message)\n",
        _APPEND,
    ),
    Mutant(
        "hint-ignores-terms",
        "A rejection's hint is the end of the log, whatever its terms.",
        _FOLLOWER,
        "hint = server.log.last_at_most(request.prev_index, request.prev_term)",
        "hint = server.log.last_at_most(request.prev_index, server.term)",
        _APPEND,
    ),
    # Progress.
    Mutant(
        "stray-rejection-moves-next",
        "A stray rejection moves next down to match or below it.",
        "raft_core/progress.py",
        "        elif at != self.next - 1:\n            return False\n",
        "",
        _FLOW,
    ),
    Mutant(
        "window-without-end",
        "The window of a follower is never full.",
        "raft_core/progress.py",
        "return len(self.inflight) >= self.max_messages or self.inflight_bytes >= self.max_bytes",
        "return False",
        _FLOW,
    ),
    Mutant(
        "full-window-waits-for-ever",
        "A window that is lost as a whole is never asked about.",
        _LEADER,
        "self.replication.empty_append(peer)",
        "pass",
        _FLOW,
    ),
    Mutant(
        "snapshot-sent-again-and-again",
        "A snapshot is offered anew for every message while one is under way.",
        "raft_core/roles/replication.py",
        "            return\n        peer.become_snapshot(meta.index)\n",
        "            return\n",
        _SNAPSHOT,
    ),
    # Snapshots.
    Mutant(
        "snapshot-discards-the-tail",
        "A snapshot whose place the log holds throws the tail away.",
        _FOLLOWER,
        "            if server.log.matches(meta.index, meta.term):\n                server.commit_to(meta.index)\n            else:\n                server.install(meta)",
        "            server.install(meta)",
        _SNAPSHOT,
    ),
    Mutant(
        "snapshot-with-newest-members",
        "A snapshot carries the newest configuration instead of the one at its index.",
        _SERVER,
        "place, members = self.configurations.at(index)",
        "place, members = self.configurations.index, self.members",
        _SNAPSHOT,
    ),
    Mutant(
        "old-snapshot-installed",
        "A snapshot behind the commit index is installed.",
        _FOLLOWER,
        "        if meta.index > server.commit:\n            if server.log.matches",
        "        if meta.index:\n            if server.log.matches",
        _SNAPSHOT,
    ),
    # Reads.
    Mutant(
        "read-joins-the-round-under-way",
        "A read is confirmed by a round that was sent before it was asked.",
        "raft_core/reads.py",
        "        while self.rounds and self.rounds[0].id <= upto:",
        "        while self.rounds and self.rounds[0].id <= upto + 1:",
        _READS,
    ),
    Mutant(
        "read-before-first-commit",
        "A new leader answers reads before it has committed in its term.",
        "raft_core/roles/reading.py",
        "if self.settled and self.queue.wants_round:",
        "if self.queue.wants_round:",
        _READS,
    ),
    Mutant(
        "read-without-a-round",
        "A read needs no majority.",
        "raft_core/roles/reading.py",
        "            if not quorum_reached(self.server.members, self._has_answered(wanted)):\n                return\n",
        "",
        _READS,
    ),
    Mutant(
        "read-before-applied",
        "A read is answered when it is confirmed, not when the machine has come so far.",
        _SERVER,
        "        if index <= self.applied:\n            self.respond(Respond(request, ReadReady(index)))",
        "        if index >= 0:\n            self.respond(Respond(request, ReadReady(index)))",
        _READS,
    ),
    Mutant(
        "lease-survives-handover",
        "The lease is used after the successor was told to stand.",
        _LEADER,
        "            self.reading.lease_spent = True\n",
        "            pass\n",
        _LEASES,
    ),
    # Members.
    Mutant(
        "two-changes-at-once",
        "A second change is taken while the first is uncommitted.",
        "raft_core/roles/reconfiguration.py",
        "        if self.pending:\n            return Refusal(",
        "        if False:\n            return Refusal(",
        _MEMBERS,
    ),
    Mutant(
        "change-before-commit-in-term",
        "A change is taken before an entry of the term is committed (Ongaro 2015).",
        "raft_core/roles/reconfiguration.py",
        "        if not settled:  #",
        "        if False:  #",
        _MEMBERS,
    ),
    Mutant(
        "truncation-keeps-the-members",
        "A truncated configuration stays in force.",
        _SERVER,
        "        self.configurations.truncate_from(index)\n",
        "",
        _MEMBERS,
    ),
    Mutant(
        "joint-never-left",
        "A joint configuration is not left when it is committed.",
        "raft_core/roles/reconfiguration.py",
        "if self.pending or not members.joint or not members.auto_leave:",
        "if self.pending or not members.joint or members.auto_leave:",
        _MEMBERS,
    ),
    Mutant(
        "joint-left-too-early",
        "A joint configuration is left before it is committed.",
        "raft_core/roles/reconfiguration.py",
        "if self.pending or not members.joint or not members.auto_leave:",
        "if not members.joint or not members.auto_leave:",
        _MEMBERS,
    ),
    Mutant(
        "ids-used-again",
        "The id of a removed node is given to a new one.",
        "raft_core/membership.py",
        "                if node <= self.highest_id:\n",
        "                if False:\n",
        _MEMBERS,
    ),
    Mutant(
        "removed-leader-stays",
        "A leader that is no member any more leads on.",
        _LEADER,
        "if arrow is None and not server.members.is_voter(server.me) and not self.change.pending:",
        "if False:",
        _REMOVAL,
    ),
    Mutant(
        "transfer-to-one-that-lags",
        "TimeoutNow is sent to a successor that lacks entries.",
        "raft_core/roles/handover.py",
        "        if self.replication.progress[handover.target].match < server.log.last_index:\n            return\n",
        "",
        _REMOVAL,
    ),
    Mutant(
        "late-no-ends-a-transfer",
        "A refusal of an earlier transfer, which comes late, is taken for an answer to the present one.",
        "raft_core/roles/handover.py",
        "        if handover is None or handover.target != reply.sender or reply.id not in handover.orders:\n",
        "        if handover is None or handover.target != reply.sender:\n",
        _REMOVAL,
    ),
    Mutant(
        "error-never-freed",
        "A value that holds an exception is not tracked by the garbage collector, so that every error a caller is told keeps its frames for ever.",
        "raft_core/host/values.py",
        "class Answer(Value, frozen=True, eq=False, gc=True):",
        "class Answer(Value, frozen=True, eq=False):",
        ("tests/test_values.py",),
    ),
    Mutant(
        "reads-lost-while-forming",
        "A read at a node that has no core yet is handed to nobody, and never answered.",
        "raft_core/host/clients.py",
        "        if forming:\n            for item in reads:",
        "        if False:\n            for item in reads:",
        _CLIENTS,
    ),
    Mutant(
        "confirmed-reads-left-behind",
        "A confirmed read that needs entries of a leader that is gone waits for ever.",
        "raft_core/roles/follower.py",
        "*self.server.reads_beyond_commit()",
        "",
        ("tests/test_rules_07_reads.py",),
    ),
    Mutant(
        "beats-by-turn",
        "Heartbeats are counted by turns of the loop and not by time, so that a leader whose loop turns slowly is deposed.",
        _LEADER,
        "self.beat_ticks += elapsed",
        "self.beat_ticks += 1",
        ("tests/test_regressions.py",),
    ),
    Mutant(
        "lease-survives-a-short-transfer",
        "A transfer that is given up in the tick of its order leaves the lease as it was.",
        _LEADER,
        "        self._spend_lease()  # at once: the transfer may end in this very tick, its order is obeyed all the same\n",
        "",
        ("tests/test_rules_08_leases.py",),
    ),
    Mutant(
        "no-room-for-the-past",
        "A full follower keeps out what its leader held before its office, so that nothing is ever committed again.",
        "raft_core/roles/follower.py",
        " and (entry.term == server.term or entry.index <= committed)",
        "",
        ("tests/test_rules_13_to_15.py",),
    ),
    Mutant(
        "batch-not-counted",
        "What a batch has added already does not count against the limit of what is uncommitted.",
        _LEADER,
        "                uncommitted += size\n",
        "",
        ("tests/test_found_by_fire.py", _FIRE),
    ),
    # Promises and the disk.
    Mutant(
        "promises-leave-at-once",
        "Replies leave before the write they rest on.",
        _OUTBOX,
        "        if rests_on <= self.durable:\n            self.effects.append(Send(to, message))",
        "        if rests_on >= 0:\n            self.effects.append(Send(to, message))",
        _DISK,
    ),
    Mutant(
        "acknowledgement-rests-on-term-only",
        "An acknowledgement does not wait for its entries.",
        _OUTBOX,
        "self._promise(to, message, holder if holder > rests_on else rests_on)",
        "self._promise(to, message, rests_on)",
        _DISK,
    ),
    Mutant(
        "overwritten-entries-count-as-durable",
        "What is about to be overwritten counts as durable (the ABA of asynchronous writes).",
        _OUTBOX,
        "            cap = Index(self._truncate - 1) if self._truncate else INFINITE\n",
        "            cap = INFINITE\n",
        _DISK,
    ),
    Mutant(
        "truncated-counts-within-its-step",
        "An entry that replaces a durable one is applied before it is written.",
        _OUTBOX,
        "                self.durable_index = self.written_last  # at once: the step that truncates may also commit\n",
        "                pass\n",
        _DISK,
    ),
    Mutant(
        "truncation-not-written",
        "The disk is not told that entries are gone.",
        _OUTBOX,
        "            self._truncate = first if not self._truncate or first < self._truncate else self._truncate\n",
        "            pass\n",
        _DISK,
    ),
    Mutant(
        "applies-before-durable",
        "Committed entries are applied before this node has them on disk.",
        _SERVER,
        "limit = self.commit if self.commit < outbox.durable_index else outbox.durable_index",
        "limit = self.commit",
        _DISK,
    ),
    # The log on disk.
    Mutant(
        "damage-taken-for-a-torn-tail",
        "A wrong checksum cuts the log instead of raising.",
        "raft_core/wal/reader.py",
        '            self._damaged(self._offset, "all of a batch was written, but its checksum is wrong")\n            return 0\n',
        "            self._torn = self._dirty = True\n            return size\n",
        _WAL,
    ),
    Mutant(
        "checksum-not-checked",
        "The checksum of a batch is not compared.",
        "raft_core/wal/blocks.py",
        "    if zlib.crc32(content) != head.checksum:\n        return None\n",
        "",
        _WAL,
    ),
    Mutant(
        "batch-in-another-place",
        "A batch is believed wherever it stands.",
        "raft_core/wal/reader.py",
        "if head is None or head.at != Position(self._sequence, self._offset) or head.synced > head.at:",
        "if head is None:",
        _WAL,
    ),
    Mutant(
        "never-synced",
        "The journal is written and never synced.",
        "raft_storage/file_store.py",
        "        write_whole(self._file, self._at.offset, framed)\n        self._file.sync()\n",
        "        write_whole(self._file, self._at.offset, framed)\n",
        _STORE,
    ),
    Mutant(
        "directory-not-synced",
        "A new segment's name is not made durable.",
        "raft_storage/file_store.py",
        "            file.sync()\n            self._files.sync_directory()\n        except",
        "            file.sync()\n        except",
        ("tests/test_crash_disk.py", _FIRE),
    ),
    Mutant(
        "full-disk-eats-what-is-freed",
        "A segment for which there was no room is left behind, by every restart another one.",
        "raft_storage/file_store.py",
        "                discard(self._files, file.name)\n",
        "",
        ("tests/test_full_disk.py",),
    ),
    Mutant(
        "salvage-needs-a-writable-disk",
        "What is only read is opened for writing: a disk that was remounted read-only cannot be salvaged.",
        "raft_storage/salvage.py",
        "OperatingFiles(place, read_only=True)",
        "OperatingFiles(place)",
        ("tests/test_salvage.py",),
    ),
    Mutant(
        "failed-close-keeps-the-lock",
        "A file that cannot be closed keeps the directory locked.",
        "raft_storage/file_store.py",
        "        finally:\n            self._files.close()\n",
        "        except LockHeld:\n            raise\n        self._files.close()\n",
        ("tests/test_file_store.py",),
    ),
    Mutant(
        "restored-in-the-loop",
        "A machine is restored in the event loop, which for seconds neither sends nor answers heartbeats.",
        "raft_core/host/work.py",
        "return type(job) is RestoreMachine",
        "return False",
        ("tests/test_lanes.py",),
    ),
    Mutant(
        "applied-beside-a-restore",
        "While a thread restores the machine, the loop goes on applying to it.",
        "raft_storage/lanes.py",
        "            except Empty:\n                return events\n",
        "            except Empty:\n                pass\n",
        ("tests/test_lanes.py",),
    ),
    Mutant(
        "superfluous-deleted-too-early",
        "A segment that a later one repeats is deleted before that later one is known to be on the medium.",
        "raft_core/wal/recovery.py",
        "never_begun = number is not None and number > head",
        "never_begun = number is not None and number != head",
        ("tests/test_wal_recovery.py", "tests/test_crash_disk.py"),
    ),
    Mutant(
        "goes-on-after-a-failed-sync",
        "After a failed sync the store acknowledges again.",
        "raft_storage/file_store.py",
        '            self._failure = str(failure)\n            raise StorageBroken(f"{failure}; nothing',
        '            raise StorageBroken(f"{failure}; nothing',
        _STORE,
    ),
    # The host, its workers, and sessions.
    Mutant(
        "greeted-before-founding-is-enough",
        "Founders that met before they wrote different first entries go on talking, until a connection breaks.",
        "raft_core/host/host.py",
        "        self._peers.greet_anew()\n",
        "",
        ("tests/test_host_cluster.py", "tests/test_host_decisions.py"),
    ),
    Mutant(
        "everywhere-is-an-address",
        "A node that listens on every interface tells that as its address, and whoever dials it reaches itself.",
        "raft_core/host/node.py",
        '"" if is_everywhere(listening_at) else listening_at',
        "listening_at",
        ("tests/test_host_node.py",),
    ),
    Mutant(
        "slow-pieces-asked-for-again-and-again",
        "Pieces of a snapshot that take longer than the time to wait are all sent several times.",
        "raft_core/host/transfers.py",
        "self._bounded(_STEPS * (self.now - incoming.last_progress))",
        "self._config.pull_timeout",
        ("tests/test_host_transfers.py",),
    ),
    Mutant(
        "slow-is-taken-for-dead",
        "A connection is closed because pings wait behind an entry that takes long, which is then sent again for ever.",
        "raft_core/host/peers.py",
        "connection.silent_ticks > self._patience(connection)",
        "connection.silent_ticks > self._silence_ticks",
        ("tests/test_host_peers.py", "tests/test_host_cluster.py"),
    ),
    Mutant(
        "founders-that-are-gone-are-counted",
        "A founder writes with the disks of others that have formed without it since.",
        "raft_core/host/forming.py",
        "(n in connected and n in self._disks)",
        "n in self._disks",
        ("tests/test_host_forming.py",),
    ),
    Mutant(
        "broken-store-lives-on",
        "A node whose store broke while it fetched a snapshot lives on, and refuses every snapshot.",
        "raft_core/host/work.py",
        "    return JobFailed(Lane.WRITE, failure)\n\n\ndef _caused",
        "    return JobFailed(Lane.TRANSFER, failure)\n\n\ndef _caused",
        _HOST,
    ),
    Mutant(
        "failed-write-reported-as-done",
        "An exception of the disk is swallowed.",
        "raft_core/host/work.py",
        "        except Exception as failure:\n            return JobFailed(Lane.WRITE, _disk_error(failure))\n        return Wrote",
        "        except Exception:\n            pass\n        return Wrote",
        _HOST,
    ),
    Mutant(
        "poisonous-entry-skipped",
        "An exception in apply skips the entry.",
        "raft_core/host/work.py",
        '                return JobFailed(Lane.APPLY, _caused(CallerError(f"{text}; {remedy}"), failure))\n',
        '                results.append(b"")\n',
        _HOST,
    ),
    Mutant(
        "truncated-means-refused",
        "A truncated proposal is reported as certainly not carried out.",
        "raft_core/requests.py",
        "outcome: Outcome = Uncertainty(UnknownReason.TRUNCATED)",
        "outcome: Outcome = Refusal(RefusalReason.SUPERSEDED)",
        _CLIENTS,
    ),
    Mutant(
        "lost-forward-means-refused",
        "A forwarded request whose connection broke is sent again.",
        "raft_core/host/clients.py",
        "            self._unknown(self._forwards.pop(number)[1], UnknownReason.FORWARD_LOST)",
        "            self._hold(self._forwards.pop(number)[1], NOBODY)",
        _CLIENTS,
    ),
    Mutant(
        "retry-applied-again",
        "A repeated command of a session is applied again.",
        "raft_core/sessions.py",
        "        if known is not None:\n            return known\n",
        "",
        _SESSIONS,
    ),
    Mutant(
        "expired-session-made-anew",
        "A command of an ended session is applied.",
        "raft_core/sessions.py",
        "        if session is None:\n            return _EXPIRED\n",
        "        if session is None:\n            session = _Session(self._now, lowest, {})\n",
        _SESSIONS,
    ),
    # The wire.
    Mutant(
        "frame-checksum-not-checked",
        "The checksum of a frame's payload is not compared.",
        "raft_core/wire/frames.py",
        "            if zlib.crc32(payload) != header.payload_crc:\n",
        "            if False:\n",
        _WIRE,
    ),
    Mutant(
        "frame-length-not-limited",
        "A stranger's frame may be of any length.",
        "raft_core/wire/frames.py",
        "        if length > self._limit:\n",
        "        if False:\n",
        _WIRE,
    ),
)
