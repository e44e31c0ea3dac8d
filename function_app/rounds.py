"""What a reconciler gets to in one round."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from airgap.pipeline_runs import batch

T = TypeVar("T")

_ROUND_S = 300


def in_turn(items: Sequence[T], at_once: int, now: datetime, *, round_s: int = _ROUND_S) -> list[T]:
    """Another ``at_once`` of them each round, so that the first do not stand before the others for ever.

    A round comes every ``round_s`` seconds.
    """
    batches = batch(items, at_once) or [[]]
    return list(batches[int(now.timestamp() // round_s) % len(batches)])
