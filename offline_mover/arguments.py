"""The command line and its mirror in the environment, read into a typed :class:`Call`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from airgap import __version__
from airgap.fields import TRANSFER_ID
from offline_mover.storage_address import redact

DEFAULT_CONCURRENCY = 4
MAX_CONCURRENCY = 32
DEFAULT_RETRIES = 5
MAX_RETRIES = 10
PREFIX = "OFFLINE_MOVER_"

_DESCRIPTION = """\
Carry container artifacts across an air gap: from the source storage onto a
medium, and from the medium into the target storage. Every byte is checked
against the signed bundle manifest, and the signature against your trust policy.

  offline-mover pull   https://src.blob.core.windows.net/transfer/ID /media/usb --trust policy.json
  offline-mover verify /media/usb --trust policy.json
  offline-mover push   /media/usb https://dst.blob.core.windows.net/incoming --trust policy.json
"""
_PULL = """\
Bring one transfer from the source storage onto a volume. Parts that are there
already are checked and kept, so after an interruption run the same command again.

example:
  offline-mover pull https://src.blob.core.windows.net/transfer/k3v9x2m7q1 /media/usb \\
      --trust policy.json --sas-file sas.txt
"""
_VERIFY = """\
Check a volume, without network: is it the signed bundle, all of it and nothing
else? All damage is listed in one pass.

example:
  offline-mover verify /media/usb --trust policy.json
"""
_PUSH = """\
Send a volume's transfer into the target storage. The very bytes that are sent are
checked; nothing becomes visible before all of it is right. After an interruption
run the same command again: it sends what is missing.

example:
  offline-mover push /media/usb https://dst.blob.core.windows.net/incoming \\
      --trust policy.json --sas-file sas.txt
"""
_LOCAL_NOTES = """\
Every option can be set in the environment: --sas-file is OFFLINE_MOVER_SAS_FILE.
exit codes: 0 ok, 1 bug, 2 usage, 10-29 the data is wrong, 30-49 not allowed by the
trust policy, 50-69 the medium, 70-89 a service, 130 interrupted. NO_COLOR is honoured.
"""
_CLOUD_NOTES = f"""\
Signing in: a SAS from --sas-file or the variable OFFLINE_MOVER_SAS, never in the URL;
without one, whoever azure-identity finds (az login, managed identity, environment).
TLS roots of your own: REQUESTS_CA_BUNDLE.
{_LOCAL_NOTES}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What the operator asked for, checked as far as arguments can be."""

    command: str
    source: str
    volume: Path
    target: str
    trust: Path
    transfer: str | None
    concurrency: int
    retries: int
    sas_file: Path | None
    as_json: bool
    is_plain: bool
    is_debug: bool


class _Parser(argparse.ArgumentParser):
    """Does not repeat secrets that were typed where they do not belong."""

    def error(self, message: str) -> NoReturn:
        super().error(redact(message))


def parse(arguments: Sequence[str] | None) -> Call:
    """Read the arguments; exits with 2 for wrong ones, 0 after ``--help``, as argparse does."""
    options = _parser(os.environ).parse_args(arguments)
    return Call(
        command=options.command,
        source=getattr(options, "source", ""),
        volume=options.volume,
        target=getattr(options, "target", ""),
        trust=options.trust,
        transfer=getattr(options, "transfer", None),
        concurrency=options.concurrency,
        retries=getattr(options, "retries", 0),
        sas_file=getattr(options, "sas_file", None),
        as_json=options.json,
        is_plain=options.plain,
        is_debug=options.debug,
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="offline-mover",
        description=_DESCRIPTION,
        epilog=_CLOUD_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"offline-mover {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    pull = _add_command(commands, "pull", "from the source storage onto a volume", _PULL, _CLOUD_NOTES)
    pull.add_argument(
        "source", metavar="SOURCE", help="https://<account>…/transfer/<transferId>, without a SAS"
    )
    _add_volume(pull)
    _add_cloud_options(pull, environment)
    _add_options(pull, environment)

    verify = _add_command(commands, "verify", "check a volume, without network", _VERIFY, _LOCAL_NOTES)
    _add_volume(verify)
    _add_transfer_option(verify, environment)
    _add_options(verify, environment)

    push = _add_command(commands, "push", "from a volume into the target storage", _PUSH, _CLOUD_NOTES)
    _add_volume(push)
    push.add_argument("target", metavar="TARGET", help="https://<account>…/incoming, without a SAS")
    _add_transfer_option(push, environment)
    _add_cloud_options(push, environment)
    _add_options(push, environment)
    return parser


def _add_command(
    commands: argparse._SubParsersAction[_Parser],  # the type has no public name
    name: str,
    summary: str,
    description: str,
    notes: str,
) -> _Parser:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=notes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_volume(parser: _Parser) -> None:
    parser.add_argument(
        "volume", metavar="VOLUME", type=Path, help="the medium's folder; it has one folder a transfer"
    )


def _add_transfer_option(parser: _Parser, environment: Mapping[str, str]) -> None:
    parser.add_argument(
        "--transfer",
        metavar="ID",
        type=_transfer_id,
        default=environment.get(f"{PREFIX}TRANSFER") or None,
        help="which transfer, where the volume holds several",
    )


def _add_cloud_options(parser: _Parser, environment: Mapping[str, str]) -> None:
    parser.add_argument(
        "--sas-file",
        metavar="FILE",
        type=Path,
        default=environment.get(f"{PREFIX}SAS_FILE") or None,
        help="file with a SAS token: what follows the ? of a SAS URL",
    )
    parser.add_argument(
        "--retries",
        metavar="N",
        type=_from_to(0, MAX_RETRIES),
        default=environment.get(f"{PREFIX}RETRIES") or DEFAULT_RETRIES,
        help=f"how often a failed request is repeated (default {DEFAULT_RETRIES})",
    )


def _add_options(parser: _Parser, environment: Mapping[str, str]) -> None:
    trust = environment.get(f"{PREFIX}TRUST") or None
    parser.add_argument(
        "--trust",
        metavar="POLICY",
        type=Path,
        default=trust,
        required=trust is None,
        help="the trust policy: whose signatures count (JSON file)",
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=_from_to(1, MAX_CONCURRENCY),
        default=environment.get(f"{PREFIX}CONCURRENCY") or DEFAULT_CONCURRENCY,
        help=f"parts at a time (default {DEFAULT_CONCURRENCY})",
    )
    for name, text in (
        ("json", "JSON lines on stdout: progress now and then, the result last"),
        ("plain", "no progress bar: one line every 10 s"),
        ("debug", "a stack trace where there is a bug"),
    ):
        is_set = environment.get(f"{PREFIX}{name.upper()}", "") not in {"", "0", "false"}
        parser.add_argument(f"--{name}", action="store_true", default=is_set, help=text)


def _from_to(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
            raise argparse.ArgumentTypeError(f"not a number from {least} to {most}")
        return int(text)

    return number


def _transfer_id(text: str) -> str:
    if not TRANSFER_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("not a transfer id: 8 to 40 lower-case letters and digits")
    return text
