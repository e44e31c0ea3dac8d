"""An order that is too large for one bundle is divided into portions, one transfer each.

References stay in the order in which they were named or selected, each together with all that goes along with
it, and each portion takes as many of them as have :data:`PORTION_ARTIFACTS` artifacts together.
"""

from __future__ import annotations

from collections.abc import Sequence

from airgap.manifest import MAX_ARTIFACTS

MAX_REFERENCES = 50_000
"""Of one order. The service has no such bound; what is read and planned at once must have one."""

MAX_PLANNED_ARTIFACTS = 200_000
"""Of one order, with everything that refers to what it names, be it that it travels or is left behind: the
memory of a plan grows with it."""

PORTION_ARTIFACTS = MAX_ARTIFACTS - 500
"""Each transfer looks at the registry anew, and may find more referrers there by then."""


def divide(sizes: Sequence[int], most: int = PORTION_ARTIFACTS) -> tuple[int, ...]:
    """The index of the first reference of each portion into which an order is divided.

    Args:
        sizes: how many artifacts go along with each reference, itself included.
        most: artifacts of one portion. A reference that has more by itself is a portion by itself.
    """
    starts: list[int] = []
    room = 0
    for index, size in enumerate(sizes):
        if not starts or size > room:
            starts.append(index)
            room = most
        room -= size
    return tuple(starts)
