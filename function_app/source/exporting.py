"""Source, middle steps: pipeline runs, and tags that were written to meanwhile.

A run takes tags, since they do not travel with a digest; what a tag pointed to at the moment that the service
looked, it does not tell. So a run counts only if nobody wrote to any of its tags from before it was started
until after it had ended: by digest *and* time, or a tag that moved away and back would pass.
"""

from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import DIGEST, format_time
from airgap.manifest import Artifact
from airgap.parts import blob_name
from airgap.pipeline_runs import MAX_ARTIFACTS_PER_RUN, is_written_by_run, run_name
from function_app.durable.outcomes import Failed, Refused, ending
from function_app.durable.stopping import require_going
from function_app.oci import TagState
from function_app.pipeline_runs import Started, started
from function_app.ports import SourceSide
from function_app.preflight import require_fit_pipeline
from function_app.source.planning import BATCHES, PLAN
from function_app.source.referrers import Selection
from function_app.source.scanning import Scan, split_reference
from function_app.source.wire import MAX_EXPORT_ATTEMPTS, Batch, BlobAttempt, Confirmed, ExportedBlob, Plan
from function_app.storage.paths import TRANSFER, blob_path
from function_app.storage.work_folder import WorkFolder


def start_export_run(side: SourceSide, order: BlobAttempt) -> Started:
    """The activity that starts the run of one batch, under a name derived from the batch.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the work was called off.
        ServiceError: ``PIPELINE_UNFIT``: the pipeline writes elsewhere, or would leave artifacts out.
    """
    require_going(side.blobs, order.transfer_id)
    require_fit_pipeline("source", side)
    path = blob_path(order.transfer_id, order.blob)
    _, batch = _batch(side, order)
    run = _run(order)
    left = side.blobs.stat(TRANSFER, path) if order.attempt > 1 else None
    if left is not None and side.pipelines.get_run(run) is None:
        # A pipeline without OverwriteBlobs may leave the blob of the attempt before, without a word. It was
        # looked at before the run: what this run writes, started by another delivery, has another ETag.
        side.blobs.delete(TRANSFER, path, etag=left.etag)
    side.pipelines.put_run(
        run,
        {
            "pipelineResourceId": side.settings.pipeline_resource_id,
            "target": {"type": "AzureStorageBlob", "name": path},
            "artifacts": [member["reference"] for member in batch.artifacts],
        },
    )
    return started(side, run)


def confirm_export(side: SourceSide, order: BlobAttempt) -> Confirmed | Refused | Failed:
    """The activity that looks at the blob of a succeeded run, and whether its tags were written to meanwhile.

    If none was, the blob is described in the work folder; else the batch is resolved anew for the next
    attempt. A write to the blob after its run shows in its time here, and in its ETag from now on.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED``: the blob, or the document of the batch, was written to after
            the run had ended.
    """
    sha256, batch = _batch(side, order)
    members = [Artifact.from_json(member) for member in batch.artifacts]
    if moved := [member for member in members if _has_moved(side, member, batch)]:
        return _resolve_again(side, order, batch, moved)
    run, path = _run(order), blob_path(order.transfer_id, order.blob)
    found = side.blobs.stat(TRANSFER, path)
    if found is None or not found.size_bytes:
        return ending(Code.PIPELINE_RUN_FAILED, f"run {run} succeeded but wrote no blob {path}")
    properties = side.pipelines.get_run(run) or {}
    if not is_written_by_run(found.last_modified, properties):
        raise UntrustedInputError(
            Code.BLOB_CHANGED, f"{TRANSFER}/{path} was written to after run {run} had ended"
        )
    catalog = str((properties.get("response") or {}).get("catalogDigest") or "")
    exported = ExportedBlob(
        name=order.blob,
        attempt=order.attempt,
        run=run,
        batch=sha256,
        size_bytes=found.size_bytes,
        etag=found.etag,
        last_modified=format_time(found.last_modified),
        content_md5=found.content_md5,
        metadata=dict(found.metadata),
        catalog_digest=catalog if DIGEST.fullmatch(catalog) else None,
    )
    work = WorkFolder(side.blobs, order.transfer_id)
    return Confirmed(document_sha256=work.put(f"exported/{order.blob}-{order.attempt}", exported))


def runs_of_blob(transfer_id: str, number: int) -> list[str]:
    """The names of all runs by which the blob of that number, from 0, can have been exported."""
    blob = blob_name(number + 1)
    return [run_name("e", transfer_id, blob, str(attempt)) for attempt in range(1, MAX_EXPORT_ATTEMPTS + 1)]


def _run(order: BlobAttempt) -> str:
    return runs_of_blob(order.transfer_id, order.number)[order.attempt - 1]


def _batch(side: SourceSide, order: BlobAttempt) -> tuple[str, Batch]:
    """What this attempt exports, and its digest."""
    work = WorkFolder(side.blobs, order.transfer_id)
    sha256 = order.batch or work.get(PLAN, Plan, sha256=order.plan).batches[order.number]
    return sha256, work.kept(BATCHES, sha256, Batch)


def _has_moved(side: SourceSide, member: Artifact, batch: Batch) -> bool:
    repository, tag, _ = split_reference(member.reference)
    if not tag:
        return False
    now = side.registry.tag(repository, tag)
    was = TagState(digest=member.digest, written_at=batch.tagged[member.reference])
    return now != was


def _resolve_again(
    side: SourceSide, order: BlobAttempt, before: Batch, moved: list[Artifact]
) -> Confirmed | Refused | Failed:
    """The batch for the next attempt: moved tags where they are now, with the referrers found there.

    A referrer's tag that is gone, or of a kind by now that was not ordered, is left behind.
    """
    scan = Scan(side.registry, Selection(before.referrers))
    for member in moved:
        try:
            if not scan.renew(member):
                return ending(Code.ARTIFACT_NOT_FOUND, f"{member.reference} was removed meanwhile")
        except PolicyRefusal as refusal:
            return ending(refusal.code, refusal.detail)
    gone = {member.reference for member in moved} - set(scan.artifacts)
    renewed = {one["reference"]: one for one in before.artifacts if one["reference"] not in gone}
    renewed |= {reference: artifact.to_json() for reference, artifact in scan.artifacts.items()}
    if len(renewed) > MAX_ARTIFACTS_PER_RUN:
        return ending(Code.EXPORT_INCONSISTENT, f"{moved[0].reference} moved, and has more referrers now")
    batch = Batch(
        artifacts=tuple(renewed.values()),
        tagged=before.tagged | scan.tagged,
        referrers=before.referrers,
    )
    sha256 = WorkFolder(side.blobs, order.transfer_id).keep(BATCHES, batch)
    return Confirmed(moved=moved[0].reference, document_sha256=sha256)
