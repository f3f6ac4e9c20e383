"""`Replicated`, `@command` and `@query`: classes whose methods are carried out on every replica.

    class Bank(Replicated):
        def __init__(self) -> None:
            self.accounts: dict[str, int] = {}

        @command
        def deposit(self, account: str, amount: int) -> int:
            self.accounts[account] = self.accounts.get(account, 0) + amount
            return self.accounts[account]

        @query
        def balance(self, account: str) -> int:
            return self.accounts.get(account, 0)

An instance is the local replica and the way to the cluster at once: `await bank.deposit("ada", 5)` sends the command,
and its body runs on every replica, in the order of the log. Nothing else may change the fields.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Hashable, Mapping
from functools import update_wrapper
from hashlib import blake2b
from random import Random
from threading import get_ident
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    final,
    get_type_hints,
    overload,
)

import attrs

from raft_core.errors import CallerError
from raft_core.node.opening import Opening
from raft_objects.codec import Since, classes_in

__all__ = [
    "Binding",
    "BoundCommand",
    "BoundQuery",
    "Command",
    "Moment",
    "Query",
    "Replicated",
    "Site",
    "command",
    "fields_in_class",
    "query",
]

P = ParamSpec("P")
R = TypeVar("R")
_NANOSECONDS: Final = 1_000_000_000
OPENERS: Final[list[Callable[[Any], Opening]]] = []
"""One function, of `raft_objects.opening`, which imports what stands on this module."""


class Site(Protocol):
    """Where calls of an open object go: the node's part of `raft_objects`."""

    async def command(self, name: str, command: Command[..., Any], arguments: dict[str, Any], timeout: float) -> Any:
        """Send a command and return its result, or raise its error."""
        ...

    async def query(self, name: str, query: Query[..., Any], arguments: dict[str, Any], timeout: float) -> Any:
        """Ask for a linearizable answer."""
        ...

    def ask_here(self, name: str, query: Query[..., Any], arguments: dict[str, Any]) -> Any:
        """Return the local replica's answer."""
        ...

    async def enable(self, version: int, *, timeout: float = 30.0) -> None:
        """Enable a version of the objects."""
        ...

    async def skip(self, index: int, *, timeout: float = 30.0) -> None:
        """Skip the command at which all replicas hold."""
        ...


@final
@attrs.define(eq=False)
class Moment:
    """What a command may know besides its arguments: equal on all replicas."""

    index: int
    now: int
    version: int
    object: str
    notices: list[Hashable] = attrs.field(factory=list)
    _random: Random | None = None

    @property
    def random(self) -> Random:
        """The command's own generator, seeded from index, time and object."""
        if self._random is None:
            seed = blake2b(f"{self.index} {self.now} {self.object}".encode(), digest_size=8).digest()
            self._random = Random(int.from_bytes(seed, "big"))
        return self._random


@final
@attrs.define(eq=False)
class Binding:
    """An instance's place: its name, the site it is open at, and the command or query that runs now, by thread."""

    name: str = ""
    site: Site | None = None
    moments: dict[int, Moment] = attrs.field(factory=dict)

    def moment_here(self) -> Moment | None:
        """Return the moment of the command that this very thread runs. Another thread may be applying meanwhile."""
        return self.moments.get(get_ident())


_IN_CLASS: Final[dict[type, frozenset[str]]] = {}


def fields_in_class(kind: type) -> frozenset[str]:
    """Return the names that may be fields whatever `__init__` does: annotations, defaults and slots of the class."""
    found = _IN_CLASS.get(kind)
    if found is None:
        names = [name for base in kind.__mro__ for name in (*vars(base), *inspect.get_annotations(base))]
        found = _IN_CLASS[kind] = frozenset(names)
    return found


