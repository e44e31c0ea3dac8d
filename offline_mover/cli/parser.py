"""The command line as a whole: all verbs, and the reading of what the operator typed."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airgap import __version__
from offline_mover.cli.next_command import TypedWords
from offline_mover.cli.options import CLOUD_NOTES, Output, Parser, read_output
from offline_mover.cli.verb import Request, Verb

_DESCRIPTION = """\
Carry container artifacts across an air gap: from the source storage onto media,
and from the media into the target storage. Every byte is checked against the
signed bundle manifest, and the signature against your trust policy.

  offline-mover pull   https://src.blob.core.windows.net/transfer/ID /media/usb --trust policy.json
  offline-mover verify /media/usb --trust policy.json
  offline-mover push   /media/usb https://dst.blob.core.windows.net/incoming --trust policy.json
"""

VERBS: Mapping[str, str] = {
    "list": "list the transfers at a storage or on volumes",
    "plan": "what would go on which volume, how long it takes, what does not fit",
    "pull": "from the source storage onto one volume or several",
    "verify": "check any volumes, without network",
    "repair": "rebuild lost parts from parity shards, on the spot",
    "push": "from volumes into the target storage",
    "receipts": "carry the target's signed receipts back to the source, or read them",
    "custody": "show or check who had the volumes, and what they found",
    "report": "write one HTML page, and its JSON twin, for the file",
    "policy": "show the trust policy, carry its signed versions, sign the next one",
    "sign": "release a bundle, or sign it at the source, with the key of a person",
}
"""The verbs, each with its line in the list of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command that the operator typed: its verb, its request, and how it is to be told."""

    command: str
    request: Request
    output: Output
    after_interruption: str
    typed: TypedWords


def parse(arguments: Sequence[str] | None) -> Asked:
    """Read the arguments of a run; exits with 0 after ``--help``, as argparse does.

    Raises:
        UsageError: the arguments are wrong.
    """
    options = parse_options(arguments)
    verb = verb_of(options.command)
    return Asked(
        command=options.command,
        request=verb.read(options),
        output=read_output(options),
        after_interruption=verb.AFTER_INTERRUPTION,
        typed=TypedWords.of(options, options.chosen),
    )


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments as argparse gives them, with the verb's name as ``command``; only verbs look into it."""
    words = sys.argv[1:] if arguments is None else arguments
    options, rest = _parser(words).parse_known_args(words)
    if rest:
        options.chosen.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.chosen.settle is not None:
        options.chosen.settle(options)
    return options


def parser_of(verb: str) -> Parser:
    """The parser of a verb such as ``receipts push``."""
    words = verb.split()
    parser = _parser(words)
    for word in words:
        parser = parser.branches.choices[word]
    return parser


def verb_of(name: str) -> Verb:
    """The module of a verb, imported when it is asked for, so that no start pays for the others."""
    module = "list_transfers" if name == "list" else name  # a module named list would hide the type
    verb: Any = importlib.import_module(f"offline_mover.cli.{module}")
    found: Verb = verb
    return found


def _parser(words: Sequence[str]) -> Parser:
    """The parser of the command line; only a verb that is among the words has its arguments."""
    parser = Parser(prog="offline-mover", description=_DESCRIPTION, epilog=CLOUD_NOTES)
    parser.add_argument("--version", action="version", version=f"offline-mover {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in VERBS.items():
        if name in words:
            verb = verb_of(name)
            verb.declare(commands.add_parser(name, help=summary, description=verb.HELP, epilog=verb.NOTES))
        else:
            commands.add_parser(name, help=summary)
    return parser
