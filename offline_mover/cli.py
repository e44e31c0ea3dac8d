"""Arguments in, exit code out.

Only the standard library and :mod:`airgap.errors` are imported at the top, so that ``--help`` is quick and
``verify`` works where no Azure package is.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from airgap import __version__
from airgap.errors import AirgapError, Code, OperatorError
from offline_mover.storage_address import MAX_SAS_BYTES, Sas, TransferAddress, redact

if TYPE_CHECKING:
    from airgap.policy import TrustPolicy
    from offline_mover.progress import Display, Meter
    from offline_mover.report import Outcome, Report

DEFAULT_CONCURRENCY = 4
MAX_CONCURRENCY = 32
DEFAULT_RETRIES = 5
MAX_RETRIES = 10
INTERRUPTED = 130
_PREFIX = "OFFLINE_MOVER_"

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
class _Call:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, or that of the :class:`~airgap.errors.Code`; 1 for a bug, 130 when interrupted.
    """
    call = _parse(arguments)
    _import_domain()
    from offline_mover.report import Report  # noqa: PLC0415 - brings in the domain; --help does without

    if isinstance(sys.stdout, io.TextIOWrapper):  # a name on a medium may not fit the terminal's encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    report = Report(as_json=call.as_json)
    try:
        return _run(call, report)
    except AirgapError as error:
        return report.error(call.command, error)
    except KeyboardInterrupt:
        report.event(event="result", command=call.command, code="INTERRUPTED", exitCode=INTERRUPTED)
        report.note(f"Interrupted. {_AFTER_INTERRUPTION[call.command]}")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: one line, not a stack trace
        if call.is_debug:
            print(redact(traceback.format_exc()), file=sys.stderr)
        report.event(event="result", command=call.command, code="BUG", exitCode=1)
        report.note(f"BUG: {type(error).__name__}; run again with --debug and report what it prints.")
        return 1


def _import_domain() -> None:
    """Import the domain as if no Azure package were there.

    securesystemslib would import every one of them, for signers that the mover never uses: that takes longer
    than verifying a small volume, and verifying must not depend on them.
    """
    if "azure" in sys.modules:
        return
    sys.modules["azure"] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
    try:
        import airgap.verify  # noqa: F401, PLC0415 - for its side effect; --help does without
    finally:
        del sys.modules["azure"]


_AFTER_INTERRUPTION = {
    "pull": "The parts that are whole stay on the volume; run the same command again, it fetches the rest.",
    "verify": "Nothing was changed; run the same command again.",
    "push": "What was sent stays staged in the storage, unseen, for a week; run the same command again, it "
    "sends the rest.",
}


def _run(call: _Call, report: Report) -> int:
    from offline_mover.progress import Meter  # noqa: PLC0415 - as in main

    run = {"pull": _pull, "verify": _verify, "push": _push}[call.command](call)
    policy = _read_policy(call.trust)
    with Meter(_display(call, report)) as meter:
        outcome = run(policy, datetime.now(UTC), meter)
    return report.outcome(outcome)


_Command = Callable[["TrustPolicy", datetime, "Meter"], "Outcome"]


def _pull(call: _Call) -> _Command:
    address = TransferAddress.source(call.source)
    sas = _read_sas(call)

    def run(policy: TrustPolicy, now: datetime, meter: Meter) -> Outcome:
        from offline_mover.blob_store import AzureContainer  # noqa: PLC0415 - verify must work without Azure
        from offline_mover.commands.pull import pull  # noqa: PLC0415 - as above

        with AzureContainer(address, sas=sas, retries=call.retries) as source:
            return pull(
                source,
                call.volume,
                transfer_id=address.transfer_id or "",
                policy=policy,
                now=now,
                concurrency=call.concurrency,
                meter=meter,
            )

    return run


def _verify(call: _Call) -> _Command:
    def run(policy: TrustPolicy, now: datetime, meter: Meter) -> Outcome:
        from offline_mover.commands.verify import verify  # noqa: PLC0415 - --help does without

        return verify(
            call.volume,
            transfer_id=call.transfer,
            policy=policy,
            now=now,
            concurrency=call.concurrency,
            meter=meter,
        )

    return run


