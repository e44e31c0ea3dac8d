"""Copies of custody logs that came with a push, which the target keeps where the carrier cannot reach them.

The mover uploads what a volume's log said to ``incoming/custody/<transferId>/<digest>.jsonl``; under the
same SAS it could be overwritten later. When it is first seen, a log is written to the container ``custody``,
where only the app writes, and nothing is ever replaced. Its name is the beginning of its SHA-256, so that
what was exchanged before is found out.

Then it is held against what was kept before of the same transfer. What shows that somebody wrote a log anew
is kept beside it, as ``<transferId>/<digest>.findings.json``, and is an error in the log: an alert. It
decides nothing: a custody log is a diary, and bundles are judged by signatures.
"""

import hashlib
import itertools
import json
import logging
import re
from typing import Any

from airgap.custody import MAX_LOG_BYTES, CustodyFinding, verify_log
from airgap.custody_copies import compare_copies
from airgap.errors import AirgapError, Code, UntrustedInputError
from airgap.journal import Journal
from airgap.states import State
from airgap.strict_json import dump_canonical
from function_app.http.bodies import read_body
from function_app.ports import TargetSide
from function_app.storage.paths import CUSTODY, INCOMING, QUARANTINE, is_safe_name
from function_app.target import bodies

CUSTODY_FOLDER = f"{CUSTODY}/"
"""Below ``incoming``; no transfer can have this name."""

_LOG_SUFFIX, _FINDINGS_SUFFIX = ".jsonl", ".findings.json"
_SCHEMA = 1
_MAX_COMPARED = 10
"""A log has at most 16 MiB; whoever uploads more of one transfer is told for it."""

_MAX_TOLD = 100
_MAX_LISTED = 100
_MAX_SHOWN = 20
_MAX_FINDINGS_BYTES = 1024 * 1024
_NAME = re.compile(r"custody/([a-z0-9]{8,40}/([0-9a-f]{32})\.jsonl)")
_LOG = logging.getLogger(__name__)


def is_custody_folder(folder: str) -> bool:
    """Whether a folder of ``incoming`` is the one of the custody logs, or lies below it."""
    return f"{folder}/".startswith(CUSTODY_FOLDER)


def keep_custody_log(side: TargetSide, name: str) -> bool:
    """Keep the blob ``name`` of ``incoming`` if it is a custody log; quarantine it if it is not.

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
        _tell_findings(side, kept_as, content)
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


def _tell_findings(side: TargetSide, kept_as: str, content: bytes) -> None:
    """Hold a log against itself and the transfer's others; keep what is found, and raise the alarm."""
    transfer_id = kept_as.partition("/")[0]
    own = verify_log(content)
    found = [_told(finding) for finding in own.findings if finding.fault.is_tampering]
    others = [one for one in _kept_logs(side, transfer_id, limit=_MAX_COMPARED + 2) if one != kept_as]
    for name in others[:_MAX_COMPARED]:
        earlier = side.blobs.read(CUSTODY, name, max_bytes=MAX_LOG_BYTES)
        if earlier is not None:
            found += [_told(one, name) for one in compare_copies(own, verify_log(earlier))]
    if len(others) > _MAX_COMPARED:
        found.append({"fault": "uncompared", "line": 0, "detail": f"more than {_MAX_COMPARED} copies"})
    if not found:
        return
    told = {"schema": _SCHEMA, "log": kept_as, "count": len(found), "findings": found[:_MAX_TOLD]}
    side.blobs.create(CUSTODY, findings_of(kept_as), dump_canonical(told))
    _LOG.error("custody: %s has signs of tampering: %s, such as %s", kept_as, len(found), found[0]["detail"])


def _told(finding: CustodyFinding, against: str | None = None) -> dict[str, Any]:
    told = {"fault": finding.fault.value, "line": finding.line, "detail": finding.detail}
    return told if against is None else {**told, "against": against}


def _kept_logs(side: TargetSide, transfer_id: str, *, limit: int) -> list[str]:
    """Some of the logs that are kept of a transfer, in order of their names."""
    names = side.blobs.list_names(CUSTODY, f"{transfer_id}/")
    return list(itertools.islice((name for name in names if name.endswith(_LOG_SUFFIX)), limit))


def findings_of(kept_as: str) -> str:
    """The name of the blob with the findings about a kept log, if there are any."""
    return kept_as.removesuffix(_LOG_SUFFIX) + _FINDINGS_SUFFIX


def told_custody(side: TargetSide, journal: Journal) -> bodies.Custody | None:
    """The member ``custody`` of an import: how many logs of its transfer are kept, and what they show.

    It is ``None`` for an import that was not admitted. At most a hundred blobs are looked at, and twenty of
    those that tell findings are read.
    """
    admitted = journal.newest(State.ADMITTED)
    if admitted is None:
        return None
    transfer_id = admitted.facts["transferId"]
    names = list(itertools.islice(side.blobs.list_names(CUSTODY, f"{transfer_id}/"), _MAX_LISTED))
    told = [name for name in names if name.endswith(_FINDINGS_SUFFIX)]
    raws = [side.blobs.read(CUSTODY, name, max_bytes=_MAX_FINDINGS_BYTES) for name in told[:_MAX_SHOWN]]
    return bodies.Custody(
        logs=sum(name.endswith(_LOG_SUFFIX) for name in names),
        tampered=tuple(read_body(json.loads(raw), bodies.TamperedLog) for raw in raws if raw is not None),
    )


def keep_custody_logs(side: TargetSide, names: list[str]) -> None:
    """Keep each of these custody logs; one that cannot be moved keeps no other from being kept."""
    for name in names:
        try:
            keep_custody_log(side, name)
        except AirgapError as error:
            _LOG.error("%s cannot be put away: %s", name, error)
