"""What many steps have written, as one digest for each lane: it travels by value, the documents do not.

Working documents lie in a container, where somebody else might write, too; a history is the engine's own.
Each step that writes a document results in its SHA-256, a lane folds these in order, and whoever reads the
documents later compares. However many there are, a lane's tally has 64 characters.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

EMPTY = ""
_MEMBER = "documentSha256"


def extend(tally: str, outcome: Mapping[str, Any]) -> str:
    """The tally of a lane after one more outcome; that of a step that wrote no document changes nothing."""
    sha256 = outcome.get(_MEMBER)
    return tally if sha256 is None else fold(tally, str(sha256))


def fold(tally: str, sha256: str) -> str:
    """Hex SHA-256 over the tally so far and the next digest."""
    return hashlib.sha256(f"{tally}{sha256}".encode()).hexdigest()


def tallies_of(digests: Sequence[str], lanes: int) -> tuple[str, ...]:
    """The tallies that so many lanes come to, of which each takes every ``lanes``-th document in turn."""
    return tuple(reduce(fold, digests[lane::lanes], EMPTY) for lane in range(lanes))
