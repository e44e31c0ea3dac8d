"""Causes of the invariants over both ends taken out, one at a time: a crossing must find each."""

from collections.abc import Mapping
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.journal import Journal
from airgap.ledger import VoidEntry
from airgap.manifest import Void
from airgap.receipt import Receipt
from function_app.source import exporting, holdings, receiving, reconciling, sealing, standing, voiding
from function_app.source.wire import Batch, BlobAttempt
from function_app.storage.ledger import Ledger
from function_app.storage.paths import JOURNAL
from tests.simulation.mutants import Mutate, ledger_overwrites


def _unverified(raw: bytes, **_: Any) -> Receipt:
    return Receipt.from_bytes(Envelope.from_bytes(raw).payload)


def receipt_unverified(patch: pytest.MonkeyPatch) -> None:
    """A receipt counts, whoever has signed it."""
    patch.setattr(receiving, "verify_receipt", _unverified)


def holdings_unverified(patch: pytest.MonkeyPatch) -> None:
    """What lies among the kept receipts counts, whoever has signed it."""
    patch.setattr(holdings, "verify_receipt", _unverified)


def receipt_of_any_registry(patch: pytest.MonkeyPatch) -> None:
    """A receipt counts, whatever registry of the same key it comes from."""
    require_answer = receiving.require_answer

    def require(receipt: Receipt, journal: Journal) -> None:
        if journal.first is None or receipt.target in journal.first.facts["audience"]:
            require_answer(receipt, journal)

    patch.setattr(receiving, "require_answer", require)


def receipt_of_any_bundle(patch: pytest.MonkeyPatch) -> None:
    """A receipt counts for whatever transfer's folder it lies in."""
    require_answer = receiving.require_answer

    def require(receipt: Receipt, journal: Journal) -> None:
        if journal.first is None or receipt.target not in journal.first.facts["audience"]:
            require_answer(receipt, journal)

    patch.setattr(receiving, "require_answer", require)


def receipt_unheard(patch: pytest.MonkeyPatch) -> None:
    """A receipt is believed and kept, and its transfer learns nothing of it."""
    patch.setattr(receiving, "is_new", lambda *_: False)


def transfer_neglected(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks after a transfer whose orchestration has come to nothing."""

    async def look_after(*_: Any) -> None:
        pass

    patch.setattr(reconciling.Reconciler, "_look_after", look_after)


def void_of_any_number(patch: pytest.MonkeyPatch) -> None:
    """What lies among the voids counts, whatever bundle it speaks of."""

    def believed(ledger: Ledger, channel: str, sequence: int) -> Void | None:
        entry: VoidEntry | None = ledger.find_void(channel, sequence)
        return None if entry is None else entry.void

    patch.setattr(voiding, "_believed", believed)


def tags_unwatched(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether a tag has moved while its run was at work."""
    patch.setattr(exporting, "_has_moved", lambda *_: False)


def plan_uncompared(patch: pytest.MonkeyPatch) -> None:
    """A run exports one tag more than its batch names."""
    batch_of = exporting._batch

    def batch(side: Any, order: BlobAttempt) -> tuple[str, Batch]:
        sha256, batch = batch_of(side, order)
        repository = batch.artifacts[0]["reference"].partition(":")[0]
        known = {member["reference"] for member in batch.artifacts}
        others = [f"{repository}:{tag}" for tag, _ in side.registry.list_tags(repository)]
        more = [{**batch.artifacts[0], "reference": one} for one in others if one not in known]
        return sha256, Batch(
            artifacts=(*batch.artifacts, *more[:1]),
            tagged={**batch.tagged, **{one["reference"]: "" for one in more[:1]}},
            referrers=batch.referrers,
        )

    patch.setattr(exporting, "_batch", batch)


def voids_untold(patch: pytest.MonkeyPatch) -> None:
    """No bundle tells of the numbers that were given up."""
    patch.setattr(sealing, "voids_below", lambda *_: ())


def order_placed_at_each_tick(patch: pytest.MonkeyPatch) -> None:
    """The transfer of a standing order gets an id of its own at each tick."""
    transfer_id_of = standing.transfer_id_of

    def another(side: Any, name: str, due: Any) -> str:
        on_record = len(side.blobs._inner.names(JOURNAL))  # another at each tick, the same in each run
        return f"{transfer_id_of(side, name, due)[:24]}{on_record:08d}"

    patch.setattr(standing, "transfer_id_of", another)


CROSSING_MUTANTS: Mapping[str, Mutate] = {
    mutate.__name__.replace("_", "-"): mutate
    for mutate in (
        ledger_overwrites,
        receipt_unverified,
        holdings_unverified,
        receipt_of_any_registry,
        receipt_of_any_bundle,
        receipt_unheard,
        transfer_neglected,
        void_of_any_number,
        tags_unwatched,
        voids_untold,
        order_placed_at_each_tick,
        plan_uncompared,
    )
}
