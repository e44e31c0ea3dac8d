"""The closing of an import, the target's last steps: record the decision, sign the receipt, clean up."""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from airgap.carried_receipt import decision_name, receipt_folder
from airgap.envelope import Envelope
from airgap.errors import Code, PolicyRefusal
from airgap.fields import MAX_NOTE_CHARACTERS, parse_time
from airgap.journal import Journal, JournalEntry
from airgap.ledger import LedgerEntry
from airgap.receipt import CheckResult, LedgerPosition, Receipt, ReceiptVerdict, Release
from airgap.states import DECIDED, Kind, State
from airgap.verify import CountedKey
from function_app.durable.outcomes import Pending
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.messages import read
from function_app.ports import TargetSide
from function_app.settings import TOOL
from function_app.storage.door import Door
from function_app.storage.paths import (
    RECEIPTS,
    STAGING,
    TRANSFER,
    WORK,
    bundle_folder,
    closing_path,
    manifest_path,
    upload_path,
)
from function_app.storage.turns import STAGING_QUEUE, Turns
from function_app.storage.work_folder import WorkFolder
from function_app.target.acceptance import MISSING_NUMBERS, number_taken
from function_app.target.admission import VERDICT, judged_last, noted_verdict
from function_app.target.checking import CHECKS
from function_app.target.custody import INSPECTION
from function_app.target.damage_notes import gravest_noted, listed_damages
from function_app.target.holding import hold_upload, is_shared, take_over
from function_app.target.import_status import receipt_of
from function_app.target.importing import PROMOTED
from function_app.target.overriding import noted_override
from function_app.target.proving import noted_proofs, noted_undeclared
from function_app.target.releasing import RELEASES
from function_app.target.wire import (
    CheckNote,
    Cleaned,
    Closing,
    Decided,
    Forgotten,
    Inspection,
    Issued,
    MissingNumbers,
    ReleasesNote,
    VerdictNote,
    received_facts,
)

_BLOBS_AT_ONCE = 200
_MAX_NOTE_BYTES = 64 * 1024
_RECEIPT = "receiptName"
_POLICY_VERSION = "policyVersion"
_NOTHING_KNOWN = VerdictNote(
    manifest_etag="",
    transfer_id=None,
    channel=None,
    sequence=None,
    manifest_sha256=None,
    policy_version=None,
    signers=(),
)


def record_decision(side: TargetSide, order: Closing) -> Decided:
    """The activity that notes a decision, so that it is closed even if this orchestration dies.

    It gives the channel's turn back, which is not kept for the receipt: a vault that is away must not hold up
    the channel. A decision that is closed already is left alone, as when this is delivered once more, late.
    """
    journals = JournalStore(side.blobs, side.projection)
    journal = journals.read(Kind.IMPORTS, order.instance)
    if journal.is_final or journal.state is State.HELD:
        return Decided()
    side.blobs.create(WORK, closing_path(order.instance), msgspec.json.encode(order))
    # The first that was noted is the decision, also where another orchestration has come to another since.
    order = noted_closing(side, closing_path(order.instance)) or order
    Turns(side.blobs, STAGING_QUEUE).leave(order.instance)
    work = WorkFolder(side.blobs, order.instance)
    state = _decided_state(work, order)
    verdict = noted_verdict(work)
    decided_at = parse_time(order.decided_at)
    if not journal.entries:  # whoever was to record the arrival was ended before that could be done
        facts = received_facts(order)
        journals.record(Kind.IMPORTS, order.instance, State.RECEIVED, facts, by=BY_APP, at=decided_at)
    is_admitted = side.blobs.stat(WORK, upload_path(order.incoming, order.instance)) is not None
    if is_admitted and verdict is not None:
        take_over(side, order.incoming, order.instance, str(verdict.manifest_sha256), at=order.decided_at)
    # What was decided before is held already, or was taken over by another since.
    if state is State.DAMAGED and journal.state not in DECIDED and not is_shared(side.blobs, order):
        hold_upload(side, order, work.get(INSPECTION, Inspection))
    # Where the journal has ended otherwise, its end stays.
    with suppress(PolicyRefusal):
        journals.record(
            Kind.IMPORTS,
            order.instance,
            state,
            _facts(side, work, order),
            by=BY_APP,
            at=decided_at,
        )
    if verdict is not None and verdict.channel is not None:
        Turns(side.blobs, verdict.channel).leave(order.instance)
    return Decided()


