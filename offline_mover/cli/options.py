"""Options that several verbs share, each with a variable of the environment that means the same."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from airgap.redaction import redact

DEFAULT_CONCURRENCY = 4
MAX_CONCURRENCY = 32
DEFAULT_RETRIES = 5
MAX_RETRIES = 10
PREFIX = "OFFLINE_MOVER_"

LOCAL_NOTES = """\
Every option can be set in the environment: --sas-file is
OFFLINE_MOVER_SAS_FILE. NO_COLOR is honoured.
exit codes: 0 ok, 1 bug, 2 usage, 10-39 the data is wrong, 40-69 and 110-125
not allowed by the trust policy, 70-89 the medium, 90-109 a service, 130
interrupted.
"""
CLOUD_NOTES = f"""\
Signing in: a SAS from --sas-file or the variable OFFLINE_MOVER_SAS, never in
the URL; without one, whoever azure-identity finds (az login, managed identity,
environment), at storages of Azure's clouds, and at another only if --token-host
names it.
TLS roots of your own: REQUESTS_CA_BUNDLE.
{LOCAL_NOTES}"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The way in which a run is told: as JSON lines, without a moving bar, with stack traces of bugs."""

    as_json: bool
    is_plain: bool
    shows_traces: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The way to a storage: a SAS from a file, or a sign-in; and how often a request is repeated."""

    sas_file: Path | None
    token_host: str | None
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlace:
    """The place of a person's private key, a file or a vault, and a host that may see her sign-in."""

    place: str
    token_host: str | None


