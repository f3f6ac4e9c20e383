"""The recovery plan of a data directory, from the bytes of its files.

Pure decisions. A log is a chain: every segment's header names the segment and the offset at which the log went on
before it. The newest readable segment is the head of the chain; anything outside the chain is void. Opening writes the
end of the chain again, into a fresh segment, because the bytes read may have come from a page cache and never have
reached the disk. `Plan` gives the contents of that segment and the files to delete once it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, final

import attrs

from raft_core.errors import LogDamaged, LogLost, WrongDirectory
from raft_core.ids import BootNumber, Index
from raft_core.recovered import Identity, Recovered
from raft_core.structs import Value
from raft_core.wal.blocks import NOWHERE, Position
from raft_core.wal.layout import (
    RESTORE_REMEDY,
    Anchor,
    IdentityFile,
    is_received,
    is_unfinished,
    segment_name,
    segment_number,
    snapshot_name,
    snapshot_position,
)
from raft_core.wal.log_state import LogImage, LogIndex
from raft_core.wal.reader import Record, VerdictKind, WalReader, was_continued
from raft_core.wal.records import FORMAT_VERSION, MAGIC, Change, SegmentHeader

__all__ = ["LiveSegment", "Plan", "header_of", "plan_recovery"]


@final
class LiveSegment(Value, frozen=True):
    """A segment with a part of the log. `next`: the index of the next entry at its beginning."""

    sequence: int
    next: Index


@final
@attrs.frozen(eq=False)
class Plan:
    """The contents of a directory, and the steps that make them certain.

    First `rubbish` may be deleted: it is unreferenced whichever part of the bytes read is on the medium, and the rest
    may need its room. Then `header` and `changes` go, as one batch, into the new segment `header.sequence`, and are
    synced with the directory; then the anchor is replaced; then `obsolete` may be deleted. `kept` are the segments
    before the new one.
    """

    image: LogImage
    header: SegmentHeader
    changes: tuple[Change, ...]
    kept: tuple[LiveSegment, ...]
    rubbish: tuple[str, ...]
    obsolete: tuple[str, ...]

    def recovered(self, identity: Identity) -> Recovered:
        """Return the starting state of the core."""
        image = self.image
        return Recovered(
            identity,
            image.hard,
            image.snapshot,
            image.behind_snapshot(),
            self.header.boot,
            covered=image.covered(),
        )


@final
@attrs.frozen(eq=False)
class _Segment:
    """A segment of the chain. `records` are those behind the header. `end`: the end of its part of the log."""

    sequence: int
    header: SegmentHeader
    records: list[Record]
    end: int
    proven: int


def header_of(
    image: LogIndex, identity: IdentityFile, *, sequence: int, boot: BootNumber, follows: Position
) -> SegmentHeader:
    """Return the header of a segment at whose beginning the log is like `image`."""
    return SegmentHeader(
        magic=MAGIC,
        version=FORMAT_VERSION,
        sequence=sequence,
        cluster=identity.cluster,
        node=identity.node,
        incarnation=identity.incarnation,
        boot=boot,
        follows=follows,
        first=image.first,
        next=image.next,
        hard=image.hard,
        snapshot=image.snapshot,
    )


def plan_recovery(
    names: Sequence[str],
    read: Callable[[str], bytes],
    identity: IdentityFile,
    anchor: Anchor,
    *,
    merge_bytes: int,
) -> Plan:
    """Plan the recovery of the files `names`, whose contents `read` returns.

    Raise `LogDamaged`, `LogLost` or `WrongDirectory`. Segments at the end that together are shorter than `merge_bytes`
    are merged into the fresh one.
    """
    numbers = {number for name in names if (number := segment_number(name)) is not None}
    chain = _chain(numbers, read, identity, anchor)
    image, cut_image = _replay(chain)
    _check_complete(chain, image)
    _check_snapshot(names, image)
    fresh = max([anchor.synced.segment, *numbers]) + 1
    boot = BootNumber(max([anchor.boot, *(segment.header.boot for segment in chain)]) + 1)
    image.forget_unneeded()

    def begun(like: LogIndex, follows: Position) -> SegmentHeader:
        return header_of(like, identity, sequence=fresh, boot=boot, follows=follows)

    keep, header, changes = _cut(chain, image, cut_image, merge_bytes, begun)
    if keep:
        changes = (*changes, Change(drop_before=image.first))
    kept = tuple(LiveSegment(segment.sequence, segment.header.next) for segment in keep)
    rubbish = _rubbish(names, chain[-1].sequence if chain else 0, image)
    left = [name for name in names if name not in rubbish]
    obsolete = _obsolete(left, {segment.sequence for segment in kept}, image)
    return Plan(image, header, changes, kept, rubbish, obsolete)


# The chain.


def _chain(numbers: set[int], read: Callable[[str], bytes], identity: IdentityFile, anchor: Anchor) -> list[_Segment]:
    """Return the segments of the log, oldest first; none if nothing was ever written."""
    head = _head(numbers, read, identity, anchor)
    if head is None:
        return []
    chain = [head]
    while (follows := chain[0].header.follows).segment in numbers:
        if follows.segment >= chain[0].sequence:
            raise _damage(chain[0].sequence, 0, "its header says that it follows a later segment")
        chain.insert(0, _read_until(follows, read, identity))
    return chain


def _head(numbers: set[int], read: Callable[[str], bytes], identity: IdentityFile, anchor: Anchor) -> _Segment | None:
    """Return the newest segment that was ever completed."""
    for number in sorted(numbers, reverse=True):
        if number < anchor.synced.segment:
            break
        segment = _read_head(number, read, identity, anchor)
        if segment is not None:
            return segment
    if anchor.synced == NOWHERE:
        return None
    name = segment_name(anchor.synced.segment)
    if not numbers:
        raise LogLost(f"{name}: this node has written a log, and all of it is gone. {RESTORE_REMEDY}")
    raise _damage(anchor.synced.segment, 0, "the file is missing")


def _read_head(number: int, read: Callable[[str], bytes], identity: IdentityFile, anchor: Anchor) -> _Segment | None:
    """Return segment `number` as the end of the log, or None if its creation was never completed."""
    reader = WalReader(number)
    data = read(segment_name(number))
    records = reader.feed(data)
    verdict = reader.verdict
    if verdict.kind is VerdictKind.DAMAGED:
        # Nothing in a segment is acknowledged before the anchor with its name is durable. An older anchor proves that
        # this never happened, unless the anchor itself was put back: then the segment may have been continued.
        if number > anchor.synced.segment and not was_continued(number, data):
            return None
        raise _damage(number, verdict.offset, verdict.problem)
    if number == anchor.synced.segment and reader.end < anchor.synced.offset:
        problem = f"the log ends here, but was synced up to offset {anchor.synced.offset}"
        raise _damage(number, reader.end, problem)
    if not records:
        return None
    proven = max(reader.proven, anchor.synced.offset if number == anchor.synced.segment else 0)
    return _Segment(number, _header(number, records, identity), records[1:], reader.end, proven)


def _read_until(end: Position, read: Callable[[str], bytes], identity: IdentityFile) -> _Segment:
    """Return a segment that the log left at `end`, after it had been synced up to there."""
    number = end.segment
    reader = WalReader(number)
    records = reader.feed(memoryview(read(segment_name(number)))[: end.offset])
    verdict = reader.verdict
    if verdict.kind is VerdictKind.DAMAGED:
        raise _damage(number, verdict.offset, verdict.problem)
    if reader.end != end.offset or not records:
        raise _damage(number, reader.end, f"a batch is missing; a later segment follows offset {end.offset}")
    return _Segment(number, _header(number, records, identity), records[1:], reader.end, reader.end)


def _header(number: int, records: list[Record], identity: IdentityFile) -> SegmentHeader:
    header = records[0].body
    name = segment_name(number)
    assert type(header) is SegmentHeader  # the reader accepts no segment with another beginning
    if header.magic != MAGIC or header.sequence != number:
        raise _damage(number, 0, "the header is not one of this segment")
    if header.version > FORMAT_VERSION:
        raise WrongDirectory(f"{name} has format {header.version}, this library reads {FORMAT_VERSION}")
    if (header.cluster, header.node, header.incarnation) != (identity.cluster, identity.node, identity.incarnation):
        raise WrongDirectory(
            f"{name} was written by node {header.node} of cluster {header.cluster!r} (incarnation"
            f" {header.incarnation}): put that node's own files back"
        )
    if header.group:
        raise WrongDirectory(f"{name} begins with group {header.group}: use a newer library")
    return header


# Replay.


def _replay(chain: list[_Segment]) -> tuple[LogImage, LogImage]:
    """Return the log at the end of the chain; and its state where the head is no longer proven, without entries."""
    if not chain:
        return LogImage(), LogImage()
    image, head = LogImage(chain[0].header), chain[-1]
    cut: LogImage | None = None
    for segment in chain:
        if not _agrees(segment.header, image):
            raise _damage(segment.sequence, 0, "the header contradicts the segments before it")
        for record in segment.records:
            if segment is head and cut is None and record.at >= head.proven:
                cut = _frozen(image)
            _apply(segment, record, image)
    return image, cut if cut is not None else _frozen(image)


def _frozen(image: LogImage) -> LogImage:
    """Return a copy of the present hard state, snapshot and indexes."""
    copy = LogImage()
    copy.hard, copy.snapshot, copy.first, copy.next = image.hard, image.snapshot, image.first, image.next
    return copy


def _agrees(header: SegmentHeader, image: LogImage) -> bool:
    return (header.hard, header.snapshot, header.first, header.next) == (
        image.hard,
        image.snapshot,
        image.first,
        image.next,
    )


def _apply(segment: _Segment, record: Record, image: LogImage) -> None:
    change = record.body
    assert type(change) is Change  # the reader accepts a header at a segment's beginning only
    if change.group:
        raise WrongDirectory(f"{segment_name(segment.sequence)} holds group {change.group}: use a newer library")
    if (problem := image.problem(change)) is not None:
        raise _damage(segment.sequence, record.at, problem)
    image.apply(change)


def _check_complete(chain: list[_Segment], image: LogImage) -> None:
    """Check that every entry behind the snapshot is present."""
    if not chain or image.known_from <= image.base + 1:
        return
    missing = chain[0].header.follows.segment
    problem = f"the file is missing; it held entries from {image.base + 1} to {image.known_from - 1}"
    raise _damage(missing, 0, problem)


def _check_snapshot(names: Sequence[str], image: LogImage) -> None:
    if image.snapshot is None or (name := snapshot_name(image.snapshot.position)) in names:
        return
    raise LogDamaged(name, 0, "the snapshot that the log builds on is missing", RESTORE_REMEDY)


# The steps.

_Begun: TypeAlias = Callable[[LogIndex, Position], SegmentHeader]
"""Makes the header of the fresh segment from the log's state at its beginning and the place where the log left off."""


