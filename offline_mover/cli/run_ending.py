"""The end of a run on the command line: the next command in full, and the time that the work took."""

from __future__ import annotations

import os
import time

from airgap.errors import AirgapError, Code
from offline_mover.cli.next_command import TypedWords, compose
from offline_mover.cli.parser import parser_of
from offline_mover.cli.shell_words import pasteable
from offline_mover.medium.operator_files import OutputTakenError
from offline_mover.outcome import Ending, NextCommand, Placeholder
from offline_mover.progress import Meter
from offline_mover.tool_copy import running_tool

_SAME_AGAIN = frozenset(
    {
        *(Code.MEDIA_FULL, Code.MEDIA_UNREADABLE, Code.MEDIA_READ_ONLY, Code.VOLUME_NOT_FOUND),
        *(Code.VOLUME_GONE, Code.VOLUME_ON_SYSTEM_DISK),
        *(Code.SERVICE_UNREACHABLE, Code.SERVICE_DENIED, Code.CREDENTIAL_EXPIRED, Code.SERVICE_THROTTLED),
        Code.SERVICE_UNEXPECTED,
    }
)
"""After these the same command is run again, once the remedy was followed."""


class RunEnding:
    """A maker of endings for one run: it knows what was typed, and when the run began."""

    def __init__(self, typed: TypedWords, meter: Meter) -> None:
        self._typed = typed
        self._meter = meter
        self._began_at = time.monotonic()

    def after(self, step: NextCommand | None) -> Ending:
        """The ending of a run that leads to the command ``step``; to none if that is ``None``."""
        seconds, work = time.monotonic() - self._began_at, self._meter.work()
        if step is None:
            return Ending(work=work, seconds=seconds)
        composed = compose(step, self._typed, parser_of(step.verb), _program())
        return Ending(
            command=composed.words,
            line=pasteable(composed.words),
            placeholders=composed.placeholders,
            work=work,
            seconds=seconds,
        )

    def again(self) -> Ending:
        """The ending of a run after which the same command is to be run once more."""
        return self.after(NextCommand(verb=self._typed.verb))

    def after_error(self, error: AirgapError) -> Ending:
        """The ending of a run that failed; it tells the same command where the remedy leads back to it."""
        if error.code is Code.VOLUME_AMBIGUOUS:
            return self.after(NextCommand(verb=self._typed.verb, options={"transfer": Placeholder("ID")}))
        if isinstance(error, OutputTakenError):
            other = {error.option.removeprefix("--"): Placeholder("FILE")}
            return self.after(NextCommand(verb=self._typed.verb, options=other))
        return self.again() if error.code in _SAME_AGAIN else Ending()


def _program() -> list[str]:
    """The words that start this tool: those of the packed copy that runs, else its name."""
    tool = running_tool()
    if tool is None:
        return ["offline-mover"]
    if tool.is_file():
        return ["py" if os.name == "nt" else "python3", str(tool)]
    return [str(tool / ("offline-mover.cmd" if os.name == "nt" else "offline-mover.sh"))]
