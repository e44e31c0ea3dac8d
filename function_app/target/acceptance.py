"""Target: the turn of the channel, and with every part hashed the number of the manifest."""

from airgap.errors import Code
from airgap.fields import parse_time
from airgap.ledger import LedgerEntry, judge_sequence, judge_taken
from airgap.manifest import BundleManifest
from function_app.durable.outcomes import Failed, Pending, Refused, ending
from function_app.ports import TargetSide
from function_app.storage.ledger import Ledger
from function_app.storage.paths import WORK, claim_path
from function_app.storage.turns import Turns
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import VERDICT, admitted_manifest
from function_app.target.verifying import DAMAGE
from function_app.target.wire import Accepted, DamageNote, Judging, MissingNumbers, Turn, Upload, VerdictNote

MISSING_NUMBERS = "missing-sequences"


def take_turn(side: TargetSide, order: Upload) -> Turn | Pending | Refused | Failed:
    """Take the channel's turn, or be ``pending``; then judge replay and order.

    One bundle of a channel at a time, from here until its decision.
    """
    work = WorkFolder(side.blobs, order.instance)
    # From the note, not from the manifest: this is asked again and again, and a manifest may have 64 MiB.
    if not Turns(side.blobs, str(work.get(VERDICT, VerdictNote).channel)).take(order.instance):
        return Pending()
    manifest = admitted_manifest(side.blobs, order.envelope_sha256)
    side.blobs.put(WORK, claim_path(manifest.transfer_id), order.instance.encode())
    missing = _judge_ledger(side, order.instance, manifest, _manifest_sha256(work))
    work.create(MISSING_NUMBERS, MissingNumbers(sequences=missing))
    return Turn()


def accept_bundle(side: TargetSide, order: Judging) -> Accepted | Refused | Failed:
    """Refuse the bundle for any damage, or take its number: asked once every part was hashed.

    From here on this number is used up, whatever becomes of the import: only this orchestration may still act
    on it.
    """
    work = WorkFolder(side.blobs, order.instance)
    manifest = admitted_manifest(side.blobs, order.envelope_sha256)
    notes = list(work.all(DAMAGE, DamageNote))
    if notes:
        count = sum(note.count for note in notes)
        code = min((Code[note.gravest] for note in notes), key=lambda one: one.exit_code)
        return ending(code, f"{count} of {manifest.part_count} parts are damaged or missing")
    manifest_sha256 = _manifest_sha256(work)
    _judge_ledger(side, order.instance, manifest, manifest_sha256)
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
    return Accepted()


def _manifest_sha256(work: WorkFolder) -> str:
    return str(work.get(VERDICT, VerdictNote).manifest_sha256)


def _judge_ledger(
    side: TargetSide, instance: str, manifest: BundleManifest, manifest_sha256: str
) -> tuple[int, ...]:
    """The numbers of the channel that are missing before this one.

    Raises:
        PolicyRefusal: the number is taken by another, or not in the channel's order.
    """
    ledger = Ledger(side.blobs)
    entry = ledger.find(manifest.channel, manifest.sequence)
    if entry is not None:
        judge_taken(entry, manifest_sha256=manifest_sha256, owner=instance)
    others = [number for number in ledger.numbers(manifest.channel) if number != manifest.sequence]
    if entry is not None:  # ours, from an earlier execution: the order was judged then
        return ()
    return tuple(judge_sequence(manifest, side.settings.trust_policy.channels[manifest.channel], others))
