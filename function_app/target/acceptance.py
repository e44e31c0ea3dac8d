"""The target's acceptance: the turn of the channel and, once every part is hashed, the manifest's number."""

import msgspec

from airgap.errors import Code, PolicyRefusal, ServiceError
from airgap.fields import format_time, parse_time
from airgap.journal import Journal
from airgap.ledger import LedgerEntry, awaited_number, judge_taken
from airgap.manifest import BundleManifest
from airgap.override import override_name
from airgap.policy import OnGap, TrustPolicy
from airgap.states import State
from function_app.durable.outcomes import Failed, Pending, Refused, ending
from function_app.ports import TargetSide
from function_app.storage.ledger import Ledger
from function_app.storage.paths import POLICY
from function_app.storage.policies import policy_in_force
from function_app.storage.turns import Turns
from function_app.storage.work_folder import WorkFolder
from function_app.target import bodies
from function_app.target.admission import (
    VERDICT,
    admitted_envelope,
    admitted_manifest,
    judging_policy,
    note_policy_version,
)
from function_app.target.checking import checks_to_pass
from function_app.target.damage_notes import damage_count, gravest_noted
from function_app.target.judging import judge_bundle, missing_numbers, require_undecided
from function_app.target.longest_waits import FOR_THE_TURN, require_time, waits_since
from function_app.target.releasing import needs_release
from function_app.target.verifying import missing_proofs
from function_app.target.wire import Accepted, HeldNote, Judging, MissingNumbers, Turn, VerdictNote

MISSING_NUMBERS = "missing-sequences"


HELD = "held"


def take_turn(side: TargetSide, order: Judging) -> Turn | Pending | Refused | Failed:
    """The activity that takes the channel's turn, or is ``pending``, and then judges replay and order.

    One bundle of a channel at a time, from here until its decision. A bundle that is held for a number before
    its own leaves the queue until it is held no more, so that it stands before nobody.

    Raises:
        PolicyRefusal: as :func:`missing_numbers`; ``SEQUENCE_GAP`` also when it has been held for as long as
            it is good, or may wait.
        ServiceError: ``TURN_EXPIRED``: the import has waited for as long as it may; it gives its place up.
    """
    work = WorkFolder(side.blobs, order.instance)
    noted = work.get(VERDICT, VerdictNote)
    turns = Turns(side.blobs, str(noted.channel))
    # From the notes, not from the manifest: this is asked again and again, and a manifest may have 64 MiB.
    held = work.find(HELD, HeldNote)
    if held is not None and _is_still_held(side, noted, held):
        turns.leave(order.instance)
        if parse_time(order.now) > parse_time(held.until):  # whoever has the turn: its number has not come
            raise PolicyRefusal(
                Code.SEQUENCE_GAP, _told_gap(f"sequence {noted.sequence}, next would be {held.awaits}", held)
            )
        return Pending()
    if not turns.waits(order.instance):
        require_undecided(side, order.instance)
        work.drop(HELD)  # from here on it waits for its turn, as all do
        turns.enter(int(noted.sequence or 0), order.instance)
    if not turns.take(order.instance):
        require_time(work, parse_time(order.now), FOR_THE_TURN)
        return Pending()
    manifest = admitted_manifest(side.blobs, order.envelope_sha256)
    policy = judging_policy(side, work)
    try:
        missing = missing_numbers(side, order, policy, manifest, str(noted.manifest_sha256))
    except PolicyRefusal as refusal:
        held = _held(side, policy, work, manifest)
        if refusal.code is not Code.SEQUENCE_GAP or held is None:
            raise
        if parse_time(order.now) > parse_time(held.until):
            raise PolicyRefusal(Code.SEQUENCE_GAP, _told_gap(refusal.detail, held)) from None
        work.put(HELD, held)
        turns.leave(order.instance)
        return Pending()
    work.create(MISSING_NUMBERS, MissingNumbers(sequences=missing))
    return Turn()


def _held(
    side: TargetSide, policy: TrustPolicy, work: WorkFolder, manifest: BundleManifest
) -> HeldNote | None:
    """The note for which number the bundle waits, and how long; ``None`` where its channel holds nothing."""
    ledger = Ledger(side.blobs)
    rules = policy.channels.get(manifest.channel)
    if rules is None or rules.on_gap is not OnGap.HOLD:
        return None
    voids = ledger.voids(manifest.channel) | {void.sequence for void in manifest.voids}
    good_until = min(manifest.expires_at, manifest.created_at + rules.max_age) + rules.clock_skew
    until = min(good_until, waits_since(work) + FOR_THE_TURN)
    return HeldNote(
        awaits=awaited_number(ledger.numbers(manifest.channel), voids),
        until=format_time(until),
        policy_version=policy.version,
    )


