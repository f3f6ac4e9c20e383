"""What `help()` shows of a class of settings: every setting with its default and its description.

The description of a field is the string below it, which Python does not keep. So the source is read, once `__doc__` is
asked for; where there is no source, the docstring alone is shown.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Final, TypeVar, final

import attrs

__all__ = ["SettingsDoc", "with_setting_help"]

T = TypeVar("T", bound=type)

_UNITS: Final = {"_KIB": "KiB", "_MIB": "MiB", "SECOND": "s", "MILLISECOND": "ms"}
_WIDTH: Final = 110
_SENTENCE: Final = re.compile(r"\.\s+(?=[A-Z0-9])")


def with_setting_help(kind: T) -> T:
    """Let `help()` of this attrs class show every setting with its description.

    The class is best made with `slots=False`, or `help()` lists all names again, one a line.
    """
    kind.__doc__ = SettingsDoc(kind.__doc__ or "")  # type: ignore[assignment]  # `type` asks a descriptor for the text
    if "__new__" in vars(kind):  # which `signature` prefers, although it only looks at the arguments
        made = inspect.signature(kind.__init__)  # type: ignore[misc]  # that of this class
        signature = made.replace(parameters=list(made.parameters.values())[1:], return_annotation=made.empty)
        setattr(kind, "__signature__", signature)  # noqa: B010  # no declared attribute of a class
    return kind


@final
class SettingsDoc:
    """The docstring of a class of settings: a descriptor, so that the text is made when it is asked for."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text: Final = text
        """The docstring as it was written, without the settings."""

    def __get__(self, instance: object, kind: type) -> str:
        """Return the docstring with all settings."""
        lines = [f"  {line}" for line in _settings(kind)]
        return (
            "\n".join([inspect.cleandoc(self.text), "", "Settings, with defaults:", "", *lines]) if lines else self.text
        )


def _settings(kind: type) -> Iterator[str]:
    """Yield for each setting its name with the default, and the first sentence of its description."""
    described = dict(_described(kind))
    for field in attrs.fields(kind) if described else ():
        value, text = described[field.name]
        default = _default(field, value)
        yield field.name + (f" = {default}" if default else "")
        first = _SENTENCE.split(text)[0].rstrip(".,")
        yield from textwrap.wrap(first, _WIDTH, initial_indent="    ", subsequent_indent="    ")


def _described(kind: type) -> Iterator[tuple[str, tuple[ast.expr | None, str]]]:
    """Yield for each field of the class its name, the source of its default, and the text below it."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return
    (found,) = tree.body
    assert isinstance(found, ast.ClassDef)
    for statement, after in zip(found.body, [*found.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = " ".join(str(after.value.value).split())
            yield statement.target.id, (statement.value, text)


def _default(field: attrs.Attribute[object], value: ast.expr | None) -> str:
    """Return the default in few words; empty if there is none."""
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]  # its stub is a function
        made = repr(field.default.factory()) if field.default.factory is dict else ""  # type: ignore[attr-defined]
        return made or f"{field.default.factory.__name__}()"  # type: ignore[attr-defined]
    if isinstance(value, ast.BinOp) and isinstance(value.right, ast.Name) and value.right.id in _UNITS:
        return f"{ast.unparse(value.left)} {_UNITS[value.right.id]}"
    if field.default == "":
        return '""'
    return "" if field.default is attrs.NOTHING else str(field.default)
