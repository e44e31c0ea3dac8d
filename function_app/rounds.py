"""The share of its work that a reconciler does in one round."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from airgap.pipeline_runs import batch

T = TypeVar("T")

_ROUND_S = 300


def in_turn(items: Sequence[T], at_once: int, now: datetime, *, round_s: int = _ROUND_S) -> list[T]:
    """The ``at_once`` items of this round; each round takes others, so that all have their turn.

    A round comes every ``round_s`` seconds, and ``now`` says which one it is.
    """
    batches = batch(items, at_once) or [[]]
    return list(batches[int(now.timestamp() // round_s) % len(batches)])
