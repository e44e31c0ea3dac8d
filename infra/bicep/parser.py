"""The parser of Bicep files: words in, declarations out."""

from collections.abc import Mapping

from infra.bicep import tree
from infra.bicep.errors import BicepError, Place
from infra.bicep.tokens import Kind, Token, tokens_of
from infra.bicep.tree import Expression

_LEVELS: tuple[Mapping[str, str], ...] = (
    {"??": "coalesce"},
    {"||": "or"},
    {"&&": "and"},
    {"==": "equals", "!=": "notEquals"},
    {"<": "less", "<=": "lessOrEquals", ">": "greater", ">=": "greaterOrEquals"},
    {"+": "add", "-": "sub"},
    {"*": "mul", "/": "div", "%": "mod"},
)
"""Operators from the loosest to the tightest, and ARM's functions for them."""

_LOGICAL = 3
"""So many levels, the first ones, go on over the end of a line."""

_MAX_DEPTH = 40
"""Levels of brackets and choices in each other; each takes a dozen calls of Python."""

_TYPES = frozenset({"string", "int", "bool", "object", "array"})
_DECORATED = frozenset({"param", "output", "resource"})
_WORDS = {"true": True, "false": False, "null": None}


def parse(text: str) -> tuple[tree.Declaration, ...]:
    """Parse the text of a file into its declarations, in their order.

    Raises:
        BicepError: the text is no Bicep, or uses what is not known here.
    """
    return _Parser(tokens_of(text)).file()


