"""Commands as lines that can be pasted into the operator's shell."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence

_BARE_ON_WINDOWS = re.compile(r"[\w@+=:,./\\-]+", re.ASCII)
_EXPANDED_BY_POWERSHELL = re.compile(r"[$`\"\u201c\u201d\u201e]")


def pasteable(words: Sequence[str], *, environment: Mapping[str, str] | None = None) -> str:
    """The command as one line for bash and zsh or, on Windows, for PowerShell or cmd."""
    if os.name != "nt":
        return posix_line(words)
    return windows_line(
        words, is_powershell=is_powershell(os.environ if environment is None else environment)
    )


def posix_line(words: Sequence[str]) -> str:
    """The command as one line, its words quoted for bash and zsh."""
    return " ".join(_posix_word(word) for word in words)


def _posix_word(word: str) -> str:
    # zsh takes a word that begins with = for the path of a command; shlex does not know that.
    return f"'{word}'" if word.startswith("=") and shlex.quote(word) == word else shlex.quote(word)


def windows_line(words: Sequence[str], *, is_powershell: bool) -> str:
    """The command as one line, its words quoted for PowerShell or for cmd.

    Double quotes suit both, and no name on Windows has one. PowerShell expands ``$`` in them, so there such a
    word gets single quotes; cmd expands ``%`` within any quotes, against which nothing helps at a prompt.
    """
    line = " ".join(_windows_word(word, is_powershell=is_powershell) for word in words)
    return f"& {line}" if is_powershell and line[:1] in {'"', "'"} else line


def _windows_word(word: str, *, is_powershell: bool) -> str:
    if _BARE_ON_WINDOWS.fullmatch(word) and not (is_powershell and word.startswith("@")):
        return word
    if is_powershell and _EXPANDED_BY_POWERSHELL.search(word):
        return "'" + word.replace("'", "''") + "'"
    return f'"{word}"'


def is_powershell(environment: Mapping[str, str]) -> bool:
    """Whether the shell is probably PowerShell: only there the module path begins in the user's home."""
    home = environment.get("USERPROFILE", "").casefold()
    return bool(home) and environment.get("PSModulePath", "").casefold().startswith(home)
