"""The command line: arguments in, exit code out.

Only the standard library and :mod:`airgap.errors` are imported at the top, and then the arguments of the one
verb, so that ``--help`` is quick and ``verify`` works where no Azure package is.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from airgap.errors import AirgapError, Code, OperatorError
from airgap.redaction import redact
from offline_mover.cli.options import UsageError, is_set
from offline_mover.cli.parser import parse

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments ask for, and tell how it ended.

    Returns:
        The exit code: 0, or that of the :class:`~airgap.errors.Code`; 1 for a bug, 130 when interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        asked = parse(given)
    except UsageError as error:
        return _refuse(error, given)
    from offline_mover.cli.run_ending import RunEnding  # noqa: PLC0415 - brings in the domain as well
    from offline_mover.cli.session import Session  # noqa: PLC0415 - brings in the domain; --help does without

    if isinstance(sys.stdout, io.TextIOWrapper):  # a name on a medium may not fit the terminal's encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    session = Session(asked.output)
    report = session.report
    ending = RunEnding(asked.typed, session.meter)
    try:
        with session:
            outcome = asked.request.run(session)
        session.record(asked.request.custody, outcome.code, outcome)
        return report.outcome(outcome, ending.after(outcome.next_command))
    except AirgapError as error:
        session.record(asked.request.custody, error.code, None)
        return report.error(asked.command, error, ending.after_error(error))
    except KeyboardInterrupt:
        report.event(event="result", command=asked.command, code="INTERRUPTED", exitCode=INTERRUPTED)
        report.note(f"Interrupted. {asked.after_interruption}")
        report.note(f"  {ending.again().line}")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: one line, not a stack trace
        if asked.output.shows_traces:
            import traceback  # noqa: PLC0415 - takes as long as a verb's own modules, and is for bugs

            print(redact(traceback.format_exc()), file=sys.stderr)
        report.event(event="result", command=asked.command, code="BUG", exitCode=1)
        report.note(f"BUG: {type(error).__name__}; run again with --debug and report what it prints.")
        return 1
    finally:
        session.let_go()


def _refuse(error: UsageError, arguments: Sequence[str]) -> int:
    """Tell that the arguments are wrong, in the form that they ask for themselves; returns the exit code."""
    from offline_mover.outcome import Ending, Report  # noqa: PLC0415 - --help does without

    words = ("offline-mover", *error.verb.split(), "--help")
    refusal = OperatorError(Code.USAGE, str(error))
    report = Report(as_json="--json" in arguments or is_set("json"))
    return report.error(error.verb, refusal, Ending(command=words, line=" ".join(words)))
