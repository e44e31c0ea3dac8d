"""What the journal of a transfer says to those who ordered it."""

from collections.abc import Mapping
from typing import Any

from airgap.deliveries import answers_of
from airgap.errors import code_named
from airgap.fields import format_time
from airgap.journal import Journal, JournalEntry
from airgap.states import TRANSITIONS, State
from function_app.journal.store import row_of
from function_app.ports import JournalRow
from function_app.source.voiding import can_be_voided
from function_app.source.wire import RequestDocument
from function_app.storage.work_folder import WorkFolder

_TERMS = ("channel", "audience", "expiresInSeconds", "referrers", "dryRun", "onlyMissing")
_TOO_LATE: Mapping[State | None, str] = {
    State.CANCELLED: "Nothing to do: it was cancelled before.",
    State.PREVIEWED: "Nothing to cancel: it was a dry run, which exports nothing.",
    State.NOTHING_MISSING: "Nothing to cancel: its targets hold all of it, so nothing is exported.",
    State.DIVIDED: "It was divided: void, or cancel, the transfers that its `transfers` names.",
    State.SEALING: "It is too late: its bundle is on its way out. Once it is sealed, void it.",
    State.DELIVERED: "It cannot be called back: the target has imported it.",
}
"""What to do about a transfer that cannot be cancelled any more, where the state alone tells."""

_WITH_CODE = frozenset({State.REFUSED, State.FAILED})


def describe(journal: Journal, request: RequestDocument | None) -> dict[str, Any]:
    """The body of ``GET /api/transfers/{id}``: where a transfer stands, and how it came there.

    Args:
        journal: of the transfer; not empty.
        request: what was ordered; ``None`` if it is not known any more.
    """
    first, last = journal.entries[0], journal.entries[-1]
    body: dict[str, Any] = {
        "transferId": journal.about,
        "state": last.state.value,
        "createdAt": format_time(first.at),
        "updatedAt": format_time(last.at),
        "request": {
            "artifacts": None if request is None else list(request.artifacts),
            "select": None if request is None else list(request.select),
            "exclude": None if request is None else list(request.exclude),
            **{name: first.facts.get(name) for name in _TERMS},
        },
        "counts": counts(row_of(journal)),
        "history": [
            {"state": entry.state.value, "at": format_time(entry.at), "by": entry.by}
            for entry in journal.entries
        ],
        "links": _links(journal),
    }
    body |= {name: first.facts[name] for name in ("order", "portion") if name in first.facts}
    if (planned := journal.newest(State.PLANNED)) is not None:
        body["referrers"] = planned.facts.get("referrers", [])
        if "held" in planned.facts:
            body["held"] = planned.facts["held"]
    if (sealed := journal.newest(State.SEALED)) is not None:
        body["bundle"] = sealed.facts.get("bundle")
        answers = answers_of(journal)
        body["answers"] = [_answer(registry, answers.get(registry)) for registry in first.facts["audience"]]
    if (voided := journal.newest(State.VOIDED)) is not None:
        body["void"] = {"reason": voided.facts["reason"], "by": voided.by, "at": format_time(voided.at)}
    if "receipt" in last.facts:
        body["receipt"] = last.facts["receipt"]
    if last.state in _WITH_CODE:
        body["error"] = _describe_error(last)
    return body


def _answer(registry: str, answer: JournalEntry | None) -> dict[str, Any]:
    """What a registry of the audience has answered last; ``None`` each as long as it is silent."""
    names = ("verdict", "decidedAt", "receipt")
    return {"registry": registry, **{name: answer and answer.facts.get(name) for name in names}}


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
        "counts": counts(row),
        "links": {"self": path_of(row.about)},
    }
    return line if row.code is None else {**line, "error": _explain(row.code, row.detail or "")}


def path_of(transfer_id: str) -> str:
    """Where the transfer is looked at (``GET``) and, while it can be, cancelled (``DELETE``)."""
    return f"/api/transfers/{transfer_id}"


def plan_path_of(transfer_id: str) -> str:
    """Where the plan of a transfer is looked at, once it is planned."""
    return f"{path_of(transfer_id)}/plan"


def _links(journal: Journal) -> dict[str, str]:
    path = path_of(journal.about)
    links = {"self": path}
    if journal.state is not None and State.CANCELLED in TRANSITIONS[journal.kind][journal.state]:
        links["cancel"] = path
    if can_be_voided(journal):
        links["void"] = f"{path}/void"
    if journal.newest(State.PLANNED) is not None:
        links["plan"] = plan_path_of(journal.about)
    return links


def remedy_of_late_cancel(journal: Journal) -> str:
    """What to do about a transfer that cannot be cancelled any more, by what has become of it."""
    sealed = journal.newest(State.SEALED)
    if journal.state in _TOO_LATE:
        return _TOO_LATE[journal.state]
    match journal.state:
        case State.REFUSED | State.FAILED if sealed is None:
            return "Nothing to cancel: it ended by itself; its `error` says why."
        case State.SEALED | State.PARTLY_DELIVERED | State.DAMAGED | State.REFUSED if sealed is not None:
            until = sealed.facts.get("bundle", {}).get("expiresAt")
            return (
                f"Its bundle is out: let nobody carry it, or void it (POST to `void` of its `links`); "
                f"it expires at {until}."
            )
    return "Nothing to cancel: no bundle of it will be imported any more."


def counts(row: JournalRow) -> dict[str, int | None]:
    """How many references were ordered, artifacts they are with all referrers, and blobs these travel in.

    The last two are ``None`` until the transfer is planned.
    """
    return {"requested": row.requested, "artifacts": row.artifacts, "blobs": row.blobs}


def _describe_error(entry: JournalEntry) -> dict[str, Any]:
    """Code, detail and remedy of a transfer that did not succeed; the references at fault, where known."""
    error = _explain(str(entry.facts.get("code")), str(entry.facts.get("detail", "")))
    artifacts = entry.facts.get("artifacts")
    return {**error, "artifacts": artifacts} if artifacts else error


def _explain(name: str, detail: str) -> dict[str, Any]:
    return {"code": name, "detail": detail, "remedy": code_named(name).remedy}
