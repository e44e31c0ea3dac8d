"""The status of a transfer, as its journal tells it to those who ordered it."""

from collections.abc import Mapping

from msgspec import UNSET, UnsetType

from airgap.deliveries import answers_of
from airgap.fields import format_time
from airgap.journal import Journal, JournalEntry
from airgap.states import TRANSITIONS, State
from function_app.http.bodies import Explanation, SelfLink, Step, read_body
from function_app.journal.store import row_of
from function_app.ports import JournalRow
from function_app.source import bodies
from function_app.source.voiding import can_be_voided
from function_app.source.wire import RequestDocument
from function_app.storage.work_folder import WorkFolder

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


def describe(journal: Journal, request: RequestDocument | UnsetType | None = UNSET) -> bodies.Transfer:
    """The answer of ``GET /api/transfers/{id}``: where a transfer stands, and how it came there.

    Args:
        journal: the transfer's journal, which must not be empty.
        request: the request, where its references are told; ``None`` if it is not known any more.
    """
    first, last = journal.entries[0], journal.entries[-1]
    planned, sealed = journal.newest(State.PLANNED), journal.newest(State.SEALED)
    voided = journal.newest(State.VOIDED)
    told = {} if planned is None else {"referrers": [], **planned.facts}
    return bodies.Transfer(
        transfer_id=journal.about,
        state=last.state.value,
        created_at=format_time(first.at),
        updated_at=format_time(last.at),
        request=bodies.Ordered(
            artifacts=request.artifacts if isinstance(request, RequestDocument) else request,
            select=request.select if isinstance(request, RequestDocument) else request,
            exclude=request.exclude if isinstance(request, RequestDocument) else request,
            channel=first.facts.get("channel"),
            audience=first.facts.get("audience"),
            expires_in_seconds=first.facts.get("expiresInSeconds"),
            referrers=first.facts.get("referrers"),
            dry_run=first.facts.get("dryRun"),
            only_missing=first.facts.get("onlyMissing"),
        ),
        counts=counts(row_of(journal)),
        history=tuple(Step.of(entry) for entry in journal.entries),
        links=_links(journal),
        portion=read_body(first.facts["portion"], bodies.PortionOf) if "portion" in first.facts else UNSET,
        order=read_body(first.facts["order"], bodies.Placed) if "order" in first.facts else UNSET,
        referrers=(
            tuple(read_body(one, bodies.ReferrerKind) for one in told["referrers"]) if told else UNSET
        ),
        held=read_body(told["held"], bodies.HeldSummary) if "held" in told else UNSET,
        bundle=UNSET if sealed is None else read_body(sealed.facts["bundle"], bodies.Bundle),
        answers=UNSET if sealed is None else _answers(journal),
        void=UNSET if voided is None else _voided(voided),
        receipt=last.facts.get("receipt", UNSET),
        error=_describe_error(last) if last.state in _WITH_CODE else UNSET,
    )


def _answers(journal: Journal) -> tuple[bodies.RegistryAnswer, ...]:
    """What each registry of the audience has answered last."""
    answers = answers_of(journal)
    told = []
    for registry in journal.entries[0].facts["audience"]:
        facts = answers[registry].facts if registry in answers else {}
        told.append(
            bodies.RegistryAnswer(
                registry=registry,
                verdict=facts.get("verdict"),
                decided_at=facts.get("decidedAt"),
                receipt=facts.get("receipt"),
            )
        )
    return tuple(told)


def _voided(entry: JournalEntry) -> bodies.Voided:
    return bodies.Voided(reason=str(entry.facts["reason"]), by=entry.by, at=format_time(entry.at))


def progress_of(journal: Journal, work: WorkFolder) -> bodies.Progress | UnsetType:
    """The progress within the state of a transfer; ``UNSET`` where nothing is counted.

    Counted from what the steps have left in the working documents; it decides nothing.
    """
    match journal.last:
        case JournalEntry(state=State.EXPORTING):
            planned = journal.newest(State.PLANNED)
            total = None if planned is None else planned.facts.get("blobs")
            done, unit = "exported/", "blobs"
        case JournalEntry(state=State.HASHING, facts={"groups": total}):
            done, unit = "digests/", "groups of parts"
        case _:
            return UNSET
    return bodies.Progress(done=sum(1 for _ in work.names(done)), total=total, unit=unit)


def summarize(row: JournalRow) -> bodies.TransferLine:
    """One line of the list of transfers."""
    return bodies.TransferLine(
        transfer_id=row.about,
        state=row.state.value,
        channel=row.channel,
        created_at=format_time(row.created_at),
        updated_at=format_time(row.updated_at),
        counts=counts(row),
        links=SelfLink(self=path_of(row.about)),
        error=Explanation.of_row(row),
    )


def path_of(transfer_id: str) -> str:
    """The path at which a transfer is looked at (``GET``) and, while it can be, cancelled (``DELETE``)."""
    return f"/api/transfers/{transfer_id}"


def plan_path_of(transfer_id: str) -> str:
    """The path at which the plan of a transfer is looked at, once it is planned."""
    return f"{path_of(transfer_id)}/plan"


def _links(journal: Journal) -> bodies.TransferLinks:
    path, state = path_of(journal.about), journal.state
    can_be_cancelled = state is not None and State.CANCELLED in TRANSITIONS[journal.kind][state]
    return bodies.TransferLinks(
        self=path,
        cancel=path if can_be_cancelled else UNSET,
        void=f"{path}/void" if can_be_voided(journal) else UNSET,
        plan=UNSET if journal.newest(State.PLANNED) is None else plan_path_of(journal.about),
    )


def remedy_of_late_cancel(journal: Journal) -> str:
    """The remedy for a cancelling that comes too late, by what has become of the transfer."""
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


def counts(row: JournalRow) -> bodies.Counts:
    """The number of references ordered, of artifacts with all referrers, and of blobs that these travel in.

    The last two are ``None`` until the transfer is planned.
    """
    return bodies.Counts(requested=row.requested, artifacts=row.artifacts, blobs=row.blobs)


def _describe_error(entry: JournalEntry) -> Explanation:
    """Code, detail and remedy of a transfer that did not succeed; the references at fault, where known."""
    artifacts = tuple(entry.facts.get("artifacts") or ())
    return Explanation.of(str(entry.facts.get("code")), str(entry.facts.get("detail", "")), artifacts)