def _cut(
    chain: list[_Segment], image: LogImage, cut_image: LogImage, merge_bytes: int, begun: _Begun
) -> tuple[list[_Segment], SegmentHeader, tuple[Change, ...]]:
    """Return the segments to keep; the header of the fresh one, and the changes behind it."""
    start = _merged_from(chain, merge_bytes)
    head = chain[-1] if chain else None
    if head is not None and head.proven == 0:
        start = min(start, len(chain) - 1)
    if start == 0:
        return [], *_written_anew(image, begun)
    if start < len(chain) or head is None:
        merged = chain[start].header
        return chain[:start], begun(LogIndex(merged), merged.follows), _changes(*chain[start:])
    header = begun(cut_image, Position(head.sequence, head.proven))
    return chain, header, _changes(head, start=head.proven)


def _written_anew(image: LogImage, begun: _Begun) -> tuple[SegmentHeader, tuple[Change, ...]]:
    """Return the whole log as if it began with the first entry that is still needed."""
    begin = _frozen(image)
    begin.first = begin.next = image.known_from
    return begun(begin, NOWHERE), (Change(entries=tuple(image.entries)),) if image.entries else ()


def _changes(*segments: _Segment, start: int = 0) -> tuple[Change, ...]:
    """Return all changes in `segments`, from byte `start` on."""
    records = (record for segment in segments for record in segment.records if record.at >= start)
    return tuple(record.body for record in records if type(record.body) is Change)


