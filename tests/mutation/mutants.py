"""A module's mutants: its source with one thing changed that a test should notice."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from types import CodeType
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_LEFT_OUT = frozenset({"annotation", "returns", "decorator_list", "slice"})
"""Fields in which nothing is changed: what they say decides nothing, or any change raises at once."""
_CONTEXT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One changed module."""

    where: str
    """The function or class in which the change is, dotted; empty at the module's top."""
    line: int
    before: str
    """What is changed, with some of the line round it, as ``ast.unparse`` writes it."""
    after: str
    source: str
    code: CodeType
    """The changed module, compiled; what is not changed has the lines of the file."""
    statement: int
    """The line at which the innermost statement begins that the change is in."""

    @property
    def change(self) -> str:
        """What is changed, however many lines are inserted above it: its name in the list of equivalents."""
        return f"{self.where}: {self.before} => {self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A node, and where it hangs in the tree."""

    where: str
    line: int
    holder: ast.AST
    field: str
    index: int | None
    node: ast.AST
    statement: int

    def put(self, node: ast.AST) -> None:
        """Hang another node there."""
        if self.index is None:
            setattr(self.holder, self.field, node)
        else:
            getattr(self.holder, self.field)[self.index] = node


def mutants(source: str, path: str = "<module>") -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    unchanged = ast.unparse(tree)
    for place in _places(tree, "", 1):
        for other in _alternatives(place):
            place.put(other)
            changed = ast.unparse(ast.fix_missing_locations(tree))
            before, after = _first_difference(unchanged, changed)
            yield Mutant(
                where=place.where,
                line=place.line,
                before=before,
                after=after,
                source=changed,
                code=compile(tree, path, "exec", dont_inherit=True),
                statement=place.statement,
            )
        place.put(place.node)


def marked(source: str, path: str, mark: str) -> CodeType:
    """The module, compiled, with a call ``mark(line)`` before each statement in its functions."""
    tree = ast.parse(source)
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    for node in {inner for function in functions for inner in ast.walk(function)}:
        for field in ("body", "orelse", "finalbody"):
            if isinstance(statements := getattr(node, field, None), list):
                setattr(node, field, [one for each in statements for one in (_call(mark, each), each)])
    return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


def _call(mark: str, statement: ast.stmt) -> ast.stmt:
    name, line = ast.Name(id=mark, ctx=ast.Load()), ast.Constant(value=statement.lineno)
    return ast.copy_location(ast.Expr(value=ast.Call(func=name, args=[line], keywords=[])), statement)


def _places(holder: ast.AST, where: str, statement: int) -> Iterator[_Place]:
    """Every node below ``holder``, but for messages: what is said, and how, decides nothing."""
    for field, value in ast.iter_fields(holder):
        nodes: Any = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, node in nodes:
            if field in _LEFT_OUT or not isinstance(node, ast.AST) or isinstance(node, ast.JoinedStr):
                continue
            begun = node.lineno if isinstance(node, ast.stmt) else statement
            line = getattr(node, "lineno", begun)
            yield _Place(
                where=where,
                line=line,
                holder=holder,
                field=field,
                index=index,
                node=node,
                statement=begun,
            )
            if isinstance(node, ast.Raise) or _is_refusal(node):
                continue
            inside = where
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                inside = f"{where}.{node.name}".lstrip(".")
            yield from _places(node, inside, begun)


def _is_refusal(node: ast.AST) -> bool:
    """``_READ.refuse(…)``, which raises."""
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="refuse"))):
            return True
    return False


def _alternatives(place: _Place) -> Iterator[Any]:
    node = place.node
    match node:
        case ast.Expr(value=ast.Call()) | ast.Raise():
            # What is alone under a condition is taken out by the condition.
            if not isinstance(place.holder, ast.If) or len(place.holder.body) > 1:
                yield ast.Pass()
        case ast.If(test=test):
            yield _with(node, test=ast.Constant(value=False))
            if not isinstance(test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):  # those are changed themselves
                yield _with(node, test=ast.UnaryOp(op=ast.Not(), operand=test))
        case ast.comprehension(ifs=[_, *_]):
            yield _with(node, ifs=[])
        case ast.Constant(value=int() as number) if type(number) is int:
            yield from (ast.Constant(value=number + 1), ast.Constant(value=number - 1))
        case ast.expr():
            yield from _other_expressions(node)


def _other_expressions(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.IfExp():
            yield from (node.body, node.orelse)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.BoolOp():
            yield from _without_one(node)
            yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.Compare():
            yield from _other_comparisons(node)
        case ast.BinOp() if type(node.op) in _OPERATORS:
            yield from (node.left, node.right)
            yield _with(node, op=_OPERATORS[type(node.op)]())
        case ast.Call(func=ast.Attribute()):  # a method; a constructor wants all that it is given
            yield from _without_one_keyword(node)


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _without_one(node: ast.BoolOp) -> Iterator[ast.AST]:
    for index in range(len(node.values)):
        rest = [*node.values[:index], *node.values[index + 1 :]]
        yield rest[0] if len(rest) == 1 else _with(node, values=rest)


def _without_one_keyword(node: ast.Call) -> Iterator[ast.AST]:
    for index in range(len(node.keywords)):
        yield _with(node, keywords=[*node.keywords[:index], *node.keywords[index + 1 :]])


def _other_comparisons(node: ast.Compare) -> Iterator[ast.AST]:
    for index, operator in enumerate(node.ops):
        for other in _COMPARISONS[type(operator)]:
            yield _with(node, ops=[*node.ops[:index], other(), *node.ops[index + 1 :]])


def _first_difference(before: str, after: str) -> tuple[str, str]:
    """The first line that differs, without what is far from the difference."""
    lines = zip(before.splitlines(), after.splitlines(), strict=False)
    one, other = next((a.strip(), b.strip()) for a, b in lines if a != b)
    start = max(0, _common(one, other) - _CONTEXT)
    end = max(0, _common(one[::-1], other[::-1]) - _CONTEXT)
    return one[start : len(one) - end], other[start : len(other) - end]


def _common(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
