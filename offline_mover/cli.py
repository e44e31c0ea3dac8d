"""Runs a command: arguments in, exit code out.

Only the standard library and :mod:`airgap.errors` are imported at the top, so that ``--help`` is quick and
``verify`` works where no Azure package is.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.errors import AirgapError, Code, OperatorError
from offline_mover.arguments import PREFIX, Call, parse
from offline_mover.storage_address import MAX_SAS_BYTES, Sas, TransferAddress, redact

if TYPE_CHECKING:
    from airgap.policy import TrustPolicy
    from offline_mover.progress import Display, Meter
    from offline_mover.report import Outcome, Report

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, or that of the :class:`~airgap.errors.Code`; 1 for a bug, 130 when interrupted.
    """
    call = parse(arguments)
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


def _run(call: Call, report: Report) -> int:
    from offline_mover.progress import Meter  # noqa: PLC0415 - as in main

    run = {"pull": _pull, "verify": _verify, "push": _push}[call.command](call)
    policy = _read_policy(call.trust)
    with Meter(_display(call, report)) as meter:
        outcome = run(policy, datetime.now(UTC), meter)
    return report.outcome(outcome)


_Command = Callable[["TrustPolicy", datetime, "Meter"], "Outcome"]


def _pull(call: Call) -> _Command:
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


def _verify(call: Call) -> _Command:
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


def _push(call: Call) -> _Command:
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


def _display(call: Call, report: Report) -> Display:
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


def _read_sas(call: Call) -> Sas | None:
    """The SAS from its file, else from the environment, else none."""
    if call.sas_file is not None:
        try:
            text = _read_small(call.sas_file, "--sas-file", MAX_SAS_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise OperatorError(Code.USAGE, f"{call.sas_file} does not hold a SAS token") from None
        return Sas.from_text(text, str(call.sas_file))
    name = f"{PREFIX}SAS"
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
