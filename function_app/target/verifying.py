"""The verifying of the copies in custody: do they have the bytes that the bundle manifest signs?"""

import hashlib
from collections.abc import Iterator

from airgap.damage import Damage
from airgap.errors import Code, UntrustedInputError
from airgap.manifest import BundleManifest, TransferBlob
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.part_groups import Digests, PartGroup, find_group, hash_part, parted, parts_of
from function_app.ports import TargetSide
from function_app.storage.paths import STAGING
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import GROUPS_PER_DOCUMENT, expected_document
from function_app.target.custody import INSPECTION, parted_blob, staged_etag, staged_path
from function_app.target.damage_notes import note_damage
from function_app.target.wire import GroupProof, Hashed, InspectedBlob, Inspection

_HASHED = "hashed/"


def hash_staged_parts(side: TargetSide, order: Item) -> Hashed:
    """The activity that hashes a group of parts of a blob in custody, and compares with the signed digests.

    A group that is as signed gets a proof. Damage is noted; a copy that was written to is damaged. Nothing is
    done for a blob that is not in custody.
    """
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    inspection = work.get(INSPECTION, Inspection)
    group = find_group([parted_blob(blob) for blob in inspection.blobs], order.number)
    blob = inspection.blobs[group.blob]
    etag = staged_etag(work, blob.name)
    if etag is None:
        return Hashed()
    path = staged_path(inspection, blob.name)
    parts = parts_of(blob.name, size_bytes=blob.size_bytes, part_size_bytes=blob.part_size_bytes, group=group)
    damages = []
    expected = _expected(work, blob, group)
    for part, sha256 in zip(parts, expected, strict=True):
        try:
            actual = hash_part(side.blobs, STAGING, path, etag=etag, part=part)
        except UntrustedInputError as error:
            damages.append(Damage.of_part(error.code, part, error.detail))
            break  # whatever follows is of another state of the blob too
        if actual != sha256:
            damages.append(
                Damage.of_part(Code.PART_CORRUPT, part, f"sha256:{actual}, sha256:{sha256} is signed")
            )
    note_damage(work, f"{blob.name}-{group.number:06d}", damages)
    if not damages:
        work.create(_proof(blob.name, group.number, etag, expected), GroupProof())
    return Hashed()


def missing_proofs(work: WorkFolder, manifest: BundleManifest) -> int:
    """The number of the bundle's groups for which there is no proof about the copies in custody."""
    proven = set(work.names(_HASHED))
    return sum(
        _proof(blob.name, number, staged_etag(work, blob.name), digests) not in proven
        for blob in manifest.blobs
        for number, digests in _groups(blob)
    )


def _groups(blob: TransferBlob) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The groups of a blob as signed: number, and digests of the parts."""
    size = parted(blob.size_bytes, blob.part_size_bytes).group_size
    for number, start in enumerate(range(0, len(blob.part_sha256), size)):
        yield number, blob.part_sha256[start : start + size]


def _proof(blob: str, number: int, etag: str | None, digests: tuple[str, ...]) -> str:
    """Name of the note that a group of a blob, in one state of its copy, has these digests.

    The name says it all, so that a listing is enough to ask for all of them.
    """
    digest = hashlib.sha256("\n".join([str(etag), *digests]).encode()).hexdigest()
    return f"{_HASHED}{blob}/{number:06d}-{digest}"


def _expected(work: WorkFolder, blob: InspectedBlob, group: PartGroup) -> tuple[str, ...]:
    """The signed digests of a group."""
    document, place = divmod(group.number, GROUPS_PER_DOCUMENT)
    signed = work.get(expected_document(blob.name, document), Digests).sha256
    start = place * parted_blob(blob).group_size
    return signed[start : start + group.count]