def _told_gap(detail: str, held: HeldNote) -> str:
    return f"{detail}; held until {held.until}"


def _is_still_held(side: TargetSide, noted: VerdictNote, held: HeldNote) -> bool:
    """Whether what the bundle is held for is as it was: number, voids, override and policy."""
    channel, manifest_sha256 = str(noted.channel), noted.manifest_sha256
    ledger = Ledger(side.blobs)
    override = override_name(str(manifest_sha256))
    return not (
        ledger.find(channel, held.awaits) is not None
        or held.awaits in ledger.voids(channel)
        or side.blobs.stat(POLICY, override) is not None
        or policy_in_force(side).version != held.policy_version
    )


def told_hold(side: TargetSide, journal: Journal) -> bodies.Hold | None:
    """The member ``held`` of an import: the number that it waits for, and until when; ``None`` for none."""
    if journal.state is not State.WAITING:
        return None
    held = WorkFolder(side.blobs, journal.about).find(HELD, HeldNote)
    return None if held is None else bodies.Hold(awaits=held.awaits, until=held.until)


def accept_bundle(side: TargetSide, order: Judging) -> Accepted | Refused | Failed:
    """The activity that judges the hashed bundle again, and refuses it, or takes its number.

    It asks for the proof of every group; that no damage is noted is not enough. From here on the number is
    used up, whatever becomes of the import: only this orchestration may still act on it. Then the bundle is
    judged once more, as of the time at which the storage wrote the number down: a worker may have been held
    up before that while a key was revoked, and such a number brings nothing in. A bundle that is good then
    was good when its number was taken, and stays so where this is delivered again after it has expired.

    Raises:
        UntrustedInputError: what :func:`judge_bundle` found.
        PolicyRefusal: likewise; ``REPLAYED``, ``SEQUENCE_REUSED``: another import was faster;
            ``OUT_OF_ORDER`` and the like: the number is not in the channel's order; ``TRANSITION_REFUSED``:
            it was decided otherwise meanwhile.
        ServiceError: ``SERVICE_UNEXPECTED``: some groups have no proof.
    """
    work = WorkFolder(side.blobs, order.instance)
    noted = work.get(VERDICT, VerdictNote)
    entry = number_taken(side, noted, order.instance)
    if entry is None:
        manifest, manifest_sha256 = _judged(side, order, work)
        gravest = gravest_noted(work)
        if gravest is not None:
            told = f"{damage_count(work)} of {manifest.part_count} parts are damaged or missing"
            return ending(gravest, told)
        if missing := missing_proofs(work, manifest):
            raise ServiceError(Code.SERVICE_UNEXPECTED, f"{missing} groups of parts have no proof")
        entry = _take_number(side, order, work, manifest, manifest_sha256)
    taken_at = format_time(Ledger(side.blobs).taken_at(entry))
    _judged(side, msgspec.structs.replace(order, now=taken_at), work)
    channel = judging_policy(side, work).channels.get(str(noted.channel))  # no older one than has judged
    return Accepted(checks=checks_to_pass(side, channel), needs_release=needs_release(channel))


def _judged(side: TargetSide, order: Judging, work: WorkFolder) -> tuple[BundleManifest, str]:
    """The manifest and its digest, if it is accepted now; which policy has judged is kept for the receipt."""
    verdict = judge_bundle(side, order, admitted_envelope(side.blobs, order.envelope_sha256))
    note_policy_version(work, verdict.policy_version, is_accepted=verdict.is_accepted)
    return verdict.require(), str(verdict.manifest_sha256)


def _take_number(
    side: TargetSide, order: Judging, work: WorkFolder, manifest: BundleManifest, manifest_sha256: str
) -> LedgerEntry:
    missing_numbers(side, order, judging_policy(side, work), manifest, manifest_sha256)
    entry = LedgerEntry(
        channel=manifest.channel,
        sequence=manifest.sequence,
        manifest_sha256=manifest_sha256,
        transfer_id=manifest.transfer_id,
        owner=order.instance,
        taken_at=parse_time(order.now),
    )
    # Asked last. Whoever is held up between this and the ledger may still take a number for nothing.
    require_undecided(side, order.instance)
    holder = Ledger(side.blobs).take(entry)
    judge_taken(holder, manifest_sha256=entry.manifest_sha256, owner=entry.owner)
    return holder


def number_taken(side: TargetSide, noted: VerdictNote, instance: str) -> LedgerEntry | None:
    """The ledger entry by which an orchestration took its manifest's number; ``None`` if it did not."""
    if noted.sequence is None:
        return None
    entry = Ledger(side.blobs).find(str(noted.channel), noted.sequence)
    is_ours = entry is not None and (entry.owner, entry.manifest_sha256) == (instance, noted.manifest_sha256)
    return entry if is_ours else None
