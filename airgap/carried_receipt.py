"""A receipt on its way back: where it stands, and whose signature it must have.

A receipt is carried by people who need not know what it says, so its place comes from what it is about: the
transfer's id or, where the target could not even tell the transfer, the first 32 digits of the envelope's
SHA-256. The same place serves the containers ``receipts`` of both clouds and the folder on a volume.
"""

from __future__ import annotations

import re
from datetime import datetime

from airgap import fields
from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, UntrustedInputError
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt, ReceiptVerdict, verify_receipt

RECEIPTS_FOLDER = "receipts"
"""On a volume, beside the bags."""

RECEIPT_NAME = re.compile(r"([a-z0-9]{8,40})/[a-z0-9]{8,80}\.dsse\.json")
"""``<folder>/<name>.dsse.json``: one dot-free name of each, longer than any that Windows reserves."""

_DIGEST_DIGITS = 32


def receipt_folder(transfer_id: str | None, envelope_sha256: str) -> str:
    """The folder in which a receipt stands, by its transfer's id or, without one, its envelope's SHA-256."""
    return transfer_id or envelope_sha256[:_DIGEST_DIGITS]


def decision_name(transfer_id: str, manifest_sha256: str) -> str:
    """The name of the receipt for the decision that took a bundle's number: one for each manifest digest.

    Whatever else is decided about the same bundle, be it damage before or replays after, has a name of its
    own and never takes the place of this.
    """
    return f"{transfer_id}/{manifest_sha256}.dsse.json"


def receipt_folders(transfer_id: str | None, envelope_sha256: str | None) -> list[str]:
    """Every folder that receipts for a bundle may stand in, its transfer's first.

    Args:
        transfer_id: the bundle's transfer; ``None`` where no trusted signature vouches for one.
        envelope_sha256: the hex SHA-256 of its envelope; ``None`` where that is not known.
    """
    folders = [] if transfer_id is None else [transfer_id]
    return folders if envelope_sha256 is None else [*folders, receipt_folder(None, envelope_sha256)]


def folder_in(name: str) -> str | None:
    """The folder part of a receipt's name; ``None`` for any other name, which is not to be opened."""
    match = RECEIPT_NAME.fullmatch(name)
    return None if match is None else match[1]


def standing(verdict: ReceiptVerdict, *, took_number: bool, decided_at: datetime) -> tuple[int, float]:
    """The rank of a receipt among all that are about one manifest digest, as a sort key: the smallest counts.

    The first decision that took the bundle's number stands, whatever was decided later about the same bytes;
    then damage, for which parts may be brought again, the latest finding first; refusals last. So a replay or
    a refusal that came afterwards hides no import and takes back no request. Names mean nothing here.

    Args:
        verdict: what the receipt says became of the bundle.
        took_number: whether its decision has a place in the target's ledger.
        decided_at: when the target decided, as the receipt says; aware.
    """
    moment = decided_at.timestamp()
    if took_number:
        return 0, moment
    if verdict in {ReceiptVerdict.IMPORTED, ReceiptVerdict.PARTIAL}:
        return 1, moment
    return (2 if verdict is ReceiptVerdict.DAMAGED else 3), -moment


def is_decision_name(name: str) -> bool:
    """Whether a name is one that :func:`decision_name` gives, for whatever bundle."""
    return fields.SHA256_HEX.fullmatch(_stem(name)) is not None


def is_misnamed(name: str, receipt: Receipt) -> bool:
    """Whether a file's name says that it is the decision about a bundle, while its receipt is not.

    The decision about a bundle is named by the manifest digest, and tells its place in the ledger.

    Not checked: the receipt's signatures; :func:`verified_receipt` does.
    """
    is_decision = receipt.ledger is not None and receipt.manifest_sha256 == _stem(name)
    return is_decision_name(name) and not is_decision


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".dsse.json")


def verified_receipt(raw: bytes, policy: TrustPolicy, now: datetime) -> Receipt:
    """Read a receipt that its own channel's receipt roles signed.

    Which channel that is stands in the payload, and the payload is not read before a signature covers it. So
    the channels whose receipt keys the signatures name are tried; one counts only if what it accepts names
    that very channel. A receipt that names none (the envelope was refused before any signature counted) is
    accepted from any channel's receipt roles: it speaks of no transfer, only of the bytes of an envelope.

    Raises:
        UntrustedInputError: ``SIGNATURE_INVALID`` (forged), ``SIGNATURE_UNCHECKABLE`` (could not be checked),
            ``SIGNER_UNKNOWN`` (no receipt role signed it), ``ENVELOPE_MALFORMED``, ``RECEIPT_MALFORMED``,
            ``TOO_LARGE`` (it is no receipt), or ``NEWER_FORMAT``: a newer tool wrote it.
        PolicyRefusal: ``THRESHOLD_NOT_MET``: too few keys of a role signed it; ``KEY_REVOKED``: a signer
            counts no more; ``CHANNEL_UNKNOWN`` when its signers may not speak for the channel that it names.
    """
    keyids = Envelope.from_bytes(raw).signatures.keys()
    refusal: AirgapError = UntrustedInputError(Code.SIGNER_UNKNOWN, "no receipt key of any channel signed it")
    for name, channel in sorted(policy.channels.items()):
        if not any(role.keyids & keyids for role in channel.receipt_roles.values()):
            continue
        try:
            return verify_receipt(raw, policy=policy, channel=name, now=now)
        except AirgapError as error:
            # Of several reasons a forgery counts more than a channel that was not the right one to ask.
            if error.code is not Code.CHANNEL_UNKNOWN or refusal.code is Code.SIGNER_UNKNOWN:
                refusal = error
    raise refusal
