"""The syntax tree of a Bicep file: its declarations, and the expressions in them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias, TypeVar

from infra.bicep.errors import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A text without ``${…}``, a number, a truth value or null."""

    place: Place
    value: str | int | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolation:
    """A text with expressions in it."""

    place: Place
    pieces: "tuple[str | Expression, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """The value of a parameter, a variable, a resource or a loop's variable, by its name."""

    place: Place
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """A member of an object, by its name: ``of.name``."""

    place: Place
    of: "Expression"
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An element of an array, or a member by an expression: ``of[at]``."""

    place: Place
    of: "Expression"
    at: "Expression"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The value of a function; operators and the ternary are calls of ARM's functions for them, too."""

    place: Place
    function: str
    arguments: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An array of expressions: ``[a, b]``."""

    place: Place
    items: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """An object, ``{ key: value }``; a key is a text, or an expression for one."""

    place: Place
    items: "tuple[tuple[Literal | Interpolation, Expression], ...]"

    def get(self, name: str) -> "Expression | None":
        """The value of a key that is written out; ``None`` if there is no such key."""
        return next(
            (value for key, value in self.items if isinstance(key, Literal) and key.value == name), None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A loop, ``[for item in over: body]``, or with ``(item, position)``."""

    place: Place
    item: str
    position: str | None
    over: "Expression"
    body: "Expression"


Expression: TypeAlias = Literal | Interpolation | Name | Property | Index | Call | Array | Object | Loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """The declaration of a parameter, ``param``, with its decorators by name."""

    place: Place
    name: str
    type: str
    default: Expression | None
    decorators: Mapping[str, tuple[Expression, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """The declaration of a variable: ``var``."""

    place: Place
    name: str
    value: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The declaration of an output: ``output``."""

    place: Place
    name: str
    type: str
    value: Expression
    decorators: Mapping[str, tuple[Expression, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """The declaration of a resource, ``resource``; a loop's body is in ``body``, not in ``loop``."""

    place: Place
    name: str
    type: str
    api_version: str
    is_existing: bool
    condition: Expression | None
    loop: Loop | None
    body: Object
    decorators: Mapping[str, tuple[Expression, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """The declaration of a module, ``module``; ``path`` is relative to the file."""

    place: Place
    name: str
    path: str
    condition: Expression | None
    loop: Loop | None
    body: Object


Declaration: TypeAlias = Parameter | Variable | Output | Resource | Module
T = TypeVar("T", Parameter, Variable, Output, Resource, Module)


def parts_of(expression: Expression) -> Iterator[Expression]:
    """The expressions that an expression is made of, one level down."""
    for field in fields(expression):
        yield from _expressions_in(getattr(expression, field.name))


def functions_in(expression: Expression) -> frozenset[str]:
    """The names of all functions that are called in an expression."""
    own = {expression.function} if isinstance(expression, Call) else set[str]()
    return frozenset(own.union(*(functions_in(part) for part in parts_of(expression))))


def _expressions_in(value: object) -> Iterator[Expression]:
    if isinstance(value, tuple):
        for one in value:
            yield from _expressions_in(one)
    elif isinstance(value, Expression):
        yield value
