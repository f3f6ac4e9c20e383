"""`RequestParser`: the bytes of a client in, its commands out.

A request is an array of bulk strings, or a line of words. Nearly all bytes are small, complete arrays: these are split
at their line breaks, and taken as they are where every part has the length that was announced. For example

    *2 CRLF $3 CRLF GET CRLF $1 CRLF a CRLF

has the parts `*2`, `$3`, `GET`, `$1` and `a`. An argument which contains a line break has more parts, whose lengths do
not fit; so it is left, with everything behind it, to the general way. There hiredis parses: any reply, however deeply
nested, and it reserves memory before the items have arrived. So a gate reads the lengths first, refuses those out of
bounds before memory is used, and hands over only whole requests.

A request that violates the protocol does not lose the good ones before it: they are returned, with the failure as the
last item, and the parser ignores all further input. A valid request above this server's limits is skipped without being
kept, and replaced by a `TooLarge`; the requests around it are not affected.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias, cast, final

import attrs
import hiredis

from raft_core.structs import Value

__all__ = ["ParseFailure", "Request", "RequestLimits", "RequestParser", "TooLarge", "split_inline"]


@final
@attrs.frozen
class RequestLimits:
    """How much of one request may be held in memory."""

    bulk_bytes: int = 1024 * 1024
    """One argument."""
    request_bytes: int = 8 * 1024 * 1024
    """All of one request."""
    arguments: int = 128 * 1024
    """How many arguments; each costs at least some 60 bytes of memory here, and all of them are parsed in one go: more
    than these would take longer than others should wait."""
    inline_bytes: int = 64 * 1024
    """Bytes of an inline command, or of a line with a length."""
    passed_bytes: int = 512 * 1024 * 1024
    """Bytes of a too large request which are skipped before the connection is closed. Redis's limit on an argument."""


@final
class ParseFailure(Value, frozen=True):
    """The connection must be closed after this error was sent. An empty text closes it without a word."""

    text: str

    @property
    def problem(self) -> str:
        """What is wrong, without what the client has sent."""
        return self.text.removeprefix("ERR ").partition(", got")[0] or "this is a request of a browser"


@final
class TooLarge(Value, frozen=True):
    """A skipped request; `text` is the error reply. The connection stays open."""

    text: str


Request: TypeAlias = "list[bytes] | ParseFailure | TooLarge"


@final
@attrs.define
class _Passing:
    """A too large request being skipped: its remaining size and the error reply."""

    text: str
    missing: int
    """Arguments whose headers have not been seen."""
    left: int
    """Bytes of the current argument, its line break included."""
    most: int
    """Bytes of the rest which are skipped before the connection is closed."""


_QUOTED_WORDS: Final = 2048
"""Most words of a line with quotes; each takes some microseconds."""
_STAR: Final = 0x2A
_DOLLAR: Final = 0x24
_NEWLINE: Final = 0x0A
_LENGTH_BYTES: Final = 32  # a sign and a 64-bit number take less
_NEGATIVE: Final = re.compile(rb"-[0-9]{1,18}")
_TLS_HANDSHAKE: Final = b"\x16\x03"
_FOREIGN: Final = (b"post", b"host:")
_WORD: Final = re.compile(
    rb"""(?P<plain>[^\s"']*)(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)')?(?=\s|\Z)""", re.DOTALL
)
_SMALL_BYTES: Final = 64 * 1024
"""At most so many bytes are split at their line breaks."""
_COUNTS: Final = {b"*%d" % count: count for count in range(1, 65)}
_LENGTHS: Final = {b"$%d" % length: length for length in range(1024)}
_WHOLE_PARTS: Final = 2 * 4 + 1
"""Line breaks of a request with as many words as a write has that may share a log entry."""
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