def _merged_from(chain: list[_Segment], merge_bytes: int) -> int:
    """Return the first of the segments at the end that are rewritten as a whole; the chain's length if none is."""
    total, start = 0, len(chain)
    for number in range(len(chain) - 1, -1, -1):
        total += chain[number].end
        if total > merge_bytes:
            break
        start = number
    return start


def _rubbish(names: Sequence[str], head: int, image: LogImage) -> tuple[str, ...]:
    """Return files that are unreferenced even if the end of the log was read from a page cache and is lost.

    These are segments whose creation was never completed, snapshots never switched to, and unfinished files.
    """
    found = []
    for name in names:
        number, position = segment_number(name), snapshot_position(name)
        never_begun = number is not None and number > head
        never_in_force = position is not None and position.index > image.base
        if never_begun or never_in_force or (is_unfinished(name) and not is_received(name)):
            found.append(name)
    return tuple(found)


def _obsolete(names: Sequence[str], kept: set[int], image: LogImage) -> tuple[str, ...]:
    """Return old files that are void once the fresh segment is durable. Incoming snapshots stay."""
    found = []
    for name in names:
        number, position = segment_number(name), snapshot_position(name)
        unwanted = position is not None and (image.snapshot is None or position != image.snapshot.position)
        if unwanted or (number is not None and number not in kept):
            found.append(name)
    return tuple(found)


def _damage(sequence: int, offset: int, problem: str) -> LogDamaged:
    return LogDamaged(segment_name(sequence), offset, problem, RESTORE_REMEDY)
