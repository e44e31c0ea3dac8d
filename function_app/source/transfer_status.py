"""What the journal of a transfer says to those who ordered it."""

from typing import Any

from airgap.errors import Code
from airgap.fields import format_time
from airgap.journal import Journal, JournalEntry
from airgap.states import State
from function_app.ports import JournalRow
from function_app.storage.work_folder import WorkFolder

_TERMS = ("artifacts", "channel", "audience", "expiresInSeconds")
_WITH_CODE = frozenset({State.REFUSED, State.FAILED})


def describe(journal: Journal) -> dict[str, Any]:
    """The body of ``GET /api/transfers/{id}``: where a transfer stands, and how it came there.

    The journal must not be empty.
    """
    first, last = journal.entries[0], journal.entries[-1]
    body: dict[str, Any] = {
        "transferId": journal.about,
        "state": last.state.value,
        "createdAt": format_time(first.at),
        "updatedAt": format_time(last.at),
        "request": {name: first.facts.get(name) for name in _TERMS},
        "history": [
            {"state": entry.state.value, "at": format_time(entry.at), "by": entry.by}
            for entry in journal.entries
        ],
        "links": links_of(journal.about),
    }
    if (sealed := journal.newest(State.SEALED)) is not None:
        body["bundle"] = sealed.facts.get("bundle")
    if "receipt" in last.facts:
        body["receipt"] = last.facts["receipt"]
    if last.state in _WITH_CODE:
        body["error"] = _describe_error(last)
    return body


def progress_of(journal: Journal, work: WorkFolder) -> dict[str, Any] | None:
    """How much of the state it is in is done: ``{"done", "of", "unit"}``; ``None`` where nothing is counted.

    Counted from what the steps have left in the working documents; it decides nothing.
    """
    match journal.last:
        case JournalEntry(state=State.EXPORTING):
            planned = journal.newest(State.PLANNED)
            done, of, unit = "exported/", planned and planned.facts.get("blobs"), "blobs"
        case JournalEntry(state=State.HASHING, facts={"groups": of}):
            done, unit = "digests/", "groups of parts"
        case _:
            return None
    return {"done": sum(1 for _ in work.names(done)), "of": of, "unit": unit}


def summarize(row: JournalRow) -> dict[str, Any]:
    """One line of the list of transfers."""
    line = {
        "transferId": row.about,
        "state": row.state.value,
        "channel": row.channel,
        "createdAt": format_time(row.created_at),
        "updatedAt": format_time(row.updated_at),
        "links": {"self": links_of(row.about)["self"]},
    }
    return line if row.code is None else {**line, "code": row.code}


def links_of(transfer_id: str) -> dict[str, str]:
    """Where the transfer is looked at (``GET``) and cancelled (``DELETE``)."""
    path = f"/api/transfers/{transfer_id}"
    return {"self": path, "cancel": path}


def _describe_error(entry: JournalEntry) -> dict[str, Any]:
    """Code, detail and remedy of a transfer that did not succeed; the references at fault, where known."""
    name = str(entry.facts.get("code"))
    code = Code.__members__.get(name)
    error = {
        "code": name,
        "detail": entry.facts.get("detail", ""),
        "remedy": Code.NEWER_FORMAT.remedy if code is None else code.remedy,
    }
    artifacts = entry.facts.get("artifacts")
    return {**error, "artifacts": artifacts} if artifacts else error
