"""Referrers: artifacts, such as signatures and SBOMs, that belong to an ordered one and may travel with it.

Whoever may push to a repository may attach anything to what lies there, under any kind that he likes. So an
order says which kinds it wants, and what is left behind is told as well as what goes along.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ALL = "all"
NONE = "none"
MAX_KINDS = 50
"""That an order names."""

_MAX_TOLD = 20


@dataclass(frozen=True, slots=True)
class Selection:
    """The kinds (``artifactType``) of referrers that an order wants: ``all``, ``none``, or those listed."""

    wanted: str | tuple[str, ...]

    def takes(self, kind: str) -> bool:
        """Whether referrers of this kind travel."""
        return self.wanted == ALL or (self.wanted != NONE and kind in self.wanted)


def kind_of(manifest: Mapping[str, Any], media_type: str) -> str:
    """The kind that a referrer says it is, as registries list it: printable, 1 to 255 characters.

    OCI image-spec 1.1, Guidelines for Artifact Usage: ``artifactType``, else the media type of the config.
    """
    config = manifest.get("config")
    told = manifest.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    text = told if type(told) is str and told else media_type
    return (text if text.isprintable() else ascii(text))[:255]


def summarize(travelling: Iterable[tuple[str, str]], left: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """The referrers by kind, as journal and API tell them: those that travel, and those that are left behind.

    At most twenty kinds, the most frequent first, each with one of its artifacts: the bundle manifest names
    all that travel.

    Args:
        travelling: reference and kind of each that travels.
        left: the same of each that is left behind.
    """
    told = [*_by_kind(travelling, travels=True), *_by_kind(left, travels=False)]
    return sorted(told, key=lambda one: -one["count"])[:_MAX_TOLD]


def _by_kind(found: Iterable[tuple[str, str]], *, travels: bool) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for reference, kind in found:
        counts[kind] += 1
        examples.setdefault(kind, reference)
    return [
        {"artifactType": kind, "travels": travels, "count": count, "example": examples[kind]}
        for kind, count in counts.items()
    ]
