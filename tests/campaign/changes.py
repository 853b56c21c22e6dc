"""The small changes that `mutants.py` makes in a module.

They are made in the bodies of functions, in defaults, and in a module's constants; never in
annotations, docstrings, imports, decorators and type variables.
"""

from __future__ import annotations

import ast
import copy
import sys
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OPPOSITES = [
    (ast.Lt, ast.GtE),
    (ast.Gt, ast.LtE),
    (ast.Eq, ast.NotEq),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
]
_TURNED: dict[Any, Any] = {a: b for one in _OPPOSITES for a, b in (one, one[::-1])}
_MOVED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_SKIPPED = {"annotation", "returns", "decorator_list", "bases"}


# Operators: each yields what may stand in place of a node


def _compared(node: ast.Compare) -> Iterator[ast.AST]:
    """Turn a comparison, or move it by one."""
    for i, op in enumerate(node.ops):
        for other in filter(None, (_TURNED[type(op)], _MOVED.get(type(op)))):
            yield _changed(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])


def _combined(node: ast.BoolOp) -> Iterator[ast.AST]:
    """Swap `and` and `or`, or drop an operand."""
    yield _changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for i in range(len(node.values)):
        rest = [*node.values[:i], *node.values[i + 1 :]]
        yield rest[0] if len(rest) == 1 else _changed(node, values=rest)


def _conditional(node: ast.If | ast.While | ast.IfExp) -> Iterator[ast.AST]:
    """Negate a condition, unless it is a comparison: that is turned already."""
    if not isinstance(node.test, ast.Compare):
        yield _changed(node, test=_negated(node.test))


def _filtered(node: ast.comprehension) -> Iterator[ast.AST]:
    """Drop a filter, or negate it."""
    for i, test in enumerate(node.ifs):
        before, after = node.ifs[:i], node.ifs[i + 1 :]
        yield _changed(node, ifs=[*before, *after])
        if not isinstance(test, ast.Compare):
            yield _changed(node, ifs=[*before, _negated(test), *after])


def _valued(node: ast.Constant) -> Iterator[ast.AST]:
    """Add one to a number, negate a boolean, or change a text."""
    if isinstance(node.value, bool):
        yield _changed(node, value=not node.value)
    elif isinstance(node.value, (int, float)):
        yield _changed(node, value=node.value + 1)
    elif isinstance(node.value, (str, bytes)):
        yield _changed(node, value="other" if isinstance(node.value, str) else b"other")


def _called(node: ast.Call) -> Iterator[ast.AST]:
    """Drop a keyword argument, or let `suppress` suppress no error."""
    for i in range(len(node.keywords)):
        yield _changed(node, keywords=[*node.keywords[:i], *node.keywords[i + 1 :]])
    if isinstance(node.func, ast.Name) and node.func.id == "suppress":
        yield _changed(node, args=[])


def _done(node: ast.stmt) -> Iterator[ast.AST]:
    """Drop a call, an assignment or a `raise`."""
    if not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call):
        yield ast.copy_location(ast.Pass(), node)


def _returned(node: ast.Return) -> Iterator[ast.AST]:
    """Return None, unless the function returns None or False."""
    if node.value and getattr(node.value, "value", True) not in (None, False):
        yield _changed(node, value=ast.Constant(None))


def _handled(node: ast.ExceptHandler) -> Iterator[ast.AST]:
    """Raise an error again instead of handling it."""
    if not isinstance(node.body[0], ast.Raise) or node.body[0].exc:
        yield _changed(node, body=[ast.Raise()])


_OPERATORS: dict[type[ast.AST], Callable[[Any], Iterator[ast.AST]]] = {
    ast.Compare: _compared,
    ast.BoolOp: _combined,
    ast.If: _conditional,
    ast.While: _conditional,
    ast.IfExp: _conditional,
    ast.comprehension: _filtered,
    ast.Constant: _valued,
    ast.Call: _called,
    ast.Expr: _done,
    ast.Raise: _done,
    ast.Assign: _done,
    ast.AugAssign: _done,
    ast.AnnAssign: _done,
    ast.Return: _returned,
    ast.ExceptHandler: _handled,
}


