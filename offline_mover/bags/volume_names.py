"""Names of volumes on screen, in the report and on labels: one name for one volume."""

from __future__ import annotations

from collections.abc import Sequence

from offline_mover.bags.bag_texts import Place
from offline_mover.medium.media_identity import MediaIdentity

_MOST_NUMBERS = 20


def volume_name(place: Place | None) -> str:
    """The name of a volume: ``volume 2 of 3``, or ``re-carried parts`` for one that brings parts again."""
    return "volume without a number" if place is None else numbered_name(place.number, place.of)


def numbered_name(number: int, of: int | None) -> str:
    """The name of the volume with that number; with ``of`` unknown it is one of re-carried parts."""
    if of is not None:
        return f"volume {number} of {of}"
    return "re-carried parts" if number == 1 else f"re-carried parts, no. {number}"


def capitalised(name: str) -> str:
    """The name at the beginning of a line: ``Volume 2 of 3``, ``Re-carried parts``."""
    return name[:1].upper() + name[1:]


def medium_name(identity: MediaIdentity) -> str:
    """The name of a medium: ``label USB_RED, serial 1234-ABCD``, as far as it has them; else empty."""
    known = (("label", identity.label), ("serial", identity.serial))
    return ", ".join(f"{what} {name}" for what, name in known if name)


def volumes_named(numbers: Sequence[int]) -> str:
    """The names of volumes for a sentence: ``volumes 1, 3``; empty for none."""
    if not numbers:
        return ""
    more = ", …" if len(numbers) > _MOST_NUMBERS else ""
    listed = ", ".join(str(number) for number in numbers[:_MOST_NUMBERS]) + more
    return f"volume{'s' if len(numbers) > 1 else ''} {listed}"