def noted_closing(side: TargetSide, name: str) -> Closing | None:
    """The decision in the note of that name in ``work``; ``None`` once it is closed."""
    raw = side.blobs.read(WORK, name, max_bytes=_MAX_NOTE_BYTES)
    return None if raw is None else read(msgspec.json.decode(raw), Closing)


def _decided_state(work: WorkFolder, order: Closing) -> State:
    """What the import has come to: damage is told apart, since it can be mended by carrying parts again."""
    if order.outcome == "refused" and _is_for_damage(work, order):
        return State.DAMAGED
    return {"imported": State.PROVEN, "refused": State.REFUSED}.get(order.outcome, State.FAILED)


def _facts(side: TargetSide, work: WorkFolder, order: Closing) -> dict[str, Any]:
    verdict, override = noted_verdict(work) or _NOTHING_KNOWN, noted_override(work)
    facts: dict[str, Any] = {"detail": order.detail}
    if verdict.channel is not None:  # also of what was refused, where a role of the channel has signed it
        facts["channel"] = verdict.channel
    if override is not None:
        facts["override"] = override.to_json()
    if order.code is not None:
        facts["code"] = order.code
        facts[_RECEIPT] = _receipt_name(number_taken(side, verdict, order.instance), verdict, order)
    version = judged_last(work, verdict, is_refused=order.code is not None)
    if version is not None:
        facts[_POLICY_VERSION] = version
    return facts


def _is_for_damage(work: WorkFolder, order: Closing) -> bool:
    """Whether it was refused for its damage, and not for what carrying parts again does not mend."""
    gravest = gravest_noted(work)
    return gravest is not None and gravest.name == order.code


def issue_receipt(side: TargetSide, order: Closing) -> Issued:
    """The activity that signs the receipt of a decision, one for each orchestration: the first stays.

    The receipt of the decision that took the bundle's number is named by the manifest digest, so that there
    is one only. An import that was held, and is closed once more, has the receipt that its journal names.
    """
    work = WorkFolder(side.blobs, order.instance)
    verdict = noted_verdict(work) or _NOTHING_KNOWN
    # Asked after that: by what documents are left once all is closed, a late repeat would issue another.
    journal = JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, order.instance)
    if (held := journal.newest(State.HELD)) is not None:
        return Issued(receipt=str(held.facts["receipt"]))
    if (told := _receipt_told(journal)) is not None:
        return Issued(receipt=told)
    entry = number_taken(side, verdict, order.instance)
    decided = next((one for one in journal.entries if one.state in DECIDED), None)
    # As the decision has it: what is noted late, or a number that is taken late, changes it no more.
    fixed = None if decided is None else decided.facts.get(_RECEIPT)
    name = str(fixed or _receipt_name(entry, verdict, order))
    if side.blobs.stat(RECEIPTS, name) is not None:  # what it was made from may be removed by now
        return Issued(receipt=f"{RECEIPTS}/{name}")
    damages, damage_count = listed_damages(work)
    undeclared, undeclared_count = noted_undeclared(work)
    missing = work.find(MISSING_NUMBERS, MissingNumbers)
    released = work.find(RELEASES, ReleasesNote)
    receipt = Receipt(
        envelope_sha256=order.envelope_sha256,
        incoming=manifest_path(order.incoming),
        target=side.settings.registry_login_server,
        decided_at=parse_time(order.decided_at),
        verdict=_verdict(
            order.code,
            is_damaged=_is_for_damage(work, order),
            # What is refused before anything was promoted has brought nothing anywhere.
            has_begun=journal.newest(State.PROMOTING) is not None or undeclared_count > 0,
        ),
        code=None if order.code is None else Code[order.code],
        detail=order.detail[:MAX_NOTE_CHARACTERS],
        transfer_id=verdict.transfer_id,
        channel=verdict.channel,
        sequence=verdict.sequence,
        manifest_sha256=verdict.manifest_sha256,
        policy_version=_policy_version(work, verdict, order, decided),
        ledger=None if entry is None else LedgerPosition.of(entry),
        signers=tuple(
            CountedKey(keyid=one.keyid, role=one.role, scheme=one.scheme) for one in verdict.signers
        ),
        checks=tuple(_check_results(work)),
        override=noted_override(work),
        releases=tuple(Release.from_json(one, RELEASES) for one in (released.releases if released else ())),
        artifacts=tuple(noted_proofs(work)),
        undeclared=undeclared,
        undeclared_count=undeclared_count,
        damages=damages,
        damage_count=damage_count,
        missing_sequences=missing.sequences if missing else (),
        tool=TOOL,
    )
    envelope = Envelope.sign(receipt.to_bytes(), side.signing.signers())
    side.blobs.create(RECEIPTS, name, envelope.to_bytes())
    return Issued(receipt=f"{RECEIPTS}/{name}")


