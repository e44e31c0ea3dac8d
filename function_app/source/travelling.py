"""The artifacts that travel with each reference of an order, and the runs that export them.

They are read group by group, as often as needed: an order may come to more than there is memory for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from airgap.pipeline_runs import MAX_ARTIFACTS_PER_RUN, batch
from function_app.source.wire import Batch, RequestDocument, Resolution
from function_app.storage.work_folder import Documents


class Member(NamedTuple):
    """An artifact that a run exports, and what is known of it."""

    artifact: Mapping[str, Any]
    """As :meth:`airgap.manifest.Artifact.to_json` writes it."""
    tagged: str | None
    """When its tag was written last, as the registry spells it; ``None`` where it has none."""
    content: Mapping[str, int]
    """Size in bytes of what it consists of, by digest."""
    platforms: Sequence[str]


class Run(NamedTuple):
    """The artifacts that one run exports, and the portion of the order, from 0, that they belong to."""

    portion: int
    members: Sequence[Member]

    def to_batch(self, referrers: str | tuple[str, ...]) -> Batch:
        """The run as a batch for its order; ``referrers`` are the kinds that were ordered."""
        return Batch(
            artifacts=tuple(dict(member.artifact) for member in self.members),
            tagged={
                member.artifact["reference"]: member.tagged
                for member in self.members
                if member.tagged is not None
            },
            referrers=referrers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Travelling:
    """The artifacts of an order that travel, as its references were resolved.

    Args:
        request: the order, with every reference named.
        groups: the artifacts that its references were resolved to, in groups.
        left_out: the references that stay, because the targets hold them.
    """

    request: RequestDocument
    groups: Documents[Resolution]
    left_out: frozenset[str] = frozenset()

    def families(self) -> Iterator[tuple[Resolution, list[list[dict[str, Any]]]]]:
        """Each group, and for each of its references the artifacts that travel with it, itself included.

        An artifact that two references of a group share is with the first. One that was ordered by itself
        does not count as a referrer, although it was found as one.
        """
        ordered = frozenset(self.request.artifacts)
        for members, group in zip(batch(self.request.artifacts), self.groups, strict=True):
            families: dict[str, list[dict[str, Any]]] = {member: [] for member in members}
            family = members[0]
            for artifact in group.artifacts:
                name = artifact["reference"]
                family = name if name in families else family
                if name not in self.left_out:
                    is_ordered = {"artifactType": None, "subject": None} if name in ordered else {}
                    families[family].append(artifact | is_ordered)
            yield group, list(families.values())

    def runs(self, starts: Sequence[int]) -> Iterator[Run]:
        """The runs, where portions begin at the references ``starts``; no portion has anything twice."""
        portion, taken, members = -1, set[str](), list[Member]()
        begins = iter((*starts, None))
        begin, index = next(begins), 0
        for group, families in self.families():
            for family in families:
                if index == begin:
                    if members:
                        yield Run(portion, members)
                    portion, taken, members = portion + 1, set(), []
                    begin = next(begins)
                index += 1
                for artifact in family:
                    if artifact["reference"] in taken:
                        continue
                    taken.add(artifact["reference"])
                    members.append(_member(artifact, group))
                    if len(members) == MAX_ARTIFACTS_PER_RUN:
                        yield Run(portion, members)
                        members = []
        if members:
            yield Run(portion, members)


def _member(artifact: Mapping[str, Any], group: Resolution) -> Member:
    name = artifact["reference"]
    return Member(
        artifact=artifact,
        tagged=group.tagged.get(name),
        content=group.content[name],
        platforms=group.platforms.get(name, ()),
    )
