"""Tallies: one digest for each lane of steps stands for all the documents that these have written.

Working documents lie in a container, where somebody else might write, too; a history is the engine's own. So
the tally travels by value. Each step that writes a document results in its SHA-256, a lane folds these in
order, and whoever reads the documents later compares. However many there are, a lane's tally has 64
characters.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

EMPTY = ""
_MEMBER = "documentSha256"


def extend(tally: str, outcome: Mapping[str, Any]) -> str:
    """The tally of a lane after one more outcome; a step that wrote no document leaves it as it is."""
    sha256 = outcome.get(_MEMBER)
    return tally if sha256 is None else fold(tally, str(sha256))


def fold(tally: str, sha256: str) -> str:
    """The hex SHA-256 over the tally so far and the next digest."""
    return hashlib.sha256(f"{tally}{sha256}".encode()).hexdigest()


def tallies_of(digests: Sequence[str], lanes: int) -> tuple[str, ...]:
    """The tallies of so many lanes, each of which takes every ``lanes``-th document in turn."""
    return tuple(reduce(fold, digests[lane::lanes], EMPTY) for lane in range(lanes))