class _Wide(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions, and uses the terminal's width up to 100."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(100, shutil.get_terminal_size().columns))


class UsageError(Exception):
    """Wrong arguments: the message of argparse, without secrets, and the verb that they were for."""

    def __init__(self, verb: str, message: str) -> None:
        super().__init__(message)
        self.verb = verb


class Parser(argparse.ArgumentParser):
    """A parser that does not repeat secrets that were typed where they do not belong.

    ``declared`` are the arguments in the order of their declaration, ``branches`` what chooses the parser
    of a verb, where there are verbs. The parser that was chosen is ``chosen`` in the namespace; what cannot
    be told from one argument alone it settles, once all of them are read.
    """

    def __init__(self, **members: Any) -> None:
        self.declared: list[argparse.Action] = []
        self.branches: Any = None
        self.settle: Callable[[argparse.Namespace], None] | None = None
        super().__init__(**{"formatter_class": _Wide, "allow_abbrev": False, **members})
        self.set_defaults(chosen=self)

    @property
    def verb(self) -> str:
        """The words that choose this parser, such as ``receipts push``."""
        return self.prog.partition(" ")[2]

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments with argparse's message, redacted.

        Raises:
            UsageError: always.
        """
        raise UsageError(self.verb, redact(message))

    def add_argument(self, *names: Any, **members: Any) -> argparse.Action:
        """Declare an argument as argparse does; actions that only print are not among :attr:`declared`."""
        action = super().add_argument(*names, **members)
        if action.dest not in {"help", "version"}:
            self.declared.append(action)
        return action

    def add_subparsers(self, **members: Any) -> Any:
        """Declare the verbs as argparse does."""
        self.branches = super().add_subparsers(**members)
        return self.branches

    def add_option(
        self,
        name: str,
        *,
        metavar: str,
        text: str,
        read: Callable[[str], T],
        default: T | None = None,
        is_needed: bool = False,
    ) -> None:
        """Declare an option with a value; the environment may give the default, or the value itself."""
        given = from_environment(name)
        self.add_argument(
            f"--{name}",
            metavar=metavar,
            type=read,
            default=given or default,  # argparse reads a default that is text
            required=is_needed and given is None,
            help=text,
        )

    def add_switch(self, name: str, text: str) -> None:
        """Declare an option without a value; the environment may set it, too."""
        self.add_argument(f"--{name}", action="store_true", default=is_set(name), help=text)


def from_environment(name: str) -> str | None:
    """The value that the environment has for the option ``--name``; ``None`` if it has none."""
    return os.environ.get(_variable(name)) or None


def is_set(name: str) -> bool:
    """Whether the environment sets the switch ``--name``."""
    return os.environ.get(_variable(name), "") not in {"", "0", "false"}


def _variable(name: str) -> str:
    return PREFIX + name.replace("-", "_").upper()


def add_volumes(parser: Parser, name: str = "VOLUME", *, read: Callable[[str], Path | str] = Path) -> None:
    """Declare the positional argument for one or several volumes."""
    parser.add_argument(
        "volumes",
        metavar=name,
        nargs="+",
        type=read,
        help="a medium's folder; it has one folder a transfer. Several, in any order",
    )


def add_system_disk(parser: Parser) -> None:
    """Declare ``--allow-system-disk``, which allows folders of this computer, as in tests and rehearsals."""
    parser.add_switch(
        "allow-system-disk",
        "fill folders of this computer too; else one that is no medium is refused: that is all there is of a "
        "stick that is not plugged in",
    )


def add_transfer(parser: Parser) -> None:
    """Declare ``--transfer``, which names the transfer where volumes hold several."""
    parser.add_option(
        "transfer",
        metavar="ID",
        read=transfer_id,
        text="which transfer, where the volumes hold several",
    )


def add_trust(parser: Parser) -> None:
    """Declare ``--trust``, which names the file of the trust policy."""
    parser.add_option(
        "trust",
        metavar="POLICY",
        read=Path,
        text="the trust policy: whose signatures count (JSON file)",
        is_needed=True,
    )


def add_key(parser: Parser) -> None:
    """Declare ``--key`` and ``--token-host``, which say with which key a person signs."""
    parser.add_option(
        "key",
        metavar="KEY",
        read=str,
        text="your private key: a file (PKCS#8 PEM, not encrypted), or https://VAULT/keys/NAME in Key Vault",
        is_needed=True,
    )
    _add_token_host(parser, "vault")


def _add_token_host(parser: Parser, what: str) -> None:
    parser.add_option(
        "token-host",
        metavar="HOST",
        read=str,
        text=f"a {what} outside Azure's known clouds that may see your Azure sign-in",
    )


def add_cloud(parser: Parser) -> None:
    """Declare ``--sas-file``, ``--token-host`` and ``--retries``, which say how to get at a storage."""
    parser.add_option(
        "sas-file", metavar="FILE", read=Path, text="file with a SAS token: what follows the ? of a SAS URL"
    )
    _add_token_host(parser, "storage")
    parser.add_option(
        "retries",
        metavar="N",
        read=from_to(0, MAX_RETRIES),
        default=DEFAULT_RETRIES,
        text=f"how often a failed request is repeated (default {DEFAULT_RETRIES})",
    )


def add_ticket(parser: Parser, address: str, *, is_first: bool) -> None:
    """Declare ``--ticket``, and the address that it replaces, before or after the volumes.

    Both are declared as texts, the address as one that may be missing: which word is what, the ticket says.
    """
    parser.add_option(
        "ticket",
        metavar="FILE",
        read=Path,
        text=f"a ticket for the bundle, in place of {address.upper()} and SAS; a secret until it expires",
    )

    def settle(options: argparse.Namespace) -> None:
        alone = getattr(options, address)
        others = [] if alone is None else [alone]
        words = [*others, *options.volumes] if is_first else [*options.volumes, *others]
        place = 0 if is_first else -1
        setattr(options, address, None)
        if options.ticket is None or "://" in words[place]:
            if len(words) == 1:
                parser.error(f"the following arguments are required: {address.upper()}, or --ticket FILE")
            setattr(options, address, words.pop(place))
        options.volumes = [Path(word) for word in words]

    parser.settle = settle


def read_key(options: argparse.Namespace) -> KeyPlace:
    """The place of the key that the options declared by :func:`add_key` tell."""
    return KeyPlace(place=options.key, token_host=options.token_host)


def read_access(options: argparse.Namespace) -> Access:
    """The way to the storage that the options declared by :func:`add_cloud` tell."""
    return Access(sas_file=options.sas_file, token_host=options.token_host, retries=options.retries)


def add_connections(parser: Parser) -> None:
    """Declare ``--concurrency`` for a verb that moves parts: the most connections that it may use."""
    parser.add_option(
        "concurrency",
        metavar="N",
        read=from_to(1, MAX_CONCURRENCY),
        default=MAX_CONCURRENCY,
        text=f"connections at most, over all volumes; it takes as many as help (default {MAX_CONCURRENCY})",
    )


def add_concurrency(parser: Parser) -> None:
    """Declare ``--concurrency``: how many parts are worked on at a time."""
    parser.add_option(
        "concurrency",
        metavar="N",
        read=from_to(1, MAX_CONCURRENCY),
        default=DEFAULT_CONCURRENCY,
        text=f"parts at a time, over all volumes (default {DEFAULT_CONCURRENCY})",
    )


def add_custody(parser: Parser) -> None:
    """Declare ``--who`` and ``--custody-dir``: who runs the command, and where that is kept besides."""
    parser.add_option(
        "who", metavar="NAME", read=str, text="who you are, for the custody log (default: the user)"
    )
    parser.add_option(
        "custody-dir",
        metavar="FOLDER",
        read=Path,
        text="where events of read-only media are kept until push (default: your own state folder)",
    )


def add_output(parser: Parser) -> None:
    """Declare ``--json``, ``--plain`` and ``--debug``, which say how a run is told."""
    parser.add_switch("json", "JSON lines on stdout: progress now and then, the result last")
    parser.add_switch("plain", "no progress bar: one line every 10 s")
    parser.add_switch("debug", "a stack trace where there is a bug")


def read_output(options: argparse.Namespace) -> Output:
    """The way of telling a run that the options declared by :func:`add_output` choose."""
    return Output(as_json=options.json, is_plain=options.plain, shows_traces=options.debug)


def from_to(least: int, most: int) -> Callable[[str], int]:
    """A reader of whole numbers from ``least`` to ``most``; it raises a usage error for anything else."""

    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
            raise argparse.ArgumentTypeError(f"not a number from {least} to {most}")
        return int(text)

    return number


def transfer_id(text: str) -> str:
    """Read a transfer id, 8 to 40 lower-case letters and digits; anything else is a usage error."""
    from airgap.fields import TRANSFER_ID  # noqa: PLC0415 - brings in json; --help does without

    if not TRANSFER_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("not a transfer id: 8 to 40 lower-case letters and digits")
    return text
