"""What the journal of an import says: what arrived, what was decided and why, and the signed receipt."""

import json
from typing import Any

from airgap.errors import code_named
from airgap.fields import format_time
from airgap.journal import Journal, JournalEntry
from airgap.states import DECIDED, State
from function_app.journal.store import row_of
from function_app.ports import BlobStore, JournalRow

MAX_RECEIPT_BYTES = 1024 * 1024
"""A larger receipt is named and not shown: an answer stays small whatever arrived."""


def describe(journal: Journal) -> dict[str, Any]:
    """The body of ``GET /api/imports/{id}`` without the receipt's content: where an import stands, and why.

    Args:
        journal: of the import; not empty.

    Transfer, channel and sequence are told only once a bundle was admitted: before that nobody vouches for
    them.
    """
    row = row_of(journal)
    first, last = journal.entries[0], journal.entries[-1]
    admitted = journal.newest(State.ADMITTED)
    body: dict[str, Any] = {
        "importId": journal.about,
        "state": last.state.value,
        "createdAt": format_time(row.created_at),
        "updatedAt": format_time(row.updated_at),
        "upload": {
            "folder": first.facts.get("incoming"),
            "envelopeDigest": _digest(first.facts.get("envelopeSha256")),
        },
        "bundle": None if admitted is None else _bundle(admitted),
        "decision": _decision(journal),
        "history": [
            {"state": entry.state.value, "at": format_time(entry.at), "by": entry.by}
            for entry in journal.entries
        ],
        "links": {"self": path_of(journal.about)},
    }
    if "until" in last.facts:
        body["heldUntil"] = last.facts["until"]
    if "left" in last.facts:
        body["left"] = {"count": last.facts.get("leftCount"), "blobs": last.facts["left"]}
    return body


def receipt_of(journal: Journal) -> str | None:
    """Path of the signed receipt, container first; ``None`` until it is out."""
    receipt = journal.entries[-1].facts.get("receipt")
    return None if receipt is None else str(receipt)


def read_receipt(blobs: BlobStore, path: str) -> dict[str, Any]:
    """A receipt as the member ``receipt`` tells it: ``{"blob", "envelope"}``.

    ``envelope`` is the DSSE envelope as it lies in the container, to be verified by whoever reads it; it is
    ``None`` if it is larger than 1 MiB, or was taken away. Its signature is not checked here.

    Raises:
        ServiceError: the storage is away.
    """
    container, name = path.split("/", 1)
    found = blobs.stat(container, name)
    if found is None or found.size_bytes > MAX_RECEIPT_BYTES:
        return {"blob": path, "envelope": None}
    raw = blobs.read(container, name, max_bytes=MAX_RECEIPT_BYTES, etag=found.etag)
    return {"blob": path, "envelope": None if raw is None else json.loads(raw)}


def summarize(row: JournalRow) -> dict[str, Any]:
    """One line of the list of imports."""
    line = {
        "importId": row.about,
        "state": row.state.value,
        "channel": row.channel,
        "createdAt": format_time(row.created_at),
        "updatedAt": format_time(row.updated_at),
        "links": {"self": path_of(row.about)},
    }
    return line if row.code is None else {**line, "error": _explain(row.code, row.detail or "")}


def path_of(import_id: str) -> str:
    """Where the import is looked at."""
    return f"/api/imports/{import_id}"


def _bundle(admitted: JournalEntry) -> dict[str, Any]:
    """What trusted signatures vouch for, and whose they are."""
    facts = admitted.facts
    return {
        **{name: facts.get(name) for name in ("transferId", "channel", "sequence", "requestedBy")},
        "manifestDigest": _digest(facts.get("manifestSha256")),
        "keyids": facts.get("keyids"),
    }


def _decision(journal: Journal) -> dict[str, Any] | None:
    """What was decided, when, and why; ``None`` before that."""
    entry = next((entry for entry in reversed(journal.entries) if entry.state in DECIDED), None)
    if entry is None:
        return None
    detail = str(entry.facts.get("detail", ""))
    told = {"verdict": entry.state.value, "at": format_time(entry.at), "detail": detail}
    code = entry.facts.get("code")
    return told if code is None else {**told, "error": _explain(str(code), detail)}


def _digest(sha256: Any) -> str | None:
    return None if sha256 is None else f"sha256:{sha256}"


def _explain(name: str, detail: str) -> dict[str, Any]:
    return {"code": name, "detail": detail, "remedy": code_named(name).remedy}
