"""The outcomes of ``receipts pull`` and ``receipts push``: each receipt in one line, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Self

from airgap.carried_receipt import standing
from airgap.damage import Damage, gravest
from airgap.errors import Code, UnknownCode
from airgap.fields import format_time
from airgap.parts import PART_NAME
from airgap.recarry import describe_parts
from airgap.receipt import Receipt, ReceiptVerdict
from offline_mover.amounts import counted
from offline_mover.outcome import Finding, NextCommand, Outcome, Placeholder

_DETAIL_CHARACTERS = 200


class Fate(Enum):
    """The fate of one receipt: whether it was carried, was there already, or was not acceptable."""

    WRITTEN = "written"
    SENT = "sent"
    KEPT = "kept"
    """The very same bytes were there already."""
    DOUBLE = "double"
    """The very same receipt under another name; it is carried once."""
    SHOWN = "shown"
    """Verified and told, carried nowhere."""
    LEFT_OUT = "leftOut"
    """Not acceptable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptSummary:
    """The summary of an acceptable receipt; the receipt itself may be large and is not kept.

    Its members are those of :class:`airgap.receipt.Receipt`, with the lengths of lists in their place;
    ``proven`` counts the artifacts that the target registry held as signed, ``line`` is what a person is
    told.
    """

    transfer_id: str | None
    manifest_sha256: str | None
    target: str
    decided_at: datetime
    verdict: ReceiptVerdict
    code: Code | UnknownCode | None
    artifacts: int
    proven: int
    damage_count: int
    took_number: bool
    line: str

    @classmethod
    def of(cls, receipt: Receipt) -> Self:
        """The summary of a receipt."""
        return cls(
            transfer_id=receipt.transfer_id,
            manifest_sha256=receipt.manifest_sha256,
            target=receipt.target,
            decided_at=receipt.decided_at,
            verdict=receipt.verdict,
            code=receipt.code,
            artifacts=len(receipt.artifacts),
            proven=_proven(receipt),
            damage_count=receipt.damage_count,
            took_number=receipt.ledger is not None,
            line=_line(receipt),
        )

    @property
    def standing(self) -> tuple[int, float]:
        """The rank among the receipts for the same bundle; see :func:`airgap.carried_receipt.standing`."""
        return standing(self.verdict, took_number=self.took_number, decided_at=self.decided_at)

    def to_json(self, name: str, fate: Fate, *, counts: bool) -> dict[str, Any]:
        """The receipt as an element of ``receiptList`` in the JSON result."""
        return {
            "name": name,
            "fate": fate.value,
            "transferId": self.transfer_id,
            "manifestDigest": self.manifest_sha256 and f"sha256:{self.manifest_sha256}",
            "target": self.target,
            "decidedAt": format_time(self.decided_at),
            "verdict": self.verdict.value,
            "refusal": None if self.code is None else self.code.name,
            "artifacts": self.artifacts,
            "provenArtifacts": self.proven,
            "damageCount": self.damage_count,
            "counts": counts,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedReceipt:
    """A receipt and its fate, with a summary if it is acceptable, and else what is wrong with it."""

    name: str
    fate: Fate
    summary: ReceiptSummary | None = None
    damage: Damage | None = None


def _proven(receipt: Receipt) -> int:
    return sum(proof.is_proven for proof in receipt.artifacts)


def _line(receipt: Receipt) -> str:
    """What a receipt says, in one line."""
    what = receipt.transfer_id or f"an envelope {receipt.envelope_sha256[:16]}…"
    decided = f"by {receipt.target} at {format_time(receipt.decided_at)}"
    proven = f"{_proven(receipt):,} of {counted(len(receipt.artifacts), 'artifact')} proven"
    if receipt.code is None:
        return f"{what}: imported {decided}, {proven}"
    detail = f" ({receipt.detail[:_DETAIL_CHARACTERS]})" if receipt.detail else ""
    words = [f"{what}: {receipt.verdict.value} {decided}: {receipt.code.name}{detail}"]
    if isinstance(receipt.code, UnknownCode):
        words.append("the code is a newer tool's, take one to see what it means")
    if receipt.artifacts:
        words.append(proven)
    if receipt.damage_count:
        words.append(counted(receipt.damage_count, "finding"))
    if parts := sorted({d.name for d in receipt.damages if PART_NAME.fullmatch(d.name)}):
        words.append(f"to bring again: {describe_parts(parts)}")
    if receipt.damage_count > len(receipt.damages):
        listed = counted(len(receipt.damages), "finding is", "findings are")
        words.append(f"only {listed} listed, verify the volumes for all")
    return "; ".join(words)


_SAME_AGAIN = frozenset({Code.SERVICE_DENIED, Code.BLOB_CHANGED, Code.MEDIA_UNREADABLE})
_REMEDIES = {
    Code.ENVELOPE_MALFORMED: Code.RECEIPT_MALFORMED.remedy,
    Code.SIGNATURE_INVALID: "Do not believe this receipt: a signature in the name of a trusted key is forged "
    "or broken.",
    Code.SIGNER_UNKNOWN: "Do not believe this receipt: no receipt key of the trust policy signed it.",
    Code.THRESHOLD_NOT_MET: "Do not believe this receipt: too few of those signed it who must.",
    Code.AUDIENCE_MISMATCH: "Do not believe this receipt: its signers do not serve the registry.",
    Code.CHANNEL_UNKNOWN: "Do not believe this receipt: its signers do not serve the channel.",
}
"""Of codes whose own remedy speaks of bundles."""

NOT_A_RECEIPT = "not the name of a receipt"
_OTHER_CONTAINER = "Give the container of the receipts, not that of the uploads; the rest is left out."


def pull_outcome(
    volume: Path, results: list[CarriedReceipt], requests: list[str], awaited: list[str]
) -> Outcome:
    """The outcome of a pull of receipts; ``requests`` were written, ``awaited`` transfers have none yet."""
    step = NextCommand(verb="receipts push", words={"volume": (str(volume),)})
    if requests:
        then = (
            "Verify the volumes here: parts that are right are pushed again, for the others take "
            f"{requests[0]}{' and the others' if requests[1:] else ''} to the source and run there:"
        )
        step = NextCommand(
            verb="pull",
            words={"volumes": (Placeholder("PATCH"),)},
            options={"recarry": str(volume / requests[0])},
        )
    else:
        then = "Carry the volume back to the source and run there:"
    code = None
    if awaited or not results:
        code = Code.NOT_FOUND
        then = "The target has not decided yet, or its receipts are elsewhere: run it again later:"
        step = NextCommand(verb="receipts pull")
    missing = f"; none yet for {', '.join(awaited[:10])}" if awaited else ""
    return _outcome(
        volume,
        "receipts pull",
        results,
        code=code,
        verdict=f"{_counted(results)} on {volume}{missing}",
        next_step=then,
        next_command=step,
        facts={"recarryRequests": requests, "withoutReceipt": awaited},
    )


def push_outcome(volume: Path, results: list[CarriedReceipt]) -> Outcome:
    """The outcome of sending a volume's receipts to the source storage."""
    return _outcome(
        volume,
        "receipts push",
        results,
        code=None,
        verdict=_counted(results),
        next_step="Nothing: the source closes each transfer when it sees its receipt.",
        facts={},
    )


def show_outcome(place: Path, results: list[CarriedReceipt]) -> Outcome:
    """The outcome of showing receipts; ``place`` is where the first of them was looked for."""
    return _outcome(
        place,
        "receipts show",
        results,
        code=None,
        verdict=_counted(results),
        next_step="Nothing: what a genuine receipt says is what the target decided.",
        facts={},
    )


def _counted(results: list[CarriedReceipt]) -> str:
    counts = Counter(result.fate for result in results)
    words = {
        Fate.WRITTEN: "written",
        Fate.SENT: "sent",
        Fate.KEPT: "there already",
        Fate.SHOWN: "genuine",
        Fate.DOUBLE: "the same under another name",
        Fate.LEFT_OUT: "not acceptable and left out",
    }
    told = ", ".join(f"{counts[fate]} {word}" for fate, word in words.items() if counts[fate])
    return f"receipts: {told or 'none'}"


def which_count(results: Iterable[CarriedReceipt]) -> dict[tuple[str, str], CarriedReceipt]:
    """The receipt that counts for each bundle, by transfer and hex manifest digest."""
    found: dict[tuple[str, str], CarriedReceipt] = {}
    for result in results:
        summary = result.summary
        if summary is None or summary.transfer_id is None or summary.manifest_sha256 is None:
            continue
        key = (summary.transfer_id, summary.manifest_sha256)
        best = found.get(key)
        if best is None or best.summary is None or summary.standing < best.summary.standing:
            found[key] = result
    return found


def told_of(results: Sequence[CarriedReceipt]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The receipts as elements of ``receiptList``, and as lines that say which of several counts."""
    told = [(one, one.summary) for one in results if one.summary and one.fate is not Fate.DOUBLE]
    counting = {id(result) for result in which_count(one for one, _ in told).values()}
    many = Counter((summary.transfer_id, summary.manifest_sha256) for _, summary in told)
    lines = tuple(
        summary.line
        + ("; this one counts" if id(one) in counting else "; another one counts")
        * (many[summary.transfer_id, summary.manifest_sha256] > 1 and summary.transfer_id is not None)
        for one, summary in told
    )
    return [summary.to_json(one.name, one.fate, counts=id(one) in counting) for one, summary in told], lines


def _outcome(
    volume: Path,
    command: str,
    results: list[CarriedReceipt],
    *,
    code: Code | None,
    verdict: str,
    next_step: str,
    next_command: NextCommand | None = None,
    facts: dict[str, Any],
) -> Outcome:
    """What is wrong with a receipt outweighs ``code``; one transfer is named if there is but one."""
    damages = [result.damage for result in results if result.damage]
    if found := gravest(damages):
        is_elsewhere = command == "receipts pull" and {damage.detail for damage in damages} == {NOT_A_RECEIPT}
        code, next_step = found, _OTHER_CONTAINER if is_elsewhere else _REMEDIES.get(found, found.remedy)
        next_command = NextCommand(verb=command) if found in _SAME_AGAIN else None
    told = [(one, one.summary) for one in results if one.summary and one.fate is not Fate.DOUBLE]
    listed, lines = told_of(results)
    ids = {(summary.transfer_id, summary.manifest_sha256) for _, summary in told}
    transfer_id, manifest_sha256 = ids.pop() if len(ids) == 1 else (None, None)
    verdicts = Counter(summary.verdict for _, summary in told)
    return Outcome(
        command=command,
        code=code,
        verdict=verdict,
        next_step=next_step,
        next_command=next_command,
        transfer_id=transfer_id or "",
        manifest_sha256=manifest_sha256,
        signers=(),
        counts={
            "receipts": len(told),
            **{fate.value: sum(result.fate is fate for result in results) for fate in Fate},
            "imports": verdicts[ReceiptVerdict.IMPORTED],
            "refusals": verdicts[ReceiptVerdict.REFUSED],
            "damaged": verdicts[ReceiptVerdict.DAMAGED],
            "partial": verdicts[ReceiptVerdict.PARTIAL],
        },
        findings=tuple(Finding(damage=damage, volume=volume) for damage in damages),
        facts={"receiptList": listed, **facts},
        lines=lines,
    )
