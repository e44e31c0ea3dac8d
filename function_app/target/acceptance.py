"""Target: the turn of the channel, and with every part hashed the number of the manifest."""

from airgap.errors import Code, ServiceError
from airgap.fields import parse_time
from airgap.ledger import LedgerEntry, judge_taken
from function_app.durable.outcomes import Failed, Pending, Refused, ending
from function_app.ports import TargetSide
from function_app.storage.ledger import Ledger
from function_app.storage.turns import Turns
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import VERDICT, admitted_envelope, admitted_manifest, note_policy_version
from function_app.target.damage_notes import damage_count, gravest_noted
from function_app.target.judging import judge_bundle, missing_numbers
from function_app.target.releasing import needs_release
from function_app.target.verifying import missing_proofs
from function_app.target.wire import Accepted, Judging, MissingNumbers, Turn, Upload, VerdictNote

MISSING_NUMBERS = "missing-sequences"


def take_turn(side: TargetSide, order: Upload) -> Turn | Pending | Refused | Failed:
    """Take the channel's turn, or be ``pending``; then judge replay and order.

    One bundle of a channel at a time, from here until its decision.
    """
    work = WorkFolder(side.blobs, order.instance)
    noted = work.get(VERDICT, VerdictNote)
    # From the note, not from the manifest: this is asked again and again, and a manifest may have 64 MiB.
    if not Turns(side.blobs, str(noted.channel)).take(order.instance):
        return Pending()
    manifest = admitted_manifest(side.blobs, order.envelope_sha256)
    missing = missing_numbers(side, order, manifest, str(noted.manifest_sha256))
    work.create(MISSING_NUMBERS, MissingNumbers(sequences=missing))
    return Turn()


def accept_bundle(side: TargetSide, order: Judging) -> Accepted | Refused | Failed:
    """Judge the bundle again, whole, refuse it for any damage, or take its number: once all was hashed.

    It takes the proof of every group, not the want of damage. From here on this number is used up, whatever
    becomes of the import: only this orchestration may still act on it. What it has taken stays taken, also
    when this is delivered again later, under another policy.

    Raises:
        UntrustedInputError: what :func:`judge_bundle` found.
        PolicyRefusal: that, too; another was faster, or the number is not in the channel's order.
        ServiceError: ``SERVICE_UNEXPECTED``: some groups have no proof.
    """
    work = WorkFolder(side.blobs, order.instance)
    envelope = admitted_envelope(side.blobs, order.envelope_sha256)
    noted = work.get(VERDICT, VerdictNote)
    accepted = Accepted(needs_release=needs_release(side, str(noted.channel)))
    if number_taken(side, noted, order.instance) is not None:
        return accepted
    verdict = judge_bundle(side, order, envelope)
    note_policy_version(work, verdict)
    manifest, manifest_sha256 = verdict.require(), str(verdict.manifest_sha256)
    gravest = gravest_noted(work)
    if gravest is not None:
        return ending(gravest, f"{damage_count(work)} of {manifest.part_count} parts are damaged or missing")
    if missing := missing_proofs(work, manifest):
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"{missing} groups of parts have no proof")
    missing_numbers(side, order, manifest, manifest_sha256)
    entry = LedgerEntry(
        channel=manifest.channel,
        sequence=manifest.sequence,
        manifest_sha256=manifest_sha256,
        transfer_id=manifest.transfer_id,
        owner=order.instance,
        taken_at=parse_time(order.now),
    )
    holder = Ledger(side.blobs).take(entry)
    judge_taken(holder, manifest_sha256=entry.manifest_sha256, owner=entry.owner)
    return accepted


def number_taken(side: TargetSide, noted: VerdictNote, instance: str) -> LedgerEntry | None:
    """The ledger entry by which an orchestration took the number of what it was admitted for, if it did."""
    if noted.sequence is None:
        return None
    entry = Ledger(side.blobs).find(str(noted.channel), noted.sequence)
    is_ours = entry is not None and (entry.owner, entry.manifest_sha256) == (instance, noted.manifest_sha256)
    return entry if is_ours else None