class Replicated:
    """Base of replicated classes; see the module. Fields hold plain values, containers, attrs classes, dataclasses.

    `__init__` makes the state before the first command. It must give the same state in every process.
    """

    __slots__ = ("_binding",)

    undo: ClassVar[bool] = True
    """Whether a command's changes are taken back if it raises. It costs a copy of all fields before each command. Set
    it to False for large states; then a command must raise before it changes anything.
    """
    errors: ClassVar[tuple[type[Exception], ...]] = ()
    """Further exceptions that commands raise on purpose."""
    classes: ClassVar[tuple[type, ...]] = ()
    """Further attrs classes, dataclasses and enums in the state, beside those in annotations."""
    old_fields: ClassVar[Mapping[str, str | None]] = {}
    """Fields that snapshots of older code have and this class has not: the field that takes the value, or None to drop
    it. A snapshot with any other field ends the node, for its value would be lost: `{"amount": "total", "note": None}`.
    """
    checks_types: ClassVar[bool] = False
    """Whether a call raises `TypeError`, before anything is sent, if an argument annotated as `str`, `int`, `float` or
    `bool` is none. A name that is a number, beside others that are texts, could be put into no sorted list.
    """

    _binding: Binding

    def __new__(cls, *_given: object, **_named: object) -> Self:
        """Make the instance with its binding, so that subclasses need not call `super().__init__`."""
        made = super().__new__(cls)
        object.__setattr__(made, "_binding", Binding())
        return made

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field: in `__init__` and in commands only."""
        binding = self._binding
        if binding.name and binding.moment_here() is None:
            raise CallerError(f"{name} is replicated: only a command may change it")
        if binding.name and name not in fields_in_class(type(self)) and not hasattr(self, name):
            raise CallerError(
                f"{name} is a new field: give it its first value in __init__, or annotate it in the class"
            )
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        """Refuse to delete a field: a replica that reads a snapshot would have it again, as `__init__` makes it."""
        if self._binding.name:
            raise CallerError(f"{name} would be there again after a restart: set it to None instead")
        object.__delattr__(self, name)

    @property
    def now(self) -> float:
        """Cluster time in seconds. Use differences only: it goes on as real time does, whatever clocks do."""
        return self._moment.now / _NANOSECONDS

    @property
    def now_ns(self) -> int:
        """Cluster time in nanoseconds."""
        return self._moment.now

    @property
    def index(self) -> int:
        """The command's place in the log: it rises from command to command, on all objects of the log."""
        return self._moment.index

    @property
    def random(self) -> Random:
        """A generator of random numbers, new for each command, equal on all replicas."""
        return self._moment.random

    @property
    def version(self) -> int:
        """The version enabled in the log; changed behaviour waits for it: `if self.version >= 2`."""
        return self._moment.version

    def __raft_open__(self) -> Opening:
        """Let `open_node` take this one object. Its name in the log is `main`. `Objects` takes more, and settings."""
        return OPENERS[0](self)

    def notify(self, *keys: Hashable) -> None:
        """Wake those who wait for these keys at this replica, once the command is done."""
        self._moment.notices.extend(keys)

    @property
    def _moment(self) -> Moment:
        moment = self._binding.moment_here()
        if moment is None:
            raise CallerError("now, index, random, version and notify belong to a command or query that is running")
        return moment


# Methods.


