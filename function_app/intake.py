"""The target's door: a bundle manifest arrived, start its import, once."""

import asyncio
import hashlib
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from airgap.manifest import ENVELOPE_NAME
from function_app.flow import Blueprint
from function_app.instances import find_instance
from function_app.ports import BlobStore
from function_app.storage import INCOMING, manifest_path
from function_app.wiring import target_side

bp = Blueprint()

_ORCHESTRATION = "import_bundle"


@bp.blob_trigger(
    arg_name="manifest",
    path=f"{INCOMING}/{{transferId}}/{ENVELOPE_NAME}",
    connection="TransferStorage",
)
@bp.durable_client_input(client_name="client")
async def bundle_arrived(manifest: func.InputStream, client: df.DurableOrchestrationClient) -> None:
    """Events come at least once, late, and again for a file that was uploaded again."""
    path = str(manifest.name).removeprefix(f"{INCOMING}/")
    sha256 = await asyncio.to_thread(lambda: hashlib.sha256(manifest.read()).hexdigest())
    folder = path.removesuffix(f"/{ENVELOPE_NAME}")
    await start_import(client, target_side().blobs, folder=folder, envelope_sha256=sha256)


async def start_import(client: Any, blobs: BlobStore, *, folder: str, envelope_sha256: str) -> str | None:
    """Start the import of an upload, unless it is a late or repeated event; returns the instance started.

    The instance id is derived from the manifest's bytes. ``start_new`` would *replace* a finished instance,
    so its status is asked first; where it is finished, the blob decides: gone means that the event is late,
    still (or again) there means that it was uploaded again. Such an upload gets an instance of its own, named
    by the blob's ETag too, and the ledger will refuse it if the first was accepted.
    """
    instance = f"import{envelope_sha256[:32]}"
    earlier = await find_instance(client, instance)
    if earlier is not None:
        found = await asyncio.to_thread(blobs.stat, INCOMING, manifest_path(folder))
        if earlier.is_active or found is None:
            return None
        instance += hashlib.sha256(found.etag.encode()).hexdigest()[:8]
        if await find_instance(client, instance) is not None:
            return None
    order = {"schema": 1, "incoming": folder, "envelopeSha256": envelope_sha256}
    try:
        await client.start_new(_ORCHESTRATION, instance, order)
    except Exception:  # the SDK raises nothing more precise
        if await find_instance(client, instance) is None:
            raise
        return None  # another event was faster
    return instance
