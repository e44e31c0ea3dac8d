"""Target, last steps: record the decision, quarantine what was refused, sign the receipt, clean up."""

import itertools
from contextlib import suppress

import msgspec

from airgap.carried_receipt import receipt_folder
from airgap.damage import Damage
from airgap.envelope import Envelope
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import MAX_NOTE_CHARACTERS, parse_time
from airgap.ledger import LedgerEntry
from airgap.receipt import MAX_DAMAGES, ArtifactProof, LedgerPosition, Receipt, ReceiptVerdict
from airgap.states import Kind, State
from airgap.verify import CountedKey
from function_app.durable.outcomes import Pending
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.ports import TargetSide
from function_app.settings import TOOL
from function_app.storage.ledger import Ledger
from function_app.storage.paths import (
    INCOMING,
    QUARANTINE,
    RECEIPTS,
    TRANSFER,
    WORK,
    claim_path,
    closing_path,
    is_safe_name,
    manifest_path,
)
from function_app.storage.turns import Turns
from function_app.storage.work_folder import WorkFolder
from function_app.target.acceptance import MISSING_NUMBERS
from function_app.target.admission import VERDICT
from function_app.target.importing import PROOFS
from function_app.target.verifying import DAMAGE
from function_app.target.wire import (
    Cleaned,
    Closing,
    DamageNote,
    Decided,
    Forgotten,
    Issued,
    MissingNumbers,
    Proofs,
    Quarantined,
    VerdictNote,
)

_MAX_OWNER_BYTES = 256
_BLOBS_AT_ONCE = 200
_NOTHING_KNOWN = VerdictNote(
    transfer_id=None, channel=None, sequence=None, manifest_sha256=None, policy_version=None, signers=()
)


def record_decision(side: TargetSide, order: Closing) -> Decided:
    """Note what is to be closed, so that it is closed even if this orchestration dies; give the turn back.

    The turn is not kept for the receipt: a vault that is away must not hold up the channel. What is closed
    already is left alone, as when this is delivered once more, late.
    """
    journals = JournalStore(side.blobs, side.projection)
    if journals.read(Kind.IMPORTS, order.instance).is_final:
        return Decided()
    side.blobs.create(WORK, closing_path(order.instance), msgspec.json.encode(order))
    work = WorkFolder(side.blobs, order.instance)
    # Where the journal has ended otherwise, its end stays.
    with suppress(PolicyRefusal):
        journals.record(
            Kind.IMPORTS,
            order.instance,
            _decided_state(work, order),
            {"detail": order.detail} | ({} if order.code is None else {"code": order.code}),
            by=BY_APP,
            at=parse_time(order.decided_at),
        )
    verdict = work.find(VERDICT, VerdictNote)
    if verdict is not None and verdict.channel is not None:
        Turns(side.blobs, verdict.channel).leave(order.instance)
    return Decided()


def _decided_state(work: WorkFolder, order: Closing) -> State:
    """What the import has come to: damage is told apart, since it can be mended by carrying parts again."""
    if order.outcome == "refused" and any(work.names(DAMAGE)):
        return State.DAMAGED
    return {"imported": State.PROVEN, "refused": State.REFUSED}.get(order.outcome, State.FAILED)


def quarantine_upload(side: TargetSide, order: Closing) -> Quarantined | Pending:
    """Move a refused upload out of the way, by the storage itself, some blobs at a time.

    All its blobs go; only the bundle manifest where another orchestration is at work on the same transfer, so
    that nobody can disturb an import by uploading a forgery or a copy beside it.
    """
    folder, instance = order.incoming, order.instance
    manifest = manifest_path(folder)
    names: list[str] = []
    if _owner(side, folder) in (None, instance):
        listed = side.blobs.list_names(INCOMING, f"{folder}/")
        rest = (name for name in listed if name != manifest and is_safe_name(name))
        names = list(itertools.islice(rest, _BLOBS_AT_ONCE))
    # The manifest goes last: as long as it is there, the upload has not been moved.
    for name in names or [manifest]:
        etag = order.manifest_etag if name == manifest else None
        if not _move(side, name, f"{folder}/{instance}/{name.removeprefix(folder + '/')}", etag=etag):
            return Pending()
    return Pending() if names else Quarantined()


def _owner(side: TargetSide, folder: str) -> str | None:
    """The orchestration that works on an upload."""
    raw = side.blobs.read(WORK, claim_path(folder), max_bytes=_MAX_OWNER_BYTES)
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


