"""Options of a command: one table gives its flags, its environment variables, its help and its typed values.

A value can come from a flag, an environment variable or a TOML file; that is also their order of precedence. `Values`
keeps each value together with its origin, so an error can name the flag, the variable, or the file and its key.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, final

import attrs
from cattrs import Converter
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override

from raft_core.errors import SettingsError

__all__ = [
    "Names",
    "Option",
    "SeveralWrong",
    "ValueAt",
    "Values",
    "add_flags",
    "check_all",
    "known_names",
    "register",
    "structure",
    "unused",
    "with_variables",
]

Names: TypeAlias = tuple[str, ...]
"""The place of a value: ("listen",) or ("settings", "election_ticks")."""

T = TypeVar("T")


@final
@attrs.frozen(kw_only=True)
class Option:
    """An option of a command: the flag `--name` and an environment variable."""

    name: str
    """With dashes, as in the flag."""
    help: str
    metavar: str = ""
    """Name of the value in the help text; empty for a switch, which takes no value."""
    default: str = ""
    """The default as the help text shows it; empty if there is none."""
    positional: bool = False
    """Written without a flag, any number of times."""
    repeated: bool = False
    """May be given several times. In the variable, spaces or commas separate the values."""
    required: bool = False
    variable: str = ""
    """Name of the environment variable; empty if the option has none."""
    old_name: str = ""
    """Name of the flag in an earlier release, still accepted."""

    @property
    def field(self) -> str:
        """Name of the field that takes the value."""
        return self.name.replace("-", "_")

    @property
    def help_text(self) -> str:
        """The help text with the default and the variable."""
        notes = [f"default: {self.default}"] if self.default else []
        notes += [f"${self.variable}"] if self.variable else []
        return f"{self.help} [{', '.join(notes)}]" if notes else self.help


def with_variables(prefix: str, *options: Option) -> tuple[Option, ...]:
    """Give each option a variable: the prefix, then its name in capitals."""
    return tuple(attrs.evolve(option, variable=prefix + option.field.upper()) for option in options)


def add_flags(parser: argparse.ArgumentParser, options: Sequence[Option]) -> None:
    """Add a flag for each option. The parsed namespace contains only flags that were given."""
    for option in options:
        flags = [f"--{name}" for name in (option.name, option.old_name) if name]
        shared: dict[str, Any] = {
            "dest": option.field, "help": option.help_text.replace("%", "%%"), "default": argparse.SUPPRESS,
        }  # fmt: skip
        if option.positional:
            text = option.help_text.replace("%", "%%")
            parser.add_argument(option.field, metavar=option.metavar, nargs="*", help=text, default=argparse.SUPPRESS)
        elif option.metavar:
            action = "append" if option.repeated else "store"
            parser.add_argument(*flags, metavar=option.metavar, action=action, **shared)
        elif option.variable:  # the variable may switch it on, so a flag can switch it off
            parser.add_argument(*flags, action=argparse.BooleanOptionalAction, **shared)
        else:
            parser.add_argument(*flags, action="store_true", **shared)


@final
@attrs.define
class Values:
    """Values as they were given, in nested tables, and the origin of each."""

    tree: dict[str, Any] = attrs.field(factory=dict)
    """`Any`: flags and variables are texts, and a file may contain anything; `structure` checks them."""
    origins: dict[Names, str] = attrs.field(factory=dict)

    def put(self, names: Names, value: object, origin: str) -> None:
        """Set a value; it replaces one of lower precedence. Raise `SettingsError` if its table is no table."""
        table = self.tree
        for depth, name in enumerate(names[:-1], 1):
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise SettingsError(f"{self.origin(names[:depth])}: {name} is a table of names and values")
        table[names[-1]] = value
        self.origins[names] = origin

    def clear(self, table: str) -> None:
        """Remove a whole table."""
        self.tree.pop(table, None)
        self.origins = {names: origin for names, origin in self.origins.items() if names[0] != table}

    def take_out(self, name: str) -> object:
        """Remove a plain value and return it; "" if it was not given."""
        self.origins.pop((name,), None)
        return self.tree.pop(name, "")

    def at(self, names: Names) -> object:
        """Return the value in this place."""
        value: Any = self.tree
        for name in names:
            value = value[name]
        return value

    def origin(self, names: Names) -> str:
        """Return the origin of this value, or of the table which contains it; empty if it was not given."""
        while names and names not in self.origins:
            names = names[:-1]
        return self.origins.get(names, "")

    def read_file(self, path: Path) -> None:
        """Take the values of a TOML file. Raise `SettingsError` if it is not valid, and `OSError`."""
        try:
            raw = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
            raise SettingsError(f"{path} is not a TOML file: {failure}") from None
        self._take_table((), raw, f"{path}: ")

    def _take_table(self, place: Names, table: Mapping[str, Any], prefix: str) -> None:
        spelled: dict[str, str] = {}
        for key, value in table.items():
            name = key.replace("-", "_")
            if name in spelled:
                raise SettingsError(f"{prefix}{key} is also given as {spelled[name]}")
            spelled[name] = key
            self.put((*place, name), {} if isinstance(value, dict) else value, f"{prefix}{key}")
            if isinstance(value, dict):
                self._take_table((*place, name), value, f"{prefix}{key}.")

    def given(self, option: Option, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[Any, str]]:
        """Yield the values of the option's flag, or else of its variable, each with its origin.

        A variable with an empty text counts as not given. Raise `SettingsError` if a required option is missing.
        """
        text = environ.get(option.variable, "") if option.variable else ""
        if option.field in flags:
            value = flags[option.field]
            for each in value if option.repeated else [value]:
                flag = each if option.positional else f"--{option.name}"
                yield each, f"{flag} {each}" if option.repeated and not option.positional else flag
        elif text:
            for each in re.split(r"[,\s]+", text.strip(", \t\n")) if option.repeated else [text]:
                yield each, f"{option.variable} ({each})" if option.repeated else option.variable
        elif option.required:
            raise SettingsError(f"--{option.name} is missing" + (f" (or {option.variable})" if option.variable else ""))

    def take(self, options: Sequence[Option], flags: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Take the values of plain options: each sets the field of its name. Raise `SettingsError`."""
        for option in options:
            found = list(self.given(option, flags, environ))
            if found and option.repeated:
                self.put((option.field,), [value for value, _ in found], ", ".join(origin for _, origin in found))
            elif found:
                self.put((option.field,), *found[0])