class _Parser:
    """Stands at a word, and moves on as it reads."""

    def __init__(self, tokens: tuple[Token, ...], *, depth: int = 0) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = depth

    @property
    def _here(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _is(self, *texts: str) -> bool:
        return self._here.kind in {Kind.OPERATOR, Kind.NAME} and self._here.text in texts

    def _skip(self, text: str) -> bool:
        """Whether the word was there, and is left behind."""
        if self._is(text):
            self._at += 1
            return True
        return False

    def _want(self, text: str) -> Token:
        if not self._is(text):
            raise BicepError(self._here.place, f"{text!r} is expected, not {self._shown()}")
        return self._take()

    def _want_name(self) -> str:
        if self._here.kind is not Kind.NAME:
            raise BicepError(self._here.place, f"a name is expected, not {self._shown()}")
        return self._take().text

    def _want_text(self) -> str:
        """A string without expressions."""
        token = self._take()
        match token.pieces:
            case (str(text),) if token.kind is Kind.STRING:
                return text
        raise BicepError(token.place, "a plain string is expected")

    def _shown(self) -> str:
        names = {Kind.STRING: "a string", Kind.NEWLINE: "the line's end", Kind.END: "the end"}
        return names.get(self._here.kind, repr(self._here.text))

    def _skip_newlines(self) -> None:
        while self._here.kind is Kind.NEWLINE:
            self._at += 1

    # --- declarations

    def file(self) -> tuple[tree.Declaration, ...]:
        """All that is declared."""
        found: list[tree.Declaration] = []
        self._skip_newlines()
        while self._here.kind is not Kind.END:
            found += self._declaration()
            if self._here.kind is not Kind.NEWLINE:
                raise BicepError(self._here.place, f"{self._shown()} is one too many")
            self._skip_newlines()
        return tuple(found)

    def _declaration(self) -> tuple[tree.Declaration, ...]:
        decorators = self._decorators()
        place, word = self._here.place, self._want_name()
        if decorators and word not in _DECORATED:
            raise BicepError(place, f"a decorator of a {word} is not known here")
        match word:
            case "targetScope":
                self._want("=")
                if self._want_text() != "resourceGroup":
                    raise BicepError(place, "only resource groups are deployed to here")
                return ()
            case "param":
                return (self._parameter(place, decorators),)
            case "var":
                name = self._want_name()
                self._want("=")
                return (tree.Variable(place=place, name=name, value=self._expression()),)
            case "output":
                name, kind = self._want_name(), self._type()
                self._want("=")
                value = self._expression()
                return (tree.Output(place=place, name=name, type=kind, value=value, decorators=decorators),)
            case "resource":
                return (self._resource(place, decorators),)
            case "module":
                return (self._module(place),)
        raise BicepError(place, f"{word!r} is not known here")

    def _decorators(self) -> dict[str, tuple[Expression, ...]]:
        found: dict[str, tuple[Expression, ...]] = {}
        while self._skip("@"):
            place, name = self._here.place, self._want_name()
            if name in found:
                raise BicepError(place, f"@{name} stands there twice")
            self._want("(")
            found[name] = self._arguments()
            self._skip_newlines()
        return found

    def _parameter(self, place: Place, decorators: dict[str, tuple[Expression, ...]]) -> tree.Parameter:
        name, kind = self._want_name(), self._type()
        default = self._expression() if self._skip("=") else None
        return tree.Parameter(place=place, name=name, type=kind, default=default, decorators=decorators)

    def _type(self) -> str:
        place, name = self._here.place, self._want_name()
        if name not in _TYPES or self._is("[", "?", "|"):
            raise BicepError(place, f"the type {name!r}, as it stands there, is not known here")
        return name

    def _resource(self, place: Place, decorators: dict[str, tuple[Expression, ...]]) -> tree.Resource:
        name, (kind, _, version) = self._want_name(), self._want_text().partition("@")
        is_existing = self._skip("existing")
        self._want("=")
        loop, condition, body = self._body()
        return tree.Resource(
            place=place,
            name=name,
            type=kind,
            api_version=version,
            is_existing=is_existing,
            condition=condition,
            loop=loop,
            body=body,
            decorators=decorators,
        )

    def _module(self, place: Place) -> tree.Module:
        name, path = self._want_name(), self._want_text()
        self._want("=")
        loop, condition, body = self._body()
        return tree.Module(place=place, name=name, path=path, condition=condition, loop=loop, body=body)

    def _body(self) -> tuple[tree.Loop | None, Expression | None, tree.Object]:
        """The body of a resource or module: the loop round it, the condition before it, and what is in it."""
        if self._is("["):
            place = self._take().place
            item, position, over = self._loop_head()
            condition, body = self._conditional_object()
            self._skip_newlines()
            self._want("]")
            return tree.Loop(place=place, item=item, position=position, over=over, body=body), condition, body
        return (None, *self._conditional_object())

    def _conditional_object(self) -> tuple[Expression | None, tree.Object]:
        condition = None
        if self._skip("if"):
            self._want("(")
            condition = self._expression()
            self._want(")")
        return condition, self._object()

    def _loop_head(self) -> tuple[str, str | None, Expression]:
        self._want("for")
        position = None
        if self._skip("("):
            item = self._want_name()
            self._want(",")
            position = self._want_name()
            self._want(")")
        else:
            item = self._want_name()
        self._want("in")
        over = self._expression()
        self._want(":")
        return item, position, over

    # --- expressions

    def whole(self) -> Expression:
        """The one expression that all words make up."""
        found = self._expression()
        self._skip_newlines()
        if self._here.kind is not Kind.END:
            raise BicepError(self._here.place, f"{self._shown()} is one too many")
        return found

    def _expression(self) -> Expression:
        if self._depth == _MAX_DEPTH:
            raise BicepError(self._here.place, f"more than {_MAX_DEPTH} levels of brackets and choices")
        self._depth += 1
        found = self._choice()
        self._depth -= 1
        return found

    def _choice(self) -> Expression:
        condition = self._binary(0)
        if not self._goes_on_with("?"):
            return condition
        self._skip_newlines()
        place = self._take().place
        self._skip_newlines()
        chosen = self._expression()
        self._skip_newlines()
        self._want(":")
        self._skip_newlines()
        return tree.Call(place=place, function="if", arguments=(condition, chosen, self._expression()))

    def _goes_on_with(self, *texts: str) -> bool:
        """Whether one of the operators comes next, be it on one of the next lines."""
        at = self._at
        while self._tokens[at].kind is Kind.NEWLINE:
            at += 1
        return self._tokens[at].kind is Kind.OPERATOR and self._tokens[at].text in texts

    def _binary(self, level: int) -> Expression:
        if level == len(_LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        # On a line of its own, only a logical operator goes on with what stands before.
        while self._is(*_LEVELS[level]) or (level < _LOGICAL and self._goes_on_with(*_LEVELS[level])):
            self._skip_newlines()
            operator = self._take()
            self._skip_newlines()
            right = self._binary(level + 1)
            left = _operation(operator.place, _LEVELS[level][operator.text], left, right)
        return left

    def _unary(self) -> Expression:
        if self._is("!"):
            place = self._take().place
            if self._is("!"):
                raise BicepError(self._here.place, "a doubled '!' is not known here")
            return tree.Call(place=place, function="not", arguments=(self._unary(),))
        if self._is("-"):
            raise BicepError(self._here.place, "negative numbers are not known here")
        return self._postfix(self._primary())

    def _postfix(self, found: Expression) -> Expression:
        while True:
            place = self._here.place
            if self._skip("."):
                name = self._want_name()
                if self._is("("):
                    raise BicepError(place, f"functions of a value, such as .{name}(), are not known here")
                found = tree.Property(place=place, of=found, name=name)
            elif self._skip("["):
                found = tree.Index(place=place, of=found, at=self._expression())
                self._want("]")
            else:
                return found

    def _primary(self) -> Expression:
        token = self._here
        if self._is("{"):
            return self._object()
        if self._is("["):
            return self._array()
        if self._skip("("):
            self._skip_newlines()
            found = self._expression()
            self._skip_newlines()
            self._want(")")
            return found
        return self._word(token)

    def _word(self, token: Token) -> Expression:
        match token.kind:
            case Kind.STRING:
                return self._string(self._take())
            case Kind.NUMBER:
                return tree.Literal(place=token.place, value=int(self._take().text))
            case Kind.NAME:
                return self._named(token.place, self._take().text)
        raise BicepError(token.place, f"an expression is expected, not {self._shown()}")

    def _named(self, place: Place, name: str) -> Expression:
        if name in _WORDS:
            return tree.Literal(place=place, value=_WORDS[name])
        if self._skip("("):
            return tree.Call(place=place, function=name, arguments=self._arguments())
        return tree.Name(place=place, name=name)

    def _string(self, token: Token) -> tree.Literal | tree.Interpolation:
        match token.pieces:
            case (str(text),):
                return tree.Literal(place=token.place, value=text)
        pieces = (
            piece if isinstance(piece, str) else _Parser(piece, depth=self._depth).whole()
            for piece in token.pieces
        )
        return tree.Interpolation(place=token.place, pieces=tuple(pieces))

    def _arguments(self) -> tuple[Expression, ...]:
        """The arguments of a call, whose opening parenthesis was read."""
        found = []
        self._skip_newlines()
        while not self._skip(")"):
            found.append(self._expression())
            self._skip_newlines()
            if not self._is(")"):
                self._want(",")
                self._skip_newlines()
        return tuple(found)

    def _array(self) -> tree.Array | tree.Loop:
        place = self._want("[").place
        self._skip_newlines()
        if self._is("for"):
            item, position, over = self._loop_head()
            body = self._expression()
            self._skip_newlines()
            self._want("]")
            return tree.Loop(place=place, item=item, position=position, over=over, body=body)
        items = []
        while not self._skip("]"):
            items.append(self._expression())
            self._separator("]")
        return tree.Array(place=place, items=tuple(items))

    def _object(self) -> tree.Object:
        place = self._want("{").place
        self._skip_newlines()
        items = []
        seen: set[str | int | bool | None] = set()
        while not self._skip("}"):
            key = self._key()
            if isinstance(key, tree.Literal):
                if key.value in seen:
                    raise BicepError(key.place, f"the key {key.value!r} stands there twice")
                seen.add(key.value)
            items.append((key, self._value()))
            self._separator("}")
        return tree.Object(place=place, items=tuple(items))

    def _key(self) -> tree.Literal | tree.Interpolation:
        token = self._here
        if token.kind is Kind.STRING:
            return self._string(self._take())
        return tree.Literal(place=token.place, value=self._want_name())

    def _value(self) -> Expression:
        self._want(":")
        return self._expression()

    def _separator(self, closing: str) -> None:
        """A comma or the end of the line, where another item follows."""
        has_comma = self._skip(",")
        if not has_comma and not self._is(closing) and self._here.kind is not Kind.NEWLINE:
            raise BicepError(self._here.place, f"',' or {closing!r} is expected, not {self._shown()}")
        self._skip_newlines()


def _operation(place: Place, function: str, left: Expression, right: Expression) -> tree.Call:
    if function == "notEquals":
        equal = tree.Call(place=place, function="equals", arguments=(left, right))
        return tree.Call(place=place, function="not", arguments=(equal,))
    return tree.Call(place=place, function=function, arguments=(left, right))
