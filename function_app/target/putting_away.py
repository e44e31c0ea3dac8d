"""The putting away of an upload at the target, once it is decided upon: some blobs at a time, without a turn.

After an import it is deleted; otherwise it is moved to ``quarantine``, by the storage itself. Whoever holds
the upload SAS may have left leases, snapshots and any number of blobs under any names; none of it stops this.
What cannot be moved is told and left where it is.
"""

import base64
import hashlib
import logging

from airgap.errors import AirgapError, Code, UntrustedInputError
from function_app.durable.outcomes import Pending
from function_app.ports import TargetSide
from function_app.storage.paths import (
    INCOMING,
    QUARANTINE,
    WORK,
    blob_path,
    is_safe_name,
    manifest_path,
    upload_path,
)
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import noted_verdict
from function_app.target.holding import held_upload
from function_app.target.wire import Closing, HeldUpload, PutAway, PuttingAway

_PROGRESS = "putting-away"
_BLOBS_AT_ONCE = 100
_MAX_TOLD = 10
_MAX_NAME_CHARACTERS = 1024
_MAX_SEGMENTS = 254
"""https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata"""

_LOG = logging.getLogger(__name__)


def put_away(side: TargetSide, order: Closing) -> PutAway | Pending:
    """The activity that deletes an imported upload, and moves any other to quarantine; ``pending`` meanwhile.

    The blobs beside the bundle manifest are left to whoever they belong to by now: another import that was
    admitted with them, or that holds them, or a new upload. So are those that this import holds. The manifest
    goes last: as long as it is there, the upload has not been put away.
    """
    folder = order.incoming
    side.blobs.delete(WORK, upload_path(folder, order.instance))
    work = WorkFolder(side.blobs, order.instance)
    progress = work.find(_PROGRESS, PuttingAway) or PuttingAway(marker="", left=(), left_count=0)
    held = held_upload(side.blobs, folder)
    if progress.marker is not None:
        if _is_anothers(side, order, held):
            progress = PuttingAway(marker=None, left=progress.left, left_count=progress.left_count)
        else:
            kept = frozenset() if held is None else frozenset(blob_path(folder, one) for one in held.blobs)
            progress = _next_page(side, order, progress, kept)
        work.put(_PROGRESS, progress)
        if progress.marker is not None:
            return Pending()
    is_held = held is not None and held.closing.instance == order.instance
    return _manifest_last(side, order, progress, held.until if held is not None and is_held else None)


def _is_anothers(side: TargetSide, order: Closing, held: HeldUpload | None) -> bool:
    """Whether another import was admitted with what lies there or holds it, or there is a new upload."""
    if held is not None and held.closing.instance != order.instance:
        return True
    if any(True for _ in side.blobs.list_names(WORK, upload_path(order.incoming, ""))):
        return True
    found = side.blobs.stat(INCOMING, manifest_path(order.incoming))
    return found is not None and found.etag != _manifest_etag(side, order)


def _manifest_etag(side: TargetSide, order: Closing) -> str:
    """ETag of the manifest that was judged; the event's, where none was."""
    verdict = noted_verdict(WorkFolder(side.blobs, order.instance))
    return order.manifest_etag if verdict is None else verdict.manifest_etag


def _next_page(side: TargetSide, order: Closing, progress: PuttingAway, kept: frozenset[str]) -> PuttingAway:
    stays = kept | {manifest_path(order.incoming)}
    names, marker = side.blobs.list_page(
        INCOMING, f"{order.incoming}/", marker=progress.marker or None, limit=_BLOBS_AT_ONCE
    )
    left: list[str] = []
    is_whole = True
    for name in names:
        if name not in stays:
            try:
                is_whole &= _put_away(side, order, name)
            except AirgapError as error:
                _require_lasting(error)
                left.append(f"{name[:200]}: {error.code.name}")
    if not is_whole:  # the storage is still copying: the same page again
        return progress
    if left:
        _LOG.error("%s: %d blobs cannot be put away, such as %s", order.instance, len(left), left[0])
    return PuttingAway(
        marker=marker,
        left=(*progress.left, *left)[:_MAX_TOLD],
        left_count=progress.left_count + len(left),
    )


def _manifest_last(
    side: TargetSide, order: Closing, progress: PuttingAway, held_until: str | None
) -> PutAway | Pending:
    left, count = progress.left, progress.left_count
    name = manifest_path(order.incoming)
    try:
        if not _put_away(side, order, name, etag=_manifest_etag(side, order)):
            return Pending()
    except AirgapError as error:
        _require_lasting(error)
        _LOG.error("%s: its bundle manifest cannot be put away: %s", order.instance, error)
        left, count = (f"{name}: {error.code.name}", *left)[:_MAX_TOLD], count + 1
    return PutAway(held_until=held_until, left=left, left_count=count)


def _require_lasting(error: AirgapError) -> None:
    """Let pass what another attempt does not cure: that blob is left, and the others go on."""
    if error.code.is_retryable:
        raise error


def _put_away(side: TargetSide, order: Closing, name: str, *, etag: str | None = None) -> bool:
    """Whether the blob is out of the way, gone, or a new upload: another than ``etag``.

    The uploader's metadata stays behind: it could be too large to copy along with our own mark.
    """
    if not is_safe_name(name):
        raise UntrustedInputError(Code.UNSAFE_NAME, name)
    found = side.blobs.stat(INCOMING, name)
    if found is None or etag not in (None, found.etag):
        return True
    if not order.is_imported:
        target, metadata = _place(order, name)
        try:
            if not side.blobs.copy(
                (INCOMING, name), (QUARANTINE, target), etag=found.etag, metadata=metadata
            ):
                return False
        except UntrustedInputError:  # written to just now
            return True
    side.blobs.delete(INCOMING, name, etag=found.etag)
    return True


def _place(order: Closing, name: str) -> tuple[str, dict[str, str]]:
    """Where a blob lies in quarantine, and its metadata: its name, where that is too long for the place."""
    folder = f"{order.incoming}/{order.instance}"
    target = f"{folder}/{name.removeprefix(order.incoming + '/')}"
    if len(target) <= _MAX_NAME_CHARACTERS and target.count("/") < _MAX_SEGMENTS:
        return target, {}
    uploaded = base64.urlsafe_b64encode(name.encode()).decode()
    return f"{folder}/sha256-{hashlib.sha256(name.encode()).hexdigest()}", {"uploadedas": uploaded}
