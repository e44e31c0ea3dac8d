"""The target's custody: the upload as it is at its admission, and the app's own copy of it.

From the copy on it does not matter what becomes of the upload: only the copy is hashed, promoted and
imported, and nobody but the app writes to its container (``docs/adr/0015-custody-first.md``).
"""

from airgap.damage import Damage
from airgap.errors import Code, ServiceError, UntrustedInputError
from airgap.manifest import TransferBlob
from function_app.durable.outcomes import Pending
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.part_groups import PartedBlob, count_groups
from function_app.ports import TargetSide
from function_app.storage.paths import INCOMING, STAGING, blob_path, bundle_folder
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import VERDICT, admitted_manifest, declared_folder
from function_app.target.damage_notes import note_damage
from function_app.target.judging import require_undecided
from function_app.target.wire import (
    Custody,
    CustodyNote,
    Inspected,
    InspectedBlob,
    Inspection,
    Upload,
    VerdictNote,
)

INSPECTION = "inspection"


def inspect_blobs(side: TargetSide, order: Upload) -> Inspected:
    """The activity that notes the ETags of the uploaded blobs, and compares their sizes with the signed ones.

    Parts that cannot be there are noted as damage; the others are divided into groups to be hashed.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the import was decided upon before, and this delivery is late.
    """
    blobs = []
    damages: list[Damage] = []
    work = WorkFolder(side.blobs, order.instance)
    manifest = admitted_manifest(side.blobs, order.envelope_sha256)
    for blob in manifest.blobs:
        found = side.blobs.stat(INCOMING, blob_path(order.incoming, blob.name))
        size_bytes = 0 if found is None else found.size_bytes
        lost = _lost_parts(blob, size_bytes)
        damages += lost
        if found is None:
            continue
        if size_bytes > blob.size_bytes:
            damages.append(
                Damage(
                    code=Code.BLOB_MISMATCH,
                    name=blob.name,
                    detail=f"{size_bytes} bytes, {blob.size_bytes} are signed",
                )
            )
        blobs.append(
            InspectedBlob(
                name=blob.name,
                etag=found.etag,
                uploaded_bytes=size_bytes,
                size_bytes=blob.size_bytes,
                content_md5=blob.content_md5,
                metadata=dict(blob.metadata),
                part_size_bytes=blob.part_size_bytes,
                parts=len(blob.part_sha256) - len(lost),
            )
        )
    require_undecided(side, order.instance)
    folder = bundle_folder(manifest.channel, str(work.get(VERDICT, VerdictNote).manifest_sha256))
    work.create(INSPECTION, Inspection(upload=order, bundle=folder, blobs=tuple(blobs)))
    blobs_seen = work.get(INSPECTION, Inspection).blobs
    note_damage(work, "sizes", damages)
    return Inspected(
        groups=count_groups(parted_blob(blob) for blob in blobs_seen),
        blobs=len(blobs_seen),
        artifact_groups=sum(1 for _ in work.names(declared_folder())),
    )


def inspected_blob(inspection: Inspection, number: int) -> InspectedBlob:
    """The ``number``-th uploaded blob of an inspection, from 0.

    Raises:
        ServiceError: ``NOT_FOUND``: there are fewer, because the inspection was late and all was put away
            before it.
    """
    if number >= len(inspection.blobs):
        raise ServiceError(Code.NOT_FOUND, "the upload was put away")
    return inspection.blobs[number]


def _lost_parts(blob: TransferBlob, size_bytes: int) -> list[Damage]:
    """The parts that a blob of ``size_bytes`` cannot hold, or not wholly."""
    return [
        Damage.of_part(
            Code.PART_MISSING if part.offset_bytes >= size_bytes else Code.PART_TRUNCATED,
            part,
            f"the blob has {size_bytes} of {blob.size_bytes} bytes",
        )
        for part, _ in blob.parts()
        if part.offset_bytes + part.size_bytes > size_bytes
    ]


def parted_blob(blob: InspectedBlob) -> PartedBlob:
    """The division of an uploaded blob into the parts that can be there, by its size."""
    return PartedBlob(parts=blob.parts, part_size_bytes=blob.part_size_bytes)


def take_custody(side: TargetSide, order: Item) -> Custody | Pending:
    """The activity that has the storage copy a blob to ``staging``, pinned to its ETag, or is ``pending``.

    A blob that was written to since its inspection is damaged: nothing is known of what it is now.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the work was called off.
        ServiceError: ``CONFLICT``: something else lies where the copy belongs; ``NOT_FOUND``: as
            :func:`inspected_blob`.
    """
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    inspection = work.get(INSPECTION, Inspection)
    blob = inspected_blob(inspection, order.number)
    upload = (INCOMING, blob_path(inspection.upload.incoming, blob.name))
    copy = (STAGING, staged_path(inspection, blob.name))
    try:
        copied = side.blobs.copy(upload, copy, etag=blob.etag, metadata={})
    except UntrustedInputError as error:
        damage = Damage(code=error.code, name=blob.name, detail="it was written to while it was taken over")
        note_damage(work, f"custody-{blob.name}", [damage])
        return Custody()
    if copied is None:
        return Pending()
    work.create(_note(blob.name), CustodyNote(etag=copied))
    return Custody()


def staged_path(inspection: Inspection, blob: str) -> str:
    """The name of the app's copy of a blob; a second upload of the same bundle has copies of its own."""
    return f"{inspection.bundle}/{inspection.upload.instance}/{blob}"


def staged_etag(work: WorkFolder, blob: str) -> str | None:
    """The ETag of the app's copy of a blob; ``None`` if there is no copy."""
    note = work.find(_note(blob), CustodyNote)
    return None if note is None else note.etag


def _note(blob: str) -> str:
    return f"custody/{blob}"