_NOT_OURS: Final = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT|PORT)(_.*)?|RAFT_KV_PORT(_.*)?")
"""Variables set by Kubernetes in every container, for a service named raft-kv."""


def unused(known: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return the variables which begin like ours and belong to no option: probably misspelled."""
    ours = (name for name in environ if name.startswith("RAFT_KV_") and not _NOT_OURS.fullmatch(name))
    return sorted(name for name in ours if name not in known)


# From given values to typed ones.


@final
class ValueAt(ValueError):
    """A value in a table is wrong; `name` is its key."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name: Final = name


@final
class SeveralWrong(SettingsError):
    """Several checks of a value have failed, each with an error of its own."""

    def __init__(self, problems: Sequence[SettingsError]) -> None:
        super().__init__("\n  ".join(map(str, problems)))
        self.problems: Final = tuple(problems)


def check_all(*checks: Callable[[], object]) -> None:
    """Make all checks. Raise the `SettingsError` of the one that failed, or `SeveralWrong`."""
    found = []
    for check in checks:
        try:
            check()
        except SettingsError as problem:
            found.append(problem)
    if found:
        raise found[0] if len(found) == 1 else SeveralWrong(found)


@final
class _UnknownName(SettingsError):
    """There is no value of this name."""


_TRUTH: Final = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


def _boolean(value: object, _: object) -> bool:
    if str(value).lower() not in _TRUTH:
        raise ValueError(f"{value!r} is neither true nor false")
    return _TRUTH[str(value).lower()]


def _integer(value: object, _: object) -> int:
    with_reason = f"{value!r} is not a whole number"
    if isinstance(value, bool | float):
        raise ValueError(with_reason)
    try:
        return int(str(value))
    except ValueError:
        raise ValueError(with_reason) from None


def _number(value: object, _: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None


def _text(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text in quotation marks")
    return value


def _choice(value: object, of: type[Enum]) -> Enum:
    try:
        return of(value)
    except ValueError:
        raise ValueError(f"{value!r} is none of {', '.join(str(each.value) for each in of)}") from None


_CONVERTER: Final = Converter(forbid_extra_keys=True, detailed_validation=True)
_CONVERTER.register_structure_hook(bool, _boolean)
_CONVERTER.register_structure_hook(int, _integer)
_CONVERTER.register_structure_hook(float, _number)
_CONVERTER.register_structure_hook_func(lambda of: of is str, _text)  # not for its subclasses
_CONVERTER.register_structure_hook_func(lambda of: isinstance(of, type) and issubclass(of, Enum), _choice)
_HIDDEN: Final[dict[type, frozenset[str]]] = {}


def _without_type(hook: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: hook(value)


def register(of: type, hidden: Sequence[str] = (), **hooks: Callable[[Any], Any]) -> None:
    """Have `structure` make this class: without the `hidden` fields, and other fields by functions of their own."""
    overrides = {name: override(omit=True) for name in hidden}
    overrides |= {name: override(struct_hook=_without_type(hook)) for name, hook in hooks.items()}
    make: Callable[[Any, Any], object] = make_dict_structure_fn(of, _CONVERTER, **overrides)  # type: ignore[arg-type]

    def checked(value: object, _: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError(f"{value!r} is not a table of names and values")
        return make(value, of)

    _CONVERTER.register_structure_hook(of, checked)
    _HIDDEN[of] = frozenset(hidden)


def structure(values: Values, into: type[T], tables: Sequence[str] = ()) -> T:
    """Make a value of class `into`. Raise `SettingsError`, which names every wrong value and its origin.

    A class whose fields cannot be made is not checked as a whole. So unknown names, and those of `tables` in which
    something is wrong, are left out, to look at the rest once more.
    """
    problems: list[tuple[Names, Exception]] = []
    tree: dict[str, Any] | None = values.tree
    while tree is not None:
        try:
            made = _CONVERTER.structure(tree, into)
        except ClassValidationError as failure:
            found = list(_problems(failure, ()))
            problems += found
            tree = _rest(tree, found, tables)
        else:
            if not problems:
                return made
            tree = None
    text = "\n  ".join(dict.fromkeys(_described(values, names, problem) for names, problem in problems))
    kinds = {type(problem) for _, problem in problems if isinstance(problem, SettingsError)}
    raise (kinds.pop() if len(kinds) == 1 else SettingsError)(text)


def _rest(
    tree: Mapping[str, Any], found: Sequence[tuple[Names, Exception]], tables: Sequence[str]
) -> dict[str, Any] | None:
    """Return the values without those found wrong; None if the others mean nothing without them."""
    rest = {name: dict(value) if isinstance(value, dict) else value for name, value in tree.items()}
    for names, problem in found:
        if names and names[0] in tables:
            rest.pop(names[0], None)
        elif len(names) == 1 and isinstance(problem, _UnknownName):
            del rest[names[0]]
        else:
            return None
    return rest


def _problems(failure: Exception, names: Names) -> Iterator[tuple[Names, Exception]]:
    """Yield each problem with the place of the value."""
    if isinstance(failure, ClassValidationError):
        placed, others = failure.group_exceptions()
        for problem, note in placed:
            yield from _problems(problem, (*names, note.name))
        for problem in others:
            yield from _problems(problem, names)
    elif isinstance(failure, ValueAt):
        yield (*names, failure.name), failure
    elif isinstance(failure, SeveralWrong):
        for each in failure.problems:
            yield names, each
    elif isinstance(failure, ForbiddenExtraKeysError):
        for name in sorted(failure.extra_fields):
            yield (*names, name), _unknown(name, failure.cl)
    else:
        yield names, failure


def _unknown(name: str, of: type) -> SettingsError:
    known = known_names(of)
    likely = get_close_matches(name, known, 1)
    hint = f"did you mean {likely[0]}?" if likely else f"known are {', '.join(known)}"
    return _UnknownName(f"there is no setting {name!r}; {hint}")


def known_names(of: type) -> list[str]:
    """Return the names of all values that a table for this class may contain."""
    return sorted(set(attrs.fields_dict(of)) - _HIDDEN.get(of, frozenset()))


def _described(values: Values, names: Names, problem: Exception) -> str:
    """Return the problem in words, with the origin of the value."""
    text = str(problem)
    if isinstance(problem, KeyError):
        return f"{names[-1]} is missing"
    if names in values.origins and not isinstance(values.at(names), dict):
        return f"{values.origins[names]}: {text}"
    found = [origin for place, origin in values.origins.items() if _mentions(text, place, values.at(place))]
    if found:
        return f"{text} (from {', '.join(dict.fromkeys(found))})"
    return f"{values.origin(names) or '.'.join(names)}: {text}" if names else text


def _mentions(text: str, names: Names, value: object) -> bool:
    """Whether a text about several values names this one, or quotes it."""
    words = {names[-1], names[-1].replace("_", "-")} if not names[-1].isdigit() else set()
    if isinstance(value, str) and len(value) > 2:
        words.add(value)
    return any(re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", text) for word in words)
