"""The command ``report``: what volumes hold, who vouches for it and who had them, as a page and as JSON.

A bundle that the trust policy refuses gives a report too: that is when somebody asks for one. Only volumes
about which nothing can be told (not there, empty, which transfer?) give none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from airgap.carried_receipt import (
    standing,
)
from airgap.custody import Fault
from airgap.damage import gravest
from airgap.errors import AirgapError, Code
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt
from airgap.verify import Verdict, verify_bundle
from offline_mover.bags.bag import Bag, open_bag, read_envelope
from offline_mover.bags.bag_group import Inspection, PartState, inspect, open_group
from offline_mover.bags.bag_receipts import receipts_on
from offline_mover.bags.bag_texts import is_parity
from offline_mover.bags.volumes import choose_transfer
from offline_mover.commands.inspection_outcome import outcome_of
from offline_mover.custody import view as custody
from offline_mover.custody.view import CustodyView
from offline_mover.medium import media_identity
from offline_mover.outcome import Outcome
from offline_mover.paper.facts import ReceiptFacts, ReportFacts, Status, VolumeFacts
from offline_mover.paper.page import page
from offline_mover.paper.parts_picture import blob_rows
from offline_mover.progress import Meter


def report(
    paths: Sequence[Path],
    *,
    transfer_id: str | None,
    policy: TrustPolicy,
    now: datetime,
    concurrency: int,
    meter: Meter,
    side_dir: Path | None = None,
    who: str | None = None,
) -> tuple[Outcome, bytes, bytes]:
    """Verify a transfer on any of its volumes and tell everything; nothing is written.

    Args:
        paths: the volumes' folders, in any order; one that is named twice counts once.
        transfer_id: the transfer; ``None`` where the volumes hold only one.
        policy: the trust policy.
        now: the current time, aware.
        concurrency: how many parts are hashed at a time.
        meter: is told the bytes that were hashed.
        side_dir: the folder with side files of custody logs.
        who: the person who makes the report; the default is the account's name.

    Returns:
        How it ended, the HTML page, and its JSON twin. The code is that of ``verify``, or that of the
        refusal; or ``CUSTODY_BROKEN``, where nothing graver was found.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``, ``VOLUME_EMPTY``, ``VOLUME_AMBIGUOUS``, or a volume whose folder
            cannot be read.
    """
    distinct = _distinct(paths)
    chosen = choose_transfer(distinct, transfer_id)
    try:
        group = open_group(distinct, chosen, policy=policy, now=now)
    except AirgapError as error:
        facts = _refused(distinct, chosen, error, policy=policy, now=now, side_dir=side_dir)
    else:
        inspection = inspect(group, concurrency=concurrency, meter=meter)
        facts = _inspected(inspection, policy=policy, now=now, side_dir=side_dir)
    if who:
        facts = replace(facts, who=media_identity.who({"OFFLINE_MOVER_WHO": who}))
    return facts.outcome, page(facts), facts.to_bytes()


def _distinct(paths: Sequence[Path]) -> list[Path]:
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _inspected(
    inspection: Inspection, *, policy: TrustPolicy, now: datetime, side_dir: Path | None
) -> ReportFacts:
    """The facts of a bundle that is accepted, and whose parts were looked at."""
    group = inspection.group
    paths = [bag.volume for bag in group.bags]
    history = custody.judge(paths, side_dir=side_dir)
    found = [
        fact
        for bag in group.bags
        for fact in _receipts(bag.volume, bag.verdict, bag.envelope, policy=policy, now=now)
    ]
    outcome = _with_custody(outcome_of(inspection, command="report"), history)
    return ReportFacts(
        made_at=now,
        who=media_identity.who(),
        host=media_identity.host(),
        status=Status.of(outcome.code, is_refused=False, is_all_whole=inspection.is_all_whole),
        outcome=outcome,
        notes=(*_inspection_notes(inspection), *_notes(history, outcome, found)),
        verdict=group.verdict,
        volumes=tuple(_volume_facts(bag, inspection) for bag in group.bags),
        absent=group.absent,
        blobs=blob_rows(inspection),
        custody=history,
        receipts=tuple(found),
    )


def _refused(
    paths: Sequence[Path],
    transfer_id: str,
    error: AirgapError,
    *,
    policy: TrustPolicy,
    now: datetime,
    side_dir: Path | None,
) -> ReportFacts:
    """The facts of a bundle that is not accepted: no part was looked at."""
    found: list[VolumeFacts] = []
    verdicts: list[Verdict] = []
    carried: list[ReceiptFacts] = []
    for path in paths:
        facts = VolumeFacts(path=str(path), identity=media_identity.describe(path))
        try:
            envelope = read_envelope(path / transfer_id)
            verdict = verify_bundle(envelope, policy=policy, now=now)
            verdicts.append(verdict)
            carried += _receipts(path, verdict, envelope, policy=policy, now=now)
            if verdict.manifest is not None:
                facts = replace(facts, manifest_sha256=verdict.manifest_sha256)
            open_bag(path, transfer_id, policy=policy, now=now)
        except AirgapError as refusal:
            facts = replace(facts, code=refusal.code, detail=refusal.detail)
        found.append(facts)
    agreed = verdicts[0] if len({one.manifest_sha256 for one in verdicts}) == 1 else None
    history = custody.judge(paths, side_dir=side_dir)
    outcome = Outcome(
        command="report",
        code=error.code,
        verdict=f"the bundle is refused: {error.detail or error.code.name}",
        next_step=error.code.remedy,
        transfer_id=transfer_id,
        manifest_sha256=agreed.manifest_sha256 if agreed and agreed.manifest else None,
        signers=agreed.signers if agreed else (),
    )
    return ReportFacts(
        made_at=now,
        who=media_identity.who(),
        host=media_identity.host(),
        status=Status.REFUSED,
        outcome=outcome,
        notes=_notes(history, outcome, carried),
        verdict=agreed,
        volumes=tuple(found),
        absent=(),
        blobs=(),
        custody=history,
        receipts=tuple(carried),
    )


def _with_custody(outcome: Outcome, history: CustodyView) -> Outcome:
    """The outcome, unless the custody logs are what is wrong most."""
    broken = Code.CUSTODY_BROKEN
    if history.code is not broken or (outcome.code and outcome.code.exit_code <= broken.exit_code):
        return outcome
    verdict = f"{outcome.verdict}; but the custody logs: {history.verdict}"
    return replace(outcome, code=broken, verdict=verdict, next_step=broken.remedy, next_command=None)


# --- what somebody should read -----------------------------------------------------------------------------


def _inspection_notes(inspection: Inspection) -> list[str]:
    replaced = sum(finding.is_replaced for finding in inspection.findings)
    if not replaced:
        return []
    return [f"Findings that another volume makes good: {replaced}. Replace the media that they are on."]


def _notes(history: CustodyView, outcome: Outcome, carried: Sequence[ReceiptFacts]) -> tuple[str, ...]:
    notes: list[str] = []
    if history.code is not None and history.code is not outcome.code:
        notes.append(f"Custody: {history.code.name}, {history.verdict}. {history.code.remedy}")
    faults = {finding.fault for volume in history.volumes for finding in volume.findings}
    if Fault.TORN in faults:
        notes.append("Custody: the last line of a log was being written when the power went; nothing else.")
    if Fault.NEWER in faults:
        notes.append(
            "Custody: a newer tool wrote lines that this one can't tell all of; their chain was judged."
        )
    if history.absent_logs:
        notes.append(f"Custody: logs that these know of and that were not seen: {history.absent_logs}.")
    bad = sorted({fact.code.name for fact in carried if fact.code})
    notes += [f"Receipts: one that is on a volume is not acceptable: {code}." for code in bad]
    told = [fact.receipt for fact in carried if fact.receipt]
    if told:
        first = min(told, key=_standing)
        word = "imported" if first.code is None else f"not imported it whole: {first.code.name}"
        notes.append(f"Receipts: {first.target} has {word}{'' if first.code else ' this bundle'}.")
    return tuple(notes)


def _standing(receipt: Receipt) -> tuple[int, float]:
    return standing(receipt.verdict, took_number=receipt.ledger is not None, decided_at=receipt.decided_at)


# --- volumes -----------------------------------------------------------------------------------------------


def _volume_facts(bag: Bag, inspection: Inspection) -> VolumeFacts:
    claimed = [part.name for part, _ in bag.manifest.parts() if bag.claims(part)]
    findings = [finding for finding in inspection.findings if finding.volume == bag.volume]
    bad = {finding.damage.name for finding in findings}
    sizes = bag.payload_sizes
    return VolumeFacts(
        path=str(bag.volume),
        identity=media_identity.describe(bag.volume),
        place=bag.place,
        manifest_sha256=bag.verdict.manifest_sha256,
        code=gravest(finding.damage for finding in findings),
        parts=len(claimed),
        whole_parts=sum(name not in bad and inspection.states[name] is PartState.WHOLE for name in claimed),
        shards=sum(is_parity(name) for name in sizes),
        size_bytes=sum(sizes.values()),
    )


# --- receipts ----------------------------------------------------------------------------------------------


def _receipts(
    volume: Path, verdict: Verdict, envelope: bytes, *, policy: TrustPolicy, now: datetime
) -> list[ReceiptFacts]:
    return [
        ReceiptFacts(volume=str(volume), name=one.name, code=one.code, detail=one.detail, receipt=one.receipt)
        for one in receipts_on(volume, verdict, envelope, policy=policy, now=now)
    ]
