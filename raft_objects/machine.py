"""`Objects`: several replicated objects with names, as one state machine on one log.

    command     kind u8 | time u64 | version u16 | MessagePack [object, method, {parameter: value}]
    enable      kind u8 | time u64 | version u16
    skip        kind u8 | time u64 | 0 u16 | index u64
    query       MessagePack [object, method, {parameter: value}]
    reply       MessagePack [kind, value ...]

Numbers are little-endian; the leader writes the time. A command names the version it needs: the highest `since` among
its object, its method, its parameters and the fields of their values. If that version is not enabled, every replica
refuses it, whether it knows the command or not; so old and new releases agree. A version is enabled by an entry of the
log, once all processes run code that knows it. A process that does not know it ends there, instead of going on with a
state of its own.

No replica's answer may depend on text that differs between processes, so replies carry class names and values only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import nullcontext
from threading import get_ident
from typing import Any, Final, Literal, TypeVar, final

import msgspec

from raft_core.errors import CallerError
from raft_core.ids import MAX_INT63
from raft_core.node.opening import Opening
from raft_core.sessions import SessionLimits, Sessions
from raft_core.state_machine import StateMachine
from raft_objects.calls import BEGIN, CALL, ENABLE, HEAD, REFUSED, SKIP, ReplyKind, encode_reply, index_in
from raft_objects.codec import copied
from raft_objects.declare import OPENERS, Command, Moment, Query, Replicated, Site
from raft_objects.entries import Entry, entry_of, take_old_fields
from raft_objects.errors import CommandFailed, NotDeterministic, ReplicasDiffer, VersionUnknown
from raft_objects.fields import copy_fields, copy_for_snapshot, fields_of, set_fields
from raft_objects.guard import watched
from raft_objects.held import Held, require_held, told_of
from raft_objects.portions import is_large
from raft_objects.replies import require_travels
from raft_objects.snapshots import Head, read_snapshot, written_snapshot

__all__ = ["Listener", "Objects", "objects_of"]

T = TypeVar("T", bound=Replicated)
Listener = Callable[[str, list[Hashable] | None], None]
"""Called after a command with the object's name and the keys it notified, and with None once a snapshot is restored,
in whatever thread applies."""

_MOST_SKIPPED: Final = 100
_MACHINE_BOUND: Final = (MemoryError, RecursionError)  # how deep or how much is up to the process: never a result
_HIGHEST_VERSION: Final = 65_535


@final
class Objects(StateMachine):
    """Replicated objects by name, for `open_node`.

    `version`: the highest version that this code knows; raise it with every new command, parameter or field, and mark
    those with it. `on_error`: what becomes of an exception that no command declares: "stop" ends the node with the
    command's name and index, "result" takes the changes back and raises `CommandCrashed` at the caller, "hold" takes
    them back and applies nothing more until `skip` (see `raft_objects.held`). `development`: look for clocks, global
    random numbers and fields that no snapshot can hold, at several times the cost.
    """

    def __init__(
        self,
        objects: Mapping[str, Replicated] | None = None,
        *,
        version: int = 1,
        on_error: Literal["stop", "result", "hold"] = "stop",
        development: bool = False,
        sessions: SessionLimits | None = None,
    ) -> None:
        if not 1 <= version <= _HIGHEST_VERSION:
            raise CallerError(f"a version is a number from 1 to {_HIGHEST_VERSION}, not {version}")
        if on_error not in ("stop", "result", "hold"):
            raise CallerError(f'on_error is "stop", "result" or "hold", not {on_error!r}')
        self.version: Final = version
        self.listener: Listener | None = None
        self._on_error = on_error
        self._development = development
        self.session_limits: Final = sessions or SessionLimits()
        self._entries: dict[str, Entry] = {}
        self._site: Site | None = None
        # State from here on; equal on all replicas.
        self._enabled = 1
        self._begun = False
        self._now = 0
        self._held: Held | None = None
        self._skipped: tuple[int, ...] = ()
        self._unclaimed: dict[str, list[bytes]] = {}  # objects in a snapshot that this code does not have
        for name, one in (objects or {}).items():
            self.add(name, one)

    def add(self, name: str, instance: T, *, since: int = 1, classes: Iterable[type] = ()) -> T:
        """Add an object before the node is opened, the same in every process; return it.

        `since`: the version that brought it. `classes`: attrs classes, dataclasses and enums that its state or its
        arguments hold, beside those in annotations and in `Kind[Class]()`. Raise `CallerError` if something about it
        cannot be replicated.
        """
        if self._site is not None or self._begun:
            raise CallerError(f"these Objects are open already: add {name!r} before, in every process")
        if not isinstance(name, str) or not name or name in self._entries:
            raise CallerError(f"an object needs a name of its own, a text, not {name!r}")
        if instance._binding.name:
            raise CallerError(f"the object was already added as {instance._binding.name!r}")
        entry = entry_of(name, instance, since, classes, self.version)
        entry.codec.encode(entry.initial)  # raises for what no snapshot can hold
        self._entries[name] = entry
        instance._binding.name = name
        return instance

    @property
    def machine(self) -> StateMachine:
        """Return the machine for `open_node`: these objects under sessions, so that each command is applied once."""
        return Sessions(self, self.session_limits)

    def __raft_open__(self) -> Opening:
        """Let `open_node` take these objects: it runs `machine` and connects the objects to the node for its block."""
        return OPENERS[0](self)

    def init(self) -> int:
        """Return 0: a node begins with what its disk has. Raise `CallerError` if commands were applied here before."""
        if self._begun:
            raise CallerError("these objects ran on a node before: make new ones, which get their state from the disk")
        return 0

    async def enable(self, version: int, *, timeout: float = 30.0) -> None:
        """Enable a version, once every process of the cluster runs code that knows it. See `Running.enable`."""
        if self._site is None:
            raise CallerError("the objects are not open")
        await self._site.enable(version, timeout=timeout)

    async def skip(self, index: int, *, timeout: float = 30.0) -> None:
        """Skip the command at `index`, at which all replicas hold (see `held`), by an entry of the log.

        The commands behind it are then applied. Only a leader that holds there accepts it, else `Refused` is raised. A
        replica that has carried the command out (its code differs) ends with `ReplicasDiffer`.
        """
        if self._site is None:
            raise CallerError("the objects are not open")
        await self._site.skip(index, timeout=timeout)

    @property
    def held(self) -> Held | None:
        """The command at which this replica holds, with `on_error="hold"`; None: it goes on."""
        return self._held

    @property
    def enabled(self) -> int:
        """The version enabled in the log, as this replica knows it."""
        return self._enabled

    @property
    def pristine(self) -> bool:
        """Whether this replica has applied nothing yet."""
        return not self._begun

    def entry(self, name: str) -> Entry:
        """Return the object of that name."""
        return self._entries[name]

    def connect(self, site: Site) -> None:
        """Send the objects' calls to `site`."""
        self._site = site
        for entry in self._entries.values():
            entry.instance._binding.site = site

    # A caller's side.

    def encode_call(self, name: str, method: Command[..., Any] | Query[..., Any], arguments: dict[str, Any]) -> bytes:
        """Return the bytes of a command or query. Raise `CallerError` for an argument of an unknown class."""
        entry = self._entries[name]
        if entry.instance.checks_types:
            method.require_types(arguments)
        packed = {key: entry.codec.pack(value) for key, value in arguments.items()}
        body = msgspec.msgpack.encode([name, method.name, packed])
        if isinstance(method, Query):
            return body
        return HEAD.pack(CALL, 0, self._needs(entry, method, arguments)) + body

    def arguments_in(self, call: bytes) -> dict[str, Any] | None:
        """Return the arguments in a query, or in a command without its head; None if it is not of these objects."""
        found = self._decoded(call)
        return None if found is None else found[2]

    @staticmethod
    def _needs(entry: Entry, method: Command[..., Any], arguments: dict[str, Any]) -> int:
        inner = max((entry.codec.needs(value) for value in arguments.values()), default=1)
        return max(entry.since, method.since, method.needs(arguments), inner)

    # The state machine.

    def prepare(self, command: bytes, now: int) -> bytes:
        """Stamp cluster time into the command, and the version that it needs. Mark a call that is not understood.

        An exception refuses it: `CommandFailed` while the leader holds, and `VersionUnknown` for a version that the
        leader does not know. It need not end by an entry of its own.
        """
        if len(command) < HEAD.size:
            return command
        kind, _, needs = HEAD.unpack_from(command)
        held = self._held
        if kind == SKIP:
            require_held(held, index_in(command))
        elif held is not None:
            raise CommandFailed(held.text)
        elif kind in (ENABLE, BEGIN) and needs > self.version:
            raise VersionUnknown(f"the leader knows version {self.version}, not {needs}: start the newer release there")
        elif kind == CALL:  # one that needs a version which this code does not know may be anything
            found = self._call_in(command[HEAD.size :]) if needs <= self.version else None
            if found is None:
                kind = REFUSED
            elif self._enabled < self.version:  # what the command says of itself is a client's word
                needs = max(needs, self._needs(*found))
        return HEAD.pack(kind, min(max(now, 0), MAX_INT63), needs) + command[HEAD.size :]

    def latest_time(self) -> int:
        """Return the latest time in any command applied so far, in nanoseconds."""
        return self._now if self._held is None else max(self._now, self._held.latest)

    def apply(self, index: int, command: bytes) -> bytes:
        """Apply a command and return the reply. While this replica holds, keep the command for later."""
        if len(command) < HEAD.size:
            return encode_reply(ReplyKind.UNKNOWN)
        kind, stamp, needs = HEAD.unpack_from(command)
        held = self._held
        if held is not None:
            if kind != SKIP or index_in(command) != held.index:
                held.keep(index, command, stamp)
                return encode_reply(ReplyKind.HELD, held.index)
            self._held = None
            self._skipped = (*self._skipped, held.index)[-_MOST_SKIPPED:]
            for later, kept in held.kept:
                self.apply(later, kept)  # one of them may hold anew, and keeps the rest
        if self._held is None:
            self._now = max(self._now, stamp)
        else:
            self._held.latest = max(self._held.latest, stamp)
        if kind == SKIP:
            return self._skip(index, index_in(command))
        if kind in (ENABLE, BEGIN):
            return self._enable(needs, index, only_first=kind == BEGIN)
        self._begun = True
        if needs > self._enabled:
            return encode_reply(ReplyKind.NOT_ENABLED, self._enabled)
        if kind != CALL:
            return encode_reply(ReplyKind.UNKNOWN)
        found = self._call_in(command[HEAD.size :])
        if found is None:  # the leader did understand it, so this code differs: to go on would be to lose the command
            raise VersionUnknown(
                f"the entry at {index} is a call that this code does not understand{self._name_in(command)}: a command"
                " or a parameter was removed or added without until= or since=. Start the code that the others run, or"
                " the one before theirs if none has it any more, until every node has a snapshot that covers this entry"
            )
        entry, method, arguments = found
        if method.since > self._enabled or 0 < method.until <= self._enabled:
            return encode_reply(ReplyKind.UNKNOWN)
        return self._run(entry, method, arguments, index)

    def _enable(self, version: int, index: int, *, only_first: bool) -> bytes:
        if not (only_first and self._begun):
            if version > self.version:
                raise VersionUnknown(
                    f"the entry at {index} enables version {version} of the objects, and this process knows"
                    f" {self.version}: start the newer release here"
                )
            self._enabled = max(self._enabled, version)
        self._begun = True
        return encode_reply(ReplyKind.ENABLED, self._enabled)

    def _skip(self, index: int, skipped: int) -> bytes:
        if skipped not in self._skipped:
            raise ReplicasDiffer(
                f"the entry at {index} skips the command at {skipped}, which this replica has carried out: its code"
                " differs from that of the others. Start it with theirs, or empty its directory and let it join again"
            )
        return encode_reply(ReplyKind.SKIPPED, skipped)

    def _decoded(self, body: bytes) -> tuple[Entry, str, dict[str, Any]] | None:
        """Return object, method and arguments; None if they are not of these objects, for whatever reason."""
        try:
            name, method, packed = msgspec.msgpack.decode(body)
            entry = self._entries[name]
            return entry, str(method), {str(key): entry.codec.unpack(value) for key, value in packed.items()}
        except MemoryError:
            raise
        except Exception:
            return None

    def _call_in(self, body: bytes) -> tuple[Entry, Command[..., Any], dict[str, Any]] | None:
        """Return object, command and arguments; None if this code has no such command with such parameters."""
        found = self._decoded(body)
        method = None if found is None else found[0].commands.get(found[1])
        if found is None or method is None:
            return None
        try:
            method.signature.bind(**found[2])
        except TypeError:
            return None
        return found[0], method, found[2]

    @staticmethod
    def _name_in(command: bytes) -> str:
        """Return the name of a call that is not understood, in parentheses; "" if it has none."""
        try:
            name, method, _ = msgspec.msgpack.decode(command[HEAD.size :])
        except (msgspec.DecodeError, TypeError, ValueError):
            return ""
        return f" ({name}.{method})"

    def _run(self, entry: Entry, method: Command[..., Any], arguments: dict[str, Any], index: int) -> bytes:
        instance, binding = entry.instance, entry.instance._binding
        label = f"{entry.name}.{method.name}"
        undo = type(instance).undo if method.undo is None else method.undo
        before = copy_fields(instance) if undo or self._on_error != "stop" else None
        here = get_ident()
        binding.moments[here] = moment = Moment(index, self._now, self._enabled, entry.name)
        try:
            with watched(f"the command {label}") if self._development else nullcontext():
                reply = encode_reply(ReplyKind.VALUE, entry.codec.pack(method.function(instance, **arguments)))
            if self._development:
                entry.codec.encode(fields_of(instance))
        except NotDeterministic:
            raise
        except _MACHINE_BOUND as failure:
            raise CommandFailed(f"the command {label} at index {index} raised {told_of(failure)}") from failure
        except entry.declared as failure:
            if self._development:
                require_travels(entry, label, failure)
            reply = self._raised(entry, failure)
            self._take_back(instance, before)
        except Exception as failure:
            if self._on_error == "stop":
                raise CommandFailed(
                    f"the command {label} at index {index} raised {told_of(failure)}, which it does not declare."
                    ' Mend it, or start all nodes with on_error="hold" and skip it'
                ) from failure
            reply = encode_reply(ReplyKind.CRASHED, type(failure).__name__)
            self._take_back(instance, before)
            if self._on_error == "hold":
                self._held = Held(index, label, failure)
                return encode_reply(ReplyKind.HELD, index)
        finally:
            del binding.moments[here]
        if self.listener is not None:
            self.listener(entry.name, moment.notices)
        return reply

    @staticmethod
    def _take_back(instance: Replicated, before: dict[str, Any] | None) -> None:
        if before is not None:
            set_fields(instance, before)

    @staticmethod
    def _raised(entry: Entry, failure: Exception) -> bytes:
        arguments = []
        for argument in failure.args:
            try:
                packed = entry.codec.pack(argument)
                msgspec.msgpack.encode(packed)  # raises for half of a surrogate pair, which no UTF-8 can hold
            except (CallerError, ValueError):
                packed = type(argument).__name__
            arguments.append(packed)
        return encode_reply(ReplyKind.RAISED, type(failure).__name__, arguments)

    def query(self, request: bytes) -> bytes:
        """Answer a query; an error it declares is its answer. Raise `CommandFailed` while this replica holds."""
        if self._held is not None:
            raise CommandFailed(self._held.text)
        found = self._decoded(request)
        method = found[0].queries.get(found[1]) if found is not None else None
        if found is None or method is None:
            return encode_reply(ReplyKind.UNKNOWN)
        entry, _, arguments = found
        try:
            return encode_reply(ReplyKind.VALUE, entry.codec.pack(self.ask(entry, method, arguments)))
        except entry.declared as failure:
            return self._raised(entry, failure)

    def ask(self, entry: Entry, method: Query[..., Any], arguments: dict[str, Any]) -> Any:
        """Return a query's answer from the present state."""
        binding = entry.instance._binding
        here = get_ident()
        binding.moments[here] = Moment(0, self._now, self._enabled, entry.name)
        try:
            before = entry.codec.encode(fields_of(entry.instance)) if self._development else b""
            answer = method.function(entry.instance, **arguments)
            if self._development and entry.codec.encode(fields_of(entry.instance)) != before:
                raise NotDeterministic(f"the query {entry.name}.{method.name} changed the state; only commands may")
            return answer
        finally:
            del binding.moments[here]

    def snapshot_is_long(self) -> bool:
        """Return whether the copy of all fields takes long, so that a thread makes it while commands wait."""
        return is_large({name: fields_of(entry.instance) for name, entry in self._entries.items()})

    def snapshot(self) -> Iterable[bytes]:
        """Return the chunks of all fields of this moment; they are encoded later.

        Raise `CommandFailed` while this replica holds: mended code must find the command in the log.
        """
        if self._held is not None:
            raise CommandFailed(self._held.text)
        held = {name: (entry.codec, copy_for_snapshot(entry.instance)) for name, entry in self._entries.items()}
        return written_snapshot(Head(self._enabled, self._begun, self._now, self._skipped), held, dict(self._unclaimed))

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace all fields. A field that the snapshot lacks begins as `__init__` made it.

        Raise `VersionUnknown`, with nothing changed, for a field that the snapshot has and the class lacks.
        """
        contents = read_snapshot(chunks, {name: entry.codec for name, entry in self._entries.items()})
        head = contents.head
        if head.enabled > self.version:
            raise VersionUnknown(
                f"the snapshot is of version {head.enabled} of the objects, and this process knows {self.version}:"
                " start the newer release here"
            )
        for name, fields in contents.fields.items():
            take_old_fields(self._entries[name], fields)
        self._enabled, self._begun, self._now = head.enabled, head.begun, head.now
        self._held, self._skipped = None, tuple(head.skipped)
        self._unclaimed = contents.unclaimed
        for name, entry in self._entries.items():
            set_fields(entry.instance, {**copied(entry.initial), **contents.fields.get(name, {})})
            if self.listener is not None:
                self.listener(name, None)


def objects_of(given: Replicated | Objects) -> Objects:
    """Return the objects to open. One alone is called `main` in the log. Raise `CallerError` if it has others."""
    if isinstance(given, Objects):
        return given
    if given._binding.name:
        raise CallerError(
            "the object belongs to Objects already: open those. After a node has ended, make new objects for the next"
            " one, which reads their state from its disk"
        )
    return Objects({"main": given})
