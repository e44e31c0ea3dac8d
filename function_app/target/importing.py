"""Target, middle steps: promote and import."""

from airgap.errors import Code, ServiceError
from airgap.pipeline_runs import run_name
from function_app.durable.outcomes import Pending
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.pipeline_runs import Started, started
from function_app.ports import TargetSide
from function_app.storage.paths import STAGING, TRANSFER, blob_path
from function_app.storage.work_folder import WorkFolder
from function_app.target.custody import INSPECTION, staged_etag, staged_path
from function_app.target.wire import Inspection, Promoted


def promote_blob(side: TargetSide, order: Item) -> Promoted | Pending:
    """Copy a verified blob to where the import pipeline may read; ``pending`` while the storage copies.

    The copy is made from the one in custody, pinned to the ETag that was hashed, and gets the signed metadata
    and MD5. Its name belongs to this very bundle, whose number was taken: nothing else can lie there.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the work was called off.
        UntrustedInputError: ``BLOB_CHANGED``: the copy in custody was written to since it was hashed.
        ServiceError: ``CONFLICT``: something else lies there; ``SERVICE_UNEXPECTED``: what lies there
            afterwards is not the copy.
    """
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    inspection = work.get(INSPECTION, Inspection)
    blob = inspection.blobs[order.number]
    etag = staged_etag(work, blob.name)
    if etag is None:
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"{blob.name} was never taken into custody")
    staged, path = staged_path(inspection, blob.name), blob_path(inspection.bundle, blob.name)
    if not side.blobs.copy((STAGING, staged), (TRANSFER, path), etag=etag, metadata=blob.metadata):
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
    run = import_run_name(order.owner, name)
    side.pipelines.put_run(
        run,
        {
            "pipelineResourceId": side.settings.pipeline_resource_id,
            "source": {"type": "AzureStorageBlob", "name": blob_path(inspection.bundle, name)},
        },
    )
    return started(side, run)


def import_run_name(owner: str, blob: str) -> str:
    """The name of the pipeline run that imports a blob for the orchestration ``owner``."""
    return run_name("i", owner, blob)
