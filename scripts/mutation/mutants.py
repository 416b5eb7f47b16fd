"""Mutants of a module: one small change of its source each."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.BitXor: ast.BitOr,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Attributes:
        path: The module, relative to the project.
        kind: What was changed: comparison, arithmetic, boolean, constant, return, condition or loop.
        line: First line of the statement that holds the change, from 1.
        last: Last line of what must be run to meet the change.
        column: Column of the change in ``start``.
        start: Line of the change.
        before: The text that was there.
        after: The text that is there now.
        in_function: Whether it is run when a function is called, not when the module is imported.
        source: The changed module.
    """

    path: str
    kind: str
    line: int
    last: int
    start: int
    column: int
    before: str
    after: str
    in_function: bool
    source: str

    @property
    def told(self) -> str:
        """Where and what, in one line."""
        return f"{self.path}:{self.start}:{self.column}  {self.kind}: {self.before}  ->  {self.after}"


def mutants_of(root: Path, path: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines.

    Left alone: texts (a message may be worded in many ways), f-strings, assertions (here they tell types to mypy),
    decorators, alternatives in annotations, ``if TYPE_CHECKING`` and ``__all__``.

    Args:
        root: The project.
        path: The module, relative to it.
    """
    source = (root / path).read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    found: dict[tuple[int, int, str], Mutant] = {}
    for statement, node, annotation, in_function in _sites(ast.parse(source).body, False):
        if annotation and isinstance(node, ast.BinOp):
            continue
        for kind, old, new in _changes(node):
            text = ast.unparse(new)
            if isinstance(old, ast.expr) and not isinstance(old, ast.Constant):
                text = f"({text})"
            changed = _replaced(lines, old, text)
            before = ast.get_source_segment(source, old) or ""
            last = statement.body[0].lineno - 1 if getattr(statement, "body", None) else statement.end_lineno
            last = max(last or statement.lineno, old.lineno)
            key = (old.lineno, old.col_offset, text)
            found[key] = Mutant(
                path,
                kind,
                statement.lineno,
                last,
                old.lineno,
                old.col_offset,
                _short(before),
                _short(text),
                in_function,
                changed,
            )
    return [found[key] for key in sorted(found)]


def sample(mutants: Sequence[Mutant], size: int, rng: random.Random) -> list[Mutant]:
    """Draw mutants so that every module gives its share: evenly spaced, in random order within a module.

    Args:
        mutants: All mutants, grouped by module.
        size: How many to draw.
        rng: Source of randomness.
    """
    if size >= len(mutants):
        return list(mutants)
    by_module: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_module.setdefault(mutant.path, []).append(mutant)
    row = [m for path in sorted(by_module) for m in rng.sample(by_module[path], len(by_module[path]))]
    step = len(row) / size
    start = rng.random() * step
    return [row[int(start + step * i)] for i in range(size)]


def _sites(body: Sequence[ast.stmt], in_function: bool) -> Iterator[tuple[ast.stmt, ast.AST, bool, bool]]:
    """Yield (statement, node, is in an annotation, is in a function's body) for all nodes that may change."""
    for statement in body:
        if isinstance(statement, ast.Assert | ast.Import | ast.ImportFrom) or _is_left_alone(statement):
            continue
        yield statement, statement, False, in_function
        below = in_function or isinstance(statement, ast.FunctionDef)
        for name, value in ast.iter_fields(statement):
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, ast.stmt):
                    yield from _sites([part], below)
                elif isinstance(part, ast.ExceptHandler | ast.match_case):
                    yield from _sites(part.body, below)
                elif isinstance(part, ast.AST) and name != "decorator_list":
                    for node, annotation in _expressions(part, name in ("annotation", "returns")):
                        yield statement, node, annotation, in_function


def _expressions(node: ast.AST, annotation: bool) -> Iterator[tuple[ast.AST, bool]]:
    if isinstance(node, ast.JoinedStr):
        return
    yield node, annotation
    for name, value in ast.iter_fields(node):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST):
                yield from _expressions(part, annotation or name == "annotation")


def _is_left_alone(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.If):
        return "TYPE_CHECKING" in ast.unparse(statement.test)
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.expr | ast.stmt, ast.AST]]:
    """Yield (kind, the node whose text is replaced, what replaces it)."""
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                operators = [*node.ops[:place], _COMPARISONS[type(operator)](), *node.ops[place + 1 :]]
                yield "comparison", node, ast.Compare(node.left, operators, node.comparators)
        case ast.BinOp() if type(node.op) in _ARITHMETIC and not _is_text(node):
            yield "arithmetic", node, ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)
        case ast.AugAssign() if type(node.op) in _ARITHMETIC:
            yield "arithmetic", node, ast.AugAssign(node.target, _ARITHMETIC[type(node.op)](), node.value)
        case ast.BoolOp():
            other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield "boolean", node, ast.BoolOp(other, node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield ("boolean" if isinstance(node.op, ast.Not) else "arithmetic"), node, node.operand
        case ast.Constant(value=bool()):
            yield "constant", node, ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield "constant", node, ast.Constant(node.value + 1)
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "return", value, ast.Constant(None)
        case ast.If() | ast.IfExp() | ast.While() if isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
            yield "condition", node.test, ast.UnaryOp(ast.Not(), node.test)
        case ast.Break() | ast.Continue():
            yield "loop", node, ast.Continue() if isinstance(node, ast.Break) else ast.Break()


def _is_text(node: ast.BinOp) -> bool:
    ends = (node.left, node.right)
    return any(isinstance(end, ast.JoinedStr) or isinstance(getattr(end, "value", None), str) for end in ends)


def _replaced(lines: Sequence[str], old: ast.expr | ast.stmt, text: str) -> str:
    """Return the module with a node's text replaced."""
    assert old.end_lineno is not None
    assert old.end_col_offset is not None
    before = lines[old.lineno - 1].encode()[: old.col_offset].decode()
    after = lines[old.end_lineno - 1].encode()[old.end_col_offset :].decode()
    return "".join([*lines[: old.lineno - 1], before + text + after, *lines[old.end_lineno :]])


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:97]}..."
