"""What the command line adds to the end of a run: the next command in full, and what the run took."""

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
    """Knows what was typed and when the run began; says how any outcome of it is told to its end."""

    def __init__(self, typed: TypedWords, meter: Meter) -> None:
        self._typed = typed
        self._meter = meter
        self._began_at = time.monotonic()

    def after(self, step: NextCommand | None) -> Ending:
        """The ending of a run after which ``step`` comes."""
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
        """The ending of a run after which the same command comes once more."""
        return self.after(NextCommand(verb=self._typed.verb))

    def after_error(self, error: AirgapError) -> Ending:
        """The ending of a run that failed: the same command, where the remedy leads back to it."""
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