def issue_receipt(side: TargetSide, order: Closing) -> Issued:
    """Sign the decision. One orchestration issues one receipt: the first that was written stays."""
    work = WorkFolder(side.blobs, order.instance)
    verdict = work.find(VERDICT, VerdictNote) or _NOTHING_KNOWN
    folder = receipt_folder(verdict.transfer_id, order.envelope_sha256)
    name = f"{folder}/{order.instance}.dsse.json"
    if side.blobs.stat(RECEIPTS, name) is not None:  # what it was made from may be removed by now
        return Issued(receipt=f"{RECEIPTS}/{name}")
    damages, damage_count = _damages(work)
    proofs = work.find(PROOFS, Proofs)
    missing = work.find(MISSING_NUMBERS, MissingNumbers)
    entry = _number_taken(side, verdict, order.instance)
    receipt = Receipt(
        envelope_sha256=order.envelope_sha256,
        incoming=manifest_path(order.incoming),
        target=side.settings.registry_login_server,
        decided_at=parse_time(order.decided_at),
        verdict=_verdict(order.code, is_damaged=damage_count > 0, has_number=entry is not None),
        code=None if order.code is None else Code[order.code],
        detail=order.detail[:MAX_NOTE_CHARACTERS],
        transfer_id=verdict.transfer_id,
        channel=verdict.channel,
        sequence=verdict.sequence,
        manifest_sha256=verdict.manifest_sha256 if verdict.transfer_id else None,
        policy_version=verdict.policy_version,
        ledger=None if entry is None else LedgerPosition.of(entry),
        signers=tuple(
            CountedKey(keyid=one.keyid, role=one.role, scheme=one.scheme) for one in verdict.signers
        ),
        artifacts=tuple(
            ArtifactProof.from_json(proof, "proof") for proof in (proofs.proofs if proofs else ())
        ),
        damages=damages,
        damage_count=damage_count,
        missing_sequences=missing.sequences if missing else (),
        tool=TOOL,
    )
    envelope = Envelope.sign(receipt.to_bytes(), side.signing.signers())
    side.blobs.create(RECEIPTS, name, envelope.to_bytes())
    return Issued(receipt=f"{RECEIPTS}/{name}")


def _verdict(code: str | None, *, is_damaged: bool, has_number: bool) -> ReceiptVerdict:
    """Damage is found before a number is taken, and from then on an import has begun."""
    if code is None:
        return ReceiptVerdict.IMPORTED
    if has_number:
        return ReceiptVerdict.PARTIAL
    return ReceiptVerdict.DAMAGED if is_damaged else ReceiptVerdict.REFUSED


def _damages(work: WorkFolder) -> tuple[tuple[Damage, ...], int]:
    """What was found, as much of it as a receipt holds, and how much there was."""
    found: list[Damage] = []
    count = 0
    for note in work.all(DAMAGE, DamageNote):
        count += note.count
        room = MAX_DAMAGES - len(found)
        found += [Damage.from_json(damage, "damage") for damage in note.damages[:room]]
    return tuple(found), count


def clean_up(side: TargetSide, order: Closing) -> Cleaned | Pending:
    """Remove what is needed no more, some blobs at a time.

    The upload of an import; the promoted copies if it was this orchestration that took the bundle's number;
    its claim on the transfer and its working documents, but for the verdict: it says where the receipt lies.
    """
    folder, instance = order.incoming, order.instance
    work = WorkFolder(side.blobs, instance)
    if order.is_imported:
        # Another manifest than the imported one is a new upload, with an event of its own.
        side.blobs.delete(INCOMING, manifest_path(folder), etag=order.manifest_etag)
        if not _delete_some(side, INCOMING, f"{folder}/", keep=manifest_path(folder)):
            return Pending()
    noted = work.find(VERDICT, VerdictNote)
    has_number = noted is not None and _number_taken(side, noted, instance) is not None
    if has_number and not _delete_some(side, TRANSFER, f"{folder}/"):
        return Pending()
    if _owner(side, folder) == instance:
        side.blobs.delete(WORK, claim_path(folder))
    return Cleaned() if work.remove(keep=VERDICT) else Pending()


def forget_closing(side: TargetSide, order: Closing) -> Forgotten:
    """Remove the verdict and the note of :func:`record_decision`: all is done."""
    WorkFolder(side.blobs, order.instance).remove()
    side.blobs.delete(WORK, closing_path(order.instance))
    return Forgotten()


def _number_taken(side: TargetSide, verdict: VerdictNote, instance: str) -> LedgerEntry | None:
    """The ledger entry by which this orchestration took the bundle's number, if it did."""
    if verdict.channel is None or verdict.sequence is None:
        return None
    entry = Ledger(side.blobs).find(verdict.channel, verdict.sequence)
    return entry if entry is not None and entry.owner == instance else None


def _delete_some(side: TargetSide, container: str, prefix: str, *, keep: str | None = None) -> bool:
    """Delete some of the blobs; whether none is left to delete."""
    listed = side.blobs.list_names(container, prefix)
    names = list(itertools.islice((n for n in listed if n != keep and is_safe_name(n)), _BLOBS_AT_ONCE + 1))
    for name in names[:_BLOBS_AT_ONCE]:
        side.blobs.delete(container, name)
    return len(names) <= _BLOBS_AT_ONCE
