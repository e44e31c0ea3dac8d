"""The plan as the API shows it: what travels in which blob, how much that is, and what cannot cross."""

from function_app.http.bodies import read_body
from function_app.source import bodies
from function_app.source.plan_pages import PAGES, SUMMARY
from function_app.source.transfer_status import plan_path_of
from function_app.source.wire import PlanPage, PlanSummary
from function_app.storage.work_folder import WorkFolder

CURSOR = "cursor"


def describe_plan(work: WorkFolder, page: int) -> bodies.Plan | None:
    """The body of ``GET /api/transfers/{id}/plan``; ``None`` if there is no plan, or no such page.

    Args:
        work: the transfer's working documents.
        page: the number of the page, from 0; each has ten blobs, 500 artifacts left out and 500 refusals.
    """
    summary = work.find(SUMMARY, PlanSummary)
    if summary is None:
        return None
    if page > 0 and page >= summary.pages:  # beyond may lie what an earlier try has written
        return None
    found = work.find(_name(page), PlanPage) if page < summary.pages else None
    has_next = page + 1 < summary.pages
    found = found or PlanPage(blobs=())
    return bodies.Plan(
        transfer_id=work.owner,
        size_bytes=summary.size_bytes,
        parts=summary.parts,
        estimated_seconds=summary.duration_s,
        refused_count=summary.refused,
        refused=tuple(
            bodies.PlanRefusal(reference=one.reference, code=one.code, detail=one.detail)
            for one in found.refused
        ),
        transfers=tuple(
            bodies.PlannedPortion(
                number=number,
                requested=one.requested,
                artifacts=one.artifacts,
                blobs=one.blobs,
                size_bytes=one.size_bytes,
                parts=one.parts,
            )
            for number, one in enumerate(summary.portions, start=1)
        ),
        blobs=tuple(
            bodies.PlannedBlob(
                transfer=blob.portion,
                name=blob.name,
                size_bytes=blob.size_bytes,
                parts=blob.parts,
                artifacts=tuple(read_body(one, bodies.PlannedArtifact) for one in blob.artifacts),
            )
            for blob in found.blobs
        ),
        held=tuple(read_body(one, bodies.HeldArtifact) for one in found.held),
        next=f"{plan_path_of(work.owner)}?{CURSOR}={page + 1}" if has_next else None,
    )


def read_page(text: str | None) -> int | None:
    """The number of the page that a cursor means, from 0; ``None`` for a cursor that no list gave out."""
    if text is None:
        return 0
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len("000000") else None


def _name(page: int) -> str:
    return f"{PAGES}{page:06d}"
