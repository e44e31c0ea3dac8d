"""The target's receipts that lie on a volume beside a bag; each must be for that bag's very bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airgap.carried_receipt import (
    RECEIPTS_FOLDER,
    folder_in,
    is_misnamed,
    receipt_folders,
    verified_receipt,
)
from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import AirgapError, Code, UntrustedInputError
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt
from airgap.verify import Verdict
from offline_mover.bags.bag import Bag
from offline_mover.medium import media_fs

MAX_RECEIPTS = 50
"""Of one volume and transfer: there is one for each time that the target decided."""

_MOST_ENTRIES = 1000  # of one folder of receipts


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldReceipt:
    """A receipt on a volume: its content, or the code and the words for why it is not acceptable."""

    name: str
    receipt: Receipt | None = None
    code: Code | None = None
    detail: str = ""


def receipts_on(
    volume: Path, verdict: Verdict, envelope: bytes, *, policy: TrustPolicy, now: datetime
) -> list[HeldReceipt]:
    """Every receipt on a volume for a bundle, at most 50: under its transfer's id, or its envelope's digest.

    Args:
        volume: the medium's folder.
        verdict: the verdict on the bundle.
        envelope: the envelope of its bundle manifest.
        policy: the trust policy, which names the keys that may sign receipts.
        now: the current time, aware.
    """
    envelope_sha256 = hashlib.sha256(envelope).hexdigest()
    manifest = verdict.manifest
    folders = receipt_folders(None if manifest is None else manifest.transfer_id, envelope_sha256)
    found: list[HeldReceipt] = []
    for name in (name for folder in folders for name in _names(volume / RECEIPTS_FOLDER, folder)):
        shown = media_fs.printable(name)
        try:
            raw = media_fs.read_capped(volume / RECEIPTS_FOLDER / name, shown, max_bytes=MAX_ENVELOPE_BYTES)
            receipt = verified_receipt(raw, policy, now)
            if receipt.envelope_sha256 != envelope_sha256 and (
                receipt.manifest_sha256 is None or receipt.manifest_sha256 != verdict.manifest_sha256
            ):
                raise UntrustedInputError(Code.VOLUME_CONFLICT, "it is for another bundle")
            if is_misnamed(name, receipt):
                raise UntrustedInputError(Code.RECEIPT_MALFORMED, "another one's name")
        except AirgapError as error:
            found.append(HeldReceipt(name=shown, code=error.code, detail=error.detail))
        else:
            found.append(HeldReceipt(name=shown, receipt=receipt))
    return found


def decision_of(bags: Iterable[Bag], *, policy: TrustPolicy, now: datetime) -> tuple[Path, Receipt] | None:
    """The receipt of the decision that took the bundle's number, and the volume on which it lies.

    It lies beside a bag, and from that decision on its target refuses the bundle as a replay, whatever was
    decided. ``None`` if there is no such receipt, or if the bundle is for several registries, of which
    another may still want it.
    """
    for bag in bags:
        for held in receipts_on(bag.volume, bag.verdict, bag.envelope, policy=policy, now=now):
            receipt = held.receipt
            if receipt is None or receipt.ledger is None:
                continue
            if bag.manifest.audience == (receipt.target,):
                return bag.volume, receipt
    return None


def _names(root: Path, folder: str) -> list[str]:
    """Names of the receipts in a folder, in order; links are not followed."""
    if not (media_fs.is_real_folder(root) and media_fs.is_real_folder(root / folder)):
        return []
    try:
        names = media_fs.names_in(root / folder, most=_MOST_ENTRIES)
    except AirgapError:
        return []
    full = (f"{folder}/{name}" for name in names)
    return [name for name in full if folder_in(name)][:MAX_RECEIPTS]
