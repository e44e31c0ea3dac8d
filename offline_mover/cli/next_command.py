"""The next command as the operator would type it, made from an outcome and this run's own arguments."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offline_mover.cli.options import PREFIX, Parser

if TYPE_CHECKING:
    from offline_mover.outcome import NextCommand

_SAME_EVERYWHERE = frozenset(
    {"transfer", "trust", "who", "custody-dir", "concurrency", "retries", "allow-system-disk"}
)
"""Options that mean the same to every verb; any other is this run's own business."""

_SIGN_IN = "sas-file"
_TICKET = "ticket"
"""Stands for the address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedWords:
    """The words that the operator typed, without those that the environment would give again.

    ``words`` are the positional arguments and ``options`` the values by name, each by name.
    """

    verb: str
    words: dict[str, tuple[str, ...]]
    options: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, options: argparse.Namespace, parser: Parser) -> TypedWords:
        """The typed words that the parsed ``options`` stand for."""
        words: dict[str, tuple[str, ...]] = {}
        named: dict[str, tuple[str, ...]] = {}
        for action in parser.declared:
            value = getattr(options, action.dest, None)
            if not action.option_strings:
                known = value if isinstance(value, list) else [] if value is None else [value]
                words[action.dest] = tuple(map(str, known))
            elif value not in (None, False) and str(value) != str(action.default):
                given = () if value is True else value if isinstance(value, list) else (value,)
                named[_name(action)] = tuple(map(str, given))
        return cls(verb=parser.verb, words=words, options=named)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedCommand:
    """A command word by word; ``placeholders`` are the words that only the operator can know."""

    words: tuple[str, ...]
    placeholders: tuple[str, ...]


def compose(step: NextCommand, typed: TypedWords, parser: Parser, program: Sequence[str]) -> ComposedCommand:
    """The command line for ``step``, with every argument of this run that belongs to it, too.

    Args:
        step: the command that is to be run.
        typed: the words of this run.
        parser: the parser of the step's verb.
        program: the words that start this tool.
    """
    from offline_mover.outcome import Placeholder  # noqa: PLC0415 - --help does without

    placeholders: list[str] = []
    words = [*program, *step.verb.split()]
    for action in parser.declared:
        if not action.option_strings:
            known = step.words.get(action.dest) or (
                typed.words.get(action.dest) if _is_same(step, typed) else None
            )
            if not known and not (_is_same(step, typed) and _TICKET in typed.options):
                known = (Placeholder(action.metavar),)
            known = known or ()
            placeholders += [word for word in known if isinstance(word, Placeholder)]
            words += known
    for action in parser.declared:
        if action.option_strings:
            words += _option(action, step, typed, placeholders)
    return ComposedCommand(words=tuple(words), placeholders=tuple(dict.fromkeys(placeholders)))


def _is_same(step: NextCommand, typed: TypedWords) -> bool:
    return step.verb == typed.verb


def _option(
    action: argparse.Action, step: NextCommand, typed: TypedWords, placeholders: list[str]
) -> Iterator[str]:
    name = _name(action)
    given: tuple[str, ...] | None
    if name in step.options:
        value = step.options[name]
        from offline_mover.outcome import Placeholder  # noqa: PLC0415 - --help does without

        values = value if isinstance(value, tuple) else (value,) if value else ()
        given = None if value is None else values
        placeholders += [word for word in values if isinstance(word, Placeholder)]
    elif _is_same(step, typed) or name in _SAME_EVERYWHERE or (name == _SIGN_IN and _is_there(step, typed)):
        given = typed.options.get(name)
    else:
        given = None
    if given is None and name not in step.options and _is_needed(action, name, step, typed):
        given = (str(action.metavar),)
        placeholders.append(str(action.metavar))
    if given is not None:
        for value in given or (None,):
            yield f"--{name}"
            if value is not None:
                yield value


def _is_there(step: NextCommand, typed: TypedWords) -> bool:
    """Whether the next command speaks to a container that this one spoke to."""
    spoken_to = {word for named in typed.words.values() for word in named}
    return any(
        word in spoken_to or word.rpartition("/")[0] in spoken_to for word in step.words.get("source", ())
    )


def _is_needed(action: argparse.Action, name: str, step: NextCommand, typed: TypedWords) -> bool:
    """Whether the verb does not work without, and nothing says it yet; another storage has another SAS."""
    if name == _SIGN_IN:
        return not _is_same(step, typed) and not (
            os.environ.get(f"{PREFIX}SAS") or os.environ.get(f"{PREFIX}SAS_FILE")
        )
    return action.required


def _name(action: argparse.Action) -> str:
    return action.option_strings[-1].removeprefix("--")
