"""Source, middle steps: pipeline runs, and tags that moved meanwhile."""

from airgap.errors import Code, PolicyRefusal
from airgap.fields import DIGEST
from airgap.manifest import Artifact
from airgap.pipeline_runs import MAX_ARTIFACTS_PER_RUN, run_name
from function_app.durable.outcomes import Failed, Refused, ending
from function_app.durable.stopping import require_going
from function_app.pipeline_runs import Started, started
from function_app.ports import SourceSide
from function_app.source.planning import Scan, batch_document, split_reference
from function_app.source.wire import Batch, BlobAttempt, Confirmed, ExportedBlob
from function_app.storage.paths import TRANSFER, blob_path
from function_app.storage.work_folder import WorkFolder


def start_export_run(side: SourceSide, order: BlobAttempt) -> Started:
    """Start the run of one batch, under a name derived from it."""
    require_going(side.blobs, order.transfer_id)
    path = blob_path(order.transfer_id, order.blob)
    members = _batch(side, order).artifacts
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
            "artifacts": [member["reference"] for member in members],
        },
    )
    return started(side, run)


def confirm_export(side: SourceSide, order: BlobAttempt) -> Confirmed | Refused | Failed:
    """Look at what a succeeded run has written, and whether its tags still stand where they stood.

    The blob is described in the work folder; or, where a tag moved, the batch is resolved anew for the next
    attempt.
    """
    work, name = WorkFolder(side.blobs, order.transfer_id), f"exported/{order.blob}"
    earlier = work.find(name, ExportedBlob)
    if earlier is not None and earlier.attempt >= order.attempt:
        # What is there when this runs again, or late, need not be what the run wrote.
        return Confirmed()
    members = [Artifact.from_json(member) for member in _batch(side, order).artifacts]
    if moved := [member for member in members if _has_moved(side, member)]:
        return _resolve_again(side, order, members, moved)
    run, path = _run(order), blob_path(order.transfer_id, order.blob)
    found = side.blobs.stat(TRANSFER, path)
    if found is None or not found.size_bytes:
        return ending(Code.PIPELINE_RUN_FAILED, f"run {run} succeeded but wrote no blob {path}")
    response = (side.pipelines.get_run(run) or {}).get("response") or {}
    catalog = str(response.get("catalogDigest") or "")
    exported = ExportedBlob(
        name=order.blob,
        attempt=order.attempt,
        run=run,
        size_bytes=found.size_bytes,
        etag=found.etag,
        content_md5=found.content_md5,
        metadata=dict(found.metadata),
        catalog_digest=catalog if DIGEST.fullmatch(catalog) else None,
    )
    work.put(name, exported)
    return Confirmed()


def _run(order: BlobAttempt) -> str:
    return run_name("e", order.transfer_id, order.blob, str(order.attempt))


def _batch(side: SourceSide, order: BlobAttempt) -> Batch:
    return WorkFolder(side.blobs, order.transfer_id).get(
        batch_document(order.blob, attempt=order.attempt), Batch
    )


def _has_moved(side: SourceSide, member: Artifact) -> bool:
    repository, tag, _ = split_reference(member.reference)
    if not tag:
        return False
    now = side.registry.resolve(repository, tag)
    return now is None or now.digest != member.digest


def _resolve_again(
    side: SourceSide, order: BlobAttempt, members: list[Artifact], moved: list[Artifact]
) -> Confirmed | Refused | Failed:
    """The batch for the next attempt: moved tags where they are now, with the referrers found there."""
    scan = Scan(side.registry)
    for member in moved:
        try:
            if not scan.add(member.reference):
                return ending(Code.ARTIFACT_NOT_FOUND, f"{member.reference} was removed meanwhile")
        except PolicyRefusal as refusal:
            return ending(refusal.code, refusal.detail)
    renewed = {member.reference: member for member in members} | scan.artifacts
    if len(renewed) > MAX_ARTIFACTS_PER_RUN:
        return ending(Code.EXPORT_INCONSISTENT, f"{moved[0].reference} moved, and has more referrers now")
    WorkFolder(side.blobs, order.transfer_id).create(
        batch_document(order.blob, attempt=order.attempt + 1),
        Batch(artifacts=tuple(artifact.to_json() for artifact in renewed.values())),
    )
    return Confirmed(moved=moved[0].reference)
