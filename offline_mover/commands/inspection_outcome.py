"""The outcome of an inspection, as ``verify`` and ``report`` tell it: words, figures, and what to do now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from airgap.custody_event import VolumeMark
from airgap.errors import Code
from airgap.recarry import REQUEST_NAME
from offline_mover.amounts import are, counted, size
from offline_mover.bags.bag_group import Inspection, PartState
from offline_mover.bags.volume_names import volumes_named
from offline_mover.outcome import NextCommand, Outcome, Placeholder


def outcome_of(inspection: Inspection, *, command: str, recarry: Path = Path(REQUEST_NAME)) -> Outcome:
    """The outcome that an inspection comes to, in words and figures.

    Args:
        inspection: the inspection of the volumes.
        command: the name of the command that tells it.
        recarry: the file where the request for lost parts is, or is going to be.
    """
    group = inspection.group
    manifest = group.manifest
    code = inspection.code
    next_step, next_command = _next_step(inspection, code, command, recarry)
    return Outcome(
        command=command,
        code=code,
        verdict=_verdict(inspection, code),
        next_step=next_step,
        next_command=next_command,
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
    return bool(inspection.lost) and _can_rebuild(inspection, inspection.lost)


def _can_rebuild(inspection: Inspection, names: Collection[str]) -> bool:
    from offline_mover.parity.repairing import can_rebuild  # noqa: PLC0415 - a whole bundle needs no coding

    return can_rebuild(inspection, names)


def _verdict(inspection: Inspection, code: Code | None) -> str:
    manifest = inspection.group.manifest
    count = manifest.part_count
    whole = f"{counted(count, 'part')}, {size(manifest.size_bytes)} of transfer {manifest.transfer_id}"
    if code is None:
        target = ", ".join(manifest.audience)
        return f"{whole} {are(count)} what was signed for {target}, and nothing else is there"
    if code is Code.VOLUME_MISSING:
        here = sum(part.size_bytes for part, _ in manifest.parts() if part.name in inspection.whole_on)
        return (
            f"what is here is right: {inspection.count(PartState.WHOLE):,} of {counted(count, 'part')}, "
            f"{size(here)} of {size(manifest.size_bytes)}, of transfer {manifest.transfer_id}; "
            f"not seen: {volumes_named(inspection.group.absent)}"
        )
    findings = counted(sum(not finding.is_replaced for finding in inspection.findings), "finding")
    if inspection.is_all_whole:
        return f"all {whole} {are(count)} whole and right, but {findings} about other files"
    return f"{findings} in {whole}"


def _next_step(
    inspection: Inspection, code: Code | None, command: str, recarry: Path
) -> tuple[str, NextCommand | None]:
    """What the operator does now, and with which command."""
    volumes = [bag.volume for bag in inspection.group.bags]
    if code is None:
        return "Carry the volumes on, or push them:", NextCommand.on("push", volumes)
    if code is Code.VOLUME_MISSING:
        return _with_others(inspection, volumes)
    if inspection.lost:
        return _for_lost_parts(inspection, volumes, command, recarry)
    if inspection.unfinished:
        names = ", ".join(map(str, inspection.unfinished))
        step = f"Run pull again onto {names}: it fetches only what is missing. Then verify again:"
        return step, NextCommand(verb=command)
    if inspection.is_all_whole and not any(bag.stock.damages for bag in inspection.group.bags):
        step = "The bag's own texts are damaged, which push does not need; pull again to renew them, or push:"
        return step, NextCommand.on("push", volumes)
    # As push does, which sends nothing while other files are in the transfer's folder.
    return f"{code.remedy} Until then nothing is sent; run this again:", NextCommand(verb=command)


def _with_others(inspection: Inspection, volumes: Sequence[Path]) -> tuple[str, NextCommand]:
    """Where what is here is right, and other volumes were not shown."""
    absent = volumes_named(inspection.group.absent)
    step = f"Verify it together with {absent}, or push what is here first"
    not_seen = [name for name, state in inspection.states.items() if state is PartState.NOT_SEEN]
    if _can_rebuild(inspection, not_seen):
        repair = _repair(volumes)
        return f"{step}. Should {absent} be lost, the parity shards here are enough for repair:", repair
    return f"{step}:", NextCommand.on("push", volumes)


def _for_lost_parts(
    inspection: Inspection, volumes: Sequence[Path], command: str, recarry: Path
) -> tuple[str, NextCommand]:
    """Where parts are lost: rebuilt on the spot, or brought again."""
    if is_repairable(inspection):
        step = "Run repair with the same volumes: the parity shards are enough to rebuild what is damaged:"
        return step, _repair(volumes)
    if command != "verify":
        verify = NextCommand.on("verify", volumes)
        return f"Run verify, which writes {recarry}, the request for the lost parts:", verify
    bring = NextCommand(
        verb="pull", words={"volumes": (Placeholder("PATCH"),)}, options={"recarry": str(recarry)}
    )
    if absent := volumes_named(inspection.group.absent):
        return f"Verify it with {absent} too; else take {recarry} to the source and run there:", bring
    return f"Take {recarry} to the source and run there; push everything else meanwhile:", bring


def _repair(volumes: Sequence[Path]) -> NextCommand:
    return NextCommand.on("repair", volumes, to=Placeholder("VOLUME"))
