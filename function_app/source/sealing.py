"""Source, last step: take a number, sign the bundle manifest, publish it last."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airgap.envelope import Envelope
from airgap.errors import Code, ServiceError
from airgap.fields import format_time, parse_time
from airgap.ledger import LedgerEntry
from airgap.manifest import Artifact, BundleManifest, Source, TransferBlob, manifest_digest
from function_app.durable.outcomes import Outcome
from function_app.ports import BlobStore, SourceSide
from function_app.settings import TOOL
from function_app.source.planning import batch_document
from function_app.storage.ledger import Ledger
from function_app.storage.paths import TRANSFER, WORK, blob_path, manifest_path
from function_app.storage.work_folder import WorkFolder

_MAX_CONTENDERS = 100


def seal_bundle(side: SourceSide, order: Mapping[str, Any]) -> Outcome:
    """Turn the exported blobs into a bundle: ``sealed`` with where its manifest is and what it says.

    ``{"transferId", "channel", "audience", "expiresInSeconds", "createdAt", "blobs"}``. May run any number of
    times, also at once: the transfer takes one number only, and the envelope that was stored first stays.
    """
    ledger = Ledger(side.blobs)
    # Listed once: were it listed again, a number that another execution of this very step has taken meanwhile
    # could be skipped, and the transfer would take two.
    highest = max(ledger.numbers(order["channel"]), default=0)
    entry = _taken_number(side.blobs, ledger, order, highest)
    if entry is None:
        entry = _take_number(side, ledger, order, highest)
    envelope = ledger.envelope(entry.manifest_sha256)
    path = manifest_path(order["transferId"])
    if not side.blobs.create(TRANSFER, path, envelope):
        present = side.blobs.read(TRANSFER, path, max_bytes=len(envelope))
        if present != envelope:
            raise ServiceError(Code.CONFLICT, f"{TRANSFER}/{path} holds something else")
    manifest = BundleManifest.from_bytes(Envelope.from_bytes(envelope).payload)
    return {
        "outcome": "sealed",
        "bundle": {
            "manifest": f"{TRANSFER}/{path}",
            "manifestDigest": f"sha256:{entry.manifest_sha256}",
            "sequence": manifest.sequence,
            "sizeBytes": manifest.size_bytes,
            "parts": manifest.part_count,
            "blobs": len(manifest.blobs),
            "artifacts": len(manifest.artifacts),
            "expiresAt": format_time(manifest.expires_at),
        },
    }


def _taken_number(
    blobs: BlobStore, ledger: Ledger, order: Mapping[str, Any], highest: int
) -> LedgerEntry | None:
    """The number that an earlier execution of this step has taken for this transfer, if any.

    The first execution notes the number that was free when it began. Numbers have no gaps, so whatever the
    transfer took lies there or above, and the search is as long as the channel grew meanwhile.
    """
    note = f"sealing/{order['transferId']}/first.json"
    if blobs.create(WORK, note, str(highest + 1).encode()):
        return None
    first = int(blobs.read(WORK, note, max_bytes=20) or b"1")
    for number in range(first, highest + 1):
        entry = ledger.find(order["channel"], number)
        if entry is not None and entry.transfer_id == order["transferId"]:
            return entry
    return None


def _take_number(side: SourceSide, ledger: Ledger, order: Mapping[str, Any], highest: int) -> LedgerEntry:
    """Take the number after ``highest`` for a manifest that carries it, or the next that is still free."""
    blobs = tuple(_transfer_blob(side, order["transferId"], blob) for blob in order["blobs"])
    sequence = highest + 1
    signers = side.signing.signers()
    for _ in range(_MAX_CONTENDERS):
        previous = ledger.find(order["channel"], sequence - 1) if sequence > 1 else None
        payload = _build_manifest(side, order, sequence, previous, blobs).to_bytes()
        BundleManifest.from_bytes(payload)  # never sign what the far side would refuse to read
        digest = manifest_digest(payload)
        ledger.keep_envelope(digest, Envelope.sign(payload, signers).to_bytes())
        holder = ledger.take(
            LedgerEntry(
                channel=order["channel"],
                sequence=sequence,
                manifest_sha256=digest,
                transfer_id=order["transferId"],
                owner=order["transferId"],
                taken_at=parse_time(order["createdAt"]),
            )
        )
        if holder.transfer_id == order["transferId"]:
            return holder
        sequence += 1
    raise ServiceError(
        Code.SERVICE_THROTTLED, f"channel {order['channel']}: too many transfers are being sealed"
    )


def _build_manifest(
    side: SourceSide,
    order: Mapping[str, Any],
    sequence: int,
    previous: LedgerEntry | None,
    blobs: tuple[TransferBlob, ...],
) -> BundleManifest:
    created_at = parse_time(order["createdAt"])
    return BundleManifest(
        transfer_id=order["transferId"],
        channel=order["channel"],
        sequence=sequence,
        previous_sha256=None if previous is None else previous.manifest_sha256,
        created_at=created_at,
        expires_at=created_at + timedelta(seconds=order["expiresInSeconds"]),
        source=Source(
            cloud=side.settings.cloud_name,
            registry=side.settings.registry_login_server,
            export_pipeline=side.settings.pipeline,
        ),
        audience=tuple(order["audience"]),
        blobs=blobs,
        tool=TOOL,
    )


def _transfer_blob(side: SourceSide, transfer_id: str, exported: Mapping[str, Any]) -> TransferBlob:
    """One blob with its digests; refused if it was written to since it was hashed."""
    work = WorkFolder(side.blobs, transfer_id)
    name = exported["name"]
    found = side.blobs.stat(TRANSFER, blob_path(transfer_id, name))
    if found is None or found.etag != exported["etag"]:
        raise ServiceError(Code.CONFLICT, f"{TRANSFER}/{blob_path(transfer_id, name)} was written to since")
    digests = [digest for group in work.all(f"digests/{name}/") for digest in group]
    members = work.get(batch_document(name, attempt=exported["attempt"]))
    return TransferBlob(
        name=name,
        size_bytes=exported["sizeBytes"],
        part_size_bytes=exported["partSizeBytes"],
        part_sha256=tuple(digests),
        content_md5=exported["contentMd5"],
        metadata=exported["metadata"],
        catalog_digest=exported["catalogDigest"],
        pipeline_run=exported["run"],
        artifacts=tuple(Artifact.from_json(member) for member in members),
    )
