"""The source's holdings: receipts that tell what a target holds are kept, and verified anew at each use.

What is kept is the receipts themselves, in ``ledger``, where nothing is ever changed: none can push another
aside, a planted one proves nothing, and one whose signer is revoked by now says nothing any more.
"""

import hashlib
import logging
from collections.abc import Container, Iterator
from datetime import datetime

from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import AirgapError, Code, ServiceError, UntrustedInputError
from airgap.fields import format_time
from airgap.holdings import Holdings, KeptReceipt, Word, holdings_folder, tells_of_holdings
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt, verify_receipt
from function_app.ports import BlobStore, SourceSide
from function_app.storage.paths import LEDGER
from function_app.storage.policies import policy_in_force

_LOG = logging.getLogger(__name__)


def keep_receipt(blobs: BlobStore, raw: bytes, receipt: Receipt) -> None:
    """Keep a receipt that was verified, if it says what the registry holds; a repeat changes nothing.

    Args:
        blobs: the source's storage.
        raw: the receipt's envelope.
        receipt: its content.
    """
    if tells_of_holdings(receipt):
        sha256 = hashlib.sha256(Envelope.from_bytes(raw).payload).hexdigest()
        kept = KeptReceipt(registry=receipt.target, channel=receipt.channel or "", sha256=sha256)
        blobs.create(LEDGER, kept.name, raw)


def read_holdings(
    side: SourceSide, channel: str, registry: str, *, now: datetime, about: Container[str] | None = None
) -> Holdings:
    """The artifacts that a channel may consider present in a registry, by the policy in force at ``now``.

    Each receipt that was kept of the registry is read and verified: seconds for thousands. What somebody
    planted there, or no key vouches for any more, is passed over and logged.

    Args:
        side: the source's settings and ports.
        channel: the channel that asks.
        registry: the login server of the registry that it asks about.
        now: the current time, aware.
        about: the references that will be asked about (:meth:`airgap.holdings.Holdings.told_by`), by default
            anything: a registry may hold much more than is in memory for one order.

    Raises:
        ServiceError: the storage cannot be read now.
        PolicyRefusal, UntrustedInputError: there is no policy that could be in force.
    """
    return Holdings.told_by(channel, _believed(side.blobs, policy_in_force(side), registry, now), about)


def tell_word(word: Word) -> dict[str, str]:
    """The receipt that says that something is held, as the API tells it."""
    return {
        "receipt": f"{LEDGER}/{word.receipt}",
        "transferId": word.transfer_id,
        "decidedAt": format_time(word.decided_at),
    }


def _believed(
    blobs: BlobStore, policy: TrustPolicy, registry: str, now: datetime
) -> Iterator[tuple[KeptReceipt, Receipt]]:
    for name in blobs.list_names(LEDGER, holdings_folder(registry)):
        kept = KeptReceipt.from_name(name)
        if kept is None:
            continue
        try:
            yield kept, _read(blobs, policy, kept, now)
        except ServiceError:
            raise
        except AirgapError as error:
            _LOG.warning("%s/%s says nothing of what is held: %s", LEDGER, name, error)


def _read(blobs: BlobStore, policy: TrustPolicy, kept: KeptReceipt, now: datetime) -> Receipt:
    """A kept receipt, if its channel's receipt roles signed it, and for the registry that it is kept of."""
    raw = blobs.read(LEDGER, kept.name, max_bytes=MAX_ENVELOPE_BYTES)
    if raw is None:
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"{LEDGER}/{kept.name} came and went")
    receipt = verify_receipt(raw, policy=policy, channel=kept.channel, now=now)
    if (receipt.target, receipt.channel) != (kept.registry, kept.channel):
        raise UntrustedInputError(Code.BLOB_MISMATCH, f"it speaks of {receipt.channel}, {receipt.target}")
    return receipt
