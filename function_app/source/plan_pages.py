"""The pages of a plan, as the API shows them, written while the plan is made; nothing is decided by them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from math import ceil
from typing import Any, TypeVar

from airgap.parts import blob_name, fitting_part_size, part_count
from function_app.settings import SourceSettings
from function_app.source.travelling import Member, Run
from function_app.source.wire import PlannedBlob, PlannedPortion, PlanPage, PlanRefusal, PlanSummary
from function_app.storage.work_folder import WorkFolder

SUMMARY = "preview/summary"
PAGES = "preview/blobs/"
"""Folder of what the API shows: documents of ten blobs, 500 artifacts left out and 500 refusals, in order."""

_BLOBS_PER_PAGE = 10
_LINES_PER_PAGE = 500
_RUN_S = 60
_EXPORT_BYTES_PER_S = 50 * 1024 * 1024
_HASH_BYTES_PER_S = 60 * 1024 * 1024
"""What an estimate assumes: a minute for each run, a run's rate, and that of one activity that hashes."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Blob:
    """What is summed up of a blob."""

    artifacts: int
    size_bytes: int
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPages:
    """The writer of the pages that the API shows of one plan.

    Args:
        work: the transfer's working documents.
        settings: the source's settings, by which sizes of parts and times are estimated.
        requested: how many references each portion names; one number where the order is not divided.
    """

    work: WorkFolder
    settings: SourceSettings
    requested: Sequence[int]
    _blobs: dict[int, list[_Blob]] = field(default_factory=dict)
    """By portion, from 0."""

    def write(
        self,
        runs: Iterable[Run],
        *,
        held: Iterable[dict[str, Any]],
        refusals: Iterable[PlanRefusal],
        refused: int,
    ) -> int:
        """Write all pages, and then the summary; returns the number of blobs.

        Args:
            runs: each run with what it exports, portion by portion.
            held: the artifacts left out, as :class:`~function_app.source.wire.HeldArtifacts` has them.
            refusals: the reasons for a refusal, if it is a dry run.
            refused: how many of these there are.
        """
        pages = zip_longest(
            _some(map(self._tell, runs), _BLOBS_PER_PAGE),
            _some(held, _LINES_PER_PAGE),
            _some(refusals, _LINES_PER_PAGE),
            fillvalue=(),
        )
        written = 0
        for written, (blobs, left_out, not_crossing) in enumerate(pages, start=1):
            page = PlanPage(blobs=blobs, held=left_out, refused=not_crossing)
            self.work.put(f"{PAGES}{written - 1:06d}", page)
        self.work.put(SUMMARY, self._sum_up(refused, written))
        return sum(len(blobs) for blobs in self._blobs.values())

    def _tell(self, run: Run) -> PlannedBlob:
        before = self._blobs.setdefault(run.portion, [])
        size_bytes = sum(
            {digest: size for one in run.members for digest, size in one.content.items()}.values()
        )
        parts = part_count(size_bytes, fitting_part_size(size_bytes, self.settings.part_size_bytes))
        before.append(_Blob(len(run.members), size_bytes, parts))
        return PlannedBlob(
            name=blob_name(len(before)),
            size_bytes=size_bytes,
            parts=parts,
            artifacts=tuple(_artifact(member) for member in run.members),
            portion=run.portion + 1 if len(self.requested) > 1 else None,
        )

    def _sum_up(self, refused: int, pages: int) -> PlanSummary:
        portions = tuple(
            PlannedPortion(
                requested=requested,
                artifacts=sum(blob.artifacts for blob in blobs),
                blobs=len(blobs),
                size_bytes=sum(blob.size_bytes for blob in blobs),
                parts=sum(blob.parts for blob in blobs),
            )
            for portion, requested in enumerate(self.requested)
            for blobs in [self._blobs.get(portion, [])]
        )
        return PlanSummary(
            size_bytes=sum(portion.size_bytes for portion in portions),
            parts=sum(portion.parts for portion in portions),
            duration_s=sum(
                self._estimate_s([blob.size_bytes for blob in each]) for each in self._blobs.values()
            ),
            refused=refused,
            pages=pages,
            portions=portions if len(portions) > 1 else (),
        )

    def _estimate_s(self, sizes: Sequence[int]) -> int:
        """How long exporting and hashing blobs of these sizes may take, in seconds, by assumed rates."""
        lanes = max(1, min(self.settings.pipeline_runs_at_once, len(sizes)))
        exporting = [
            sum(_RUN_S + size / _EXPORT_BYTES_PER_S for size in sizes[lane::lanes]) for lane in range(lanes)
        ]
        hashing = sum(sizes) / (_HASH_BYTES_PER_S * self.settings.hashes_at_once)
        return ceil(max(exporting, default=0) + hashing)


def _artifact(member: Member) -> dict[str, Any]:
    return {
        **member.artifact,
        "sizeBytes": sum(member.content.values()),
        "platforms": list(member.platforms),
    }


def _some(items: Iterable[_T], size: int) -> Iterator[tuple[_T, ...]]:
    """The items in order, so many at a time; ``itertools.batched`` is of Python 3.12."""
    following = iter(items)
    while some := tuple(islice(following, size)):
        yield some
