"""Names of repositories, and patterns that say which of them a channel may carry: whole segments only.

A pattern is a repository's name in which a segment may be ``*``, which stands for exactly one segment, and
the last one may be ``**``, which stands for one or more. ``team/app`` is that repository alone, ``team/*``
what lies right below ``team``, ``team/**`` all that lies below it, ``**`` everything. Normative text:
``docs/format.md`` §5.
"""

from __future__ import annotations

import re

_SEGMENT = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
REPOSITORY = rf"{_SEGMENT}(?:/{_SEGMENT})*"
"""OCI distribution-spec, "Pulling manifests"."""

PATTERN = re.compile(rf"(?:(?:{_SEGMENT}|\*)/)*(?:{_SEGMENT}|\*|\*\*)")


def covers(pattern: str, repository: str) -> bool:
    """Whether ``pattern`` stands for ``repository``, among others; both must be well-formed."""
    wanted, segments = pattern.split("/"), repository.split("/")
    if wanted[-1] == "**" and len(segments) >= len(wanted):
        wanted[-1:] = ["*"] * (len(segments) - len(wanted) + 1)
    return len(wanted) == len(segments) and all(
        one in ("*", other) for one, other in zip(wanted, segments, strict=True)
    )