def _policy_version(
    work: WorkFolder, verdict: VerdictNote, order: Closing, decided: JournalEntry | None
) -> int | None:
    """The version that decided: that of the journal, whatever a late step has noted since."""
    if decided is None:
        return judged_last(work, verdict, is_refused=order.code is not None)
    return decided.facts.get(_POLICY_VERSION)


def _receipt_name(entry: LedgerEntry | None, verdict: VerdictNote, order: Closing) -> str:
    """Where the receipt lies: by the manifest digest if the number was taken, else by the orchestration."""
    if entry is not None:
        return decision_name(entry.transfer_id, entry.manifest_sha256)
    return f"{receipt_folder(verdict.transfer_id, order.envelope_sha256)}/{order.instance}.dsse.json"


def _check_results(work: WorkFolder) -> Iterator[CheckResult]:
    for name in work.names(CHECKS):
        noted = work.get(name, CheckNote)
        yield CheckResult(
            name=name.removeprefix(CHECKS),
            passed=noted.code is None,
            detail=noted.detail,
            scanner=noted.scanner,
            answer_sha256=noted.answer_sha256,
            checked_at=parse_time(noted.checked_at),
            signers=tuple(
                CountedKey(keyid=one.keyid, role=one.role, scheme=one.scheme) for one in noted.signers
            ),
        )


def _receipt_told(journal: Journal) -> str | None:
    """The receipt that the journal of a closed import names."""
    return receipt_of(journal) if journal.is_final else None


def _verdict(code: str | None, *, is_damaged: bool, has_begun: bool) -> ReceiptVerdict:
    """Damage is found before a number is taken; an import has begun once its blobs are promoted."""
    if code is None:
        return ReceiptVerdict.IMPORTED
    if has_begun:
        return ReceiptVerdict.PARTIAL
    return ReceiptVerdict.DAMAGED if is_damaged else ReceiptVerdict.REFUSED


def clean_up(side: TargetSide, order: Closing) -> Cleaned | Pending:
    """The activity that removes what is needed no more, some blobs at a time.

    Removed are the copies in custody; the promoted ones, if this orchestration took the bundle's number; and
    the working documents, except the verdict, which says where the receipt lies, and those that name the
    records of the runs, which are kept for some time (:mod:`function_app.target.removing`).
    """
    instance = order.instance
    work = WorkFolder(side.blobs, instance)
    noted = noted_verdict(work)
    if noted is not None and noted.channel is not None:
        bundle = bundle_folder(noted.channel, str(noted.manifest_sha256))
        if not _delete_some(side, STAGING, f"{bundle}/{instance}/"):
            return Pending()
        has_number = number_taken(side, noted, instance) is not None
        if has_number and not _delete_some(side, TRANSFER, f"{bundle}/"):
            return Pending()
    return Cleaned() if work.remove(keep=(VERDICT, PROMOTED)) else Pending()


def forget_closing(side: TargetSide, order: Closing) -> Forgotten:
    """The activity that ends the closing: verdict and note are removed, the place at the door given back."""
    WorkFolder(side.blobs, order.instance).remove(keep=(PROMOTED,))
    Door(side.blobs).leave(order.instance)
    side.blobs.delete(WORK, closing_path(order.instance))
    return Forgotten()


def _delete_some(side: TargetSide, container: str, prefix: str) -> bool:
    """Delete some of the blobs; whether none is left to delete."""
    names = list(itertools.islice(side.blobs.list_names(container, prefix), _BLOBS_AT_ONCE + 1))
    for name in names[:_BLOBS_AT_ONCE]:
        side.blobs.delete(container, name)
    return len(names) <= _BLOBS_AT_ONCE
