"""The promoting and importing of a bundle, the target's middle steps.

Before each the pipeline is looked at. One that starts by itself would import whatever comes into its
container, whether or not it was decided upon; one that reads elsewhere would import what was never hashed.
"""

from airgap.errors import Code, PolicyRefusal, ServiceError, UntrustedInputError
from airgap.pipeline_runs import run_name
from function_app.durable.outcomes import Pending
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.pipeline_runs import Started, started
from function_app.ports import TargetSide
from function_app.preflight import require_fit_pipeline
from function_app.storage.paths import STAGING, STAGING_RUNS, TRANSFER, WORK, blob_path
from function_app.storage.turns import STAGING_QUEUE, Turns
from function_app.storage.work_folder import WorkFolder
from function_app.target.custody import INSPECTION, inspected_blob, staged_etag, staged_path
from function_app.target.wire import Inspection, Promoted, PromotionNote, RunOrder

PROMOTED = "promoted/"
"""The notes of blobs that were promoted. They outlast the closing: records of runs are named by them."""


def promote_blob(side: TargetSide, order: Item) -> Promoted | Pending:
    """The activity that copies a verified blob to where the import pipeline may read; ``pending`` meanwhile.

    The copy is made from the one in custody, pinned to the ETag that was hashed, and gets the signed metadata
    and MD5. Its name belongs to this very bundle, whose number was taken: nothing else can lie there. The
    ETag of the promoted copy is noted, and only in this state is it imported.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the work was called off.
        UntrustedInputError: ``BLOB_CHANGED``: the copy in custody was written to since it was hashed.
        ServiceError: ``CONFLICT``: something else lies there; ``SERVICE_THROTTLED``: it is written to this
            moment, by another delivery of this step; ``SERVICE_UNEXPECTED``: there is no copy in custody;
            ``PIPELINE_UNFIT``: the pipeline would import by itself, or from elsewhere, or delete blobs.
    """
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    inspection = work.get(INSPECTION, Inspection)
    blob = inspected_blob(inspection, order.number)
    etag = staged_etag(work, blob.name)
    if etag is None:
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"{blob.name} was never taken into custody")
    staged, path = staged_path(inspection, blob.name), blob_path(inspection.bundle, blob.name)
    if work.find(_note(blob.name), PromotionNote) is not None:  # what lies there by now is the run's business
        return Promoted()
    require_fit_pipeline("target", side)
    promoted = side.blobs.copy((STAGING, staged), (TRANSFER, path), etag=etag, metadata=blob.metadata)
    if promoted is None:
        return Pending()
    if blob.content_md5 is not None:
        promoted = _with_md5(side, path, blob.content_md5, etag=promoted)
    work.create(_note(blob.name), PromotionNote(etag=promoted))
    return Promoted()


def _with_md5(side: TargetSide, path: str, content_md5: str, *, etag: str) -> str:
    """The ETag of the promoted copy, with this MD5; a repeat writes nothing, so that the noted one stays."""
    found = side.blobs.stat(TRANSFER, path)
    if found is not None and (found.etag, found.content_md5) == (etag, content_md5):
        return etag
    try:
        return side.blobs.set_content_md5(TRANSFER, path, content_md5, etag=etag)
    except UntrustedInputError as error:
        raise ServiceError(Code.SERVICE_THROTTLED, f"{TRANSFER}/{path} was just written to") from error


def start_import_run(side: TargetSide, order: RunOrder) -> Started:
    """The activity that starts the import of one promoted blob, if it is still what was promoted.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the work was called off; or another import has the staging
            registry.
        UntrustedInputError: ``BLOB_CHANGED``: somebody else wrote to it.
        ServiceError: ``PIPELINE_UNFIT``: as :func:`promote_blob`.
    """
    require_going(side.blobs, order.owner)
    require_fit_pipeline("target", side)
    work = WorkFolder(side.blobs, order.owner)
    inspection = work.get(INSPECTION, Inspection)
    name = inspected_blob(inspection, order.number).name
    path = blob_path(inspection.bundle, name)
    found = side.blobs.stat(TRANSFER, path)
    if found is None or found.etag != work.get(_note(name), PromotionNote).etag:
        raise UntrustedInputError(Code.BLOB_CHANGED, f"{TRANSFER}/{path} is not what was promoted")
    run = import_run_name(order.owner, name, order.attempt)
    if side.staged is not None:  # before it runs: whoever empties the staging registry waits for it
        side.blobs.create(WORK, f"{STAGING_RUNS}{run}", b"")
        if not Turns(side.blobs, STAGING_QUEUE).has(order.owner):
            raise PolicyRefusal(Code.TRANSITION_REFUSED, f"{order.owner} has not the staging registry's turn")
    side.pipelines.put_run(
        run,
        {
            "pipelineResourceId": side.settings.pipeline_resource_id,
            "source": {"type": "AzureStorageBlob", "name": path},
        },
    )
    return started(side, run)


RUN_ATTEMPTS = 3
"""Of the import of one blob. Why a run failed it says in words only, and another one is harmless: what was
imported is imported again (docs/adr/0030). Many causes pass within minutes, such as a role that was given
just now."""


def promoted_blob(document: str) -> str | None:
    """The blob that the working document of that file name notes as promoted; else ``None``."""
    name = document.removesuffix(".json")
    return name.removeprefix(PROMOTED) if name.startswith(PROMOTED) else None


def _note(blob: str) -> str:
    return f"{PROMOTED}{blob}"


def import_run_name(owner: str, blob: str, attempt: int = 0) -> str:
    """The name of the run that imports a blob for the orchestration ``owner``; each attempt has its own."""
    return run_name("i", owner, blob, *([str(attempt)] if attempt else []))
