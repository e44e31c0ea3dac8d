"""Sizes, rates, times and counts in words: one style for the screen, the logs and the report.

Sizes count in thousands, as makers print them on media.
"""

from __future__ import annotations

_STEP = 1000
_MINUTE_S = 60
_EXACT_S = 9.95
_UNITS = ("kB", "MB", "GB", "TB")


def size(size_bytes: float) -> str:
    """A size in words, such as ``512 bytes`` or ``1.5 GB``."""
    if abs(size_bytes) < _STEP:
        return counted(int(size_bytes), "byte")
    amount, rank = size_bytes / _STEP, 0
    while abs(amount) >= _STEP - 0.05 and rank < len(_UNITS) - 1:  # 999.96 would be told as 1000.0
        amount, rank = amount / _STEP, rank + 1
    return f"{amount:.1f} {_UNITS[rank]}"


def rate(bytes_per_s: float) -> str:
    """A rate in words, such as ``41.5 MB/s``."""
    return f"{size(bytes_per_s)}/s"


def duration(seconds: float) -> str:
    """A time in words: ``0.4 s``, ``12 s``, ``2 min 5 s``, ``1 h 40 min``."""
    if seconds < _EXACT_S and not float(seconds).is_integer():
        return f"{max(seconds, 0.1):.1f} s"
    minutes, rest = divmod(int(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, _MINUTE_S)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: ``1 part``, ``80,000 parts``; ``plural`` where the plural is irregular."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def are(count: int) -> str:
    """The verb that goes with a count: ``is`` for a single thing, else ``are``."""
    return "is" if count == 1 else "are"
