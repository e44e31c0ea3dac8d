"""The target's intake: it starts the import of each bundle manifest that arrived, once, a few at a time."""

import asyncio
import hashlib
import logging
from datetime import UTC, datetime
from typing import Any

import azure.durable_functions as df
from azurefunctions.extensions.bindings.blob import BlobClient

from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import UntrustedInputError
from airgap.fields import format_time
from airgap.manifest import ENVELOPE_NAME
from airgap.states import Kind, State
from function_app.azure.wiring import target_side
from function_app.durable.blueprint import Blueprint, source_of
from function_app.durable.instances import find_instance
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.messages import dump
from function_app.ports import BlobStat, TargetSide
from function_app.settings import BlobEvents
from function_app.storage.door import Door
from function_app.storage.paths import INCOMING, is_import_instance, is_safe_name, manifest_path
from function_app.target.custody_logs import is_custody_folder
from function_app.target.judging import judge_bundle
from function_app.target.wire import ImportOrder, Judging, received_facts

_ORCHESTRATION = "import_bundle"
_MAX_FOLDER = 200
_LOG = logging.getLogger(__name__)


def blueprint(events: BlobEvents) -> Blueprint:
    """A blueprint with the blob trigger for bundle manifests, which learns of blobs by ``events``."""
    found = Blueprint()
    declare = found.blob_trigger(
        arg_name="manifest",
        path=f"{INCOMING}/{{transferId}}/{ENVELOPE_NAME}",
        connection="TransferStorage",
        source=source_of(events),
    )
    declare(found.durable_client_input(client_name="client")(bundle_arrived))
    return found


async def bundle_arrived(manifest: BlobClient, client: df.DurableOrchestrationClient) -> None:
    """Start the import of a bundle manifest that arrived as a blob.

    Events come at least once, and late. The parameter's type makes the host send the blob's name and none of
    its content, whose size is up to whoever uploads. Event Grid's webhook does not compare names with the
    path: they are compared here.
    """
    folder, _, name = str(manifest.blob_name).rpartition("/")
    if manifest.container_name != INCOMING or name != ENVELOPE_NAME:
        _LOG.warning("an event came for a blob that is no bundle manifest; it is left alone")
        return
    await start_import(client, target_side(), folder=folder, now=datetime.now(UTC))


async def start_import(client: Any, side: TargetSide, *, folder: str, now: datetime) -> str | None:
    """Start the import of an upload, unless its event is late or repeated; returns the instance started.

    The instance id is derived from the manifest's bytes. ``start_new`` would *replace* a finished instance,
    and start one anew whose history was purged, so instance and journal are asked first. The blob decides
    about the event: gone means that it is late; with the ETag that the instance was started for, that it is
    repeated; with another, that the manifest was uploaded again. Such an upload gets an instance of its own,
    named by the ETag too, and the ledger will refuse it if the first was accepted. What was started for this
    very upload and has ended, as by somebody's hand, before it was on record, is put on record: so the
    reconciler decides about it. Names that no bundle can have are left where they are.

    What finds no place (:mod:`function_app.storage.door`) is left where it is, too, for the reconciler: a
    bundle that is accepted at ``now`` has one of its own, any other waits for its refusal.
    """
    if not may_be_bundle(folder):
        return None
    found = await asyncio.to_thread(side.blobs.stat, INCOMING, manifest_path(folder))
    raw = None if found is None else await asyncio.to_thread(_read, side, folder, found)
    if found is None or raw is None:
        return None
    settings = side.settings
    order = ImportOrder(
        incoming=folder,
        manifest_etag=found.etag,
        envelope_sha256=hashlib.sha256(raw).hexdigest(),
        runs_at_once=settings.pipeline_runs_at_once,
        is_staged=settings.staging_registry is not None,
        hashes_at_once=settings.hashes_at_once,
        release_timeout_s=settings.release_timeout_s,
        check_timeout_s=settings.check_timeout_s,
    )
    instance = await _new_instance(client, side, order, now)
    if instance is None or not await asyncio.to_thread(_has_place, side, order, instance, raw, now):
        return None
    try:
        await client.start_new(_ORCHESTRATION, instance, dump(order))
    except Exception:  # the SDK raises nothing more precise
        if await find_instance(client, instance) is None:
            raise
        return None  # another event was faster
    return instance


def may_be_bundle(folder: str) -> bool:
    """Whether a bundle can have been uploaded to that folder of ``incoming``; the log tells why not."""
    is_odd = not is_safe_name(folder) or not folder.isprintable() or len(folder) > _MAX_FOLDER
    # A folder called like an import would make what is put into quarantine look like that one's.
    if is_odd or any(map(is_import_instance, folder.split("/"))):
        _LOG.warning("a bundle manifest arrived under a name that no bundle can have; it is left alone")
        return False
    if is_custody_folder(folder):
        _LOG.warning("a bundle manifest arrived among the custody logs; it is put away with them")
        return False
    return True


def _read(side: TargetSide, folder: str, found: BlobStat) -> bytes | None:
    """The manifest in that state; nothing of it if it is larger than any.

    ``None`` if it was written to meanwhile, of which there is another event.
    """
    if found.size_bytes > MAX_ENVELOPE_BYTES:
        return b""
    try:
        return side.blobs.read(INCOMING, manifest_path(folder), max_bytes=MAX_ENVELOPE_BYTES, etag=found.etag)
    except UntrustedInputError:
        return None


async def _new_instance(client: Any, side: TargetSide, order: ImportOrder, now: datetime) -> str | None:
    """The id of the instance to be started for an upload; ``None`` if one was started for it before."""
    first = f"import{order.envelope_sha256[:32]}"
    for instance in (first, first + hashlib.sha256(order.manifest_etag.encode()).hexdigest()[:8]):
        found = await find_instance(client, instance, show_input=True)
        earlier = (
            await asyncio.to_thread(_etag_on_record, side, instance)
            if found is None
            else str(found.order.get("manifestEtag"))
        )
        if earlier is None:
            return instance
        if earlier == order.manifest_etag:
            if found is not None and not found.is_active:
                await asyncio.to_thread(_put_on_record, side, order, instance, now)
            break
    return None


def _etag_on_record(side: TargetSide, instance: str) -> str | None:
    """ETag of the manifest that an instance was started for, by its journal; ``None`` if it has none."""
    received = JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, instance).first
    return None if received is None else str(received.facts["manifestEtag"])


def _put_on_record(side: TargetSide, order: ImportOrder, instance: str, now: datetime) -> None:
    """Record the arrival that an orchestration was started for, unless it has done so itself."""
    JournalStore(side.blobs, side.projection).record(
        *(Kind.IMPORTS, instance, State.RECEIVED, received_facts(order)), by=BY_APP, at=now
    )


def _has_place(side: TargetSide, order: ImportOrder, instance: str, envelope: bytes, now: datetime) -> bool:
    """Whether the upload may be dealt with now; it is judged here for its place only, and decided later."""
    judging = Judging(
        incoming=order.incoming,
        manifest_etag=order.manifest_etag,
        envelope_sha256=order.envelope_sha256,
        instance=instance,
        now=format_time(now),
    )
    verdict = judge_bundle(side, judging, envelope)
    accepted = verdict.manifest_sha256 if verdict.is_accepted else None
    if Door(side.blobs).enter(instance, accepted=accepted):
        return True
    _LOG.warning("%s waits in %s: too many uploads are being refused", instance, INCOMING)
    return False
