"""Source, middle steps: pipeline runs, tags that moved meanwhile, part digests."""

from collections.abc import Mapping
from typing import Any

from airgap.errors import Code, PolicyRefusal
from airgap.fields import DIGEST
from airgap.manifest import Artifact
from airgap.parts import MAX_PART_SIZE_BYTES, fitting_part_size, part_count
from airgap.pipeline_runs import MAX_ARTIFACTS_PER_RUN, run_name
from function_app.durable.outcomes import Outcome, ending
from function_app.hashing import hash_part, parts_of
from function_app.pipeline_runs import started
from function_app.ports import SourceSide
from function_app.source.planning import Scan, batch_document, split_reference
from function_app.storage.paths import TRANSFER, blob_path
from function_app.storage.work_folder import WorkFolder

_MAX_PARTS = 100_000
"""Parts of a transfer: their digests, with 5000 artifacts, fit into a statement."""


def start_export_run(side: SourceSide, order: Mapping[str, Any]) -> Outcome:
    """Start the run of one batch, under a name derived from it.

    ``{"transferId", "blob", "attempt"}`` → ``started`` with ``run`` and the polling times.
    """
    path = blob_path(order["transferId"], order["blob"])
    members = WorkFolder(side.blobs, order["transferId"]).get(
        batch_document(order["blob"], attempt=order["attempt"])
    )
    run = run_name("e", order["transferId"], order["blob"], str(order["attempt"]))
    if order["attempt"] > 1 and side.pipelines.get_run(run) is None:
        # A pipeline without OverwriteBlobs may leave the blob of the attempt before, without a word.
        side.blobs.delete(TRANSFER, path)
    side.pipelines.put_run(
        run,
        {
            "pipelineResourceId": side.settings.pipeline_resource_id,
            "target": {"type": "AzureStorageBlob", "name": path},
            "artifacts": [member["reference"] for member in members],
        },
    )
    return started(side.settings.pipeline_run_poll_s, side.settings.pipeline_run_timeout_s, run)


def confirm_export(side: SourceSide, order: Mapping[str, Any]) -> Outcome:
    """Look at what a succeeded run has written, and whether its tags still stand where they stood.

    ``{"transferId", "blob", "attempt", "run"}`` → ``exported`` with the blob's properties; or ``moved``, with
    the batch resolved anew for the next attempt.
    """
    work = WorkFolder(side.blobs, order["transferId"])
    members = [
        Artifact.from_json(member)
        for member in work.get(batch_document(order["blob"], attempt=order["attempt"]))
    ]
    if moved := [member for member in members if _has_moved(side, member)]:
        return _resolve_again(side, order, members, moved)
    path = blob_path(order["transferId"], order["blob"])
    found = side.blobs.stat(TRANSFER, path)
    if found is None or not found.size_bytes:
        return ending(Code.PIPELINE_RUN_FAILED, f"run {order['run']} succeeded but wrote no blob {path}")
    response = (side.pipelines.get_run(order["run"]) or {}).get("response") or {}
    catalog = str(response.get("catalogDigest") or "")
    return {
        "outcome": "exported",
        "name": order["blob"],
        "attempt": order["attempt"],
        "run": order["run"],
        "sizeBytes": found.size_bytes,
        "etag": found.etag,
        "contentMd5": found.content_md5,
        "metadata": dict(found.metadata),
        "catalogDigest": catalog if DIGEST.fullmatch(catalog) else None,
    }


def _has_moved(side: SourceSide, member: Artifact) -> bool:
    repository, tag, _ = split_reference(member.reference)
    if not tag:
        return False
    now = side.registry.resolve(repository, tag)
    return now is None or now.digest != member.digest


def _resolve_again(
    side: SourceSide, order: Mapping[str, Any], members: list[Artifact], moved: list[Artifact]
) -> Outcome:
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
    WorkFolder(side.blobs, order["transferId"]).create(
        batch_document(order["blob"], attempt=order["attempt"] + 1),
        [artifact.to_json() for artifact in renewed.values()],
    )
    return {"outcome": "moved", "reference": moved[0].reference}


def choose_part_size(side: SourceSide, order: Mapping[str, Any]) -> Outcome:
    """The part size of each blob: ``{"sizes": […]}`` → ``chosen`` with ``partSizes``.

    The configured size, doubled until no blob has over 50,000 parts and the transfer has at most 100,000.
    """
    sizes: list[int] = order["sizes"]
    wished = side.settings.part_size_bytes
    while sum(part_count(size, wished) for size in sizes) > _MAX_PARTS and wished < MAX_PART_SIZE_BYTES:
        wished = min(wished * 2, MAX_PART_SIZE_BYTES)
    try:
        return {"outcome": "chosen", "partSizes": [fitting_part_size(size, wished) for size in sizes]}
    except ValueError as error:
        return ending(Code.ARTIFACT_REFUSED, str(error))


def hash_parts(side: SourceSide, order: Mapping[str, Any]) -> Outcome:
    """Digest a group of parts of a blob, as it was when the export was confirmed.

    ``{"transferId", "blob", "etag", "sizeBytes", "partSizeBytes", "first", "count"}`` → ``hashed``; the
    digests lie in the work folder. A blob that was written to meanwhile is ``BLOB_CHANGED``.
    """
    path = blob_path(order["transferId"], order["blob"])
    parts = parts_of(
        order["blob"],
        size_bytes=order["sizeBytes"],
        part_size_bytes=order["partSizeBytes"],
        first=order["first"],
        count=order["count"],
    )
    digests = [hash_part(side.blobs, TRANSFER, path, etag=order["etag"], part=part) for part in parts]
    WorkFolder(side.blobs, order["transferId"]).put(f"digests/{order['blob']}/{order['first']:06d}", digests)
    return {"outcome": "hashed"}
