"""Source, last step: take a number, sign the bundle manifest, publish it last."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airgap.cosigning import SignatureTally
from airgap.envelope import Envelope
from airgap.errors import Code, PolicyRefusal, ServiceError, UntrustedInputError
from airgap.fields import format_time, parse_time
from airgap.journal import Journal
from airgap.ledger import LedgerEntry
from airgap.manifest import Artifact, BundleManifest, Source, TransferBlob, manifest_digest
from airgap.parts import part_count
from airgap.states import Kind, State
from airgap.verify import verify_bundle
from function_app.durable.outcomes import Failed, Pending, Refused, ending
from function_app.durable.stopping import require_going
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.part_groups import Digests
from function_app.ports import BlobStore, SourceSide
from function_app.settings import TOOL
from function_app.source.cosigning import SignedManifest, needs_people
from function_app.source.hashing import DIVISION
from function_app.source.planning import BATCHES, REQUEST
from function_app.source.proven_ledger import ProvenLedger
from function_app.source.voiding import give_up_unused, voids_below
from function_app.source.wire import (
    Batch,
    DividedBlob,
    Division,
    Publishing,
    RequestDocument,
    Sealed,
    Sealing,
)
from function_app.storage.ledger import Ledger
from function_app.storage.paths import TRANSFER, WORK, blob_path, manifest_path
from function_app.storage.policies import policy_in_force
from function_app.storage.work_folder import WorkFolder

_MAX_CONTENDERS = 100


@dataclass(frozen=True, slots=True)
class _Bundle:
    """What is sealed: known before its number is."""

    transfer_id: str
    request: RequestDocument
    created_at: datetime
    requested_by: str
    blobs: tuple[TransferBlob, ...]

    @property
    def channel(self) -> str:
        return self.request.channel


def seal_bundle(side: SourceSide, order: Sealing) -> Sealed:
    """The activity that turns exported blobs into a bundle: it numbers it, signs it, and publishes it last.

    May run any number of times, also at once: the transfer takes one number only, and the envelope that was
    stored first stays.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the transfer was cancelled.
        UntrustedInputError: ``BLOB_CHANGED``: somebody changed what an earlier step wrote into ``work``;
            ``LEDGER_UNPROVEN``: somebody wrote into the ledger.
        ServiceError: ``CONFLICT``: a blob was written to since it was hashed, or something else lies under
            the manifest's name; ``SERVICE_THROTTLED``: too many transfers of the channel are being sealed.
    """
    journals = JournalStore(side.blobs, side.projection)
    journal = journals.read(Kind.TRANSFERS, order.transfer_id)
    if journal.newest(State.SEALING) is None:
        awaiting = journal.newest(State.AWAITING_SIGNATURES)
        if awaiting is None:
            journal = _sign(side, order, journal)
            awaiting = journal.newest(State.AWAITING_SIGNATURES)
        if awaiting is not None:
            return Sealed(bundle=dict(awaiting.facts["bundle"]), awaits_until=str(awaiting.facts["until"]))
    return publish(side, journal)


def _sign(side: SourceSide, order: Sealing, journal: Journal) -> Journal:
    """Take the number and sign the manifest: it is ``sealing`` then, or awaits what people sign."""
    require_going(side.blobs, order.transfer_id)
    entry, manifest = _number(side, order, requested_by=journal.entries[0].by)
    at = parse_time(order.created_at)
    facts: dict[str, Any] = {"bundle": _describe(entry, manifest)}
    # From sealing on it cannot be cancelled, and is not published before.
    state = State.SEALING
    if needs_people(side, manifest.channel):
        state = State.AWAITING_SIGNATURES
        time = timedelta(seconds=side.settings.signature_timeout_s)
        facts["until"] = format_time(min(at + time, manifest.expires_at))
    return _record(side, entry, state, facts, at)


def publish_bundle(side: SourceSide, order: Publishing) -> Sealed | Pending | Refused | Failed:
    """The activity that publishes a bundle once everybody who must has signed its manifest.

    May run any number of times. Signatures are counted by the policy and the clock of this moment, and the
    bundle is judged as the target will judge it. When the time is over, the refusal tells which signatures
    are missing.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the transfer was cancelled.
        ServiceError: ``CONFLICT``: nobody was asked to sign it.
        AirgapError: as :func:`publish`.
    """
    journal = JournalStore(side.blobs, side.projection).read(Kind.TRANSFERS, order.transfer_id)
    if journal.newest(State.SEALING) is None:
        give_up_unsealed(side, journal)  # where an earlier execution died before it could
        require_going(side.blobs, order.transfer_id)
        manifest, entry = SignedManifest.of(side, journal), _awaiting_entry(side, journal)
        if manifest is None or entry is None:
            raise ServiceError(Code.CONFLICT, f"transfer {journal.about} does not await signatures")
        if journal.is_final:
            return _end_before(journal)
        found, now = _judge(side, manifest, order), parse_time(order.now)
        if isinstance(found, Pending):
            return found
        if isinstance(found, Refused | Failed):
            return _end(side, entry, found, now)
        awaiting = journal.newest(State.AWAITING_SIGNATURES)
        bundle = awaiting.facts["bundle"] if awaiting else {}
        facts = {"bundle": bundle, "signatures": manifest.tell(found.signed)}
        journal = _record(side, entry, State.SEALING, facts, now)
    return publish(side, journal)


def _judge(
    side: SourceSide, manifest: SignedManifest, order: Publishing
) -> SignatureTally | Pending | Refused | Failed:
    """What has been signed, if it is all that the target will ask for."""
    now = parse_time(order.now)
    try:
        tally = manifest.count(now)
        if not tally.is_complete:
            if now < parse_time(order.until):
                return Pending()
            return ending(Code.THRESHOLD_NOT_MET, f"until {order.until}, {'; '.join(tally.missing)}")
        verdict = verify_bundle(tally.envelope.to_bytes(), policy=policy_in_force(side), now=now)
    except PolicyRefusal as refusal:  # nothing counts by the policy in force
        return ending(refusal.code, refusal.detail)
    return tally if verdict.code is None else ending(verdict.code, verdict.detail)


def _end(side: SourceSide, entry: LedgerEntry, end: Refused | Failed, now: datetime) -> Refused | Failed:
    """End a transfer that awaits signatures, and give its number up.

    The journal comes first: were the number given up before, a signature that comes now would still let
    another execution publish a bundle that carries it.
    """
    state = State.REFUSED if isinstance(end, Refused) else State.FAILED
    facts = {"code": end.code, "detail": end.detail, "artifacts": list(end.artifacts)}
    _record(side, entry, state, facts, now)
    give_up_unused(side, entry)
    return end


def _end_before(journal: Journal) -> Refused | Failed:
    """How the journal says that a transfer ended, as it was told first."""
    facts = journal.entries[-1].facts
    code = str(facts.get("code", Code.TRANSITION_REFUSED.name))
    return ending(Code[code], str(facts.get("detail", "")))


def _awaiting_entry(side: SourceSide, journal: Journal) -> LedgerEntry | None:
    """The entry of the number that was taken for a transfer whose manifest people are to sign."""
    awaiting = journal.newest(State.AWAITING_SIGNATURES)
    if awaiting is None:
        return None
    channel = str(journal.entries[0].facts["channel"])
    entry = ProvenLedger(side, channel, awaiting.at).find(int(awaiting.facts["bundle"]["sequence"]))
    return entry if entry is not None and entry.transfer_id == journal.about else None


def _record(
    side: SourceSide, entry: LedgerEntry, state: State, facts: dict[str, Any], at: datetime
) -> Journal:
    """Record what has become of a transfer that has a number; if it ended unsealed, nobody uses that."""
    journals = JournalStore(side.blobs, side.projection)
    try:
        return journals.record(Kind.TRANSFERS, entry.transfer_id, state, facts, by=BY_APP, at=at)
    except PolicyRefusal:
        if journals.read(Kind.TRANSFERS, entry.transfer_id).newest(State.SEALING) is None:
            give_up_unused(side, entry)
        raise


def give_up_unsealed(side: SourceSide, journal: Journal) -> None:
    """Give up the number of a transfer that took one and ended before it was sealed, if it did.

    That happens where people did not sign it, or where the app died between ledger and journal; the journal
    knows of no number then.
    """
    if not journal.is_final or journal.newest(State.SEALING) is not None:
        return
    entry = _awaiting_entry(side, journal) or _unrecorded_entry(side, journal)
    if entry is not None:
        give_up_unused(side, entry)


def _unrecorded_entry(side: SourceSide, journal: Journal) -> LedgerEntry | None:
    """The entry of the number that was taken for a transfer, and of which its journal says nothing."""
    hashing = journal.newest(State.HASHING)
    if hashing is None or side.blobs.stat(WORK, _note_of_first(journal.about)) is None:
        return None
    ledger = ProvenLedger(side, str(journal.entries[0].facts["channel"]), hashing.at)
    return _number_of(ledger, journal.about, _first_free(side.blobs, journal.about), ledger.free_number())


def publish(side: SourceSide, journal: Journal) -> Sealed:
    """Publish the bundle of a transfer that is or was ``sealing``, and then record it as sealed.

    A process that stops between the two leaves it ``sealing``, and a retry or the reconciler does this again.
    Nothing stays published of a transfer that ended before it was sealed, however late this comes.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the transfer ended this moment.
        UntrustedInputError: ``LEDGER_UNPROVEN``: what the ledger keeps under the digest is not that manifest,
            signed by a key that counts.
        ServiceError: ``CONFLICT``: something else lies under the manifest's name.
    """
    sealing = journal.newest(State.SEALING)
    if sealing is None:
        raise ServiceError(Code.CONFLICT, f"transfer {journal.about} is not being sealed")
    bundle = dict(sealing.facts["bundle"])
    channel, sequence = str(journal.entries[0].facts["channel"]), int(bundle["sequence"])
    ledger = ProvenLedger(side, channel, sealing.at)
    entry = ledger.find(sequence)
    stated = (journal.about, bundle["manifestDigest"])
    if entry is None or (entry.transfer_id, f"sha256:{entry.manifest_sha256}") != stated:
        raise UntrustedInputError(Code.LEDGER_UNPROVEN, f"number {sequence} is not what the journal says")
    envelope, _ = ledger.prove(entry)
    signed = SignedManifest.of(side, journal)
    if signed is not None:
        keyids = tuple(str(one["keyid"]) for one in sealing.facts.get("signatures", []))
        envelope = signed.with_signatures(envelope, keyids)
    path, journals = manifest_path(journal.about), JournalStore(side.blobs, side.projection)
    # Right before: the journal that was given may have been read long ago.
    journal = journals.read(Kind.TRANSFERS, journal.about)
    if journal.state not in (State.SEALING, State.SEALED):
        if journal.newest(State.SEALED) is None:
            _withdraw(side, path, envelope)
        return Sealed(bundle=bundle)  # so late that the bundle may have been removed
    if not side.blobs.create(TRANSFER, path, envelope):
        present = side.blobs.read(TRANSFER, path, max_bytes=len(envelope))
        if present != envelope:
            raise ServiceError(Code.CONFLICT, f"{TRANSFER}/{path} holds something else")
    facts = {"bundle": bundle}
    try:
        journals.record(Kind.TRANSFERS, journal.about, State.SEALED, facts, by=BY_APP, at=sealing.at)
    except PolicyRefusal:  # it ended between these two: nobody may fetch what was never sealed
        _withdraw(side, path, envelope)
        raise
    return Sealed(bundle=bundle)


def _withdraw(side: SourceSide, path: str, envelope: bytes) -> None:
    """Take a bundle manifest back that was published for a transfer that had ended; nothing else there."""
    found = side.blobs.stat(TRANSFER, path)
    if found is not None and side.blobs.read(TRANSFER, path, max_bytes=len(envelope)) == envelope:
        side.blobs.delete(TRANSFER, path, etag=found.etag)


def _number(side: SourceSide, order: Sealing, *, requested_by: str) -> tuple[LedgerEntry, BundleManifest]:
    """The number of the transfer, whether it was taken before or is taken now, and the manifest of it."""
    work = WorkFolder(side.blobs, order.transfer_id)
    channel = work.get(REQUEST, RequestDocument, sha256=order.request).channel
    ledger = ProvenLedger(side, channel, parse_time(order.created_at))
    # Listed once: were it listed again, a number that another execution of this very step has taken meanwhile
    # could be skipped, and the transfer would take two.
    free = ledger.free_number()
    entry = _taken_number(side.blobs, ledger, order.transfer_id, free)
    if entry is None:
        entry = _take_number(side, ledger, _gather(side, order, requested_by), free)
    _, manifest = ledger.prove(entry)
    return entry, manifest


def _describe(entry: LedgerEntry, manifest: BundleManifest) -> dict[str, Any]:
    """The bundle as journal and API tell it."""
    return {
        "manifest": f"{TRANSFER}/{manifest_path(entry.transfer_id)}",
        "manifestDigest": f"sha256:{entry.manifest_sha256}",
        "sequence": manifest.sequence,
        "sizeBytes": manifest.size_bytes,
        "parts": manifest.part_count,
        "blobs": len(manifest.blobs),
        "artifacts": len(manifest.artifacts),
        "expiresAt": format_time(manifest.expires_at),
    }


def _gather(side: SourceSide, order: Sealing, requested_by: str) -> _Bundle:
    work = WorkFolder(side.blobs, order.transfer_id)
    division = work.get(DIVISION, Division, sha256=order.division)
    groups = work.tallied(list(work.names("digests/")), Digests, order.hashed)
    digests = iter([digest for group in groups for digest in group.sha256])
    return _Bundle(
        transfer_id=order.transfer_id,
        request=work.get(REQUEST, RequestDocument, sha256=order.request),
        created_at=parse_time(order.created_at),
        requested_by=requested_by,
        blobs=tuple(_transfer_blob(side, work, order.transfer_id, blob, digests) for blob in division.blobs),
    )


def _taken_number(blobs: BlobStore, ledger: ProvenLedger, transfer_id: str, free: int) -> LedgerEntry | None:
    """The number that an earlier execution of this step has taken for this transfer, if any.

    The first execution notes the number that was free when it began. Numbers have no gaps, so whatever the
    transfer took lies there or above, and the search is as long as the channel grew meanwhile.
    """
    if blobs.create(WORK, _note_of_first(transfer_id), str(free).encode()):
        return None
    return _number_of(ledger, transfer_id, _first_free(blobs, transfer_id), free)


def _note_of_first(transfer_id: str) -> str:
    return f"sealing/{transfer_id}/first.json"


def _first_free(blobs: BlobStore, transfer_id: str) -> int:
    """The number that was free when it was first begun to seal a transfer, by its note."""
    note = _note_of_first(transfer_id)
    raw = blobs.read(WORK, note, max_bytes=20) or b""
    if not raw.isdigit():
        raise UntrustedInputError(Code.BLOB_CHANGED, f"{WORK}/{note} is not what an earlier step wrote")
    return int(raw)


def _number_of(ledger: ProvenLedger, transfer_id: str, first: int, free: int) -> LedgerEntry | None:
    """The number from ``first`` and below ``free`` that a transfer has taken, if any."""
    entries = (ledger.find(number) for number in range(first, free))
    return next((one for one in entries if one is not None and one.transfer_id == transfer_id), None)


def _take_number(side: SourceSide, ledger: ProvenLedger, bundle: _Bundle, free: int) -> LedgerEntry:
    """Take the number ``free`` for a manifest that carries it, or the next that is still free."""
    signers = side.signing.signers()
    kept = Ledger(side.blobs)
    for sequence in range(free, free + _MAX_CONTENDERS):
        payload = _build_manifest(side, bundle, sequence, ledger.previous_of(sequence)).to_bytes()
        digest = manifest_digest(payload)
        kept.keep_envelope(digest, Envelope.sign(payload, signers).to_bytes())
        holder = kept.take(
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
    side: SourceSide, bundle: _Bundle, sequence: int, previous_sha256: str | None
) -> BundleManifest:
    return BundleManifest(
        transfer_id=bundle.transfer_id,
        channel=bundle.channel,
        sequence=sequence,
        previous_sha256=previous_sha256,
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
        voids=voids_below(side, bundle.channel, sequence),
        requested_by=bundle.requested_by,
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
