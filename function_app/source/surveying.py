"""The survey of an order as a whole: how much travels with each reference, and what cannot cross."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airgap.division import MAX_PLANNED_ARTIFACTS
from airgap.errors import Code
from function_app.durable.outcomes import MAX_LISTED, Failed, Refused, ending
from function_app.source.referrers import summarize
from function_app.source.travelling import Travelling
from function_app.source.wire import PlanRefusal


@dataclass(slots=True)
class Found:
    """Findings of one kind, of which there may be many: how many, and the first hundred, by reference."""

    count: int = 0
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reference: str, detail: str) -> None:
        """Count one more finding."""
        self.count += 1
        if self.count <= MAX_LISTED:
            self.first[reference] = detail

    def end(self, code: Code) -> Refused | Failed:
        """The refusal for these findings, as far as they have room in an error's detail."""
        return ending(code, shorten(list(self.first.values()), self.count), list(self.first))


@dataclass(slots=True)
class Survey:
    """The findings of one look at everything that an order was resolved to; names and numbers only."""

    sizes: list[int] = field(default_factory=list)
    """Of each reference, how many artifacts travel with it, itself included."""
    kinds: dict[str, str | None] = field(default_factory=dict)
    """Each artifact that travels, by reference: the kind of a mere referrer, ``None`` of what was ordered."""
    left: dict[str, str] = field(default_factory=dict)
    """Referrers that are not wanted, with their kinds."""
    missing: Found = field(default_factory=Found)
    obstacles: Found = field(default_factory=Found)

    @classmethod
    def of(cls, travelling: Travelling) -> "Survey | Refused | Failed":
        """Look at everything that travels; refuse it if it is more than one order may come to."""
        found, known = cls(), dict[str, str]()
        for group, families in travelling.families():
            for reference in group.missing:
                found.missing.add(reference, reference)
            for reference, detail in group.obstacles.items():
                found.obstacles.add(reference, detail)
            for name, kind in group.left.items():
                found.left[name] = known.setdefault(kind, kind)
            for family in families:
                found.sizes.append(len(family))
                for artifact in family:
                    kind = artifact["artifactType"]
                    found.kinds[artifact["reference"]] = kind and known.setdefault(kind, kind)
            if len(found.kinds) + len(found.left) > MAX_PLANNED_ARTIFACTS:
                return too_large()
        return found

    def referrers(self, left_out: frozenset[str]) -> list[dict[str, Any]]:
        """The referrers by kind, as :func:`function_app.source.referrers.summarize` tells them.

        Args:
            left_out: the references that stay because the targets hold them; they do not count as left
                behind.
        """
        travelling = ((name, kind) for name, kind in self.kinds.items() if kind)
        staying = self.kinds.keys() | left_out
        return summarize(
            travelling, ((name, kind) for name, kind in self.left.items() if name not in staying)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Everything for which an order cannot cross: of the whole first, and then of each reference, in order.

    Args:
        of_all: the refusals that are about the whole order.
        survey: the survey of the order.
        travelling: the order, which is read again for what is of a single reference.
    """

    of_all: Sequence[PlanRefusal]
    survey: Survey
    travelling: Travelling

    def __len__(self) -> int:
        return len(self.of_all) + self.survey.missing.count + self.survey.obstacles.count

    def __iter__(self) -> Iterator[PlanRefusal]:
        yield from self.of_all
        if len(self) == len(self.of_all):
            return
        for group in self.travelling.groups:
            yield from _refusals(Code.ARTIFACT_NOT_FOUND, {one: one for one in group.missing})
            yield from _refusals(Code.ARTIFACT_REFUSED, group.obstacles)

    def end(self) -> Refused | Failed | None:
        """The refusal that comes first: all that are about the whole order, or all references of one code.

        It is ``None`` if there is nothing to refuse.
        """
        if self.of_all:
            details = [one.detail for one in self.of_all]
            return ending(Code[self.of_all[0].code], shorten(details, len(details)))
        if self.survey.missing.count:
            return self.survey.missing.end(Code.ARTIFACT_NOT_FOUND)
        return self.survey.obstacles.end(Code.ARTIFACT_REFUSED) if self.survey.obstacles.count else None


def too_large() -> Refused | Failed:
    """The refusal of an order that comes to more than can be planned at once."""
    detail = f"artifacts: with all that refers to them it is over {MAX_PLANNED_ARTIFACTS}: divide the order"
    return ending(Code.REQUEST_INVALID, detail)


def shorten(texts: Sequence[str], count: int) -> str:
    """The first of ``count`` texts in one line, as many as fit in an error's detail, and how many more."""
    shown: list[str] = []
    for text in texts:
        if sum(len(one) + 2 for one in shown) + len(text) > 450:  # noqa: PLR2004 - a detail has 500
            break
        shown.append(text)
    rest = count - len(shown)
    return ", ".join(shown or [texts[0][:450]]) + (f" and {rest} more" if shown and rest else "")


def _refusals(code: Code, details: Mapping[str, str]) -> Iterator[PlanRefusal]:
    for reference, detail in details.items():
        yield PlanRefusal(reference=reference, code=code.name, detail=detail)
