"""The status of an import, as its journal tells it: what arrived, the decision and why, the receipt."""

import json
from typing import Any

from msgspec import UNSET

from airgap.fields import format_time
from airgap.journal import Journal, JournalEntry
from airgap.states import DECIDED, State
from function_app.http.bodies import Explanation, SelfLink, Step, read_body
from function_app.journal.store import row_of
from function_app.ports import BlobStore, JournalRow
from function_app.target import bodies

MAX_RECEIPT_BYTES = 1024 * 1024
"""A larger receipt is named and not shown: an answer stays small whatever arrived."""


def describe(journal: Journal) -> bodies.Import:
    """The answer of ``GET /api/imports/{id}`` without the receipt's content: where an import stands, and why.

    Args:
        journal: the import's journal, which must not be empty.

    Transfer, channel and sequence are told only once a bundle was admitted: before that nobody vouches for
    them.
    """
    row = row_of(journal)
    first, last = journal.entries[0], journal.entries[-1]
    admitted = journal.newest(State.ADMITTED)
    left = last.facts.get("left")
    return bodies.Import(
        import_id=journal.about,
        state=last.state.value,
        created_at=format_time(row.created_at),
        updated_at=format_time(row.updated_at),
        upload=bodies.Upload(
            folder=first.facts.get("incoming"), envelope_digest=_digest(first.facts.get("envelopeSha256"))
        ),
        bundle=None if admitted is None else _bundle(admitted),
        decision=_decision(journal),
        history=tuple(Step.of(entry) for entry in journal.entries),
        links=SelfLink(self=path_of(journal.about)),
        held_until=last.facts.get("until", UNSET),
        left=UNSET if left is None else bodies.Left(count=last.facts.get("leftCount"), blobs=tuple(left)),
    )


def receipt_of(journal: Journal) -> str | None:
    """The path of the signed receipt, container first; ``None`` until it is out."""
    receipt = journal.entries[-1].facts.get("receipt")
    return None if receipt is None else str(receipt)


def read_receipt(blobs: BlobStore, path: str) -> bodies.Receipt:
    """Read a receipt as the member ``receipt`` of an answer: ``{"blob", "envelope"}``.

    ``envelope`` is the DSSE envelope as it lies in the container, to be verified by whoever reads it; it is
    ``None`` if it is larger than 1 MiB, or was taken away. Its signature is not checked here.

    Raises:
        ServiceError: the storage cannot be read now.
    """
    container, name = path.split("/", 1)
    found = blobs.stat(container, name)
    if found is None or found.size_bytes > MAX_RECEIPT_BYTES:
        return bodies.Receipt(blob=path, envelope=None)
    raw = blobs.read(container, name, max_bytes=MAX_RECEIPT_BYTES, etag=found.etag)
    return bodies.Receipt(blob=path, envelope=None if raw is None else json.loads(raw))


def summarize(row: JournalRow) -> bodies.ImportLine:
    """One line of the list of imports."""
    return bodies.ImportLine(
        import_id=row.about,
        state=row.state.value,
        channel=row.channel,
        created_at=format_time(row.created_at),
        updated_at=format_time(row.updated_at),
        links=SelfLink(self=path_of(row.about)),
        error=Explanation.of_row(row),
    )


def path_of(import_id: str) -> str:
    """The path at which an import is looked at."""
    return f"/api/imports/{import_id}"


def _bundle(admitted: JournalEntry) -> bodies.AdmittedBundle:
    """What trusted signatures vouch for, and whose they are."""
    facts = admitted.facts
    told = {name: facts.get(name) for name in ("transferId", "channel", "sequence", "requestedBy", "keyids")}
    return read_body(told | {"manifestDigest": _digest(facts.get("manifestSha256"))}, bodies.AdmittedBundle)


def _decision(journal: Journal) -> bodies.Decision | None:
    """What was decided, when, and why; ``None`` before that."""
    entry = next((entry for entry in reversed(journal.entries) if entry.state in DECIDED), None)
    if entry is None:
        return None
    detail, code = str(entry.facts.get("detail", "")), entry.facts.get("code")
    return bodies.Decision(
        verdict=entry.state.value,
        at=format_time(entry.at),
        detail=detail,
        error=UNSET if code is None else Explanation.of(str(code), detail),
    )


def _digest(sha256: Any) -> str | None:
    return None if sha256 is None else f"sha256:{sha256}"
