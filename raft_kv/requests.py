"""A client's bytes in, its commands out: the gate before the hiredis parser, and inline commands.

What lives here: `RequestParser`. hiredis parses any reply, nested a billion wide if somebody says so, and makes
room before it has seen the items; therefore a gate reads the lengths first, refuses what is out of bounds before
memory is spent, and hands over whole requests only. A request is an array of bulk strings, or a line of words.

A bad request does not lose the good ones before it: they are returned, with the failure as the last item, and the
parser is dead from then on.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias, final

import attrs
import hiredis

from raft_core._value import Value

__all__ = ["ParseFailure", "Request", "RequestLimits", "RequestParser", "split_inline"]


@final
@attrs.frozen
class RequestLimits:
    """How much of one request may be held in memory."""

    bulk_bytes: int = 1024 * 1024
    """One argument."""
    request_bytes: int = 8 * 1024 * 1024
    """All of one request."""
    arguments: int = 1024 * 1024
    """How many arguments; each costs at least some 60 bytes of memory here."""
    inline_bytes: int = 64 * 1024
    """One inline command, or one line that announces a length."""


@final
class ParseFailure(Value, frozen=True):
    """The connection must be closed after this error was sent. An empty text closes it without a word."""

    text: str


Request: TypeAlias = "list[bytes] | ParseFailure"

_STAR: Final = 0x2A
_DOLLAR: Final = 0x24
_LENGTH_BYTES: Final = 32  # a sign and a 64-bit number take less
_NEGATIVE: Final = re.compile(rb"-[0-9]{1,18}")
_FOREIGN: Final = (b"post", b"host:")
_WORD: Final = re.compile(
    rb"""(?P<plain>[^\s"']*)(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)')?(?=\s|\Z)""", re.DOTALL
)
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


@final
@attrs.define(eq=False)
class RequestParser:
    """Feed it what arrives; it returns the requests that are complete."""

    limits: RequestLimits = attrs.field(factory=RequestLimits)
    _reader: hiredis.Reader = attrs.field(factory=hiredis.Reader, init=False)
    _buffer: bytearray = attrs.field(factory=bytearray, init=False)
    _seen: int = attrs.field(default=0, init=False)
    """How many bytes of the incomplete request at the buffer's start the gate has passed."""
    _missing: int = attrs.field(default=0, init=False)
    """How many arguments of that request the gate has yet to pass."""
    _failure: ParseFailure | None = attrs.field(default=None, init=False)

    def feed(self, data: bytes) -> list[Request]:
        """The requests that `data` completed, in order; a `ParseFailure` is the last one ever."""
        requests: list[Request] = []
        if self._failure is not None:
            return requests
        buffer = self._buffer
        buffer += data
        size = len(buffer)
        start = run = arrays = 0  # so many arrays lie complete between `run` and `start`, for hiredis to parse at once
        while start < size:
            if buffer[start] == _STAR and buffer[start + 1 : start + 2] != b"-":
                end = self._array_end(start, size)
                arrays += bool(end)
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

    def _fail(self, text: str) -> int:
        self._failure = ParseFailure(f"ERR Protocol error: {text}")
        return 0

    def _alone(self, start: int, size: int, requests: list[Request]) -> int:
        """Where what begins at `start` ends, which hiredis is not shown: a line, or an array of less than nothing,
        which is an empty request to Redis and an error to hiredis; 0 as in `_array_end`."""
        if self._failure is not None:
            return 0
        if self._buffer[start] == _STAR:
            return self._array_end(start, size)
        end = self._line_end(start)
        if end and (words := self._inline(bytes(self._buffer[start:end]))):
            requests.append(words)
        return end

    # Arrays.

    def _array_end(self, start: int, size: int) -> int:
        """Where the array that begins at `start` ends; 0 where it is incomplete or was refused."""
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
            if not digits.isdigit() or (length := int(digits)) > most:
                return self._fail("invalid bulk length")
            position = end + length + 4
            missing -= 1
            if position - start > self.limits.request_bytes:
                return self._fail("request too large")
        if missing > 0 or position > size:
            self._seen, self._missing = position - start, missing
            return 0
        self._seen = self._missing = 0
        return position

    def _parse(self, start: int, end: int, count: int, requests: list[Request]) -> None:
        """Appends what hiredis makes of `count` whole arrays; empty and null ones are passed over."""
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
        if reader.has_data():  # the gate and hiredis disagree: never trust the rest
            self._fail("malformed request")

    # Lines.

    def _line_end(self, start: int) -> int:
        end = self._buffer.find(b"\n", start, start + self.limits.inline_bytes)
        if end >= 0:
            return end + 1
        if len(self._buffer) - start >= self.limits.inline_bytes:
            return self._fail("too big inline request")
        return 0

    def _inline(self, line: bytes) -> list[bytes] | None:
        """The words of a line typed by hand; None for an empty one."""
        words = split_inline(line)
        if words is None:
            self._fail("unbalanced quotes in request")
            return None
        if words and words[0].lower() in _FOREIGN:  # a browser was lured here: say nothing, do nothing
            self._failure = ParseFailure("")
            return None
        return words or None


def split_inline(line: bytes) -> list[bytes] | None:
    """The words of `line`; quotes and escapes as in Redis. None where a quote is not closed, or a word follows it."""
    words: list[bytes] = []
    position = 0
    while True:
        while position < len(line) and line[position : position + 1].isspace():
            position += 1
        if position >= len(line):
            return words
        piece = _WORD.match(line, position)
        if piece is None:
            return None
        words.append(_unquoted(piece))
        position = piece.end()


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