@final
@attrs.define(eq=False)
class RequestParser:
    """Turns incoming bytes into complete requests."""

    limits: RequestLimits = attrs.field(factory=RequestLimits)
    _reader: hiredis.Reader = attrs.field(factory=hiredis.Reader, init=False)
    _buffer: bytearray = attrs.field(factory=bytearray, init=False)
    _seen: int = attrs.field(default=0, init=False)
    """Bytes of the incomplete request at the buffer's start which the gate has read."""
    _missing: int = attrs.field(default=0, init=False)
    """Arguments of the incomplete request which the gate has not read yet."""
    _passing: _Passing | None = attrs.field(default=None, init=False)
    _line_passed: int = attrs.field(default=0, init=False)
    """Bytes skipped of a too long inline request; 0 if none is being skipped."""
    _failure: ParseFailure | None = attrs.field(default=None, init=False)

    _small: int = attrs.field(init=False)
    """So many bytes exceed no limit, whatever they are."""

    more: bool = attrs.field(default=False, init=False)
    """The last call stopped at `most`: complete requests may be left in the buffer."""

    def __attrs_post_init__(self) -> None:
        self._small = min(_SMALL_BYTES, self.limits.bulk_bytes, self.limits.request_bytes)

    @property
    def held_bytes(self) -> int:
        """Return the bytes kept of incomplete requests."""
        return len(self._buffer)

    def feed(self, data: bytes, most: int = 1 << 62) -> list[Request]:
        """Return the requests which `data` completes, in order. A `ParseFailure` is the last item ever.

        Stop after `most` requests, blank lines included; then `more` is true, and another call continues.
        """
        requests: list[Request] = []
        self.more = False
        if self._failure is not None:
            return requests
        buffer = self._buffer
        if not (buffer or self._passes_over) and len(data) <= self._small:
            data = _split(data, requests, most)
            most -= len(requests)
            if not data:
                return requests
        buffer += data
        size = len(buffer)
        start = run = arrays = 0  # so many arrays lie complete between `run` and `start`, for hiredis to parse at once
        while start < size:
            if not most:
                self.more = True
                break
            most -= 1
            if self._passes_over:
                run = start = self._pass_over(start, size, requests)
                if self._passes_over or self._failure is not None:
                    break
                continue
            if buffer[start] == _STAR and buffer[start + 1 : start + 2] != b"-":
                end = self._array_end(start, size)
                if self._passing is None:
                    arrays += bool(end)
                else:  # its header is complete: first parse the requests before it
                    self._parse(run, start, arrays, requests)
                    arrays, run = 0, end
            else:
                self._parse(run, start, arrays, requests)
                arrays = 0
                run = end = self._alone(start, size, requests)
            if not end or self._failure is not None:
                break
            start = end
        self._parse(run, start, arrays, requests)
        if self._failure is not None:
            buffer.clear()
            requests.append(self._failure)
            return requests
        del buffer[:start]
        return requests

    def alike(self, data: bytes, most: int) -> list[list[bytes]] | None:
        """Return the requests if `data` is one short array of a few words, or at most `most` with equal first words.

        Nothing came before them, and all of them are complete. Otherwise take nothing, in little time.
        """
        if self._buffer or self._passing is not None or self._line_passed or self._failure is not None:
            return None
        if len(data) > self._small:
            return None
        parts = data.split(b"\r\n", _WHOLE_PARTS)  # of a pipeline only the beginning is split
        count = _COUNTS.get(parts[0], 0)
        if len(parts) != 2 * count + 2 or not count or parts[-1]:
            return _pipeline(data, parts, most) if parts[-1] else None
        call = parts[2::2]
        return [call] if list(map(_LENGTHS.get, parts[1:-1:2])) == list(map(len, call)) else None

    def _fail(self, text: str) -> int:
        self._failure = ParseFailure(f"ERR Protocol error: {text}")
        return 0

    def _alone(self, start: int, size: int, requests: list[Request]) -> int:
        """Return the end of a request which hiredis does not parse; 0 as in `_array_end`.

        It is a line, or an array of negative length: an empty request to Redis and an error to hiredis.
        """
        if self._failure is not None:
            return 0
        if self._buffer[start] == _STAR:
            return self._array_end(start, size)
        if self._buffer.startswith(_TLS_HANDSHAKE, start):
            return self._fail("this looks like TLS, which this port does not use")
        end = self._line_end(start)
        if end and not self._line_passed and (words := self._inline(bytes(self._buffer[start:end]))):
            requests.append(words)
        return end

    # Arrays.

    def _array_end(self, start: int, size: int) -> int:
        """Return the end of the array at `start`; 0 if it is incomplete or refused."""
        buffer = self._buffer
        position, missing = start + self._seen, self._missing
        if not self._seen:
            position = buffer.find(b"\r\n", start, start + _LENGTH_BYTES) + 2
            if position < 2:
                return 0 if size - start < _LENGTH_BYTES else self._fail("invalid multibulk length")
            digits = buffer[start + 1 : position - 2]
            missing = int(digits) if digits.isdigit() else -1
            if missing > self.limits.arguments or (missing < 0 and not _NEGATIVE.fullmatch(digits)):
                return self._fail("invalid multibulk length")
        most = self.limits.bulk_bytes
        while missing > 0 and position < size:  # Redis takes a negative count for an empty request
            if buffer[position] != _DOLLAR:
                return self._fail(f"expected '$', got '{chr(buffer[position])}'")
            end = buffer.find(b"\r\n", position, position + _LENGTH_BYTES)
            if end < 0:
                if size - position < _LENGTH_BYTES:
                    break
                return self._fail("invalid bulk length")
            digits = buffer[position + 1 : end]
            if not digits.isdigit() or (length := int(digits)) > self.limits.passed_bytes:
                return self._fail("invalid bulk length")
            missing -= 1
            if length > most or end + length + 4 - start > self.limits.request_bytes:
                self._begin_to_pass(length, missing)
                return end + 2
            position = end + length + 4
        if missing > 0 or position > size:
            self._seen, self._missing = position - start, missing
            return 0
        self._seen = self._missing = 0
        return position

    # Requests that are too large.

    @property
    def _passes_over(self) -> bool:
        return self._passing is not None or self._line_passed > 0

    def _begin_to_pass(self, length: int, missing: int) -> None:
        """Start to skip: the header of an argument of `length` bytes makes the request too large."""
        limits = self.limits
        text = f"ERR the command is too large: an argument has {length} bytes, at most {limits.bulk_bytes} fit"
        if length <= limits.bulk_bytes:
            text = f"ERR the command is too large: its arguments together may have {limits.request_bytes} bytes"
        text = f"{text} (max_entry_bytes); nothing was changed"
        self._passing = _Passing(text, missing, length + 2, limits.passed_bytes - length)
        self._seen = self._missing = 0

    def _pass_over(self, start: int, size: int, requests: list[Request]) -> int:
        """Return the end of the received bytes of the request being skipped.

        Append a `TooLarge` once all of it has arrived.
        """
        passing = self._passing
        if passing is None:
            return self._pass_over_line(start, size, requests)
        buffer, position = self._buffer, start
        while True:
            step = min(passing.left, size - position)
            position += step
            passing.left -= step
            if passing.left:
                return position
            if not passing.missing:
                self._passing = None
                requests.append(TooLarge(passing.text))
                return position
            end = buffer.find(b"\r\n", position, position + _LENGTH_BYTES)
            if end < 0 and size - position < _LENGTH_BYTES:
                return position
            digits = buffer[position + 1 : end]
            if buffer[position] != _DOLLAR or end < 0 or not digits.isdigit():
                return self._fail("invalid bulk length")
            length = int(digits)
            passing.most -= length
            if passing.most < 0:
                return self._fail("request too large")
            passing.missing -= 1
            passing.left = end - position + length + 4

    def _pass_over_line(self, start: int, size: int, requests: list[Request]) -> int:
        end = self._buffer.find(b"\n", start) + 1 or size
        self._line_passed += end - start
        if self._line_passed > self.limits.passed_bytes:
            return self._fail("too big inline request")
        if self._buffer[end - 1] == _NEWLINE:
            self._line_passed = 0
            requests.append(TooLarge(f"ERR too big inline request: at most {self.limits.inline_bytes} bytes fit"))
        return end

    def _parse(self, start: int, end: int, count: int, requests: list[Request]) -> None:
        """Append the requests in `count` whole arrays, parsed by hiredis; skip empty and null ones."""
        if not count:
            return
        reader = self._reader
        reader.feed(bytes(memoryview(self._buffer)[start:end]))
        try:
            for _ in range(count):
                if request := reader.gets():
                    requests.append(request)
        except hiredis.ProtocolError:
            self._fail("malformed request")
            return
        if reader.has_data():  # the gate and hiredis disagree: the rest cannot be trusted
            self._fail("malformed request")

    # Lines.

    def _line_end(self, start: int) -> int:
        end = self._buffer.find(b"\n", start, start + self.limits.inline_bytes)
        if end >= 0:
            return end + 1
        if len(self._buffer) - start >= self.limits.inline_bytes:
            self._line_passed = self.limits.inline_bytes
            return start + self.limits.inline_bytes
        return 0

    def _inline(self, line: bytes) -> list[bytes] | None:
        """Return the words of a line typed by hand; None for an empty one."""
        words = split_inline(line)
        if words is None:
            self._fail("unbalanced quotes in request")
            return None
        if words and words[0].lower() in _FOREIGN:  # a browser, by cross-protocol scripting: close without a reply
            self._failure = ParseFailure("")
            return None
        return words or None


