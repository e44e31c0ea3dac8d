"""The words of a Bicep file: names, numbers, strings, operators and ends of lines."""

import re
from dataclasses import dataclass
from enum import Enum, auto, unique

from infra.bicep.errors import BicepError, Place

MAX_FILE_CHARACTERS = 256 * 1024
"""Far more than a template of ours has; what is longer is refused before it is read."""

_MAX_NESTED_STRINGS = 4
"""Strings in the expressions of strings: each level is read once more than the one above it."""


@unique
class Kind(Enum):
    """The kind of a word."""

    NAME = auto()
    NUMBER = auto()
    STRING = auto()
    OPERATOR = auto()
    NEWLINE = auto()
    END = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A word of a Bicep file.

    ``text`` is the word as it stands there, except for a string. Of a string, ``pieces`` are its texts and,
    between them, the words of the expressions in ``${…}``; the first and the last are always texts.
    """

    kind: Kind
    place: Place
    text: str = ""
    pieces: "tuple[str | tuple[Token, ...], ...]" = ()


_WORD = re.compile(
    r"""
      (?P<space>[ \t]+|//[^\r\n]*)
    | (?P<newline>\r?\n)
    | (?P<number>[0-9]{1,18}(?![0-9A-Za-z_]))
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<operator>\?\?|::|==|!=|<=|>=|&&|\|\||[{}\[\]().,:=<>+\-*/%!?@|])
    """,
    re.VERBOSE,
)
_KINDS = {"number": Kind.NUMBER, "name": Kind.NAME, "operator": Kind.OPERATOR, "newline": Kind.NEWLINE}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", "$": "$"}


def tokens_of(text: str) -> tuple[Token, ...]:
    """Cut a file into its words, with an end after the last.

    Raises:
        BicepError: there is something that is no word, such as a multi-line string or a block comment.
    """
    if len(text) > MAX_FILE_CHARACTERS:
        raise BicepError(Place(1, 1), f"the file has more than {MAX_FILE_CHARACTERS} characters")
    return _Scanner(text).words(0, len(text), depth=0)


@dataclass(frozen=True, slots=True)
class _Scanner:
    text: str

    def words(self, start: int, end: int, *, depth: int) -> tuple[Token, ...]:
        """The words between two positions."""
        found: list[Token] = []
        position = start
        while position < end:
            if self.text[position] == "'":
                token, position = self._string(position, depth)
                found.append(token)
                continue
            match = _WORD.match(self.text, position, end)
            if match is None or self.text.startswith("/*", position):
                shown = self.text[position : min(end, position + 20)]
                raise BicepError(self._place(position), f"{shown!r} is not known here")
            if match.lastgroup != "space":
                kind = _KINDS[str(match.lastgroup)]
                found.append(Token(kind=kind, place=self._place(position), text=match[0]))
            position = match.end()
        last = self._place(end)
        return (*found, Token(kind=Kind.NEWLINE, place=last, text="\n"), Token(kind=Kind.END, place=last))

    def _place(self, position: int) -> Place:
        line_start = self.text.rfind("\n", 0, position) + 1
        return Place(self.text.count("\n", 0, position) + 1, position - line_start + 1)

    def _string(self, start: int, depth: int) -> tuple[Token, int]:
        """The string that begins at ``start``, and where the text goes on."""
        place = self._place(start)
        if self.text.startswith("'''", start):
            raise BicepError(place, "multi-line strings are not known here")
        if depth > _MAX_NESTED_STRINGS:
            raise BicepError(place, f"strings stand in strings more than {_MAX_NESTED_STRINGS} times")
        pieces: list[str | tuple[Token, ...]] = []
        letters = ""
        position = start + 1
        while True:
            letter = self.text[position : position + 1]
            if letter in {"", "\n", "\r"}:
                raise BicepError(place, "the string is not closed")
            if letter == "'":
                token = Token(kind=Kind.STRING, place=place, pieces=(*pieces, letters))
                return token, position + 1
            if letter == "\\":
                escaped = self.text[position + 1 : position + 2]
                if escaped not in _ESCAPES:
                    raise BicepError(self._place(position), f"the escape \\{escaped} is not known here")
                letters += _ESCAPES[escaped]
                position += 2
            elif self.text.startswith("${", position):
                end = self._end_of_expression(position + 2, depth + 1)
                pieces += [letters, self.words(position + 2, end, depth=depth + 1)]
                letters, position = "", end + 1
            else:
                letters += letter
                position += 1

    def _end_of_expression(self, start: int, depth: int) -> int:
        """Where the brace stands that closes the ``${`` before ``start``."""
        braces, position = 1, start
        while position < len(self.text) and self.text[position] != "\n":
            if self.text[position] == "'":
                _, position = self._string(position, depth)
                continue
            braces += {"{": 1, "}": -1}.get(self.text[position], 0)
            if braces == 0:
                return position
            position += 1
        raise BicepError(self._place(start), "the expression in the string is not closed")