def _changed(node: Any, **fields: Any) -> Any:
    """Return a copy of a node with other fields."""
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _negated(test: ast.expr) -> ast.expr:
    """Return the opposite of a condition."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.copy_location(ast.UnaryOp(ast.Not(), test), test)


# Mutants


class Mutant(NamedTuple):
    """A module with one change, which is made when the mutant is installed."""

    tree: ast.Module
    holder: Any
    """The node, or its list of nodes, in which one is replaced."""
    key: Any
    """The name of the field, or the index, where it is."""
    new: ast.AST
    line: int
    lines: range
    """A test must pass through one of these to notice."""
    is_global: bool
    """Whether the change is outside functions."""

    def __str__(self) -> str:
        return f"{_text(_get(self.holder, self.key))}  ->  {_text(self.new)}"


class _Place(NamedTuple):
    """The place of a node in its module."""

    lines: range = range(1, sys.maxsize)
    is_global: bool = True

    def within(self, node: Any) -> _Place:
        """Return the place of what is in a node: of a statement with a body, its head."""
        first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            return _Place(range(first, last + 1), False)
        if self.is_global or not isinstance(node, (ast.stmt, ast.ExceptHandler)):
            return self
        end = node.body[0].lineno if hasattr(node, "body") else last + 1
        return _Place(range(first, max(end, first + 1)), False)


def mutants(tree: ast.Module) -> list[Mutant]:
    """Return all mutants of a module."""
    return list(_mutants(tree, tree, _Place()))


def _mutants(tree: ast.Module, node: ast.AST, place: _Place) -> Iterator[Mutant]:
    for holder, key, child in _children(node):
        inner = place.within(child)
        is_kept = inner.is_global and isinstance(child, ast.stmt)
        operator = None if is_kept else _OPERATORS.get(type(child))
        for new in operator(child) if operator else ():
            line = getattr(child, "lineno", inner.lines.start)
            yield Mutant(tree, holder, key, new, line, *inner)
        yield from _mutants(tree, child, inner)


def _children(node: ast.AST) -> Iterator[tuple[Any, Any, ast.AST]]:
    """Yield the nodes in a node that run, each with its parent and the key there."""
    for name, value in ast.iter_fields(node):
        if name in _SKIPPED:
            continue
        holder = value if isinstance(value, list) else node
        for key in range(len(value)) if isinstance(value, list) else [name]:
            child = _get(holder, key)
            if isinstance(child, ast.AST) and not _is_skipped(child):
                yield holder, key, child


def _is_skipped(node: ast.AST) -> bool:
    """Tell whether a statement is a docstring, or for the type checker only."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    text = ast.unparse(node) if isinstance(node, (ast.If, ast.Assign)) else ""
    return text.startswith("if TYPE_CHECKING") or "= TypeVar(" in text


def _get(holder: Any, key: Any) -> Any:
    return holder[key] if isinstance(holder, list) else getattr(holder, key)


def _put(holder: Any, key: Any, value: Any) -> None:
    if isinstance(holder, list):
        holder[key] = value
    else:
        setattr(holder, key, value)


def _text(node: ast.AST) -> str:
    """Return the first two lines of a node; the change is in them."""
    lines = ast.unparse(ast.fix_missing_locations(node)).splitlines()
    return " ".join(line.strip() for line in lines[:2])


# In place


def install(mutant: Mutant, module: ModuleType) -> None:
    """Put a mutant in the place of its module, in this process."""
    _put(mutant.holder, mutant.key, mutant.new)
    ast.fix_missing_locations(mutant.tree)
    new = ModuleType(module.__name__)
    new.__file__ = module.__file__
    exec(compile(mutant.tree, str(module.__file__), "exec"), vars(new))
    _transplant(module, new)
    if mutant.is_global:
        for name in _constants(mutant.tree):
            _rebind(name, getattr(module, name), getattr(new, name))


def _transplant(old: Any, new: Any) -> None:
    """Give functions the code and the defaults of the mutant's functions of the same name."""
    for name, theirs in vars(new).items():
        ours = vars(old).get(name)
        if isinstance(theirs, type) and ours is not theirs:
            _transplant(ours, theirs)
        for f, g in zip(_functions(ours), _functions(theirs)):
            with suppress(
                ValueError
            ):  # it has another closure: we can't replace it, so the mutant survives
                f.__code__ = g.__code__
            f.__defaults__, f.__kwdefaults__ = g.__defaults__, g.__kwdefaults__


def _functions(value: Any) -> Iterator[FunctionType]:
    """Yield the functions in a property or a method, and those that they wrap."""
    value = value.fget if isinstance(value, property) else value
    value = getattr(value, "__func__", value)
    while value is not None:
        if isinstance(value, FunctionType):
            yield value
        value = vars(value).get("__wrapped__") if hasattr(value, "__dict__") else None


def _constants(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module assigns."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and not _is_skipped(node):
            yield from (name.id for name in node.targets if isinstance(name, ast.Name))


def _rebind(name: str, old: object, new: object) -> None:
    """Change a constant in all modules that have it."""
    for module in list(sys.modules.values()):
        if vars(module).get(name) is old:
            setattr(module, name, new)
