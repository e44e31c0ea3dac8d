"""What ``receipts pull`` and ``receipts push`` tell: each receipt in one line, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from airgap.damage import Damage, gravest
from airgap.errors import Code, UnknownCode
from airgap.fields import format_time
from airgap.parts import PART_NAME
from airgap.recarry import describe_parts
from airgap.receipt import Receipt
from offline_mover.outcome import Finding, Outcome

_DETAIL_CHARACTERS = 200


class Fate(Enum):
    """What became of one receipt."""

    WRITTEN = "written"
    SENT = "sent"
    KEPT = "kept"
    """The very same bytes were there already."""
    LEFT_OUT = "leftOut"
    """Not acceptable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedReceipt:
    """One receipt, as far as the outcome tells of it; the receipt itself may be large and is let go."""

    name: str
    fate: Fate
    damage: Damage | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    line: str = ""


def receipt_members(receipt: Receipt, name: str, fate: Fate) -> dict[str, Any]:
    """What ``--json`` tells of a receipt."""
    return {
        "name": name,
        "fate": fate.value,
        "transferId": receipt.transfer_id,
        "manifestDigest": receipt.manifest_sha256 and f"sha256:{receipt.manifest_sha256}",
        "target": receipt.target,
        "decidedAt": format_time(receipt.decided_at),
        "verdict": receipt.verdict.value,
        "refusal": None if receipt.code is None else receipt.code.name,
        "artifacts": len(receipt.artifacts),
        "provenArtifacts": _proven(receipt),
        "damageCount": receipt.damage_count,
    }


def _proven(receipt: Receipt) -> int:
    return sum(proof.is_proven for proof in receipt.artifacts)


def receipt_line(receipt: Receipt) -> str:
    """What a receipt says, in one line."""
    what = receipt.transfer_id or f"an envelope {receipt.envelope_sha256[:16]}…"
    decided = f"by {receipt.target} at {format_time(receipt.decided_at)}"
    proven = f"{_proven(receipt)} of {len(receipt.artifacts)} artifacts proven"
    if receipt.code is None:
        return f"{what}: imported {decided}, {proven}"
    detail = f" ({receipt.detail[:_DETAIL_CHARACTERS]})" if receipt.detail else ""
    words = [f"{what}: {receipt.verdict.value} {decided}: {receipt.code.name}{detail}"]
    if isinstance(receipt.code, UnknownCode):
        words.append("the code is a newer tool's, take one to see what it means")
    if receipt.artifacts:
        words.append(proven)
    if receipt.damage_count:
        words.append(f"findings: {receipt.damage_count}")
    if parts := sorted({d.name for d in receipt.damages if PART_NAME.fullmatch(d.name)}):
        words.append(f"to bring again: {describe_parts(parts)}")
    if receipt.damage_count > len(receipt.damages):
        words.append(f"only {len(receipt.damages)} findings are listed, verify the volumes for all")
    return "; ".join(words)


NOT_A_RECEIPT = "not the name of a receipt"
_OTHER_CONTAINER = "Give the container of the receipts, not that of the uploads; the rest is left out."


def pull_outcome(
    volume: Path, results: list[CarriedReceipt], requests: list[str], awaited: list[str]
) -> Outcome:
    """How a pull ended; ``requests`` were written, ``awaited`` transfers have no receipt yet."""
    if requests:
        then = (
            "Verify the volumes here: parts that are right are pushed again, for the others take "
            f"{requests[0]}{' and the others' if requests[1:] else ''} to the source for pull --recarry."
        )
    else:
        then = "Carry the volume back to the source and run receipts push there."
    code = None
    if awaited or not results:
        code = Code.NOT_FOUND
        then = "The target has not decided yet, or its receipts are elsewhere: run it again later."
    missing = f"; none yet for {', '.join(awaited[:10])}" if awaited else ""
    return _outcome(
        volume,
        "receipts pull",
        results,
        code=code,
        verdict=f"{_counted(results)} on {volume}{missing}",
        next_step=then,
        facts={"recarryRequests": requests, "withoutReceipt": awaited},
    )


def push_outcome(volume: Path, results: list[CarriedReceipt]) -> Outcome:
    """How a push ended."""
    return _outcome(
        volume,
        "receipts push",
        results,
        code=None,
        verdict=_counted(results),
        next_step="Nothing: the source closes each transfer when it sees its receipt.",
        facts={},
    )


def _counted(results: list[CarriedReceipt]) -> str:
    counts = Counter(result.fate for result in results)
    words = {
        Fate.WRITTEN: "written",
        Fate.SENT: "sent",
        Fate.KEPT: "there already",
        Fate.LEFT_OUT: "not acceptable and left out",
    }
    told = ", ".join(f"{counts[fate]} {word}" for fate, word in words.items() if counts[fate])
    return f"receipts: {told or 'none'}"


def _outcome(
    volume: Path,
    command: str,
    results: list[CarriedReceipt],
    *,
    code: Code | None,
    verdict: str,
    next_step: str,
    facts: dict[str, Any],
) -> Outcome:
    """What is wrong with a receipt outweighs ``code``; one transfer is named if there is but one."""
    damages = [result.damage for result in results if result.damage]
    if found := gravest(damages):
        is_elsewhere = command == "receipts pull" and {damage.detail for damage in damages} == {NOT_A_RECEIPT}
        code, next_step = found, _OTHER_CONTAINER if is_elsewhere else found.remedy
    told = [result.told for result in results if result.told]
    ids = {(members["transferId"], members["manifestDigest"]) for members in told}
    transfer_id, digest = ids.pop() if len(ids) == 1 else (None, None)
    verdicts = Counter(members["verdict"] for members in told)
    return Outcome(
        command=command,
        code=code,
        verdict=verdict,
        next_step=next_step,
        transfer_id=transfer_id or "",
        manifest_sha256=digest and digest.removeprefix("sha256:"),
        signers=(),
        counts={
            "receipts": len(told),
            **{fate.value: sum(result.fate is fate for result in results) for fate in Fate},
            "imports": verdicts["imported"],
            "refusals": verdicts["refused"],
            "damaged": verdicts["damaged"],
            "partial": verdicts["partial"],
        },
        findings=tuple(Finding(damage=damage, volume=volume) for damage in damages),
        facts={"receiptList": told, **facts},
        lines=tuple(result.line for result in results if result.line),
    )
