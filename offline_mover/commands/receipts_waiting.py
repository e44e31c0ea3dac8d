"""Waiting for the target's decision: receipts are asked for, ever more rarely, until they are there."""

from __future__ import annotations

import time
from collections.abc import Callable

from airgap.errors import Code
from offline_mover.outcome import Outcome

FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 60.0
_GROWTH = 1.5


def await_receipts(
    pull: Callable[[], Outcome],
    *,
    wait_s: float,
    notice: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Ask for receipts until each that is wanted is there, or until ``wait_s`` has passed.

    Args:
        pull: brings the receipts that are there; its code is ``NOT_FOUND`` as long as one is missing.
        wait_s: the seconds for which it is asked again; it is asked once at least.
        notice: is told once that the command waits.
        clock: gives seconds that only rise.
        pause: sleeps that many seconds.

    Returns:
        The last outcome. An import takes minutes to hours, so the pauses grow from 5 to 60 seconds: one
        listing of each transfer a minute.
    """
    deadline = clock() + wait_s
    pause_s = FIRST_PAUSE_S
    while (outcome := pull()).code is Code.NOT_FOUND and (left_s := deadline - clock()) > 0:
        if pause_s == FIRST_PAUSE_S:
            notice("The target has not decided yet; waiting for its receipt (Ctrl-C ends it).")
        pause(min(pause_s, left_s))
        pause_s = min(pause_s * _GROWTH, MAX_PAUSE_S)
    return outcome
