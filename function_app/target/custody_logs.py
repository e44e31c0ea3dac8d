"""Target: copies of custody logs that came with a push, kept where the carrier cannot reach them.

The mover uploads what a volume's log said to ``incoming/custody/<transferId>/<digest>.jsonl``; under the
same SAS it could be overwritten later. When it is first seen, a log is written to the container ``custody``,
where only the app writes, and nothing is ever replaced. Its name is the beginning of its SHA-256, so that
what was exchanged before is found out.
"""

import hashlib
import logging
import re

from airgap.custody import MAX_LOG_BYTES
from airgap.errors import AirgapError, Code, UntrustedInputError
from function_app.ports import TargetSide
from function_app.storage.paths import CUSTODY, INCOMING, QUARANTINE, is_safe_name

CUSTODY_FOLDER = f"{CUSTODY}/"
"""Below ``incoming``; no transfer can have this name."""

_NAME = re.compile(r"custody/([a-z0-9]{8,40}/([0-9a-f]{32})\.jsonl)")
_LOG = logging.getLogger(__name__)


def is_custody_folder(folder: str) -> bool:
    """Whether a folder of ``incoming`` is that of the custody logs, or lies below it."""
    return f"{folder}/".startswith(CUSTODY_FOLDER)


def keep_custody_log(side: TargetSide, name: str) -> bool:
    """Keep what lies in ``incoming`` under ``name`` if it is a custody log; quarantine it if not.

    Returns:
        Whether it is out of the way; ``False`` while the storage is still moving it.

    Raises:
        ServiceError: it can be neither kept nor moved.
    """
    if not is_safe_name(name):
        _LOG.error("%r cannot be put away: %s", name[:200], Code.UNSAFE_NAME.name)
        return True
    found = side.blobs.stat(INCOMING, name)
    if found is None:
        return True
    try:
        kept_as, content = _read_log(side, name, found.etag)
    except UntrustedInputError as error:
        _LOG.error("%s lies among the custody logs and is none: %s", name, error)
        target = f"{CUSTODY_FOLDER}{hashlib.sha256(f'{name} {found.etag}'.encode()).hexdigest()}"
        if not side.blobs.copy((INCOMING, name), (QUARANTINE, target), etag=found.etag, metadata={}):
            return False
    else:
        side.blobs.create(CUSTODY, kept_as, content)
    side.blobs.delete(INCOMING, name, etag=found.etag)
    return True


def _read_log(side: TargetSide, name: str, etag: str) -> tuple[str, bytes]:
    """Where a log is kept, and its content; refused if it is not what its name says."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise UntrustedInputError(Code.UNSAFE_NAME, "not the name of a custody log")
    content = side.blobs.read(INCOMING, name, max_bytes=MAX_LOG_BYTES, etag=etag)
    if content is None or hashlib.sha256(content).hexdigest()[:32] != match[2]:
        raise UntrustedInputError(Code.BLOB_CHANGED, "its content is not the one that it is named by")
    return match[1], content


def keep_custody_logs(side: TargetSide, names: list[str]) -> None:
    """Keep each of them; one that cannot be moved keeps no other from it."""
    for name in names:
        try:
            keep_custody_log(side, name)
        except AirgapError as error:
            _LOG.error("%s cannot be put away: %s", name, error)
