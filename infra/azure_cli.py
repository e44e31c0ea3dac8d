"""The Azure CLI, as ``infra/deploy`` and ``infra/check`` call it, with Python 3.8 and its standard library.

What ``az`` says on its standard error is shown while it runs, and kept: it alone names what failed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from typing import Any, Sequence  # noqa: UP035 - of Python 3.8

_CODE = re.compile(r'(?:\\*"code\\*"\s*:\s*\\*"|^Code: )(\w+)', re.MULTILINE)
"""A code in the JSON of an error, which may stand in a string of JSON itself, or on a line of its own.

The latter is how the SDK words an error; az 2.91 ends with it, and a trace, where what-if is refused.
"""


class ToolError(Exception):
    """The reader can mend what failed; the message says how."""


class AzError(ToolError):
    """``az`` failed; ``text`` is what it said, ``codes`` are those that it named, outermost first."""

    def __init__(self, words: Sequence[str], text: str) -> None:
        super().__init__(f"`az {' '.join(words)} …` failed; what it said stands above.")
        self.text = text
        self.codes = tuple(dict.fromkeys(_CODE.findall(text)))


def az(*arguments: str, shows: bool = False) -> Any:
    """Run ``az``; returns its answer, read as JSON.

    Args:
        arguments: the words after ``az``; no secrets, since other users of the machine see them.
        shows: whether ``az`` prints for people; the answer is ``None`` then.

    Raises:
        AzError: it ended with another code than 0.
        ToolError: there is no ``az``, or its answer is no JSON.
    """
    program = shutil.which("az")
    if program is None:
        raise ToolError("`az`, the Azure CLI, is not on the path. Install it, then: az login")
    words = list(arguments) + ([] if shows else ["--output", "json"])
    sys.stdout.flush()
    with subprocess.Popen(
        [program, *words], stdout=None if shows else subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        said: list[str] = []
        reader = threading.Thread(target=_pass_on, args=(child.stderr, said))
        reader.start()
        answer = "" if child.stdout is None else child.stdout.read()
        reader.join()
    if child.returncode:
        raise AzError([word for word in arguments[:3] if not word.startswith("-")], "".join(said))
    if shows:
        return None
    try:
        return json.loads(answer or "null")
    except ValueError:
        raise ToolError(f"`az {' '.join(arguments[:3])} …` answered something that is no JSON.") from None


def _pass_on(lines: Any, said: list[str]) -> None:
    for line in lines:
        said.append(line)
        sys.stderr.write(line)
        sys.stderr.flush()
