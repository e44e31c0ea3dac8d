"""Source, last step: take a number, sign the bundle manifest, publish it last."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from airgap.envelope import Envelope
from airgap.errors import Code, ServiceError
from airgap.fields import format_time, parse_time
from airgap.ledger import LedgerEntry
from airgap.manifest import Artifact, BundleManifest, Source, TransferBlob, manifest_digest
from airgap.parts import part_count
from airgap.states import Kind, State
from function_app.durable.stopping import require_going
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.part_groups import Digests
from function_app.ports import BlobStore, SourceSide
from function_app.settings import TOOL
from function_app.source.hashing import DIVISION
from function_app.source.planning import BATCHES, REQUEST
from function_app.source.wire import Batch, DividedBlob, Division, RequestDocument, Sealed, Sealing
from function_app.storage.ledger import Ledger
from function_app.storage.paths import TRANSFER, WORK, blob_path, manifest_path
from function_app.storage.work_folder import WorkFolder

_MAX_CONTENDERS = 100


@dataclass(frozen=True, slots=True)
class _Bundle:
    """What is sealed: known before its number is."""

    transfer_id: str
    request: RequestDocument
    created_at: datetime
    blobs: tuple[TransferBlob, ...]

    @property
    def channel(self) -> str:
        return self.request.channel


def seal_bundle(side: SourceSide, order: Sealing) -> Sealed:
    """Turn the exported blobs into a bundle: number it, sign its manifest, and publish that last.

    May run any number of times, also at once: the transfer takes one number only, and the envelope that was
    stored first stays.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the transfer was cancelled.
        UntrustedInputError: ``BLOB_CHANGED``: somebody changed what an earlier step wrote into ``work``.
        ServiceError: ``CONFLICT``: a blob was written to since it was hashed, or something else lies under
            the manifest's name; ``SERVICE_THROTTLED``: too many transfers of the channel are being sealed.
    """
    require_going(side.blobs, order.transfer_id)
    ledger = Ledger(side.blobs)
    work = WorkFolder(side.blobs, order.transfer_id)
    channel = work.get(REQUEST, RequestDocument, sha256=order.request).channel
    # Listed once: were it listed again, a number that another execution of this very step has taken meanwhile
    # could be skipped, and the transfer would take two.
    highest = max(ledger.numbers(channel), default=0)
    entry = _taken_number(side.blobs, ledger, order.transfer_id, channel, highest)
    if entry is None:
        entry = _take_number(side, ledger, _gather(side, order), highest)
    envelope = ledger.envelope(entry.manifest_sha256)
    path = manifest_path(order.transfer_id)
    manifest = BundleManifest.from_bytes(Envelope.from_bytes(envelope).payload)
    bundle = {
        "manifest": f"{TRANSFER}/{path}",
        "manifestDigest": f"sha256:{entry.manifest_sha256}",
        "sequence": manifest.sequence,
        "sizeBytes": manifest.size_bytes,
        "parts": manifest.part_count,
        "blobs": len(manifest.blobs),
        "artifacts": len(manifest.artifacts),
        "expiresAt": format_time(manifest.expires_at),
    }
    # First on record, then in the open: a transfer that was cancelled in this moment is not published.
    JournalStore(side.blobs, side.projection).record(
        Kind.TRANSFERS,
        order.transfer_id,
        State.SEALED,
        {"bundle": bundle},
        by=BY_APP,
        at=parse_time(order.created_at),
    )
    if not side.blobs.create(TRANSFER, path, envelope):
        present = side.blobs.read(TRANSFER, path, max_bytes=len(envelope))
        if present != envelope:
            raise ServiceError(Code.CONFLICT, f"{TRANSFER}/{path} holds something else")
    return Sealed(bundle=bundle)


def _gather(side: SourceSide, order: Sealing) -> _Bundle:
    work = WorkFolder(side.blobs, order.transfer_id)
    division = work.get(DIVISION, Division, sha256=order.division)
    groups = work.tallied(list(work.names("digests/")), Digests, order.hashed)
    digests = iter([digest for group in groups for digest in group.sha256])
    return _Bundle(
        transfer_id=order.transfer_id,
        request=work.get(REQUEST, RequestDocument, sha256=order.request),
        created_at=parse_time(order.created_at),
        blobs=tuple(_transfer_blob(side, work, order.transfer_id, blob, digests) for blob in division.blobs),
    )


def _taken_number(
    blobs: BlobStore, ledger: Ledger, transfer_id: str, channel: str, highest: int
) -> LedgerEntry | None:
    """The number that an earlier execution of this step has taken for this transfer, if any.

    The first execution notes the number that was free when it began. Numbers have no gaps, so whatever the
    transfer took lies there or above, and the search is as long as the channel grew meanwhile.
    """
    note = f"sealing/{transfer_id}/first.json"
    if blobs.create(WORK, note, str(highest + 1).encode()):
        return None
    first = int(blobs.read(WORK, note, max_bytes=20) or b"1")
    for number in range(first, highest + 1):
        entry = ledger.find(channel, number)
        if entry is not None and entry.transfer_id == transfer_id:
            return entry
    return None


def _take_number(side: SourceSide, ledger: Ledger, bundle: _Bundle, highest: int) -> LedgerEntry:
    """Take the number after ``highest`` for a manifest that carries it, or the next that is still free."""
    signers = side.signing.signers()
    for sequence in range(highest + 1, highest + 1 + _MAX_CONTENDERS):
        previous = ledger.find(bundle.channel, sequence - 1) if sequence > 1 else None
        payload = _build_manifest(side, bundle, sequence, previous).to_bytes()
        digest = manifest_digest(payload)
        ledger.keep_envelope(digest, Envelope.sign(payload, signers).to_bytes())
        holder = ledger.take(
            LedgerEntry(
                channel=bundle.channel,
                sequence=sequence,
                manifest_sha256=digest,
                transfer_id=bundle.transfer_id,
                owner=bundle.transfer_id,
                taken_at=bundle.created_at,
            )
        )
        if holder.transfer_id == bundle.transfer_id:
            return holder
    raise ServiceError(
        Code.SERVICE_THROTTLED, f"channel {bundle.channel}: too many transfers are being sealed"
    )


def _build_manifest(
    side: SourceSide, bundle: _Bundle, sequence: int, previous: LedgerEntry | None
) -> BundleManifest:
    return BundleManifest(
        transfer_id=bundle.transfer_id,
        channel=bundle.channel,
        sequence=sequence,
        previous_sha256=None if previous is None else previous.manifest_sha256,
        created_at=bundle.created_at,
        expires_at=bundle.created_at + timedelta(seconds=bundle.request.expires_in_seconds),
        source=Source(
            cloud=side.settings.cloud_name,
            registry=side.settings.registry_login_server,
            export_pipeline=side.settings.pipeline,
        ),
        audience=bundle.request.audience,
        blobs=bundle.blobs,
        tool=TOOL,
    )


def _transfer_blob(
    side: SourceSide, work: WorkFolder, transfer_id: str, divided: DividedBlob, digests: Iterator[str]
) -> TransferBlob:
    """One blob with its digests, the next of them all; refused if it was written to since it was hashed."""
    exported = divided.exported
    path = blob_path(transfer_id, exported.name)
    found = side.blobs.stat(TRANSFER, path)
    if found is None or found.etag != exported.etag:
        raise ServiceError(Code.CONFLICT, f"{TRANSFER}/{path} was written to since")
    members = work.kept(BATCHES, exported.batch, Batch).artifacts
    parts = part_count(exported.size_bytes, divided.part_size_bytes)
    return TransferBlob(
        name=exported.name,
        size_bytes=exported.size_bytes,
        part_size_bytes=divided.part_size_bytes,
        part_sha256=tuple(itertools.islice(digests, parts)),
        content_md5=exported.content_md5,
        metadata=exported.metadata,
        catalog_digest=exported.catalog_digest,
        pipeline_run=exported.run,
        artifacts=tuple(Artifact.from_json(member) for member in members),
    )
