"""Source: the exported blobs divided into parts, and the parts digested in groups."""

from airgap.errors import Code
from airgap.parts import MAX_PART_SIZE_BYTES, fitting_part_size, part_count
from function_app.durable.outcomes import Failed, Refused, ending
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.part_groups import (
    Digests,
    PartedBlob,
    count_groups,
    find_group,
    hash_part,
    parted,
    parts_of,
)
from function_app.ports import SourceSide
from function_app.source.wire import Divided, DividedBlob, Dividing, Division, ExportedBlob, Hashed
from function_app.storage.paths import TRANSFER, blob_path
from function_app.storage.work_folder import WorkFolder

DIVISION = "division"
_MAX_PARTS = 100_000
"""Parts of a transfer: their digests, with 5000 artifacts, fit into a statement."""


def divide_blobs(side: SourceSide, order: Dividing) -> Divided | Refused | Failed:
    """The activity that chooses the part size of each blob, and counts the groups of all parts.

    The size is the configured one, doubled until no blob has over 50,000 parts and the transfer has at most
    100,000.
    """
    work = WorkFolder(side.blobs, order.transfer_id)
    last = {name.partition("-")[0]: name for name in work.names("exported/")}  # attempts are ascending
    exported = work.tallied(list(last.values()), ExportedBlob, order.exported)
    wished = side.settings.part_size_bytes
    while (
        sum(part_count(blob.size_bytes, wished) for blob in exported) > _MAX_PARTS
        and wished < MAX_PART_SIZE_BYTES
    ):
        wished = min(wished * 2, MAX_PART_SIZE_BYTES)
    try:
        blobs = tuple(
            DividedBlob(exported=blob, part_size_bytes=fitting_part_size(blob.size_bytes, wished))
            for blob in exported
        )
    except ValueError as error:
        return ending(Code.ARTIFACT_REFUSED, str(error))
    sha256 = work.put(DIVISION, Division(blobs=blobs))
    return Divided(groups=count_groups(_parted(blob) for blob in blobs), document_sha256=sha256)


def hash_parts(side: SourceSide, order: Item) -> Hashed:
    """The activity that hashes a group of parts of a blob, in the state in which the export was confirmed.

    The digests go to the work folder.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED``: the blob was written to meanwhile.
    """
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    blobs = work.get(DIVISION, Division, sha256=order.pinned).blobs
    group = find_group([_parted(blob) for blob in blobs], order.number)
    blob = blobs[group.blob]
    exported = blob.exported
    path = blob_path(order.owner, exported.name)
    parts = parts_of(
        exported.name, size_bytes=exported.size_bytes, part_size_bytes=blob.part_size_bytes, group=group
    )
    digests = [hash_part(side.blobs, TRANSFER, path, etag=exported.etag, part=part) for part in parts]
    document = Digests(sha256=tuple(digests))
    return Hashed(document_sha256=work.put(f"digests/{exported.name}/{group.number:06d}", document))


def _parted(blob: DividedBlob) -> PartedBlob:
    return parted(blob.exported.size_bytes, blob.part_size_bytes)
