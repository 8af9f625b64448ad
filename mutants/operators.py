"""What is changed: one mutant for each place of a module that an operator knows."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
_TEXTS = (ast.JoinedStr, ast.List, ast.Tuple, ast.Set)


class Mutant(NamedTuple):
    """One change of one module.

    :ivar path: of the module, from the repository's root.
    :ivar line: where it begins, from 1.
    :ivar before: the text that is replaced.
    :ivar after: by what.
    :ivar source: the whole line, or the first of those that are replaced.
    :ivar where: the offsets of it, in bytes.
    :ivar at_import: it is outside of every function's body, so that it runs before any test.
    """

    path: str
    line: int
    before: str
    after: str
    source: str
    where: slice
    at_import: bool

    def applied(self, source: bytes) -> bytes:
        """Return the module's source with the change."""
        return source[: self.where.start] + self.after.encode() + source[self.where.stop :]

    def __str__(self) -> str:
        before, after = (" ".join(text.split()) for text in (self.before, self.after))
        return f"{self.path}:{self.line}  {before}  ->  {after}"


def mutants_of(path: str, source: bytes) -> Iterator[Mutant]:
    """Yield every mutant of a module, in the order of its lines."""
    starts = [0]
    lines = source.splitlines(keepends=True)
    for text in lines:
        starts.append(starts[-1] + len(text))
    tree = ast.parse(source)
    within = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for line in range(_body_of(node).lineno, (node.end_lineno or node.lineno) + 1)
    }
    for node, new in _changes(tree):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        where = slice(
            starts[node.lineno - 1] + node.col_offset,
            starts[node.end_lineno - 1] + node.end_col_offset,
        )
        before = source[where].decode()
        after = ast.unparse(new)
        if isinstance(new, ast.expr):
            after = f"({after})"
        line = lines[node.lineno - 1].decode().strip()
        yield Mutant(path, node.lineno, before, after, line, where, node.lineno not in within)


def _body_of(
    function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
) -> ast.expr | ast.stmt:
    # Its defaults are made when it is defined.
    return function.body if isinstance(function, ast.Lambda) else function.body[0]


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, ast.expr | ast.stmt]]:
    if isinstance(node, ast.expr | ast.stmt):
        yield from ((node, new) for new in _instead(node))
    if isinstance(node, ast.If | ast.While) and not _is_for_checkers(node):
        test = node.test
        # All others have another operator that turns them.
        if not isinstance(test, ast.Compare | ast.UnaryOp | ast.Constant):
            yield test, ast.UnaryOp(ast.Not(), test)
    for child in _children(node):
        yield from _changes(child)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is looked into: code, not types, texts, or what is for people and checkers."""
    if isinstance(node, ast.JoinedStr) or _is_for_checkers(node):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        if isinstance(node, ast.arguments) and name != "defaults":
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child


def _is_for_checkers(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    if isinstance(node, ast.FunctionDef):
        return node.name == "__repr__"
    return isinstance(node, ast.Assert)


def _instead(node: ast.expr | ast.stmt) -> Iterator[ast.expr | ast.stmt]:
    """Yield what stands in the place of one node."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        new = copy.deepcopy(node)
        new.ops = [_COMPARED[type(node.ops[0])]()]
        yield new
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other, node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _COUNTED:
        if not any(_is_text(side) for side in (node.left, node.right)):
            yield ast.BinOp(node.left, _COUNTED[type(node.op)](), node.right)
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node.value)
    elif isinstance(node, ast.Return) and node.value is not None:
        # Of a bool, None is one of both: the other is a constant's own mutant.
        if not isinstance(node.value, ast.Constant) or not isinstance(
            node.value.value, bool | None
        ):
            yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()
    elif isinstance(node, ast.Assign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if all(isinstance(target, ast.Attribute | ast.Subscript) for target in targets):
            yield ast.Pass()
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str | bytes)
    return isinstance(node, _TEXTS)


def _other_constants(value: object) -> Iterator[ast.expr]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, float):
        yield ast.Constant(value * 2 if value else 1.0)
