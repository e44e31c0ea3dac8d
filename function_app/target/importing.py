"""Target, middle steps: promote, import, prove."""

from airgap.errors import Code, ServiceError
from airgap.manifest import Artifact
from airgap.pipeline_runs import missing_imports, run_name
from airgap.receipt import ArtifactProof
from function_app.durable.outcomes import Failed, Pending, Refused, ending
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.pipeline_runs import Started, started
from function_app.ports import TargetSide
from function_app.storage.paths import INCOMING, TRANSFER, blob_path
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import admitted_manifest
from function_app.target.verifying import INSPECTION
from function_app.target.wire import Inspection, Promoted, Proofs, Proven, Upload

PROOFS = "proofs"


def promote_blob(side: TargetSide, order: Item) -> Promoted | Pending:
    """Copy a verified blob to where the import pipeline may read; ``pending`` while the storage copies.

    The copy is pinned to the ETag that was hashed, and gets the signed metadata and MD5.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the work was called off.
        UntrustedInputError: ``BLOB_CHANGED``: the uploaded blob was written to since it was hashed.
        ServiceError: ``SERVICE_UNEXPECTED``: what lies there afterwards is not the copy.
    """
    require_going(side.blobs, order.owner)
    inspection = WorkFolder(side.blobs, order.owner).get(INSPECTION, Inspection)
    blob = inspection.blobs[order.number]
    path = blob_path(inspection.upload.incoming, blob.name)
    is_complete = side.blobs.copy((INCOMING, path), (TRANSFER, path), etag=blob.etag, metadata=blob.metadata)
    if not is_complete:
        return Pending()
    found = side.blobs.stat(TRANSFER, path)
    if found is None or found.size_bytes != blob.size_bytes:
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"{TRANSFER}/{path} is not the copy that was made")
    if blob.content_md5 is not None and found.content_md5 != blob.content_md5:
        side.blobs.set_content_md5(TRANSFER, path, blob.content_md5)
    return Promoted()


def start_import_run(side: TargetSide, order: Item) -> Started:
    """Start the import of one promoted blob."""
    require_going(side.blobs, order.owner)
    inspection = WorkFolder(side.blobs, order.owner).get(INSPECTION, Inspection)
    name = inspection.blobs[order.number].name
    run = run_name("i", order.owner, name)
    side.pipelines.put_run(
        run,
        {
            "pipelineResourceId": side.settings.pipeline_resource_id,
            "source": {"type": "AzureStorageBlob", "name": blob_path(inspection.upload.incoming, name)},
        },
    )
    return started(side, run)


def prove_artifacts(side: TargetSide, order: Upload) -> Proven | Refused | Failed:
    """Ask the registry for every digest and tag of the bundle; ``IMPORT_INCOMPLETE`` if one is not there.

    The registry's answer decides; what the runs themselves report as imported is compared too, and put on
    record where it falls short.
    """
    manifest = admitted_manifest(side.blobs, order.envelope_sha256)
    proofs = [_prove(side, artifact) for artifact in manifest.artifacts]
    WorkFolder(side.blobs, order.instance).put(
        PROOFS, Proofs(proofs=tuple(proof.to_json() for proof in proofs))
    )
    unreported = 0
    for blob in manifest.blobs:
        properties = side.pipelines.get_run(run_name("i", order.instance, blob.name)) or {}
        imported = (properties.get("response") or {}).get("importedArtifacts") or []
        expected = [artifact.reference for artifact in blob.artifacts]
        unreported += len(missing_imports(expected, [str(reference) for reference in imported]))
    remark = f"; {unreported} not reported as imported" if unreported else ""
    if lacking := [proof.reference for proof in proofs if not proof.is_proven]:
        return ending(
            Code.IMPORT_INCOMPLETE,
            f"{len(lacking)} of {len(proofs)} artifacts are not as signed, such as {lacking[0]}{remark}",
        )
    return Proven(detail=f"{len(proofs)} artifacts{remark}")


def _prove(side: TargetSide, artifact: Artifact) -> ArtifactProof:
    found = side.registry.resolve(artifact.repository, artifact.digest)
    missing_tags = []
    for tag in artifact.tags:
        tagged = side.registry.resolve(artifact.repository, tag)
        if tagged is None or tagged.digest != artifact.digest:
            missing_tags.append(tag)
    return ArtifactProof(
        reference=artifact.reference,
        digest=artifact.digest,
        found=None if found is None else found.digest,
        missing_tags=tuple(missing_tags),
    )
