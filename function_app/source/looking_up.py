"""The transfer that a request is about: it is found in the journal, and told as the API tells it."""

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus

import azure.functions as func
import msgspec
from msgspec import UNSET, UnsetType

from airgap.errors import Code
from airgap.fields import format_time
from airgap.journal import Journal, is_journal_id
from airgap.states import Kind, State
from function_app.http.bodies import SelfLink
from function_app.http.problems import problem
from function_app.journal.store import JournalStore, row_of
from function_app.ports import SourceSide
from function_app.source import bodies
from function_app.source.cosigning import told_signatures
from function_app.source.dividing import portions_of
from function_app.source.planning import REQUEST
from function_app.source.transfer_status import counts, describe, path_of
from function_app.source.wire import RequestDocument
from function_app.storage.work_folder import WorkFolder


async def find_transfer(side: SourceSide, transfer_id: str) -> Journal | None:
    """The journal of a transfer; ``None`` if there is none."""
    if not is_journal_id(Kind.TRANSFERS, transfer_id):
        return None
    journals = JournalStore(side.blobs, side.projection)
    journal = await asyncio.to_thread(journals.read, Kind.TRANSFERS, transfer_id)
    return journal if journal.entries else None


async def tell_transfer(side: SourceSide, journal: Journal, *, with_request: bool = False) -> bodies.Transfer:
    """The transfer as the API tells it; ``with_request``: with all the references that were ordered."""
    return await asyncio.to_thread(_tell, side, journal, with_request=with_request)


def _tell(side: SourceSide, journal: Journal, *, with_request: bool) -> bodies.Transfer:
    work = WorkFolder(side.blobs, journal.about)
    body = describe(journal, work.find(REQUEST, RequestDocument) if with_request else UNSET)
    signatures = told_signatures(side, journal, datetime.now(UTC))
    portions: tuple[bodies.Portion, ...] | UnsetType = UNSET
    if journal.newest(State.DIVIDING) is not None:
        portions = tuple(_tell_portion(portion) for portion in portions_of(side, journal))
    removal = None
    if not work.has(REQUEST):
        removal = JournalStore(side.blobs, side.projection).read(Kind.REMOVALS, journal.about).last
    return msgspec.structs.replace(
        body,
        transfers=portions,
        signatures=signatures,
        removed_at=UNSET if removal is None else format_time(removal.at),
    )


def _tell_portion(portion: Journal) -> bodies.Portion:
    return bodies.Portion(
        transfer_id=portion.about,
        state=str(portion.state),
        counts=counts(row_of(portion)),
        links=SelfLink(self=path_of(portion.about)),
    )


def unknown_transfer(transfer_id: str) -> func.HttpResponse:
    """Answer 404, because nothing is known of such a transfer."""
    return problem(
        HTTPStatus.NOT_FOUND,
        Code.NOT_FOUND,
        f"there is no transfer {transfer_id[:40]!r}",
        remedy="Check the transfer's id: GET /api/transfers lists all.",
    )


def not_yours(journal: Journal, verb: str) -> func.HttpResponse:
    """Answer 403, because somebody else has ordered the transfer."""
    return problem(
        HTTPStatus.FORBIDDEN,
        Code.CALLER_REFUSED,
        f"the transfer was ordered by {journal.entries[0].by}, and is not yours to {verb}",
        instance=path_of(journal.about),
    )