def _push(call: _Call) -> _Command:
    address = TransferAddress.target(call.target)
    sas = _read_sas(call)

    def run(policy: TrustPolicy, now: datetime, meter: Meter) -> Outcome:
        from offline_mover.blob_store import AzureContainer  # noqa: PLC0415 - verify must work without Azure
        from offline_mover.commands.push import push  # noqa: PLC0415 - as above

        with AzureContainer(address, sas=sas, retries=call.retries) as target:
            return push(
                target,
                call.volume,
                transfer_id=call.transfer,
                policy=policy,
                now=now,
                concurrency=call.concurrency,
                meter=meter,
            )

    return run


def _display(call: _Call, report: Report) -> Display:
    from offline_mover import progress  # noqa: PLC0415 - --help does without

    if call.as_json:
        return progress.PlainDisplay(
            lambda title, done, total: report.event(
                event="progress", title=title, doneBytes=done, totalBytes=total
            )
        )
    if sys.stderr.isatty() and not call.is_plain and os.environ.get("TERM") != "dumb":
        try:
            return progress.RichDisplay()
        except ImportError:  # a carried copy may be without it
            pass
    return progress.PlainDisplay(progress.write_progress_line)


def _read_policy(path: Path) -> TrustPolicy:
    from airgap.policy import MAX_POLICY_BYTES, TrustPolicy  # noqa: PLC0415 - brings in cryptography

    return TrustPolicy.from_bytes(_read_small(path, "--trust", MAX_POLICY_BYTES))


def _read_sas(call: _Call) -> Sas | None:
    """The SAS from its file, else from the environment, else none."""
    if call.sas_file is not None:
        try:
            text = _read_small(call.sas_file, "--sas-file", MAX_SAS_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise OperatorError(Code.USAGE, f"{call.sas_file} does not hold a SAS token") from None
        return Sas.from_text(text, str(call.sas_file))
    name = f"{_PREFIX}SAS"
    return Sas.from_text(os.environ[name], name) if os.environ.get(name) else None


def _read_small(path: Path, option: str, max_bytes: int) -> bytes:
    """A file of the operator's own: links are followed, size and kind are looked at."""
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise OperatorError(Code.USAGE, f"{option} {path}: {reason}") from None
    if len(content) > max_bytes:
        raise OperatorError(Code.USAGE, f"{option} {path}: larger than {max_bytes} bytes")
    return content


# --- arguments ---------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Does not repeat secrets that were typed where they do not belong."""

    def error(self, message: str) -> NoReturn:
        super().error(redact(message))


def _parse(arguments: Sequence[str] | None) -> _Call:
    options = _parser(os.environ).parse_args(arguments)
    return _Call(
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
        default=environment.get(f"{_PREFIX}TRANSFER") or None,
        help="which transfer, where the volume holds several",
    )


def _add_cloud_options(parser: _Parser, environment: Mapping[str, str]) -> None:
    parser.add_argument(
        "--sas-file",
        metavar="FILE",
        type=Path,
        default=environment.get(f"{_PREFIX}SAS_FILE") or None,
        help="file with a SAS token: what follows the ? of a SAS URL",
    )
    parser.add_argument(
        "--retries",
        metavar="N",
        type=_from_to(0, MAX_RETRIES),
        default=environment.get(f"{_PREFIX}RETRIES") or DEFAULT_RETRIES,
        help=f"how often a failed request is repeated (default {DEFAULT_RETRIES})",
    )


def _add_options(parser: _Parser, environment: Mapping[str, str]) -> None:
    trust = environment.get(f"{_PREFIX}TRUST") or None
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
        default=environment.get(f"{_PREFIX}CONCURRENCY") or DEFAULT_CONCURRENCY,
        help=f"parts at a time (default {DEFAULT_CONCURRENCY})",
    )
    for name, text in (
        ("json", "JSON lines on stdout: progress now and then, the result last"),
        ("plain", "no progress bar: one line every 10 s"),
        ("debug", "a stack trace where there is a bug"),
    ):
        is_set = environment.get(f"{_PREFIX}{name.upper()}", "") not in {"", "0", "false"}
        parser.add_argument(f"--{name}", action="store_true", default=is_set, help=text)


def _from_to(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
            raise argparse.ArgumentTypeError(f"not a number from {least} to {most}")
        return int(text)

    return number


def _transfer_id(text: str) -> str:
    from airgap.fields import TRANSFER_ID  # noqa: PLC0415 - --help does without

    if not TRANSFER_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("not a transfer id: 8 to 40 lower-case letters and digits")
    return text