def _pipeline(data: bytes, first: list[bytes], most: int) -> list[list[bytes]] | None:
    """Return the requests in `data` if all of them are complete and begin with the same word; otherwise None.

    `first`: parts of the first request, which are looked at before all of `data` is split. A mixed pipeline is counted
    only, since it will be split once more.
    """
    words = _COUNTS.get(first[0], 0)
    step = 2 * words + 1
    if not words or len(first) <= step or None in map(_LENGTHS.get, first[1:step:2]):
        return None
    count = data.count(b"%b\r\n%b\r\n%b\r\n" % (first[0], first[1], first[2]))
    if not 1 < count <= most or data[-2:] != b"\r\n" or data.count(b"\r\n") != count * step:
        return None
    parts = data.split(b"\r\n")
    requests: list[Request] = []
    whole = parts[2::step].count(first[2]) == count and _split_alike(parts, requests, most) == count * step
    return cast("list[list[bytes]]", requests) if whole else None


def _split_alike(parts: list[bytes], requests: list[Request], most: int) -> int:
    """Append the requests in `parts`, at most `most`, if all have as many words as the first; return how many parts.

    0: nothing was appended. So each word of all requests is checked at once; a pipeline of SETs takes half of the time.
    """
    words = _COUNTS.get(parts[0], 0)
    step = 1 + 2 * words
    end = min((len(parts) - 1) // step, most) * step
    if not words or end <= step or parts[0:end:step].count(parts[0]) * step != end:
        return 0
    columns = []
    for place in range(2, step, 2):
        column = parts[place:end:step]
        if list(map(_LENGTHS.get, parts[place - 1 : end : step])) != list(map(len, column)):
            return 0
        columns.append(column)
    requests.extend(map(list, zip(*columns, strict=True)))
    return end


def _split(data: bytes, requests: list[Request], most: int) -> bytes:
    """Append up to `most` requests from the beginning of `data`; return the bytes behind them."""
    parts = data.split(b"\r\n")
    if done := _split_alike(parts, requests, most - len(requests)):
        if done == len(parts) - 1:
            return parts[-1]
        parts = parts[done:]
        data = b"\r\n".join(parts)
    sizes = list(map(len, parts))
    lengths = list(map(_LENGTHS.get, parts))
    place, last = 0, len(parts) - 1  # the last part is not complete
    while len(requests) < most:
        end = place + 1 + 2 * _COUNTS.get(parts[place], last)
        if end > last:
            break
        if lengths[place + 1 : end : 2] != sizes[place + 2 : end : 2] and any(
            parts[at] != b"$%d" % sizes[at + 1] for at in range(place + 1, end, 2)
        ):
            break
        requests.append(parts[place + 2 : end : 2])
        place = end
    return b"\r\n".join(parts[place:]) if place else data


def split_inline(line: bytes) -> list[bytes] | None:
    """Return the words of `line`; quotes and escapes as in Redis.

    None where a quote is not closed, or a word follows it, or a line with quotes has more than `_QUOTED_WORDS`.
    """
    if b'"' not in line and b"'" not in line:
        return line.split()
    words: list[bytes] = []
    position = 0
    while len(words) <= _QUOTED_WORDS:
        while position < len(line) and line[position : position + 1].isspace():
            position += 1
        if position >= len(line):
            return words
        piece = _WORD.match(line, position)
        if piece is None:
            return None
        words.append(_unquoted(piece))
        position = piece.end()
    return None


def _unquoted(piece: re.Match[bytes]) -> bytes:
    plain, double, single = piece.group("plain", "double", "single")
    word: bytes = plain
    if double is not None:
        word = plain + _ESCAPE.sub(_unescaped, double)
    elif single is not None:
        word = plain + single.replace(b"\\'", b"'")
    return word


def _unescaped(escape: re.Match[bytes]) -> bytes:
    if digits := escape.group(1):
        return bytes([int(digits, 16)])
    letter: bytes = escape.group(2)
    return _LETTERS.get(letter, letter)
