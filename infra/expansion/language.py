"""The expressions of ARM templates, read and evaluated: ``[format('{0}-app', parameters('prefix'))]``."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from infra.expansion.errors import LanguageError

Functions = Mapping[str, Callable[..., Any]]
"""By name in lower case: ARM does not tell cases apart."""

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<number>-?\d+)|(?P<name>[A-Za-z_]\w*)|(?P<mark>[()\[\].,]))"
)
_END = ("end", "")


@dataclass(frozen=True, slots=True)
class Literal:
    """A text or a whole number."""

    value: str | int


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function with its arguments."""

    name: str
    arguments: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class At:
    """A member of an object (``.name`` and ``['name']`` are the same), or an element of an array."""

    whole: "Expression"
    key: "Expression"


Expression = Literal | Call | At


def is_expression(text: str) -> bool:
    """Whether a text of a template is to be evaluated; ``[[`` begins one that is not."""
    return text.startswith("[") and text.endswith("]") and not text.startswith("[[")


def evaluate_text(text: str, functions: Functions) -> Any:
    """The value of a text of a template: the text itself, or that of the expression in it.

    Raises:
        LanguageError: it cannot be read, or has no value.
    """
    if is_expression(text):
        return evaluate(parse(text[1:-1]), functions)
    return text.removeprefix("[") if text.startswith("[[") else text


def evaluate(expression: Expression, functions: Functions) -> Any:
    """The value of an expression; of ``if``, ``and`` and ``or`` only the part that decides is evaluated.

    Raises:
        LanguageError: a function or a member that is not known, or an argument that does not fit.
    """
    match expression:
        case Literal(value):
            return value
        case At(whole, key):
            return _element(evaluate(whole, functions), evaluate(key, functions))
        case Call(name, arguments):
            values = (evaluate(one, functions) for one in arguments)
            match name.lower(), arguments:
                case "if", (condition, yes, no):
                    is_so = _boolean(evaluate(condition, functions))
                    return evaluate(yes if is_so else no, functions)
                case "and", _:
                    return all(_boolean(value) for value in values)
                case "or", _:
                    return any(_boolean(value) for value in values)
            return _call(name, list(values), functions)


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """Parse the text of an expression, without its brackets.

    Raises:
        LanguageError: the text is no expression.
    """
    tokens = _Tokens(text)
    found = _expression(tokens)
    if tokens.next() != _END:
        raise LanguageError(f"not an expression: {text[:200]}")
    return found


class _Tokens:
    """The words of an expression, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = self._cut()
        self._ahead = next(self._words)

    def peek(self) -> tuple[str, str]:
        return self._ahead

    def next(self) -> tuple[str, str]:
        word, self._ahead = self._ahead, next(self._words, _END)
        return word

    def take(self, mark: str) -> None:
        if self.next() != ("mark", mark):
            raise LanguageError(f"{mark} is expected in {self._text[:200]}")

    def _cut(self) -> Iterator[tuple[str, str]]:
        at, text = 0, self._text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise LanguageError(f"not read here: {text[at : at + 40]}")
            at = match.end()
            yield match.lastgroup, match[match.lastgroup]
        yield _END


def _expression(tokens: _Tokens) -> Expression:
    kind, word = tokens.next()
    found: Expression
    match kind:
        case "string":
            found = Literal(word[1:-1].replace("''", "'"))
        case "number":
            found = Literal(int(word))
        case "name":
            found = Call(word, _arguments(tokens))
        case _:
            raise LanguageError(f"a value is expected, not {word or 'the end'}")
    while tokens.peek() in {("mark", "."), ("mark", "[")}:
        if tokens.next() == ("mark", "."):
            found = At(found, Literal(tokens.next()[1]))
        else:
            found = At(found, _expression(tokens))
            tokens.take("]")
    return found


def _arguments(tokens: _Tokens) -> tuple[Expression, ...]:
    tokens.take("(")
    found: list[Expression] = []
    while tokens.peek() != ("mark", ")"):
        if found:
            tokens.take(",")
        found.append(_expression(tokens))
    tokens.take(")")
    return tuple(found)


def _call(name: str, values: list[Any], functions: Functions) -> Any:
    function = functions.get(name.lower())
    if function is None:
        raise LanguageError(f"the function {name} is not known here")
    try:
        return function(*values)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise LanguageError(f"{name} cannot be called with {values!r:.200}: {error}") from error


def _element(whole: Any, key: Any) -> Any:
    match whole, key:
        case dict(), str() if key in whole:
            return whole[key]
        case list(), int() if 0 <= key < len(whole):
            return whole[key]
    known = f"has {', '.join(whole)}" if isinstance(whole, dict) else f"is {whole!r:.100}"
    raise LanguageError(f"{key} is not known of what {known}")


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise LanguageError(f"true or false is expected, not {value!r:.100}")
    return value