class _Method(Generic[P, R]):
    """A method with its signature. Its parameters have names, so that they can gain others."""

    def __init__(self, function: Callable[Concatenate[Any, P], R], since: int) -> None:
        self.function: Final = function
        self.since: Final = since
        self.name = function.__name__
        update_wrapper(self, function)
        if inspect.iscoroutinefunction(function):
            raise CallerError(f"{self.name} is async, but a replica cannot wait: await before or after the command")
        first, *rest = inspect.signature(function).parameters.values()
        kinds = {first.POSITIONAL_OR_KEYWORD, first.KEYWORD_ONLY}
        if any(parameter.kind not in kinds for parameter in rest):
            raise CallerError(f"{self.name}: parameters need names, so *args, **kwargs and / are not possible")
        self.signature: Final = inspect.Signature(rest)
        self._sinces: dict[str, int] | None = None
        self._plain: dict[str, type] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __call__(self, instance: Replicated, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call it on an instance, as `Bank.deposit(bank, "ada", 5)`. So `help` and `inspect.signature` know it."""
        return getattr(instance, self.name)(*args, **kwargs)

    def arguments(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """Return the arguments by name. Raise `TypeError` as a call would."""
        return self.signature.bind(*args, **kwargs).arguments

    def require_types(self, arguments: dict[str, Any]) -> None:
        """Raise `TypeError` for an argument that is not of the plain type in its annotation. An int is a float."""
        if self._plain is None:
            hints = get_type_hints(self.function)
            self._plain = {name: hint for name, hint in hints.items() if hint in (str, int, float, bool)}
        for name, value in arguments.items():
            wanted = self._plain.get(name)
            if wanted is None or type(value) is wanted or (wanted is float and type(value) is int):
                continue
            raise TypeError(f"{self.name}: {name} is of type {wanted.__name__}, not {type(value).__name__}")

    def reachable_classes(self) -> list[type]:
        """Return the classes in the annotations. Raise `CallerError` if one cannot be resolved."""
        try:
            hints = get_type_hints(self.function, include_extras=True)
        except NameError as failure:
            raise CallerError(f"an annotation of {self.name} names what its module does not have: {failure}") from None
        return [one for hint in hints.values() for one in classes_in(hint)]

    def needs(self, arguments: dict[str, Any]) -> int:
        """Return the version that the method and the given parameters ask for."""
        if self._sinces is None:
            hints = get_type_hints(self.function, include_extras=True)
            marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
            self._sinces = {
                name: max((mark.version for mark in found if isinstance(mark, Since)), default=1)
                for name, found in marks.items()
            }
        return max((self._sinces.get(name, 1) for name in arguments), default=1)


@final
class Command(_Method[P, R]):
    """A method that changes the state, on every replica."""

    def __init__(self, function: Callable[Concatenate[Any, P], R], since: int, until: int, undo: bool | None) -> None:
        super().__init__(function, since)
        self.until: Final = until
        self.undo: Final = undo

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Replicated, owner: type | None = None) -> BoundCommand[P, R]: ...
    def __get__(self, instance: Replicated | None, owner: type | None = None) -> Self | BoundCommand[P, R]:
        """Return the command of an instance."""
        return self if instance is None else BoundCommand(instance._binding, self)


@final
class Query(_Method[P, R]):
    """A method that reads the state, on one replica."""

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Replicated, owner: type | None = None) -> BoundQuery[P, R]: ...
    def __get__(self, instance: Replicated | None, owner: type | None = None) -> Self | BoundQuery[P, R]:
        """Return the query of an instance."""
        return self if instance is None else BoundQuery(instance._binding, self)


DEFAULT_TIMEOUT: Final = 30.0
"""Seconds after which a call gives up, if `within` does not say otherwise."""


@final
class BoundCommand(Generic[P, R]):
    """A command of an object: call it and await the result."""

    __slots__ = ("_binding", "_command", "_timeout")

    def __init__(self, binding: Binding, command: Command[P, R], timeout: float = DEFAULT_TIMEOUT) -> None:
        self._binding = binding
        self._command = command
        self._timeout = timeout

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Replicate the command and return its result once it is applied here or at the leader.

        Raise what the command raises on purpose; `Refused` if it was not carried out, and `OutcomeUnknown` if that is
        still unknown at the deadline. It is applied once, however often it had to be sent.
        """
        site = _site(self._binding, self._command.name)
        return site.command(self._binding.name, self._command, self._command.arguments(*args, **kwargs), self._timeout)

    @property
    def __signature__(self) -> inspect.Signature:
        """The parameters, for `inspect.signature`."""
        return self._command.signature

    def within(self, seconds: float) -> BoundCommand[P, R]:
        """Return the same command with another deadline."""
        return BoundCommand(self._binding, self._command, seconds)


@final
class BoundQuery(Generic[P, R]):
    """A query of an object: call it and await a linearizable answer, or ask the local replica."""

    __slots__ = ("_binding", "_query", "_timeout")

    def __init__(self, binding: Binding, query: Query[P, R], timeout: float = DEFAULT_TIMEOUT) -> None:
        self._binding = binding
        self._query = query
        self._timeout = timeout

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the answer, which sees every command that was acknowledged before the call, anywhere."""
        site = _site(self._binding, self._query.name)
        return site.query(self._binding.name, self._query, self._query.arguments(*args, **kwargs), self._timeout)

    @property
    def __signature__(self) -> inspect.Signature:
        """The parameters, for `inspect.signature`."""
        return self._query.signature

    def within(self, seconds: float) -> BoundQuery[P, R]:
        """Return the same query with another deadline."""
        return BoundQuery(self._binding, self._query, seconds)

    def here(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the local replica's answer at once. It may be old. Raise `CallerError` outside the node's thread."""
        site = _site(self._binding, self._query.name)
        return site.ask_here(self._binding.name, self._query, self._query.arguments(*args, **kwargs))  # type: ignore[no-any-return]


def _site(binding: Binding, method: str) -> Site:
    if binding.moment_here() is not None:
        raise CallerError(f"{method} was called by a command or query; put shared code into a plain method")
    if binding.site is None:
        raise CallerError(f"{method}: the object is not open; add it to Objects, and open those")
    return binding.site


@overload
def command(function: Callable[Concatenate[Any, P], R], /) -> Command[P, R]: ...
@overload
def command(
    *, since: int = 1, until: int = 0, undo: bool | None = None
) -> Callable[[Callable[Concatenate[Any, P], R]], Command[P, R]]: ...
def command(
    function: Callable[Concatenate[Any, P], R] | None = None,
    /,
    *,
    since: int = 1,
    until: int = 0,
    undo: bool | None = None,
) -> Any:
    """Declare a command. Once version `until` is enabled it is refused, and until `since` is.

    `undo`: in place of the class's.
    """
    if function is not None:
        return Command(function, since, until, undo)
    return lambda function: Command(function, since, until, undo)


def query(function: Callable[Concatenate[Any, P], R], /) -> Query[P, R]:
    """Declare a query: a method that reads the state and changes nothing."""
    return Query(function, 1)
