"""Target: is all there that the bundle manifest speaks of, as it was signed?"""

from airgap.damage import Damage, gravest
from airgap.errors import Code, UntrustedInputError
from airgap.manifest import TransferBlob
from airgap.parts import PartRange
from airgap.receipt import MAX_DAMAGES
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.part_groups import (
    Digests,
    PartedBlob,
    PartGroup,
    count_groups,
    find_group,
    hash_part,
    parts_of,
)
from function_app.ports import TargetSide
from function_app.storage.paths import INCOMING, blob_path
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import GROUPS_PER_DOCUMENT, admitted_manifest, expected_document
from function_app.target.wire import DamageNote, Hashed, Inspected, InspectedBlob, Inspection, Upload

INSPECTION = "inspection"
DAMAGE = "damage/"


def inspect_blobs(side: TargetSide, order: Upload) -> Inspected:
    """Compare the uploaded blobs' sizes with the signed ones.

    Parts that cannot be there are noted as damage; the others are divided into groups to be hashed.
    """
    blobs = []
    damages: list[Damage] = []
    for blob in admitted_manifest(side.blobs, order.envelope_sha256).blobs:
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
                size_bytes=blob.size_bytes,
                content_md5=blob.content_md5,
                metadata=dict(blob.metadata),
                part_size_bytes=blob.part_size_bytes,
                parts=len(blob.part_sha256) - len(lost),
            )
        )
    work = WorkFolder(side.blobs, order.instance)
    work.create(INSPECTION, Inspection(upload=order, blobs=tuple(blobs)))
    blobs_seen = work.get(INSPECTION, Inspection).blobs
    _note_damage(work, "sizes", damages)
    return Inspected(groups=count_groups(_parted(blob) for blob in blobs_seen), blobs=len(blobs_seen))


def _lost_parts(blob: TransferBlob, size_bytes: int) -> list[Damage]:
    """The parts that a blob of ``size_bytes`` cannot hold, or not wholly."""
    return [
        _damage(
            part,
            Code.PART_MISSING if part.offset_bytes >= size_bytes else Code.PART_TRUNCATED,
            f"the blob has {size_bytes} of {blob.size_bytes} bytes",
        )
        for part, _ in blob.parts()
        if part.offset_bytes + part.size_bytes > size_bytes
    ]


def hash_incoming_parts(side: TargetSide, order: Item) -> Hashed:
    """Digest a group of parts of an uploaded blob and compare with the signed digests.

    Damage is noted, also that the blob was written to meanwhile.
    """
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    inspection = work.get(INSPECTION, Inspection)
    group = find_group([_parted(blob) for blob in inspection.blobs], order.number)
    blob = inspection.blobs[group.blob]
    path = blob_path(inspection.upload.incoming, blob.name)
    parts = parts_of(blob.name, size_bytes=blob.size_bytes, part_size_bytes=blob.part_size_bytes, group=group)
    damages = []
    for part, sha256 in zip(parts, _expected(work, blob, group), strict=True):
        try:
            actual = hash_part(side.blobs, INCOMING, path, etag=blob.etag, part=part)
        except UntrustedInputError as error:
            damages.append(_damage(part, error.code, error.detail))
            break  # whatever follows is of another state of the blob too
        if actual != sha256:
            damages.append(_damage(part, Code.PART_CORRUPT, f"sha256:{actual}, sha256:{sha256} is signed"))
    _note_damage(work, f"{blob.name}-{group.number:06d}", damages)
    return Hashed()


def _expected(work: WorkFolder, blob: InspectedBlob, group: PartGroup) -> tuple[str, ...]:
    """The signed digests of a group."""
    document, place = divmod(group.number, GROUPS_PER_DOCUMENT)
    signed = work.get(expected_document(blob.name, document), Digests).sha256
    start = place * _parted(blob).group_size
    return signed[start : start + group.count]


def _parted(blob: InspectedBlob) -> PartedBlob:
    return PartedBlob(parts=blob.parts, part_size_bytes=blob.part_size_bytes)


def _damage(part: PartRange, code: Code, detail: str) -> Damage:
    return Damage(
        code=code,
        name=part.name,
        detail=detail,
        offset_bytes=part.offset_bytes,
        size_bytes=part.size_bytes,
    )


def _note_damage(work: WorkFolder, where: str, damages: list[Damage]) -> None:
    worst = gravest(damages)
    if worst is not None:
        note = DamageNote(
            count=len(damages),
            damages=tuple(damage.to_json() for damage in damages[:MAX_DAMAGES]),
            gravest=worst.name,
        )
        work.put(f"{DAMAGE}{where}", note)
