"""Target, last steps: quarantine what was refused, sign the receipt, clean up."""

import itertools
from collections.abc import Mapping
from typing import Any

from airgap.damage import Damage
from airgap.envelope import Envelope
from airgap.errors import Code, UntrustedInputError
from airgap.fields import FieldReader, parse_time
from airgap.receipt import MAX_DAMAGES, ArtifactProof, Receipt
from airgap.verify import Signer
from function_app.durable.outcomes import Outcome
from function_app.ports import TargetSide
from function_app.settings import TOOL
from function_app.storage.ledger import Ledger
from function_app.storage.paths import (
    INCOMING,
    QUARANTINE,
    RECEIPTS,
    TRANSFER,
    WORK,
    is_safe_name,
    manifest_path,
)
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import MISSING_SEQUENCES, claim_name, turn_name
from function_app.target.importing import PROOFS

_READ = FieldReader(Code.RECEIPT_MALFORMED)
_MAX_OWNER_BYTES = 256
_MOVES_AT_ONCE = 200


def quarantine_upload(side: TargetSide, order: Mapping[str, Any]) -> Outcome:
    """Move a refused upload out of the way, by the storage itself: ``quarantined``, or ``pending``.

    ``{"incoming", "manifestEtag", "instance"}``. All its blobs go; only the bundle manifest where another
    orchestration is at work on the same transfer, so that nobody can disturb an import by uploading a forgery
    or a copy beside it.
    """
    folder, instance = order["incoming"], order["instance"]
    manifest = manifest_path(folder)
    names: list[str] = []
    if _owner(side, folder) in (None, instance):
        listed = side.blobs.list_names(INCOMING, f"{folder}/")
        rest = (name for name in listed if name != manifest and is_safe_name(name))
        names = list(itertools.islice(rest, _MOVES_AT_ONCE))
    # The manifest goes last: as long as it is there, the upload has not been moved.
    for name in names or [manifest]:
        etag = order["manifestEtag"] if name == manifest else None
        if not _move(side, name, f"{folder}/{instance}/{name.removeprefix(folder + '/')}", etag=etag):
            return {"outcome": "pending"}
    return {"outcome": "pending" if names else "quarantined"}


def _owner(side: TargetSide, folder: str) -> str | None:
    """The orchestration that works on an upload."""
    raw = side.blobs.read(WORK, claim_name(folder), max_bytes=_MAX_OWNER_BYTES)
    return None if raw is None else raw.decode()


def _move(side: TargetSide, name: str, target: str, *, etag: str | None) -> bool:
    """Whether the blob is in quarantine; ``True`` also for one that is gone or replaced meanwhile.

    The uploader's metadata stays behind: it could be too large to copy along with our own mark.
    """
    found = side.blobs.stat(INCOMING, name)
    if found is None or etag not in (None, found.etag):
        return True
    try:
        if not side.blobs.copy((INCOMING, name), (QUARANTINE, target), etag=found.etag, metadata={}):
            return False
    except UntrustedInputError:  # a new upload, with an event of its own
        return True
    side.blobs.delete(INCOMING, name, etag=found.etag)
    return True


def issue_receipt(side: TargetSide, order: Mapping[str, Any]) -> Outcome:
    """Sign the decision: ``issued`` with the receipt's name.

    ``{"incoming", "envelopeSha256", "instance", "decidedAt", "code", "detail"}``; ``code`` is ``null`` for an
    import. One orchestration issues one receipt: the first that was written stays.
    """
    work = WorkFolder(side.blobs, order["instance"])
    noted = work.find("verdict") or {}
    damages, damage_count = _damages(work)
    receipt = Receipt(
        envelope_sha256=order["envelopeSha256"],
        incoming=manifest_path(order["incoming"]),
        target=side.settings.registry_login_server,
        decided_at=parse_time(order["decidedAt"]),
        code=None if order["code"] is None else Code[order["code"]],
        detail=order["detail"],
        transfer_id=noted.get("transferId"),
        channel=noted.get("channel"),
        sequence=noted.get("sequence"),
        manifest_sha256=noted.get("manifestSha256") if noted.get("transferId") else None,
        signers=tuple(Signer(**signer) for signer in noted.get("signers", ())),
        artifacts=tuple(ArtifactProof.from_json(proof, "proof") for proof in work.find(PROOFS) or ()),
        damages=damages,
        damage_count=damage_count,
        missing_sequences=tuple(work.find(MISSING_SEQUENCES) or ()),
        tool=TOOL,
    )
    envelope = Envelope.sign(receipt.to_bytes(), side.signing.signers())
    folder = receipt.transfer_id or receipt.envelope_sha256[:32]
    name = f"{folder}/{order['instance']}.dsse.json"
    side.blobs.create(RECEIPTS, name, envelope.to_bytes())
    return {"outcome": "issued", "receipt": f"{RECEIPTS}/{name}"}


def _damages(work: WorkFolder) -> tuple[tuple[Damage, ...], int]:
    """What was found, as much of it as a receipt holds, and how much there was."""
    found: list[Damage] = []
    count = 0
    for note in work.all("damage/"):
        count += note["count"]
        room = MAX_DAMAGES - len(found)
        found += [Damage.from_json(damage, "damage", _READ) for damage in note["damages"][:room]]
    return tuple(found), count


def clean_up(side: TargetSide, order: Mapping[str, Any]) -> Outcome:
    """Remove what is needed no more: ``cleaned``.

    ``{"incoming", "manifestEtag", "instance", "isImported"}``. The upload of an import; the promoted copies
    if it was this orchestration that took the bundle's number; its working documents, its claim on the
    transfer and, last, its turn with the channel.
    """
    folder, instance = order["incoming"], order["instance"]
    work = WorkFolder(side.blobs, instance)
    if order["isImported"]:
        # Another manifest than the imported one is a new upload, with an event of its own.
        side.blobs.delete(INCOMING, manifest_path(folder), etag=order["manifestEtag"])
        _delete_all(side, INCOMING, f"{folder}/", keep=manifest_path(folder))
    if _has_number(side, work, instance):
        _delete_all(side, TRANSFER, f"{folder}/")
    if _owner(side, folder) == instance:
        side.blobs.delete(WORK, claim_name(folder))
    channel = (work.find("verdict") or {}).get("channel")
    work.remove(keep="verdict")
    if channel and side.blobs.read(WORK, turn_name(channel), max_bytes=_MAX_OWNER_BYTES) == instance.encode():
        side.blobs.delete(WORK, turn_name(channel))
    work.remove()
    return {"outcome": "cleaned"}


def _has_number(side: TargetSide, work: WorkFolder, instance: str) -> bool:
    noted = work.find("verdict") or {}
    if not noted.get("transferId"):
        return False
    entry = Ledger(side.blobs).find(noted["channel"], noted["sequence"])
    return entry is not None and entry.owner == instance


def _delete_all(side: TargetSide, container: str, prefix: str, *, keep: str | None = None) -> None:
    for name in list(side.blobs.list_names(container, prefix)):
        if name != keep and is_safe_name(name):
            side.blobs.delete(container, name)
