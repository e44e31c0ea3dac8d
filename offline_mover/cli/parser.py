"""The command line as a whole: which verbs there are, and what was asked for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airgap import __version__
from offline_mover.cli import (
    custody,
    list_transfers,
    plan,
    policy,
    pull,
    push,
    receipts,
    repair,
    report,
    sign,
    verify,
)
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

VERBS: Mapping[str, Verb] = {
    "list": list_transfers,
    "plan": plan,
    "pull": pull,
    "verify": verify,
    "repair": repair,
    "push": push,
    "receipts": receipts,
    "custody": custody,
    "report": report,
    "policy": policy,
    "sign": sign,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the operator typed: which command, its request, and how it is to be told."""

    command: str
    request: Request
    output: Output
    after_interruption: str
    typed: TypedWords


def parse(arguments: Sequence[str] | None) -> Asked:
    """Read the arguments; exits with 0 after ``--help``, as argparse does.

    Raises:
        UsageError: they are wrong.
    """
    options = parse_options(arguments)
    verb = VERBS[options.command]
    return Asked(
        command=options.command,
        request=verb.read(options),
        output=read_output(options),
        after_interruption=verb.AFTER_INTERRUPTION,
        typed=TypedWords.of(options, options.chosen),
    )


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments as argparse has them, with ``command``, the verb's name; only verbs look into it."""
    options, rest = _parser().parse_known_args(arguments)
    if rest:
        options.chosen.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.chosen.settle is not None:
        options.chosen.settle(options)
    return options


def parser_of(verb: str) -> Parser:
    """The parser of a verb such as ``receipts push``."""
    parser = _parser()
    for word in verb.split():
        parser = parser.branches.choices[word]
    return parser


def _parser() -> Parser:
    parser = Parser(prog="offline-mover", description=_DESCRIPTION, epilog=CLOUD_NOTES)
    parser.add_argument("--version", action="version", version=f"offline-mover {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, verb in VERBS.items():
        verb.declare(commands.add_parser(name, help=verb.SUMMARY, description=verb.HELP, epilog=verb.NOTES))
    return parser
