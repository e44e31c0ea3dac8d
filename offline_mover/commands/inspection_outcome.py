"""What ``verify`` and ``report`` tell of an inspection: in words, in figures, and what to do now."""

from __future__ import annotations

from airgap.custody_event import VolumeMark
from airgap.errors import Code
from offline_mover.bags.bag_group import Inspection, PartState, numbered
from offline_mover.outcome import Outcome


def outcome_of(inspection: Inspection, *, command: str) -> Outcome:
    """What an inspection comes to, in words and figures."""
    group = inspection.group
    manifest = group.manifest
    code = inspection.code
    return Outcome(
        command=command,
        code=code,
        verdict=_verdict(inspection, code),
        next_step=_next_step(inspection, code),
        transfer_id=manifest.transfer_id,
        manifest_sha256=group.verdict.manifest_sha256,
        signers=group.verdict.signers,
        counts={
            "parts": manifest.part_count,
            "bytes": manifest.size_bytes,
            "wholeParts": inspection.count(PartState.WHOLE),
            "damagedParts": inspection.count(PartState.DAMAGED),
            "missingParts": inspection.count(PartState.MISSING),
            "notSeenParts": inspection.count(PartState.NOT_SEEN),
        },
        findings=inspection.findings,
        places={
            bag.volume: VolumeMark(number=bag.place.number, of=bag.place.of)
            for bag in group.bags
            if bag.place
        },
        facts={
            "volumes": [
                {
                    "path": str(bag.volume),
                    "number": None if bag.place is None else bag.place.number,
                    "of": None if bag.place is None else bag.place.of,
                }
                for bag in group.bags
            ],
            "absentVolumes": list(group.absent),
            "isRepairable": is_repairable(inspection),
        },
    )


def is_repairable(inspection: Inspection) -> bool:
    """Whether parts are lost, and all of them can be rebuilt from what is here."""
    if not inspection.lost:
        return False
    from offline_mover.parity.repairing import can_repair  # noqa: PLC0415 - a bundle that is whole needs no coding

    return can_repair(inspection)


def _verdict(inspection: Inspection, code: Code | None) -> str:
    manifest = inspection.group.manifest
    whole = f"{manifest.part_count} parts, {manifest.size_bytes} bytes of transfer {manifest.transfer_id}"
    if code is None:
        return f"{whole} are what was signed for {', '.join(manifest.audience)}, and nothing else is there"
    if code is Code.VOLUME_MISSING:
        return (
            f"what is here is right: {inspection.count(PartState.WHOLE)} of {whole}; "
            f"not seen: {numbered(inspection.group.absent)}"
        )
    findings = sum(not finding.is_replaced for finding in inspection.findings)
    return f"findings: {findings}, in {whole}"


def _next_step(inspection: Inspection, code: Code | None) -> str:
    if code is None:
        return "Carry the volumes on, or push them."
    if code is Code.VOLUME_MISSING:
        return f"Verify it together with {numbered(inspection.group.absent)}, or push what is here first."
    if not inspection.lost:
        return code.remedy
    if is_repairable(inspection):
        return "Run repair with the same volumes: the parity shards are enough to rebuild what is damaged."
    if inspection.group.absent:
        return (
            f"Verify it with {numbered(inspection.group.absent)} too; else take recarry.json to the source."
        )
    return "Take recarry.json to the source and run pull --recarry there; push everything else meanwhile."
