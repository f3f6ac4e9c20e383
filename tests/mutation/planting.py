"""Plant a mistake in the source of a module: find its place by function and statement, and replace it there.

The place is found in the syntax tree, so comments, formatting and changes elsewhere in the function do not matter. The
changed module is written from its tree, without comments.

`...` in `old` stands for any expression, any one statement, or, alone in a block, the whole block. In `new` it is what
it stood for in `old`, in order: `if self._open: ...` may become `if True: ...`.
"""

from __future__ import annotations

import ast
import copy
import textwrap
from collections.abc import Iterator
from typing import Any, TypeAlias, cast

from tests.mutation.catalogue import Mutant

__all__ = ["CannotBePlanted", "planted"]

_Held: TypeAlias = list[Any]
"""What each `...` stood for: an expression, a statement, or the statements of a block."""

_IRRELEVANT = frozenset({"ctx", "kind", "type_comment"})


class CannotBePlanted(Exception):
    """The place of a mutant is not there, or there is more than one: the catalogue has to follow the code."""


def planted(mutant: Mutant, source: str) -> str:
    """Return the source with the mistake. Raise `CannotBePlanted` unless its place is there exactly once."""
    tree = ast.parse(source)
    scope = _scope(mutant, tree)
    old, new = _parsed(mutant, mutant.old), _parsed(mutant, mutant.new)
    if _is_expression(old) and _is_expression(new):
        swap = _Swap(cast("ast.Expr", old[0]).value, cast("ast.Expr", new[0]).value)
        swap.visit(scope)
        count = swap.count
    else:
        count = _swap_statements(scope, old, new)
    if count != 1:
        raise CannotBePlanted(
            f"{mutant.name}: {mutant.function or 'the module'} in {mutant.file} has this {count} times, not once:\n"
            f"{textwrap.indent(textwrap.dedent(mutant.old).strip(), '    ')}\n"
            "make `function`, `old` and `new` of the entry in tests/mutation/catalogue.py follow the code"
        )
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _parsed(mutant: Mutant, text: str) -> list[ast.stmt]:
    try:
        return ast.parse(textwrap.dedent(text).strip()).body
    except SyntaxError as failure:
        raise CannotBePlanted(f"{mutant.name}: this is no expression and no statement ({failure}): {text}") from None


def _is_expression(code: list[ast.stmt]) -> bool:
    return len(code) == 1 and isinstance(code[0], ast.Expr)


# The place.


def _scope(mutant: Mutant, tree: ast.Module) -> ast.AST:
    """Return the function, the class or the constant that the mutant names, the module where it names nothing."""
    found: ast.AST = tree
    for name in mutant.function.split(".") if mutant.function else ():
        inner = next((node for node in getattr(found, "body", ()) if name in _names(node)), None)
        if inner is None:
            raise CannotBePlanted(f"{mutant.name}: {mutant.file} has no {mutant.function} (no {name})")
        found = inner
    return found


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


# Replacing.


class _Swap(ast.NodeTransformer):
    """Replaces each expression that matches `old`, and counts them."""

    def __init__(self, old: ast.expr, new: ast.expr) -> None:
        self.count = 0
        self._old = old
        self._new = new

    def visit(self, node: ast.AST) -> ast.AST:
        held: _Held = []
        if isinstance(node, ast.expr) and _matches(self._old, node, held):
            self.count += 1
            return cast("ast.AST", _filled(self._new, held))
        return self.generic_visit(node)


def _swap_statements(scope: ast.AST, old: list[ast.stmt], new: list[ast.stmt]) -> int:
    """Replace each run of statements that matches `old`. Return how many there were."""
    count = 0
    for body, may_be_empty in _blocks(scope):
        for at in reversed(range(len(body) - len(old) + 1)):
            held: _Held = []
            if all(_matches(old[place], body[at + place], held) for place in range(len(old))):
                count += 1
                body[at : at + len(old)] = [_filled(statement, held) for statement in new]
        if not body and not may_be_empty:
            body.append(ast.Pass())
    return count


def _blocks(scope: ast.AST) -> Iterator[tuple[list[ast.stmt], bool]]:
    """Yield every block, and whether there may be none in its place."""
    for node in list(ast.walk(scope)):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list) and body:
                yield body, name != "body"


# Patterns.


def _matches(pattern: object, node: object, held: _Held) -> bool:
    """Return whether the code is what the pattern says. `held` takes what each `...` stands for."""
    if _is_dots(pattern):
        held.append(node)
        return True
    if isinstance(pattern, list) and isinstance(node, list):
        if _is_block_of_dots(pattern) and node and isinstance(node[0], ast.stmt):
            held.append(node)
            return True
        return len(pattern) == len(node) and all(_matches(*pair, held) for pair in zip(pattern, node, strict=True))
    if isinstance(pattern, ast.AST) and isinstance(node, ast.AST):
        fields = [name for name in pattern._fields if name not in _IRRELEVANT]
        return type(pattern) is type(node) and all(
            _matches(getattr(pattern, name, None), getattr(node, name, None), held) for name in fields
        )
    return type(pattern) is type(node) and pattern == node


def _filled(pattern: Any, held: _Held) -> Any:
    """Return a copy in which every `...` is what it stood for."""
    if _is_dots(pattern) and held:
        return copy.deepcopy(held.pop(0))
    if isinstance(pattern, list):
        if _is_block_of_dots(pattern) and held and isinstance(held[0], list):
            return copy.deepcopy(held.pop(0))
        return [_filled(each, held) for each in pattern]
    if isinstance(pattern, ast.AST):
        return type(pattern)(**{name: _filled(getattr(pattern, name, None), held) for name in pattern._fields})
    return pattern


def _is_dots(pattern: object) -> bool:
    if isinstance(pattern, ast.Expr):
        pattern = pattern.value
    return isinstance(pattern, ast.Constant) and pattern.value is ...


def _is_block_of_dots(pattern: list[Any]) -> bool:
    return len(pattern) == 1 and isinstance(pattern[0], ast.Expr) and _is_dots(pattern[0])
