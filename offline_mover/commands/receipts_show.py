"""The command ``receipts show``: it tells in words what signed receipts say, and carries nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from airgap.carried_receipt import RECEIPTS_FOLDER, is_misnamed, verified_receipt
from airgap.damage import Damage
from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import AirgapError, Code, MediaError, UntrustedInputError
from airgap.policy import TrustPolicy
from offline_mover.commands.receipt_outcome import CarriedReceipt, Fate, ReceiptSummary, show_outcome
from offline_mover.medium import media_fs
from offline_mover.outcome import Outcome

MAX_RECEIPTS = 1000
"""Of one run."""

_SUFFIX = ".dsse.json"


def receipts_show(paths: Sequence[Path], *, policy: TrustPolicy, now: datetime) -> Outcome:
    """Verify receipts and tell what they say.

    Args:
        paths: files, each a receipt under any name; or folders: a volume, of which its ``receipts`` are
            meant, or any other, of which all files that end in ``.dsse.json``. Links are not followed.
        policy: the trust policy, which names the keys that may sign receipts.
        now: the current time, aware.

    Not checked: that a receipt is for the bundle on a volume, as ``receipts pull`` does.

    Returns:
        A line for each receipt; one that lies there under several names is told once. Of several for one
        bundle it says which counts: the decision that took the bundle's number stands, whatever came later
        (:func:`airgap.carried_receipt.standing`). The code is that of the gravest reason why one is not to
        be believed.

    Raises:
        UntrustedInputError: ``TOO_LARGE``: there are more than 1,000 receipts; ``UNSAFE_NAME``: one of the
            paths is a link.
        MediaError: ``VOLUME_EMPTY``: there are no receipts; ``MEDIA_UNREADABLE``: the medium does not give
            them.
    """
    found = [receipt for path in paths for receipt in _receipts_at(path)]
    if not found:
        told = ", ".join(str(path) for path in paths)
        raise MediaError(Code.VOLUME_EMPTY, f"{told}: no receipts (files that end in {_SUFFIX})")
    if len(found) > MAX_RECEIPTS:
        raise UntrustedInputError(
            Code.TOO_LARGE, f"more than {MAX_RECEIPTS} receipts; name fewer folders or files"
        )
    seen: set[bytes] = set()
    return show_outcome(paths[0], [_shown(path, policy, now, seen) for path in found])


def _receipts_at(path: Path) -> list[Path]:
    """The files that are meant by a path: itself, or those below it, in order; at most one too many."""
    if not media_fs.is_real_folder(path):
        return [path]
    root = path / RECEIPTS_FOLDER if media_fs.is_real_folder(path / RECEIPTS_FOLDER) else path
    found: list[Path] = []
    for entry in media_fs.walk(root):
        if entry.kind is media_fs.Kind.FILE and entry.name.endswith(_SUFFIX):
            found.append(root / entry.name)
        if len(found) > MAX_RECEIPTS:
            break
    return sorted(found)


def _shown(path: Path, policy: TrustPolicy, now: datetime, seen: set[bytes]) -> CarriedReceipt:
    """One receipt, which is added to those ``seen``, by the digests of what was signed."""
    name = media_fs.printable(str(path))
    try:
        raw = media_fs.read_capped(path, name, max_bytes=MAX_ENVELOPE_BYTES)
        receipt = verified_receipt(raw, policy, now)
        if is_misnamed(path.name, receipt):
            raise UntrustedInputError(
                Code.RECEIPT_MALFORMED,
                "it stands under the name of the decision about a bundle, and is another",
            )
    except AirgapError as error:
        damage = Damage(code=error.code, name=name, detail=error.detail)
        return CarriedReceipt(name=name, fate=Fate.LEFT_OUT, damage=damage)
    digest = hashlib.sha256(receipt.to_bytes()).digest()
    fate = Fate.DOUBLE if digest in seen else Fate.SHOWN
    seen.add(digest)
    return CarriedReceipt(name=name, fate=fate, summary=ReceiptSummary.of(receipt))
