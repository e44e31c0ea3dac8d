"""The outcome of a command, told on stdout in words or as JSON lines; everything else goes to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TextIO

from airgap.custody_event import VolumeMark
from airgap.damage import Damage
from airgap.errors import AirgapError, Code
from airgap.redaction import redact
from airgap.verify import CountedKey
from offline_mover import amounts
from offline_mover.medium.media_fs import printable
from offline_mover.progress import Work

_RATED_S = 0.1
"""What took less says nothing about a rate."""

_LISTED = 200
"""So many findings are printed for a person; ``--json`` lists all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Damage, and the volume on which it was found; ``None`` for a storage.

    ``is_replaced`` tells that another volume has the part whole or, in a storage, that this run has put it
    right.
    """

    damage: Damage
    volume: Path | None = None
    is_replaced: bool = False

    def to_json(self) -> dict[str, Any]:
        """The members of :meth:`airgap.damage.Damage.to_json`, and ``volume`` and ``isReplaced``."""
        return {
            **self.damage.to_json(),
            "volume": None if self.volume is None else str(self.volume),
            "isReplaced": self.is_replaced,
        }


def by_name(findings: Iterable[Finding | None]) -> list[Finding]:
    """The findings without the ``None`` among them, in the order of the names that they are about."""
    return sorted((finding for finding in findings if finding), key=lambda finding: finding.damage.name)


class Placeholder(str):
    """A word of a command that only the operator can know, in capitals as in ``--help``."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NextCommand:
    """The command to run next, as far as the command that ended can tell it; the command line adds the rest.

    Args:
        verb: the verb, such as ``verify`` or ``receipts push``.
        words: its positional arguments by their names on the command line, where they are known; for
            another, the words of this run stay if it is the same verb, else a placeholder in capitals stands.
        options: its options without their dashes, several values of one together; ``None`` leaves out one
            that this run has, an empty text is a switch.
    """

    verb: str
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, str | tuple[str, ...] | None] = field(default_factory=dict)

    @classmethod
    def on(cls, verb: str, volumes: Iterable[Path | str], **options: str | None) -> Self:
        """The next command ``verb``, with volumes as its positional arguments."""
        named = {name.replace("_", "-"): value for name, value in options.items()}
        return cls(verb=verb, words={"volumes": tuple(map(str, volumes))}, options=named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a command; ``code`` is ``None`` exactly when everything asked for holds."""

    command: str
    code: Code | None
    verdict: str
    """One line: what was found or done."""
    next_step: str
    """One line: what the operator does now."""
    next_command: NextCommand | None = None
    """The command for that, where there is one."""
    transfer_id: str = ""
    manifest_sha256: str | None = None
    signers: tuple[CountedKey, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    """Parts, bytes and the like; keys in lowerCamelCase."""
    findings: tuple[Finding, ...] = ()
    places: Mapping[Path, VolumeMark] = field(default_factory=dict)
    """Which volume of how many each folder is, where the command found out."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else ``--json`` tells, keys in lowerCamelCase; ready for JSON, and not to be read back."""
    lines: tuple[str, ...] = ()
    """What else a person is told, before the verdict."""

    def beside(self, verb: str, **words: str) -> Outcome:
        """The outcome with ``words`` added to its next command, if that is ``verb``.

        The words are those that only the command line knows.
        """
        step = self.next_command
        if step is None or step.verb != verb:
            return self
        known = {name: (word,) for name, word in words.items()}
        return replace(self, next_command=replace(step, words={**step.words, **known}))

    @property
    def damages(self) -> tuple[Damage, ...]:
        """The damage of all findings, without the volumes it is on."""
        return tuple(finding.damage for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """The exit code of the process: 0 when everything asked for holds."""
        return 0 if self.code is None else self.code.exit_code

    def to_json(self) -> dict[str, Any]:
        """The outcome as the event ``result``, without what only the command line knows."""
        return {
            "event": "result",
            "command": self.command,
            "code": None if self.code is None else self.code.name,
            "exitCode": self.exit_code,
            "verdict": self.verdict,
            "next": self.next_step,
            "transferId": self.transfer_id,
            "manifestDigest": None if self.manifest_sha256 is None else f"sha256:{self.manifest_sha256}",
            "signers": [{"keyid": s.keyid, "role": s.role, "scheme": s.scheme} for s in self.signers],
            **self.counts,
            **self.facts,
            "damage": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The words and figures that the command line adds to an outcome.

    Args:
        command: the next command, word by word; empty where there is none.
        line: the next command as a line to paste.
        placeholders: the words in capitals in it, for which the operator has to put something.
        work: what was done, and in what time.
        seconds: how many seconds the whole run took.
    """

    command: tuple[str, ...] = ()
    line: str = ""
    placeholders: tuple[str, ...] = ()
    work: tuple[Work, ...] = ()
    seconds: float = 0.0


class Report:
    """The place where a command's words go: stdout and stderr.

    Args:
        as_json: whether JSON lines go to stdout, one event each: ``progress`` now and then, ``result`` last.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def event(self, **members: Any) -> None:
        """Write an event as one JSON line; nothing without ``--json``."""
        if self._as_json:
            print(redact(json.dumps(members, ensure_ascii=True)), flush=True)

    def note(self, text: str) -> None:
        """Write one line for a person on stderr."""
        print(redact(printable(text)), file=sys.stderr, flush=True)

    def outcome(self, outcome: Outcome, ending: Ending) -> int:
        """Tell how the command ended, and return its exit code."""
        if self._as_json:
            self.event(
                **outcome.to_json(),
                nextCommand=list(ending.command) or None,
                seconds=round(ending.seconds, 3),
                work=[
                    {"title": work.title, "bytes": work.done_bytes, "seconds": round(work.seconds, 3)}
                    for work in ending.work
                ],
            )
            return outcome.exit_code
        for finding in outcome.findings[:_LISTED]:
            print(_finding_line(finding))
        if (rest := len(outcome.findings) - _LISTED) > 0:
            print(f"… and {rest:,} more; --json lists all")
        for line in outcome.lines:
            print(redact(printable(line)))
        word = "OK" if outcome.code is None else outcome.code.name
        print(
            f"{_coloured(word, good=outcome.code is None, stream=sys.stdout)}: "
            f"{redact(printable(outcome.verdict))}"
        )
        if ending.work:
            done = "; ".join(map(work_line, ending.work))
            print(f"Took {amounts.duration(ending.seconds)}: {done}")
        print("\n".join(_next(outcome.next_step, ending)), flush=True)
        return outcome.exit_code

    def error(self, command: str, error: AirgapError, ending: Ending) -> int:
        """Tell why the command could not be carried out, and return its exit code."""
        code = error.code
        self.event(
            event="result",
            command=command,
            code=code.name,
            exitCode=code.exit_code,
            verdict=error.detail,
            next=error.remedy,
            nextCommand=list(ending.command) or None,
            retryable=code.is_retryable,
        )
        word = _coloured(code.name, good=False, stream=sys.stderr)
        print(f"{word}: {redact(printable(error.detail))}", file=sys.stderr)
        for line in _next(error.remedy, ending):
            print(line, file=sys.stderr)
        return code.exit_code


def _next(step: str, ending: Ending) -> list[str]:
    """``Next: …``, and below it the command for it on a line of its own, ready to be pasted."""
    told = [f"Next: {redact(printable(step))}"]
    if ending.line:
        told.append(f"  {redact(printable(ending.line))}")
    if ending.placeholders:
        told.append(f"  (put your own in place of {', '.join(ending.placeholders)})")
    return told


def work_line(work: Work) -> str:
    """The line for a stretch of work: ``fetching 114.3 MB in 2.0 s, 57.2 MB/s``."""
    took = f"{work.title} {amounts.size(work.done_bytes)} in {amounts.duration(work.seconds)}"
    return f"{took}, {amounts.rate(work.done_bytes / work.seconds)}" if work.seconds >= _RATED_S else took


def _finding_line(finding: Finding) -> str:
    damage = finding.damage
    where = ""
    if damage.offset_bytes is not None and damage.size_bytes is not None:
        where = f" (bytes {damage.offset_bytes} to {damage.offset_bytes + damage.size_bytes - 1} of its blob)"
    on = "" if finding.volume is None else f"{finding.volume}: "
    detail = f": {damage.detail}" if damage.detail else ""
    made_good = "this run replaced it" if finding.volume is None else "another volume has it whole"
    replaced = f"; {made_good}" if finding.is_replaced else ""
    return redact(printable(f"{damage.code.name}  {on}{damage.name}{where}{detail}{replaced}"))


def _coloured(word: str, *, good: bool, stream: TextIO) -> str:
    """Green or red on a terminal that wants colours (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return word
    return f"\x1b[{32 if good else 31}m{word}\x1b[0m"
